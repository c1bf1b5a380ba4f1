"""Checkpoint files that are complete or absent, with a checksum that shows damage."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from gradual.errors import InputError
from gradual.files import whole_file
from gradual.nn.compiled import named_as_in, with_versions_of
from gradual.runs.serialization import from_plain, to_plain


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints so that a crash at any moment leaves an intact one, and so that damage is detected.

    A file is written by ``gradual.files.whole_file`` and ends with its checksum. (Lightning writes to the system's
    temporary folder, from where moving may mean copying, and does not flush to the disk.) It contains plain data only,
    as described in ``gradual.runs.serialization``.

    Args:
        fallbacks: For some files, where the old file is moved when a new one replaces it.
        module: The module that checkpoints are loaded into; it need not be compiled like the one that was saved.
    """

    def __init__(self, fallbacks: Mapping[Path, Path], module: nn.Module):
        self._fallbacks, self._module = fallbacks, module

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            InputError: The checkpoint contains a state that could not be read back.
        """
        checkpoint = to_plain(checkpoint)
        if "state_dict" in checkpoint:
            checkpoint["state_dict"] = with_versions_of(self._module, checkpoint["state_dict"])
        if "://" in str(path):  # a user's own callback may save to remote storage
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, self._fallbacks.get(path)) as temporary, temporary.open("w+b") as file:
            _save(checkpoint, file)
            seal(file)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, without running code from it unless ``weights_only`` is False."""
        checkpoint = from_plain(super().load_checkpoint(path, map_location, weights_only is not False))
        if "state_dict" in checkpoint:
            checkpoint["state_dict"] = named_as_in(self._module, checkpoint["state_dict"])
        return checkpoint


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # the cause, such as a full disk
            raise error.__context__ from None
        raise


_DIGEST = 64  # characters of a SHA-256
_SEALED = struct.pack("<H", _DIGEST)  # the length of a zip archive's comment, directly before the comment
_END_OF_ZIP = b"PK\5\6"


def seal(file: IO[bytes]) -> None:
    """Append a checkpoint's checksum to its file.

    The last 64 bytes become the SHA-256 of those before them. They are the comment of the zip archive that a checkpoint
    is, so that ``torch.load`` still reads it, and there is no second file that could be missing.
    """
    file.seek(-2, os.SEEK_END)
    file.write(_SEALED)
    size = file.tell()
    digest = _digest(file, size)
    file.seek(size)
    file.write(digest.encode("ascii"))


def damage(path: Path) -> str | None:
    """Describe the damage of a checkpoint in words; None for an intact one."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _DIGEST - len(_SEALED)))
            if file.read(len(_SEALED)) == _SEALED:
                digest = file.read().decode("ascii", "replace")
                return None if digest == _digest(file, size - _DIGEST) else "its checksum does not match"
            file.seek(max(0, size - 22))
            end = file.read()
            if end[:4] == _END_OF_ZIP and end[-2:] == b"\0\0":  # written by torch itself: each part has a checksum
                file.seek(0)
                damaged = zipfile.ZipFile(file).testzip()
                return f"the checksum of its part {damaged} does not match" if damaged else None
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
    """Read the checkpoint of a stage; its tensors stay in the file until they are used.

    Raises:
        InputError: The file cannot be read, is damaged, is not a Lightning checkpoint, or contains objects that only
            code could create, which is not run.
    """
    accepted = "it must be a checkpoint of a stage, such as best.ckpt"
    wrong = damage(Path(path))
    if wrong:
        raise InputError(f"{path} cannot be loaded ({wrong}); {accepted}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        content = from_plain(content) if isinstance(content, dict) else content
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} contains more than tensors and plain data, which is not loaded because it could run code; "
            f"{accepted}."
        ) from error
    except Exception as error:  # a zip archive of something else may raise anything
        raise InputError(f"{path} is not a checkpoint; {accepted}.") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not isinstance(content.get("pytorch-lightning_version"), str):
        raise InputError(f"{path} is not a Lightning checkpoint; {accepted}.")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise InputError(f"{path}: the weight {name!r:.80} is not a tensor; {accepted}.")
    return content


def check_plain(part: LightningModule | LightningDataModule) -> None:
    """Reject a module or data module that could not be read back from a checkpoint.

    Raises:
        InputError: A hyperparameter, or an entry of the module's state, is not plain data.
    """
    owner = type(part).__name__
    if isinstance(part, LightningModule):
        for name, value in part.state_dict().items():
            if not isinstance(value, torch.Tensor):
                raise InputError(
                    f"The state of {owner} has the entry '{name}', a {type(value).__name__}: it must be a tensor."
                )
    for name, value in part.hparams.items():
        file = io.BytesIO()
        try:
            torch.save(value, file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as error:  # pickling anything may raise anything
            raise InputError(
                f"The hyperparameter '{name}' of {owner} is a {type(value).__name__}, which cannot be saved, since "
                f"checkpoints contain plain data only: leave it out with save_hyperparameters(ignore=['{name}'])."
            ) from error
