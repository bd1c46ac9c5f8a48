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
# Should the emulated machine itself panic or freeze; a hang of Drover's would come back every time.
ATTEMPTS = 3
TIMEOUT_SECONDS = 240


def config(test, arguments):
    paths = {f'/root/{name}': os.path.realpath(name) for name in PROGRAMS}
    paths['/root/test'] = os.path.realpath(test)
    for name in KERNEL_FILES:
        paths[f'/linux/{name}'] = str(machine.cache_directory() / name)
    return machine.Config(
        command=['/root/test', *arguments],
        memory_mib=3072,
        timeout_seconds=TIMEOUT_SECONDS,
        paths=paths,
        environment={'DROVER_ROOT': '/root', 'DROVER_LINUX': '/linux'},
    )


def write(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def main():
    if os.environ.get('XML_OUTPUT_FILE'):
        del os.environ['XML_OUTPUT_FILE']
    wanted = config(sys.argv[1], sys.argv[2:])
    if reason := machine.unavailable(wanted):
        print(f'SKIPPED: {reason}')
        return 0
    for attempt in range(1, ATTEMPTS + 1):
        result = machine.run(wanted, write)
        if result.outcome == machine.Outcome.EXITED:
            return result.status
        print(f'\nattempt {attempt}: the machine {result.outcome.value}: {result.reason}\n{result.console[-3000:]}',
              flush=True)
    return 1


sys.exit(main())
