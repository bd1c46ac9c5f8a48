#!/usr/bin/env python3
"""in_machine.py TEST [ARGUMENT...]: runs a built test with Drover's programs inside the emulated machine.

TEST is a path among the runfiles. The machine has the agent, the helper, the worker, the test guest and, in /linux, a
stock kernel; the test finds them through DROVER_ROOT and DROVER_LINUX.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.getcwd(), 'e2e/machine'))
import machine  # noqa: E402

PROGRAMS = [
    'agent/daemon/drover-agent',
    'agent/helper/drover-helper',
    'vmm/worker/drover-vmm',
    'e2e/guest/guest.elf',
]
KERNEL_FILES = ['vmlinuz', 'vmlinux', 'guest_initrd']
# The processors of the machine at each attempt. With two, stock Linux boots three times as fast, but the emulator may
# freeze or corrupt memory (e2e/machine/README.md): what goes wrong there counts if it goes wrong with one as well.
CPUS = [1, 1, 1]
CPUS_FOR_LINUX = [2, 2, 1]
TIMEOUT_SECONDS = {1: 600, 2: 240}


def config(test, arguments, cpus):
    paths = {f'/root/{name}': os.path.realpath(name) for name in PROGRAMS}
    paths['/root/test'] = os.path.realpath(test)
    for name in KERNEL_FILES:
        paths[f'/linux/{name}'] = str(machine.cache_directory() / name)
    return machine.Config(
        command=['/root/test', *arguments],
        cpus=cpus,
        memory_mib=3072,
        timeout_seconds=TIMEOUT_SECONDS[cpus],
        paths=paths,
        environment={'DROVER_ROOT': '/root', 'DROVER_LINUX': '/linux'},
    )


def write(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def main():
    if os.environ.get('XML_OUTPUT_FILE'):
        del os.environ['XML_OUTPUT_FILE']
    test, *arguments = sys.argv[1:]
    if reason := machine.unavailable(config(test, arguments, 1)):
        print(f'SKIPPED: {reason}')
        return 0
    for cpus in CPUS_FOR_LINUX if test.endswith('linux_test') else CPUS:
        result = machine.run(config(test, arguments, cpus), write)
        if result.outcome == machine.Outcome.EXITED and (result.status == 0 or cpus == 1):
            return result.status
        what = f'the test ended with {result.status}' if result.outcome == machine.Outcome.EXITED else result.reason
        print(f'\non {cpus} processors, {result.outcome.value}: {what}\n{result.console[-3000:]}', flush=True)
    return 1


sys.exit(main())
