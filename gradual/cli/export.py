"""Write the model of a stage as a folder for plain transformers, or the weights of any as a safetensors file.

Safetensors is a format that can hold tensors but no code. In a file, the tensors have their names in the model, without
the prefix of compiled modules. Its metadata has the class of the model, its hyperparameters and, as JSON, the meaning
of its outputs: the slots and their values in dialogue state tracking, the labels in event extraction.
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
from gradual.files import refuse_existing, whole_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gradual export``."""
    add = parser.add_argument
    add(
        "stage", metavar="RUN_DIR", type=Path,
        help="a run directory of gradual fit, whose result is exported, or the folder or a checkpoint of a stage",
    )  # fmt: skip
    add(
        "--out", metavar="OUT", type=Path, required=True,
        help="the folder to write, or for the weights alone a file whose name ends in .safetensors",
    )  # fmt: skip
    add(
        "--pretrained", metavar="FOLDER",
        help="the folder of the pretrained model and its tokenizer, where it is not the one that the run names",
    )  # fmt: skip
    add("--merge", action="store_true", help="merge an adapter (lora) into the weights of its base")


def run(arguments: argparse.Namespace) -> None:
    """Export a stage, and print what was written.

    Raises:
        InputError: There is no such stage, its checkpoint cannot be used, or the output cannot be written.
    """
    from gradual.cli.chosen_stage import choose_stage

    stage, out = choose_stage(arguments.stage), arguments.out
    if out.suffix == ".safetensors":
        if arguments.merge:
            raise InputError("--merge writes a whole model: --out must be a folder.")
        if arguments.pretrained:
            raise InputError("--pretrained is for a whole folder: a file of weights takes nothing from there.")
        count = export(stage.checkpoint, out)
        print(f"{out}: {count} tensors of {stage.checkpoint}")
        return
    from gradual.cli.class_paths import find_modules_in
    from gradual.cli.pretrained_folder import write_folder
    from gradual.logging import quieten
    from gradual.runs.checkpoint import read_checkpoint

    find_modules_in(Path.cwd())
    quieten()
    files = write_folder(stage, read_checkpoint(stage.checkpoint), out, arguments.merge, arguments.pretrained)
    print(f"{out}: {', '.join(files)} of {stage.checkpoint}")


def export(checkpoint: str | Path, out: str | Path) -> int:
    """Write the weights of a checkpoint to a file, completely or not at all.

    Args:
        checkpoint: A stage's checkpoint, such as ``best.ckpt``.
        out: The file, which must not exist; its name must end in ``.safetensors``.

    Returns:
        The number of tensors.

    Raises:
        InputError: The checkpoint is missing, damaged or of another kind, or the file exists or cannot be written.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InputError(f"--out is {out}: its name must end in .safetensors.")
    refuse_existing("--out", out)

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from gradual.nn.compiled import plain_name
    from gradual.runs.checkpoint import read_checkpoint

    content = read_checkpoint(checkpoint)
    # copies, because a file cannot hold one tensor under two names
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
    """The system's own message; safetensors only has its number."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return os.strerror(int(number[1])) if number else str(getattr(error, "strerror", None) or error)


def _metadata(content: Mapping[str, Any]) -> dict[str, str]:
    """What a checkpoint says about its model in plain data, as the format's mapping from text to text."""
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
        except (TypeError, ValueError):  # not plain data
            continue
        if value:
            metadata[name] = text
    return metadata
