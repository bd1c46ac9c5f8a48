#!/usr/bin/env python3
"""Runs a command inside a whole emulated x86 machine with KVM and cgroup v2. See README.md.

As a program: machine.py run [options] -- COMMAND...; as a library: run(Config(...)).
"""

import argparse
import contextlib
import ctypes
import dataclasses
import enum
import math
import os
import pathlib
import re
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import binaries
import images
import stream
import vmlinux

_QEMU = 'qemu-system-x86_64'
# A thread for each processor: with one for all, stock Linux on two nested vCPUs takes minutes to boot.
_ACCELERATOR = 'tcg,thread=multi'
_COMMAND_LINE = 'console=ttyS0 panic=-1 oops=panic quiet'
_CONSOLE_TAIL = 20  # lines shown of a machine that died

# init.sh says something every other second; a loaded host may stretch that.
_SILENCE_SECONDS = 45

# Exit statuses of the program, beside the command's own.
EXIT_TIMED_OUT = 124
EXIT_DIED = 125
EXIT_SKIPPED = 77


def cache_directory():
    """Where fetch_kernel.sh puts vmlinuz, vmlinux, modules/ and guest_initrd."""
    return pathlib.Path.home() / '.cache/drover/machine'


class Outcome(enum.Enum):
    EXITED = 'exited'  # the command ended; Result.status is its exit status
    DIED = 'died'  # the machine ended before the command did
    TIMED_OUT = 'timed out'
    UNAVAILABLE = 'unavailable'  # nothing was started; Result.reason says what is missing


@dataclasses.dataclass
class Config:
    command: list[str]
    cpus: int = 2
    memory_mib: int = 2048
    timeout_seconds: float = 300  # from the start of QEMU
    paths: dict[str, str] = dataclasses.field(default_factory=dict)  # guest path → host path
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    modules: list[str] = dataclasses.field(default_factory=list)  # beside kvm-amd
    # Under QEMU 7.2's nested paging on two processors, each a thread, a Linux guest corrupts its own memory and the
    # machine's in every other run (10.0 does not show it): with one processor only.
    nested_paging: bool = False
    kernel_directory: pathlib.Path = dataclasses.field(default_factory=cache_directory)


@dataclasses.dataclass
class Result:
    outcome: Outcome
    status: int = 0  # 128 + n if signal n ended the command
    reason: str = ''  # one line, empty if EXITED
    console: str = ''  # what the machine's kernel said


def unavailable(config):
    """Returns why no machine can run on this host, or None."""
    if not shutil.which(_QEMU):
        return f'{_QEMU} is not installed (Debian: qemu-system-x86)'
    if not (config.kernel_directory / 'vmlinuz').exists():
        return f'no kernel in {config.kernel_directory}: run e2e/machine/fetch_kernel.sh'
    return images.unavailable()


def run(config, on_output):
    """Boots a machine, runs the command, passes its output to on_output as bytes; returns Result.

    Raises OSError or binaries.MissingError if a file that the machine is to have cannot be read.
    """
    if reason := unavailable(config):
        return Result(Outcome.UNAVAILABLE, reason=reason)
    marker = f'<drover-machine {secrets.token_hex(16)}> '
    with tempfile.TemporaryFile() as initrd:
        _write_initrd(config, marker, initrd)
        return _Session(config, marker, on_output).run(initrd)


def _write_initrd(config, marker, out):
    modules = {'kvm-amd': f'nested=1 npt={config.nested_paging:d}'} | {name: '' for name in config.modules}
    tree = images.machine(config.kernel_directory, modules, marker)
    for guest_path, host_path in config.paths.items():
        images.add_path(tree, guest_path, host_path)
    images.add_command(tree, config.command, config.environment)
    tree.write(out)
    out.flush()


