#!/usr/bin/env python3
"""The archives that cpio.Tree writes, as another implementation (GNU cpio) reads them."""

import io
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile
import unittest

import cpio


def _archive(tree):
    out = io.BytesIO()
    tree.write(out)
    return out.getvalue()


class TreeTest(unittest.TestCase):

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = pathlib.Path(scratch.name)
        self.tree = cpio.Tree()

    def extracted(self):
        if not shutil.which('cpio'):
            print('SKIPPED: cpio is not installed')
            self.skipTest('no cpio')
        target = self.directory / 'extracted'
        target.mkdir()
        subprocess.run(['cpio', '-id', '--quiet', '--no-absolute-filenames'], cwd=target,
                       input=_archive(self.tree), check=True)
        return target

    def test_every_kind_of_entry_comes_back(self):
        source = self.directory / 'source'
        source.write_bytes(os.urandom(4097))
        source.chmod(0o751)
        self.tree.file('/a/b/program', source)
        self.tree.text('/a/text', 'five\n', 0o600)
        self.tree.link('/a/link', 'text')
        self.tree.directory('/sticky', 0o1777)
        root = self.extracted()
        self.assertEqual((root / 'a/b/program').read_bytes(), source.read_bytes())
        self.assertEqual(stat.S_IMODE((root / 'a/b/program').stat().st_mode), 0o751)
        self.assertEqual((root / 'a/link').read_text(), 'five\n')
        self.assertEqual(stat.S_IMODE((root / 'sticky').stat().st_mode), 0o1777)

    def test_data_of_every_length_modulo_four_is_padded(self):
        for size in range(6):
            self.tree.text(f'/{"n" * (size + 1)}', 'x' * size)
        sizes = sorted(path.stat().st_size for path in self.extracted().iterdir())
        self.assertEqual(sizes, [0, 1, 2, 3, 4, 5])

    def test_a_directory_is_copied_whole_and_its_links_followed(self):
        source = self.directory / 'source'
        (source / 'below').mkdir(parents=True)
        (source / 'below/file').write_text('content')
        (source / 'link').symlink_to('below/file')
        self.tree.copy('/copy', source)
        root = self.extracted()
        self.assertEqual((root / 'copy/below/file').read_text(), 'content')
        self.assertFalse((root / 'copy/link').is_symlink())

    def test_the_later_entry_of_a_path_wins(self):
        self.tree.text('/file', 'first')
        self.tree.text('//file', 'second')
        self.assertEqual(_archive(self.tree).count(b'second'), 1)
        self.assertNotIn(b'first', _archive(self.tree))

    def test_parents_come_before_children(self):
        self.tree.text('/z/y/x', '')
        archive = _archive(self.tree)
        positions = [archive.index(name) for name in (b'z\0', b'z/y\0', b'z/y/x\0')]
        self.assertEqual(positions, sorted(positions))

    def test_a_device_has_its_numbers(self):
        self.tree.character_device('/console', 5, 1)
        header = _archive(self.tree)[:110]
        self.assertEqual(header[14:22], b'%08X' % (stat.S_IFCHR | 0o600))
        self.assertEqual(header[78:94], b'0000000500000001')

    def test_paths_that_name_no_file_are_refused(self):
        for path in ('relative', '/', ''):
            with self.assertRaises(ValueError):
                self.tree.text(path, '')


if __name__ == '__main__':
    unittest.main()
