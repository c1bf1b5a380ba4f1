"""Checksums: whether a file still holds what was written into it. Nothing here needs torch."""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
from pathlib import Path
from typing import IO

_DIGEST = 64  # characters of a SHA-256
_SEALED = struct.pack("<H", _DIGEST)  # the length of a zip's comment, which stands before it at the end of the file
_END_OF_ZIP = b"PK\5\6"


def seal(file: IO[bytes]) -> None:
    """End a checkpoint with its checksum.

    The last 64 bytes become the SHA-256 of those before them, as the comment of the zip archive that a checkpoint is:
    so it is still one that ``torch.load`` reads, and no second file can be there without the first.
    """
    file.seek(-2, os.SEEK_END)
    file.write(_SEALED)
    size = file.tell()
    digest = _digest(file, size)
    file.seek(size)
    file.write(digest.encode("ascii"))


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None for one that is as it was written."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _DIGEST - len(_SEALED)))
            if file.read(len(_SEALED)) == _SEALED:
                digest = file.read().decode("ascii", "replace")
                return None if digest == _digest(file, size - _DIGEST) else "its checksum does not fit"
            file.seek(max(0, size - 22))
            end = file.read()
            if end[:4] == _END_OF_ZIP and end[-2:] == b"\0\0":  # written by torch alone: each part has a checksum
                file.seek(0)
                damaged = zipfile.ZipFile(file).testzip()
                return f"the checksum of its part {damaged} does not fit" if damaged else None
            return "it does not end as a checkpoint does"
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return getattr(error, "strerror", None) or str(error)


def checksum(path: Path) -> str | None:
    """SHA-256 of a small file; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _digest(file: IO[bytes], size: int) -> str:
    """SHA-256 of the first ``size`` bytes."""
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()
