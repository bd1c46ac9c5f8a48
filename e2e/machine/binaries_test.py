#!/usr/bin/env python3
"""binaries: libraries of this host's programs, and modules made here."""

import os
import pathlib
import shutil
import sys
import tempfile
import unittest

import binaries


class SharedLibrariesTest(unittest.TestCase):

    def test_a_dynamic_program_needs_its_libraries_and_loader(self):
        libraries = binaries.shared_libraries(os.path.realpath(sys.executable))
        names = [pathlib.Path(library).name for library in libraries]
        self.assertIn('libc.so.6', names)
        self.assertTrue(any(name.startswith('ld-') for name in names), names)
        for library in libraries:
            self.assertTrue(os.path.exists(library), library)

    def test_a_static_program_and_a_script_need_none(self):
        self.assertEqual(binaries.shared_libraries(__file__), [])
        if busybox := shutil.which('busybox'):
            self.assertEqual(binaries.shared_libraries(busybox), [])


class LoadOrderTest(unittest.TestCase):

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = pathlib.Path(scratch.name)
        self.add('kvm-amd', b'kvm')
        self.add('kvm', b'irqbypass,failover')
        self.add('irqbypass', b'')
        self.add('failover', b'')

    def add(self, name, depends):
        module = self.directory / f'{name}.ko'
        module.write_bytes(b'\x7fELF\0license=GPL\0depends=' + depends + b'\0name=x\0')

    def order(self, *names):
        return [path.stem for path in binaries.load_order(self.directory, names)]

    def test_dependencies_come_first_and_once(self):
        self.assertEqual(self.order('kvm-amd', 'kvm'), ['irqbypass', 'failover', 'kvm', 'kvm-amd'])

    def test_dash_and_underscore_are_the_same(self):
        self.assertEqual(self.order('kvm_amd')[-1], 'kvm-amd')

    def test_a_missing_module_is_named(self):
        self.add('tun', b'absent')
        with self.assertRaisesRegex(binaries.MissingError, 'no kernel module absent in /'):
            self.order('tun')


if __name__ == '__main__':
    unittest.main()
