"""Compare four strategies on a small synthetic corpus, in about three minutes on two cores."""

from __future__ import annotations

import argparse
import os
from importlib.resources import files
from pathlib import Path

from gradual.errors import InputError
from gradual.files import write_atomically

CONFIGURATION = "demo.yaml"
DATA = "demo-data"  # as the configuration says


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gradual demo``: it has none."""


def run(arguments: argparse.Namespace) -> None:
    """Write the files of the demo, and run the commands that a user would type next.

    Raises:
        InputError: The files cannot be written, or others of their names exist.
    """
    # the models are small: with more threads per process, threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _show("init --demo")
    write_demo(Path())

    from gradual.cli.app import run as run_command  # torch reads the number of threads when it is imported

    for command in ("stats", "compare"):
        _show(f"{command} --config {CONFIGURATION}")
        run_command([command, "--config", CONFIGURATION])
    again = f"gradual compare --config {CONFIGURATION} --run_dir runs/mine"
    print(f"\nTo change something: edit {CONFIGURATION}, then {again}")


def write_demo(folder: Path) -> None:
    """Write the demo's configuration, corpus and encoder, unless they exist already.

    Args:
        folder: Where to write them. The configuration is for commands that run in it.

    Raises:
        InputError: They cannot be written, or other files of these names exist.
    """
    from gradual.tasks.dialogue.demo import write_demo_data

    path, text = folder / CONFIGURATION, (files("gradual.cli") / CONFIGURATION).read_text(encoding="utf-8")
    try:
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise InputError(
                f"{CONFIGURATION} exists and differs from the demo's: run gradual compare --config {CONFIGURATION}, or "
                "remove it."
            )
        write_atomically(path, text)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be written: {error}.") from error
    print(f"{CONFIGURATION}: what to train, with comments")
    write_demo_data(folder / DATA)


def _show(command: str) -> None:
    print(f"\n$ gradual {command}", flush=True)
