"""What programs and kernel modules need beside themselves."""

import pathlib
import re
import subprocess


class MissingError(Exception):
    """Something that a program or module needs is not on this host."""


def shared_libraries(program):
    """Returns the absolute paths of the libraries and loader of an ELF program; none if static."""
    with open(program, 'rb') as file:
        if file.read(4) != b'\x7fELF':
            return []
    listing = subprocess.run(['ldd', program], capture_output=True, text=True)
    if listing.returncode:  # "not a dynamic executable": static, or of another machine
        return []
    if missing := re.findall(r'(\S+) => not found', listing.stdout):
        raise MissingError(f'{program}: no library {", ".join(missing)} on this host')
    return re.findall(r'(?:=> |^\s*)(/\S+) \(0x', listing.stdout, re.MULTILINE)


def load_order(directory, names):
    """Returns the files of kernel modules and of those that they depend on, in order to insmod."""
    order = []
    for name in names:
        _append_module(pathlib.Path(directory), name, order)
    return order


def _append_module(directory, name, order):
    path = _module_file(directory, name)
    if path in order:
        return
    for dependency in _dependencies(path):
        _append_module(directory, dependency, order)
    order.append(path)


def _module_file(directory, name):
    spellings = (name, name.replace('_', '-'), name.replace('-', '_'))
    for path in (directory / f'{spelling}.ko' for spelling in spellings):
        if path.exists():
            return path
    raise MissingError(f'no kernel module {name} in {directory}')


def _dependencies(module):
    """The module's own list, from its .modinfo section."""
    listed = re.search(rb'\0depends=([^\0]*)\0', module.read_bytes())
    return [name for name in listed[1].decode().split(',') if name] if listed else []
