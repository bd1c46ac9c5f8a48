#!/usr/bin/env python3
"""Boots the stock Linux guest on KVM inside the machine, under QEMU.

Drover has no part in it: when this fails, it is the bed that is broken.
"""

import sys
import unittest

import machine

_QEMU = '/usr/bin/qemu-system-x86_64'
_FIRMWARE = ('/usr/share/qemu', '/usr/share/seabios')

# Boots kernel $1 on $2 vCPUs, waits for the banner, types a command, and expects its answer.
_SCRIPT = r'''
mkfifo input
qemu-system-x86_64 -M q35 -accel kvm -cpu host -smp "$2" -m 512 -no-reboot \
  -nodefaults -display none -serial stdio -L /usr/share/qemu -L /usr/share/seabios \
  -kernel "$1" -initrd /guest_initrd -append "console=ttyS0 panic=-1 quiet" \
  <input >output 2>errors &
exec 3>input
until grep -q 'guest ready' output || ! kill -0 $! 2>/dev/null; do sleep 0.2; done
echo 'echo answer $((6 * 7)) $(nproc); poweroff -f' >&3
wait $!
status=$?
cat errors output
[ $status = 0 ] && grep -q "^answer 42 $2" output && grep -q 'Power down' output
'''


class StockGuestTest(unittest.TestCase):

    def boot(self, kernel, cpus):
        cache = machine.cache_directory()
        paths = {_QEMU: _QEMU, '/kernel': cache / kernel,
                 '/guest_initrd': cache / 'guest_initrd'} | {path: path for path in _FIRMWARE}
        config = machine.Config(['sh', '-c', _SCRIPT, 'boot', '/kernel', str(cpus)], paths=paths)
        output = bytearray()
        result = machine.run(config, output.extend)
        text = output.decode(errors='replace')
        self.assertEqual((result.outcome, result.status), (machine.Outcome.EXITED, 0), text)
        release = (cache / 'release').read_text().strip()
        self.assertIn(f'guest ready: Linux {release}, {cpus} CPU', text)

    def test_bzimage_on_one_vcpu(self):
        self.boot('vmlinuz', 1)

    def test_elf_vmlinux_on_two_vcpus(self):
        self.boot('vmlinux', 2)


if __name__ == '__main__':
    if missing := machine.unavailable(machine.Config([])):
        print('SKIPPED:', missing)
        sys.exit(0)
    unittest.main()