class _Session:
    """One run of QEMU, from its start to its end. Used by one thread, once."""

    def __init__(self, config, marker, on_output):
        self._config = config
        self._reader = stream.RecordReader(marker.encode(), on_output, self._on_record)
        self._console = bytearray()
        self._records = {}  # the last one of each kind
        self._deadline = 0.0
        self._last_sign = 0.0  # when the console was last heard of: init.sh writes there all the time

    def run(self, initrd):
        self._deadline = time.monotonic() + self._config.timeout_seconds
        with tempfile.TemporaryFile() as errors, _Port() as console, _Port() as output:
            fds = [initrd.fileno(), console.write_fd, output.write_fd]
            with _process(_qemu_command(self._config, *fds), fds, errors) as qemu:
                ports = {console: self._on_console, output: self._reader.feed}
                in_time = _pump(ports, self._patience)
            self._reader.finish()
            return self._result(in_time, qemu.returncode, _content(errors))

    def _on_console(self, data):
        self._console.extend(data)
        self._last_sign = time.monotonic()

    def _frozen_at(self):
        """When the machine counts as frozen, unless it gives a sign of life before."""
        return self._last_sign + _SILENCE_SECONDS if 'begin' in self._records else math.inf

    def _patience(self):
        return min(self._deadline, self._frozen_at()) - time.monotonic()

    def _on_record(self, record):
        self._last_sign = time.monotonic()
        kind, _, detail = record.partition(' ')
        self._records[kind] = detail.strip()

    def _result(self, in_time, qemu_status, qemu_errors):
        console = self._console.decode(errors='replace').replace('\r', '')
        if 'exit' in self._records:
            return Result(Outcome.EXITED, int(self._records['exit']), console=console)
        stage = 'while the command ran' if 'begin' in self._records else 'while it booted'
        if not in_time and self._frozen_at() < self._deadline:
            reason = f'froze {stage}: not a sign of life for {_SILENCE_SECONDS} s'
            return Result(Outcome.DIED, reason=reason, console=console)
        if not in_time:
            reason = f'timed out after {self._config.timeout_seconds:g} s, {stage}'
            return Result(Outcome.TIMED_OUT, reason=reason, console=console)
        reason = self._cause(console, qemu_status, qemu_errors)
        return Result(Outcome.DIED, reason=f'died {stage}: {reason}', console=console)

    def _cause(self, console, qemu_status, qemu_errors):
        if 'fail' in self._records:
            return 'its set-up failed at: ' + self._records['fail']
        if panic := re.search(r'Kernel panic.*', console):
            return panic[0]
        if qemu_status:
            return f'QEMU ended with status {qemu_status}: {qemu_errors.strip()}'
        return 'it was turned off or reset'


class _Port:
    """A pipe that QEMU writes a serial port to."""

    def __enter__(self):
        self.read_fd, self.write_fd = os.pipe()
        return self

    def __exit__(self, *_):
        os.close(self.read_fd)
        self.close_write_end()

    def close_write_end(self):
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def fileno(self):
        return self.read_fd


def _qemu_command(config, initrd_fd, console_fd, output_fd):
    machine = ['-M', 'q35', '-accel', _ACCELERATOR, '-cpu', 'EPYC,+svm', '-no-reboot']
    size = ['-smp', str(config.cpus), '-m', str(config.memory_mib)]
    devices = ['-nodefaults', '-no-user-config', '-display', 'none']
    for port in (console_fd, output_fd):
        devices += ['-serial', f'file:/dev/fd/{port}']
    kernel = ['-kernel', str(config.kernel_directory / 'vmlinuz'), '-append', _COMMAND_LINE]
    return [_QEMU, *machine, *size, *devices, *kernel, '-initrd', f'/dev/fd/{initrd_fd}']


@contextlib.contextmanager
def _process(command, fds, errors):
    """A child that does not outlive this block, nor this process however it ends."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                             pass_fds=fds, preexec_fn=_die_with_parent)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _die_with_parent():
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _pump(ports, patience):
    """Feeds each port's bytes to its consumer until all have ended. False: patience() seconds ran out."""
    with selectors.DefaultSelector() as selector:
        for port, consume in ports.items():
            port.close_write_end()
            selector.register(port, selectors.EVENT_READ, consume)
        while selector.get_map():
            left = patience()
            if left <= 0:
                return False
            for key, _ in selector.select(left):
                _read_once(selector, key)
    return True


def _read_once(selector, key):
    if data := os.read(key.fd, 1 << 16):
        key.data(data)
    else:
        selector.unregister(key.fileobj)


