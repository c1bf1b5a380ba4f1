"""Completion in shells: a script that knows the commands, their options, and the values that an option can have.

The script is made once, since it takes seconds to ask all parsers; pressing TAB then runs no Python.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradual.cli.commands import LIGHTNING_COMMANDS, WITH_STAGE
from gradual.errors import InputError

SHELLS = ("bash", "zsh")
_PATHS = ("FILE", "DIR", "RUN_DIR", "PATH")


class PrintCompletion(argparse.Action):
    """The option that prints the script and exits."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        """Print the script for a shell."""
        print(script(parser, values))
        parser.exit()


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Write the script that completes the command line of ``gradual``.

    Args:
        parser: The parser of all commands; those of LightningCLI get their options here.
        shell: One of ``SHELLS``.

    Raises:
        InputError: The package ``shtab`` is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise InputError(
            "--print_completion needs shtab, which is not installed: pip install 'gradual[completion]'."
        ) from error
    from gradual.cli.lightning_cli_internals import actions_of

    commands: dict[str, argparse.ArgumentParser] = next(
        action.choices for action in actions_of(parser) if isinstance(action.choices, dict)
    )
    for name, command in commands.items():
        if name in LIGHTNING_COMMANDS:
            _add_options(name, command)
        for action in actions_of(command):
            if action.type is Path or action.metavar in _PATHS:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def _add_options(name: str, command: argparse.ArgumentParser) -> None:
    """Add the options of a command of LightningCLI, as its help shows them, and those of the package's classes."""
    from gradual.cli.class_paths import OWN_CLASSES
    from gradual.cli.help import HelpFormatter, described
    from gradual.cli.lightning_cli_internals import type_text
    from gradual.cli.parsers import all_settings

    if name in WITH_STAGE:
        command.add_argument("run_dir", metavar="RUN_DIR", nargs="?", help="the run directory or the stage")
    for action in all_settings(name):
        kind = type_text(HelpFormatter(""), action) or ""
        choices = _choices(kind)
        if action.dest in OWN_CLASSES:
            choices = [path.rpartition(".")[2] for path in OWN_CLASSES[action.dest]]
        takes_path = action.dest == "config" or "str" in re.findall(r"\w+", kind)
        flag: dict[str, Any] = {"action": "store_true"} if action.nargs == 0 else {"choices": choices}
        flag |= {"metavar": "FILE"} if choices is None and takes_path else {}
        options = [option for option in action.option_strings if not option.endswith("+")]
        command.add_argument(*options, help=described(action).text.replace("%", "%%"), **flag)


def _choices(kind: str) -> Sequence[str] | None:
    """The values of a type that has only some."""
    if literal := re.search(r"Literal\[(.*?)\]", kind):
        return re.findall(r"'(.*?)'", literal[1])
    return ["true", "false"] if kind == "bool" else None
