"""Files that are written whole or not at all, and read back with one sentence for what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gradual.errors import InputError


@contextmanager
def whole_file(path: Path, backup: Path | None = None) -> Iterator[Path]:
    """Write a file so that, at any moment, ``path`` holds either its old content or the complete new one.

    Args:
        path: The file; its folder must exist.
        backup: Where the old file, if there is one, is moved when the new one takes its place; None to replace it.

    Yields:
        A temporary file in the same folder to write to, empty and with the permissions of a new file. When the block
        ends, its content is flushed to the disk and it takes the place of ``path``; if the block raises, it is removed.
    """
    # several processes may write the same file
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.touch()
        permissions = temporary.stat().st_mode
        yield temporary
        if temporary.stat().st_mode != permissions:  # a library may have made the file anew, for its owner only
            temporary.chmod(permissions)
        put_in_place(temporary, path, backup)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Write a folder so that, at any moment, ``path`` holds nothing or all of its files.

    Args:
        path: The folder, which must not exist or be empty; the folders above it are created.

    Yields:
        A temporary folder beside it to write files to. When the block ends, they are flushed to the disk, get the
        permissions of new files, and the folder takes the place of ``path``; if the block raises, it is removed.

    Raises:
        InputError: ``path`` has content.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists: choose another folder, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        permissions = temporary.stat().st_mode & 0o666
        for file in (found for found in temporary.rglob("*") if found.is_file()):
            file.chmod(permissions)  # a library may have made it for its owner only
            with file.open("rb+") as content:
                os.fsync(content.fileno())
        temporary.replace(path)
        with suppress(OSError):  # not every file system supports this
            _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(option: str, path: Path) -> None:
    """Refuse to write a file over another one.

    Args:
        option: The option that names it.
        path: The file.

    Raises:
        InputError: It exists.
    """
    if path.exists():
        raise InputError(f"{option} {path} exists: choose another file, or remove it.")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file as ``whole_file`` does, text as UTF-8."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def put_in_place(finished: Path, path: Path, backup: Path | None = None) -> None:
    """Move a finished file of the same folder to ``path``, in such a way that no crash leaves half of it there."""
    with finished.open("rb+") as file:
        os.fsync(file.fileno())
    if backup is not None and path.exists():
        path.replace(backup)
    finished.replace(path)
    with suppress(OSError):  # not every file system supports this
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: The file cannot be read as JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}.") from None
