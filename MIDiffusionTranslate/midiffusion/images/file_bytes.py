"""Bytes of a file, compressed or not, read only after the file is known to hold them.

A damaged header can promise any size. So nothing is allocated for a promise that the file can't
keep: the size is compared first, and a compressed stream is decompressed once without being kept.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import UnreadableFile

_GZIP = b"\x1f\x8b"
# Deflate can't shrink data further (Adler and Deutsch, zlib technical details).
_MOST_COMPRESSION = 1032
_BLOCK = 1 << 20
_EITHER = 47  # of zlib: gzip or zlib, by their first bytes


def is_gzip(path: Path) -> bool:
    """By the first two bytes, whatever the name. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(2) == _GZIP


class BoundedFile(io.BufferedReader):
    """A binary file that is never asked for more than it holds: a length in a damaged header would
    be allocated first."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.path.getsize(path)

    def read(self, size: int | None = -1, /) -> bytes:
        rest = max(0, self._size - self.tell())
        return super().read(rest if size is None or size < 0 else min(size, rest))


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM preamble. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file after decompression, fewer at its end. Raises UnreadableFile."""
    try:
        with _opened(path) as file:
            return file.read(count)
    except (OSError, EOFError, zlib.error) as failure:
        raise unreadable(path) from failure


def read_array(path: Path, offset: int, count: int, dtype: np.dtype, skip: int = 0) -> np.ndarray:
    """`count` values of `dtype` behind `offset` bytes and `skip` further values, after
    decompression, [count]. Raises UnreadableFile where the file ends early or is damaged."""
    start, needed = offset + skip * dtype.itemsize, count * dtype.itemsize
    try:
        check_holds(path, start + needed)
        with _opened(path) as file:
            file.seek(start)
            data = file.read(needed)
    except (OSError, EOFError, zlib.error) as failure:
        raise unreadable(path) from failure
    return np.frombuffer(data, dtype)


def check_holds(path: Path, needed: int) -> None:
    """Raises UnreadableFile unless the file holds `needed` bytes, after decompression."""
    if is_gzip(path):
        check_deflated(path, 0, needed)
    else:
        check_size(path, needed)


def check_size(path: Path, needed: int) -> None:
    """As `check_holds`, of a file that is not decompressed."""
    if os.path.getsize(path) < needed:
        raise _short(path, needed)


def check_deflated(path: Path, offset: int, needed: int) -> None:
    """As `check_holds`, of one gzip or zlib stream behind `offset` bytes of a file."""
    if needed > (os.path.getsize(path) - offset) * _MOST_COMPRESSION:
        raise _short(path, needed)
    stream, size, block = zlib.decompressobj(_EITHER), 0, b""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            while not stream.eof:
                block = stream.unconsumed_tail or file.read(_BLOCK)
                if not block:
                    break
                size += len(stream.decompress(block, _BLOCK))
    except zlib.error as failure:
        raise unreadable(path) from failure
    if size < needed or not stream.eof:
        raise _short(path, needed)


def unreadable(path: Path) -> UnreadableFile:
    """The error for a file that is no image or a damaged one."""
    if path.exists() and not os.access(path, os.R_OK):
        return UnreadableFile(f"{path} may not be read: check its permissions.")
    return UnreadableFile(
        f"{path} can't be read as an image: it is damaged or of another format; give a complete "
        "file."
    )


def _short(path: Path, needed: int) -> UnreadableFile:
    return UnreadableFile(
        f"{path} can't be read as an image: it ends before the {needed} bytes that its header "
        "promises; copy or download it again."
    )


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if is_gzip(path) else open(path, "rb")  # type: ignore[return-value]
