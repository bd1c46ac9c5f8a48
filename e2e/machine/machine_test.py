#!/usr/bin/env python3
"""Boots the machine: what it offers, and how each of its ends is told."""

import pathlib
import sys
import unittest

import machine

# Each line is a check; what fails is named in the output.
_CHECKS = r'''
failures=0
check() { eval "$1" || { echo "failed: $1"; failures=$((failures + 1)); }; }
check '[ -c /dev/kvm ]'
check 'grep -q "[1Y]" /sys/module/kvm_amd/parameters/nested'
check 'grep -q "[0N]" /sys/module/kvm_amd/parameters/npt'
check '[ "$(nproc)" = 2 ]'
for c in cpu memory pids; do
  check "grep -qw $c /sys/fs/cgroup/cgroup.subtree_control"
done
check 'mkdir /sys/fs/cgroup/x && echo 10 >/sys/fs/cgroup/x/pids.max && rmdir /sys/fs/cgroup/x'
check 'ping -c 1 127.0.0.1 >/dev/null'
check 'unshare -m sh -c "mount --bind / /mnt && cd /mnt && pivot_root . tmp"'
check 'echo hello | given | grep -q ^5891b5b522d5'
check '[ "$(cat /tmp/a/file)" = "$VALUE" ]'
(sleep 0.1 &)
sleep 1
check '! ps -o stat | grep -q Z'
printf 'bytes: \r\n\001\377\n'
exit $((40 + failures))
'''


def _run(*command, **options):
    output = bytearray()
    result = machine.run(machine.Config(list(command), **options), output.extend)
    return result, bytes(output)


class MachineTest(unittest.TestCase):

    def test_a_host_with_kvm_and_cgroup_v2_and_the_commands_status(self):
        paths = {'/bin/given': '/usr/bin/sha256sum', '/tmp/a/file': '/etc/hostname'}
        value = pathlib.Path('/etc/hostname').read_text().strip()
        result, output = _run('sh', '-c', _CHECKS, paths=paths, environment={'VALUE': value})
        self.assertEqual(result.outcome, machine.Outcome.EXITED, result)
        self.assertEqual(output, b'bytes: \r\n\001\377\n')
        self.assertEqual(result.status, 40)

    def test_a_panic_is_told_with_its_reason(self):
        result, output = _run('sh', '-c', 'echo soon; echo c >/proc/sysrq-trigger; sleep 60')
        self.assertEqual(result.outcome, machine.Outcome.DIED, result)
        self.assertRegex(result.reason, 'died while the command ran: Kernel panic.*sysrq')
        self.assertEqual(output, b'soon\n')

    def test_a_machine_without_room_for_its_files_dies_while_it_boots(self):
        result, _ = _run('true', memory_mib=24)
        self.assertEqual(result.outcome, machine.Outcome.DIED, result)
        self.assertIn('while it booted', result.reason)

    def test_a_timeout_is_told_apart(self):
        result, _ = _run('true', timeout_seconds=0.5)
        self.assertEqual(result.outcome, machine.Outcome.TIMED_OUT, result)
        self.assertEqual(result.reason, 'timed out after 0.5 s, while it booted')


if __name__ == '__main__':
    if missing := machine.unavailable(machine.Config([])):
        print('SKIPPED:', missing)
        sys.exit(0)
    unittest.main()