def _content(file):
    file.seek(0)
    return file.read().decode(errors='replace')


# The program.


def _print_output(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _pair(text):
    left, separator, right = text.partition('=')
    if not (left and separator):
        raise argparse.ArgumentTypeError(f'{text}: expected LEFT=RIGHT')
    return left, right


def _parser():
    parser = argparse.ArgumentParser(prog='machine.py', description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    _add_run(commands)
    _add_guest_initrd(commands)
    _add_vmlinux(commands)
    return parser


def _add_run(commands):
    run_parser = commands.add_parser('run', help='run a command in the machine')
    add = run_parser.add_argument
    add('--cpus', type=int, default=Config.cpus)
    add('--memory', type=int, default=Config.memory_mib, metavar='MIB')
    add('--timeout', type=float, default=Config.timeout_seconds, metavar='SECONDS')
    add('--file', '--dir', type=_pair, action='append', default=[], dest='paths',
        metavar='HOST_PATH=GUEST_PATH', help='a file or directory that the machine gets')
    add('--env', type=_pair, action='append', default=[], metavar='NAME=VALUE')
    add('--module', action='append', default=[], help='a kernel module to load, such as tun')
    add('--nested-paging', action='store_true', help="let the machine's KVM use nested paging (see README.md)")
    add('--skip-status', type=int, default=EXIT_SKIPPED, metavar='STATUS',
        help='the exit status if no machine can run here (default: %(default)s)')
    add('--attempts', type=int, default=1, metavar='N',
        help='run again, N times in all, when the machine itself dies or freezes')
    add('--verbose', action='store_true', help="show the machine's console in any case")
    add('command', nargs='+', metavar='-- COMMAND')
    run_parser.set_defaults(function=_run_program)


def _add_guest_initrd(commands):
    parser = commands.add_parser('guest-initrd', help='write the initrd of a stock Linux guest')
    parser.add_argument('output', type=pathlib.Path)
    parser.add_argument('--module', action='append', default=[])
    parser.add_argument('--kernel-directory', type=pathlib.Path, default=cache_directory())
    parser.set_defaults(function=_guest_initrd_program)


def _add_vmlinux(commands):
    parser = commands.add_parser('vmlinux', help='extract the ELF kernel from a bzImage')
    parser.add_argument('bzimage', type=pathlib.Path)
    parser.add_argument('output', type=pathlib.Path)
    parser.set_defaults(function=_vmlinux_program)


def _run_program(options):
    config = Config(options.command, options.cpus, options.memory, options.timeout,
                    {guest: host for host, guest in options.paths}, dict(options.env),
                    options.module, nested_paging=options.nested_paging)
    for _ in range(options.attempts - 1):
        result = run(config, _print_output)
        if result.outcome is not Outcome.DIED:
            return _report(result, options)
        _report(result, options)
    return _report(run(config, _print_output), options)


def _report(result, options):
    if result.outcome is Outcome.UNAVAILABLE:
        print(f'SKIPPED: {result.reason}')
        return options.skip_status
    if options.verbose or result.outcome is not Outcome.EXITED:
        lines = result.console.splitlines(keepends=True)
        sys.stderr.write(''.join(lines if options.verbose else lines[-_CONSOLE_TAIL:]))
    if result.outcome is Outcome.EXITED:
        return result.status
    print(f'machine.py: the machine {result.reason}', file=sys.stderr)
    return EXIT_TIMED_OUT if result.outcome is Outcome.TIMED_OUT else EXIT_DIED


def _guest_initrd_program(options):
    if reason := images.unavailable():
        raise binaries.MissingError(reason)
    with options.output.open('wb') as out:
        images.guest(options.kernel_directory, options.module).write(out)
    return 0


def _vmlinux_program(options):
    options.output.write_bytes(vmlinux.extract(options.bzimage.read_bytes()))
    return 0


def main(arguments):
    options = _parser().parse_args(arguments)
    try:
        return options.function(options)
    except (OSError, ValueError, binaries.MissingError, vmlinux.ExtractError) as error:
        print(f'machine.py: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
