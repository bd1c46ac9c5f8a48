#!/usr/bin/env python3
"""vmlinux.extract on bzImages made here, whole and damaged."""

import bz2
import gzip
import lzma
import os
import shutil
import struct
import subprocess
import unittest

import vmlinux

_ELF = b'\x7fELF' + os.urandom(10000)
_SETUP_SECTS = 3
_OFFSET = 100  # of the payload in the protected-mode code
_SIZE = struct.pack('<I', len(_ELF))
_XZ_FILTERS = [{'id': lzma.FILTER_X86}, {'id': lzma.FILTER_LZMA2}]  # as Linux compresses


def _bzimage(payload, version=0x20F):
    setup = bytearray((_SETUP_SECTS + 1) * 512)
    setup[0x1F1] = _SETUP_SECTS
    setup[0x202:0x206] = b'HdrS'
    struct.pack_into('<H', setup, 0x206, version)
    struct.pack_into('<II', setup, 0x248, _OFFSET, len(payload))
    return bytes(setup) + bytes(_OFFSET) + payload + b'what follows'


def _xz(data):
    return lzma.compress(data, check=lzma.CHECK_CRC32, filters=_XZ_FILTERS) + _SIZE


class ExtractTest(unittest.TestCase):

    def test_formats_of_the_standard_library(self):
        payloads = {
            'gzip': gzip.compress(_ELF),
            'xz': _xz(_ELF),
            'lzma': lzma.compress(_ELF, lzma.FORMAT_ALONE) + _SIZE,
            'bzip2': bz2.compress(_ELF) + _SIZE,
        }
        for name, payload in payloads.items():
            with self.subTest(name):
                self.assertEqual(vmlinux.extract(_bzimage(payload)), _ELF)

    def test_formats_that_need_a_tool(self):
        for tool, options in {'zstd': ['-q'], 'lz4': ['-q', '-l']}.items():
            with self.subTest(tool):
                if not shutil.which(tool):
                    print(f'SKIPPED: {tool} is not installed')
                    self.skipTest(f'no {tool}')
                command = [tool, *options, '-c']
                payload = subprocess.run(command, input=_ELF, capture_output=True, check=True)
                self.assertEqual(vmlinux.extract(_bzimage(payload.stdout + _SIZE)), _ELF)

    def assert_refused(self, image, reason):
        with self.assertRaisesRegex(vmlinux.ExtractError, reason):
            vmlinux.extract(image)

    def test_what_is_no_bzimage_is_refused(self):
        self.assert_refused(b'', 'not a bzImage')
        self.assert_refused(bytes(4096), 'not a bzImage')
        self.assert_refused(_ELF, 'not a bzImage')

    def test_an_old_boot_protocol_is_refused(self):
        self.assert_refused(_bzimage(_xz(_ELF), version=0x207), 'older than 2.08')

    def test_a_payload_beyond_the_file_is_refused(self):
        self.assert_refused(_bzimage(_xz(_ELF))[:-100], 'the payload ends at')

    def test_an_unknown_or_damaged_payload_is_refused(self):
        self.assert_refused(_bzimage(b'plain bytes'), 'unknown compression')
        self.assert_refused(_bzimage(_xz(_ELF)[:12] + bytes(200)), 'damaged')

    def test_a_payload_that_is_no_elf_is_refused(self):
        self.assert_refused(_bzimage(_xz(b'other')), 'not an ELF')


if __name__ == '__main__':
    unittest.main()
