"""The ``gradual`` command: it runs light commands itself and passes the others to LightningCLI.

Nothing heavy is imported before a command needs it, so that ``gradual --help`` is fast.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from gradual import __version__
from gradual.cli.commands import LIGHTNING_COMMANDS
from gradual.errors import InputError, nearest

_OTHER_NAMES = {"train": "fit", "run": "fit", "resume": "fit", "evaluate": "test", "eval": "test"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exit with status 2 and one sentence if the input cannot be used, and with 130 after Ctrl-C."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if given and given[0] in LIGHTNING_COMMANDS:
            _check_encoding(given)
            from gradual.cli.app import run

            run(arguments)
        else:
            parsed = _parser().parse_args(given)
            parsed.run(parsed)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        mistake = _input_error(error)
        if mistake is None:
            raise
        print(f"gradual: {mistake}", file=sys.stderr)
        raise SystemExit(2) from None


def _check_encoding(given: Sequence[str]) -> None:
    """Refuse bytes that are not UTF-8, as in the names of some old files, which no configuration can hold."""
    for argument in given:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(argument).decode("utf-8", "backslashreplace")
            pattern = f"{argument[: error.start]}*{argument[error.end :]}"
            hint = f" Of files, give a pattern ({pattern})." if pattern.isprintable() else ""
            raise InputError(f"{shown} is not UTF-8, as all arguments must be.{hint}") from None


def _input_error(error: BaseException | None) -> InputError | None:
    """The ``InputError`` behind an exception; parsers wrap the exceptions of the classes that they make."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


class _Parser(argparse.ArgumentParser):
    """A parser that suggests the command that was meant."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with status 2."""
        if unknown := re.match(r"argument COMMAND: invalid choice: '(.*)' \(choose from (.*)\)", message):
            commands = re.findall(r"[\w-]+", unknown[2])
            near = nearest(unknown[1], [*commands, *_OTHER_NAMES])
            hint = f" Did you mean 'gradual {_OTHER_NAMES.get(near, near)}'?" if near else ""
            message = f"there is no command {unknown[1]!r}; the commands are {', '.join(commands)}.{hint}"
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    from gradual import report
    from gradual.cli import demo, export, init
    from gradual.cli.completion import SHELLS, PrintCompletion
    from gradual.tasks.dialogue import download
    from gradual.tasks.events import convert

    parser = _Parser(
        prog="gradual",
        description="Gradual fine-tuning: adapt a model to a domain with little data, in stages with less and less "
        "out-of-domain data.",
        epilog="gradual COMMAND --help shows the options of a command. To try it: gradual demo",
    )
    parser.add_argument("--version", action="version", version=f"gradual {__version__}")
    parser.add_argument(
        "--print_completion", action=PrintCompletion, choices=SHELLS, help="print a script for completion in a shell"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text in LIGHTNING_COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    for name, module, text in (
        ("demo", demo, "compare four strategies on a small synthetic corpus, in about three minutes"),
        ("init", init, "write a configuration for files and a pretrained model of your own"),
        ("report", report, "write the report of a comparison again, without training"),
        ("export", export, "write the model of a stage for plain transformers, or its weights as safetensors"),
        ("download", download, "download public data"),
        ("convert", convert, "convert annotated texts into documents for event extraction"),
    ):
        command = commands.add_parser(name, help=text, description=(module.__doc__ or "").strip().splitlines()[0])
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    main()
