"""Checkpoint files that are whole or not there: written beside their place, with a checksum at their end."""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

_DIGEST = 64  # characters of a SHA-256
_SEALED = struct.pack("<H", _DIGEST)  # the length of a zip's comment, which stands before it at the end of the file
_END_OF_ZIP = b"PK\5\6"


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints so that a crash at any moment leaves a good one.

    A file is written under another name in its own folder, brought to the disk and then moved to its place. (Lightning
    writes into the system's temporary folder, from where a move may be a copy, and does not wait for the disk.) The last
    64 bytes are the SHA-256 of those before them, as the comment of the zip archive that a checkpoint is, so that the
    file stays one that ``torch.load`` reads; ``damage`` compares them.

    Args:
        fallbacks: Where a file that is replaced is moved to, for files that have such a place.
    """

    def __init__(self, fallbacks: Mapping[Path, Path]):
        self._fallbacks = fallbacks

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint."""
        if "://" in str(path):  # a user's own callback may save elsewhere
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            with temporary.open("w+b") as file:
                _save(checkpoint, file)
                _seal(file)
                file.flush()
                os.fsync(file.fileno())
            if path in self._fallbacks and path.exists():
                path.replace(self._fallbacks[path])
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; unless told otherwise, without running code from it."""
        return super().load_checkpoint(path, map_location, weights_only is not False)


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file, in words; None for one that is as it was written."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _DIGEST - 2))
            if file.read(2) == _SEALED:
                digest = file.read().decode("ascii", "replace")
                return None if digest == _digest(file, size - _DIGEST) else "its checksum does not fit"
            file.seek(max(0, size - 22))
            end = file.read()
            if end[:4] == _END_OF_ZIP and end[-2:] == b"\0\0":  # written by torch alone: each part has a checksum
                file.seek(0)
                damaged = zipfile.ZipFile(file).testzip()
                return f"the checksum of its part {damaged} does not fit" if damaged else None
            return "its end is missing"
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return str(error)


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # what went wrong, under torch's account of where
            raise error.__context__ from None
        raise


def _seal(file: IO[bytes]) -> None:
    file.seek(-2, os.SEEK_END)
    file.write(_SEALED)
    size = file.tell()
    digest = _digest(file, size)
    file.seek(size)
    file.write(digest.encode("ascii"))


def _digest(file: IO[bytes], size: int) -> str:
    """SHA-256 of the first ``size`` bytes."""
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
