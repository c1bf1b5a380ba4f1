"""``gradual export``: a stage's weights as safetensors, a format that holds tensors and no code.

The tensors have the names that the model gives them, without the mark of compiled parts. The file's metadata says where
they come from: the class of the model, its hyperparameters and, as JSON, what its outputs mean: for dialogues the slots
and their values, for event extraction the labels.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradual import __version__
from gradual.errors import InputError
from gradual.files import whole_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of ``gradual export``.

    Args:
        parser: The parser of this subcommand.
    """
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a stage's checkpoint, such as best.ckpt")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the .safetensors file to write")


def run(arguments: argparse.Namespace) -> None:
    """Exports a checkpoint's weights, and says how many there are.

    Args:
        arguments: The parsed options that ``add_arguments`` declares.

    Raises:
        InputError: The checkpoint cannot be used, or the file cannot be written.
    """
    count = export(arguments.checkpoint, arguments.out)
    print(f"{arguments.out}: {count} tensors of {arguments.checkpoint}")


def export(checkpoint: str | Path, out: str | Path) -> int:
    """Write the weights of a checkpoint; the file is there whole or not at all.

    Args:
        checkpoint: A stage's checkpoint, such as ``best.ckpt``.
        out: The file, which ends in ``.safetensors``.

    Returns:
        The number of tensors.

    Raises:
        InputError: The checkpoint is missing, damaged or foreign, or the file cannot be written.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InputError(f"--out is {out}: accepted is a file whose name ends in .safetensors.")

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from gradual.nn.compiled import plain_name
    from gradual.runs.checkpoint import read_checkpoint

    content = read_checkpoint(checkpoint)
    # copies: a file has no place for two names of one tensor
    tensors = {
        plain_name(name): tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in content["state_dict"].items()
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as temporary:
            save_file(tensors, temporary, metadata=_metadata(content))
    except (OSError, SafetensorError) as error:
        raise InputError(f"--out {out} cannot be written: {_reason(error)}.") from error
    return len(tensors)


def _reason(error: Exception) -> str:
    """Why, as the system says it; safetensors only writes its number into a text of its own."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return os.strerror(int(number[1])) if number else str(getattr(error, "strerror", None) or error)


def _metadata(content: Mapping[str, Any]) -> dict[str, str]:
    """What a checkpoint says of its model in plain data: text to text, as the format has it."""
    hyperparameters = dict(content.get("hyper_parameters") or {})
    said = {
        "class": hyperparameters.pop("_class_path", None),
        "hyperparameters": {name: value for name, value in hyperparameters.items() if name != "_instantiator"},
        "slots": content.get("slots"),
        "labels": content.get("labels"),
        "max_span_width": content.get("max_span_width"),
    }
    metadata = {"format": "pt", "gradual": __version__}
    for name, value in said.items():
        try:
            text = value if isinstance(value, str) else json.dumps(value, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError):  # no plain data
            continue
        if value:
            metadata[name] = text
    return metadata
