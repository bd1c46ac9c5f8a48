"""A file tree written as an initramfs: the "newc" cpio format (Linux, buffer-format.rst)."""

import dataclasses
import pathlib
import posixpath
import shutil
import stat

_MAX_FILE_SIZE = (1 << 32) - 1  # the format's size field has 32 bits


@dataclasses.dataclass
class _Entry:
    mode: int  # type and permissions, as in stat(2)
    data: bytes | pathlib.Path = b''
    device: tuple[int, int] = (0, 0)

    def size(self):
        return self.data.stat().st_size if isinstance(self.data, pathlib.Path) else len(self.data)

    def copy_to(self, out):
        if isinstance(self.data, pathlib.Path):
            with self.data.open('rb') as source:
                shutil.copyfileobj(source, out, 1 << 20)
        else:
            out.write(self.data)


class Tree:
    """Files by absolute guest path. A later entry of the same path replaces the earlier one."""

    def __init__(self):
        self._entries = {}

    def __contains__(self, path):
        return _name(path) in self._entries

    def directory(self, path, permissions=0o755):
        self._add(path, _Entry(stat.S_IFDIR | permissions))

    def link(self, path, target):
        self._add(path, _Entry(stat.S_IFLNK | 0o777, target.encode()))

    def text(self, path, content, permissions=0o644):
        self._add(path, _Entry(stat.S_IFREG | permissions, content.encode()))

    def character_device(self, path, major, minor):
        self._add(path, _Entry(stat.S_IFCHR | 0o600, device=(major, minor)))

    def file(self, path, host_path, permissions=None):
        """Adds the content of host_path, read only when the tree is written."""
        host_path = pathlib.Path(host_path)
        if permissions is None:
            permissions = stat.S_IMODE(host_path.stat().st_mode)
        self._add(path, _Entry(stat.S_IFREG | permissions, host_path))

    def copy(self, path, host_directory):
        """Adds a directory with all that is in it; links on the host are followed."""
        self.directory(path)
        for child in sorted(pathlib.Path(host_directory).iterdir()):
            add = self.copy if child.is_dir() else self.file
            add(posixpath.join(path, child.name), child)

    def write(self, out):
        """Writes the archive, parents before children. Raises ValueError on a file over 4 GiB."""
        for inode, (name, entry) in enumerate(sorted(self._entries.items()), start=1):
            _write_entry(out, inode, name, entry)
        _write_entry(out, 0, 'TRAILER!!!', _Entry(0))

    def _add(self, path, entry):
        name = _name(path)
        parent = posixpath.dirname(name)
        if parent and parent not in self._entries:
            self.directory('/' + parent)
        self._entries[name] = entry


def _name(path):
    if not path.startswith('/'):
        raise ValueError(f'{path}: a path in the guest must be absolute')
    name = posixpath.normpath(path).lstrip('/')
    if not name:
        raise ValueError(f'{path}: names no file')
    return name


def _write_entry(out, inode, name, entry):
    size = entry.size()
    if size > _MAX_FILE_SIZE:
        raise ValueError(f'{entry.data}: {size} bytes do not fit the format (4 GiB)')
    encoded = name.encode() + b'\0'
    fields = (inode, entry.mode, 0, 0, 1, 0, size, 0, 0, *entry.device, len(encoded), 0)
    header = b'070701' + b''.join(b'%08X' % field for field in fields) + encoded
    out.write(header + _padding(len(header)))
    entry.copy_to(out)
    out.write(_padding(size))


def _padding(size):
    return bytes(-size % 4)
