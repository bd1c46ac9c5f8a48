#!/usr/bin/env python3
"""machine.py as a program, as far as it goes without booting a machine."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import machine

_PROGRAM = machine.__file__


class ProgramTest(unittest.TestCase):

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)

    def program(self, *arguments, **environment):
        return subprocess.run([sys.executable, _PROGRAM, *arguments], text=True,
                              env=os.environ | {'HOME': str(self.home)} | environment,
                              capture_output=True)

    def test_without_a_kernel_it_is_skipped(self):
        done = self.program('run', '--', 'true')
        self.assertRegex(done.stdout, '^SKIPPED: ')
        self.assertEqual(done.returncode, machine.EXIT_SKIPPED)

    def test_without_qemu_it_is_skipped_with_the_status_asked_for(self):
        done = self.program('run', '--skip-status=0', '--', 'true', PATH='/nonexistent')
        self.assertRegex(done.stdout, '^SKIPPED: qemu-system-x86_64 is not installed')
        self.assertEqual(done.returncode, 0)

    def test_wrong_arguments_are_refused(self):
        for wrong in (['run'], ['run', '--file', 'x', '--', 'true'], ['walk'], []):
            self.assertEqual(self.program(*wrong).returncode, 2, wrong)

    def test_a_file_that_is_no_bzimage_is_refused_and_nothing_written(self):
        done = self.program('vmlinux', _PROGRAM, str(self.home / 'vmlinux'))
        self.assertIn('not a bzImage', done.stderr)
        self.assertEqual((done.returncode, list(self.home.iterdir())), (2, []))


if __name__ == '__main__':
    unittest.main()
