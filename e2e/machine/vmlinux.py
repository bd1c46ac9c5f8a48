"""The ELF vmlinux that a Linux x86 bzImage carries compressed (Linux, x86/boot.rst)."""

import bz2
import lzma
import shutil
import struct
import subprocess
import zlib

_SECTOR = 512
_SETUP_SECTS = 0x1F1
_MAGIC = 0x202  # "HdrS"
_VERSION = 0x206
_PAYLOAD = 0x248  # payload_offset, payload_length; boot protocol 2.08
_SIZE_SUFFIX = 4  # all compressors but gzip are followed by the uncompressed size


class ExtractError(Exception):
    """The image holds no vmlinux that can be extracted; says why."""


def extract(image):
    """Returns the ELF vmlinux in a bzImage, both as bytes, or raises ExtractError."""
    vmlinux = _decompress(_payload(image))
    if not vmlinux.startswith(b'\x7fELF'):
        raise ExtractError('the payload is not an ELF file')
    return vmlinux


def _payload(image):
    if len(image) < _PAYLOAD + 8 or image[_MAGIC:_MAGIC + 4] != b'HdrS':
        raise ExtractError('not a bzImage: no "HdrS" at 0x202')
    (version,) = struct.unpack_from('<H', image, _VERSION)
    if version < 0x208:
        raise ExtractError(f'boot protocol {version:#x} is older than 2.08: it names no payload')
    offset, length = struct.unpack_from('<II', image, _PAYLOAD)
    start = ((image[_SETUP_SECTS] or 4) + 1) * _SECTOR + offset
    if start + length > len(image):
        raise ExtractError(f'the payload ends at {start + length}, the file at {len(image)}')
    return image[start:start + length]


def _decompress(payload):
    for magic, decompress in _DECOMPRESSORS.items():
        if payload.startswith(magic):
            return _checked(decompress, payload)
    raise ExtractError(f'unknown compression: the payload starts with {payload[:6].hex()}')


def _checked(decompress, payload):
    try:
        return decompress(payload)
    except (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise ExtractError(f'the payload is damaged: {error}') from error


def _with_tool(tool):
    def decompress(payload):
        if not shutil.which(tool):
            raise ExtractError(f'the payload needs the program {tool}; install its package')
        done = subprocess.run([tool, '-dcq'], input=payload[:-_SIZE_SUFFIX], capture_output=True)
        if done.returncode:
            raise ValueError(done.stderr.decode(errors='replace').strip())
        return done.stdout

    return decompress


_DECOMPRESSORS = {
    b'\x1f\x8b': lambda payload: zlib.decompressobj(31).decompress(payload),
    b'\xfd7zXZ\0': lambda payload: lzma.LZMADecompressor().decompress(payload),
    b'\x5d\0\0': lambda payload: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload),
    b'BZh': lambda payload: bz2.BZ2Decompressor().decompress(payload),
    b'\x28\xb5\x2f\xfd': _with_tool('zstd'),
    b'\x02\x21\x4c\x18': _with_tool('lz4'),
}
