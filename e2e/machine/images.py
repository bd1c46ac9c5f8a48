"""The initial RAM disks: one for the emulated machine, one for a stock Linux guest inside it."""

import pathlib
import shlex
import shutil
import subprocess

import binaries
import cpio

_HERE = pathlib.Path(__file__).resolve().parent
_BUSYBOX = '/bin/busybox'
_ACCOUNTS = {
    '/etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
    '/etc/group': 'root:x:0:\ntty:x:5:\nkvm:x:104:\nnogroup:x:65534:\n',
    '/etc/hosts': '127.0.0.1 localhost\n::1 localhost\n',
    '/etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files\n',
}


def unavailable():
    """Returns why images cannot be made on this host, or None."""
    busybox = shutil.which('busybox')
    if not busybox:
        return 'busybox is not installed (Debian: busybox-static)'
    if binaries.shared_libraries(busybox):
        return f'{busybox} is not static (Debian: busybox-static)'
    return None


def guest(kernel_directory, modules=()):
    """A stock Linux guest: busybox and a shell on the console."""
    tree = _base()
    _add_script(tree, '/init', _HERE / 'guest_init.sh')
    _add_modules(tree, '/modules', kernel_directory, {name: '' for name in modules})
    return tree


def machine(kernel_directory, modules, marker):
    """The emulated machine without its command; modules: name → parameters."""
    tree = _base()
    _add_script(tree, '/init', _HERE / 'early_init.sh')
    _add_script(tree, '/machine/init', _HERE / 'init.sh')
    _add_modules(tree, '/machine/modules', kernel_directory, modules)
    tree.text('/machine/marker', marker)
    for path, content in _ACCOUNTS.items():
        tree.text(path, content)
    return tree


def add_command(tree, command, environment):
    """Makes command, a list of arguments, what the machine runs."""
    lines = ['#!/bin/sh', 'cd /root']
    lines += [f'export {name}={shlex.quote(value)}' for name, value in environment.items()]
    lines.append('exec ' + shlex.join(command))
    tree.text('/machine/command', '\n'.join(lines) + '\n', 0o755)


def add_path(tree, guest_path, host_path):
    """Adds a file or a whole directory, and the libraries of the programs among them."""
    host_path = pathlib.Path(host_path)
    if host_path.is_dir():
        tree.copy(guest_path, host_path)
        programs = [path for path in host_path.rglob('*') if path.is_file()]
    else:
        tree.file(guest_path, host_path)
        programs = [host_path]
    for program in programs:
        _add_libraries(tree, program)


def _base():
    tree = cpio.Tree()
    for path in ('/dev', '/proc', '/sys', '/run', '/mnt', '/root', '/var/lib'):
        tree.directory(path)
    tree.directory('/tmp', 0o1777)
    tree.character_device('/dev/console', 5, 1)
    tree.file(_BUSYBOX, shutil.which('busybox'), 0o755)
    for applet in subprocess.check_output(['busybox', '--list'], text=True).split():
        if applet != 'busybox':
            tree.link(f'/bin/{applet}', _BUSYBOX)
    return tree


def _add_script(tree, path, script):
    tree.file(path, script, 0o755)


def _add_modules(tree, list_path, kernel_directory, modules):
    """Adds modules with those that they need, and at list_path insmod's arguments for each."""
    parameters = {name.replace('-', '_'): value for name, value in modules.items()}
    lines = []
    for module in binaries.load_order(pathlib.Path(kernel_directory) / 'modules', modules):
        path = f'/lib/modules/{module.name}'
        tree.file(path, module)
        lines.append(f'{path} {parameters.get(module.stem.replace("-", "_"), "")}'.strip())
    tree.text(list_path, ''.join(line + '\n' for line in lines))


def _add_libraries(tree, program):
    for library in binaries.shared_libraries(program):
        if library not in tree:
            tree.file(library, library, 0o755)
