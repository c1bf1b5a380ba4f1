"""Checkpoint files that are whole or not there."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from gradual.errors import InputError
from gradual.nn.compiled import named_as_in
from gradual.runs.plain_data import from_plain, to_plain


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints so that a crash at any moment leaves a good one, and damage is noticed.

    A file is written under another name in its own folder, ends with its checksum, is brought to the disk and then
    moved to its place. (Lightning writes into the system's temporary folder, from where a move may be a copy, and does
    not wait for the disk.) It holds plain data only, as ``gradual.runs.plain_data`` says.

    Args:
        fallbacks: Where a file that is replaced is moved to, for files that have such a place.
        module: The module that checkpoints are loaded into; they may come from one that was compiled otherwise.
    """

    def __init__(self, fallbacks: Mapping[Path, Path], module: nn.Module):
        self._fallbacks, self._module = fallbacks, module

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            InputError: A state in it could not be read back.
        """
        checkpoint = to_plain(checkpoint)
        if "://" in str(path):  # a user's own callback may save elsewhere
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            with temporary.open("w+b") as file:
                _save(checkpoint, file)
                seal(file)
                file.flush()
                os.fsync(file.fileno())
            if path in self._fallbacks and path.exists():
                path.replace(self._fallbacks[path])
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        with suppress(OSError):  # not every file system can
            _sync_folder(path.parent)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; unless told otherwise, without running code from it."""
        checkpoint = from_plain(super().load_checkpoint(path, map_location, weights_only is not False))
        if "state_dict" in checkpoint:
            checkpoint["state_dict"] = named_as_in(self._module, checkpoint["state_dict"])
        return checkpoint


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # what went wrong, under torch's account of where
            raise error.__context__ from None
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def _digest(file: IO[bytes], size: int) -> str:
    """SHA-256 of the first ``size`` bytes."""
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a stage's checkpoint; its tensors stay in the file until they are looked at.

    Raises:
        InputError: The file cannot be read, is damaged, is no checkpoint of Lightning's, or holds objects that only
            code could make, which is not run.
    """
    accepted = "accepted is a checkpoint of a stage, such as best.ckpt"
    wrong = damage(Path(path))
    if wrong:
        raise InputError(f"{path} cannot be loaded ({wrong}); {accepted}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        content = from_plain(content) if isinstance(content, dict) else content
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors and plain data, which is not loaded as it could run code; {accepted}."
        ) from error
    except Exception as error:  # a zip archive of something else may raise anything
        raise InputError(f"{path} is no checkpoint; {accepted}.") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not isinstance(content.get("pytorch-lightning_version"), str):
        raise InputError(f"{path} is no checkpoint of Lightning's; {accepted}.")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise InputError(f"{path}: the weight {name!r:.80} is no tensor; {accepted}.")
    return content


def check_plain(part: LightningModule | LightningDataModule) -> None:
    """Refuse what would go into a checkpoint and could not be read from it again.

    Raises:
        InputError: One of its hyperparameters, or of a module's states, is no plain data.
    """
    owner = type(part).__name__
    if isinstance(part, LightningModule):
        for name, value in part.state_dict().items():
            if not isinstance(value, torch.Tensor):
                raise InputError(f"The state of {owner} holds '{name}', a {type(value).__name__} and no tensor.")
    for name, value in part.hparams.items():
        file = io.BytesIO()
        try:
            torch.save(value, file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as error:  # pickling anything may raise anything
            raise InputError(
                f"The hyperparameter '{name}' of {owner}, a {type(value).__name__}, is no plain data, of which "
                f"checkpoints are made: leave it out with save_hyperparameters(ignore=['{name}'])."
            ) from error
