"""The ``gradual`` command: light commands here, the others through LightningCLI.

Nothing heavy is imported until a command needs it, so that ``gradual --help`` answers at once.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from gradual import __version__
from gradual.errors import InputError

LIGHTNING_COMMANDS = {
    "fit": "train all stages of a schedule, or go on with what was interrupted",
    "compare": "train several strategies under several seeds, each stage once, and report",
    "plan": "print what each stage would train on, without training",
    "stats": "print the sizes of the data",
    "validate": "validation scores of a stage's checkpoint",
    "test": "test scores of a stage's checkpoint",
    "predict": "write a checkpoint's predictions as JSON lines",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits with status 2 and one sentence where the input cannot be used, with 130 after Ctrl-C."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if given and given[0] in LIGHTNING_COMMANDS:
            from gradual.cli import run

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


def _input_error(error: BaseException | None) -> InputError | None:
    """The user's mistake behind an exception: parsers wrap what the classes they make raise."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def _parser() -> argparse.ArgumentParser:
    from gradual import export, report
    from gradual.tasks.dialogue import demo, download
    from gradual.tasks.events import convert

    parser = argparse.ArgumentParser(
        prog="gradual",
        description="Gradual fine-tuning: adapt a model to a scarce domain, stage by stage.",
        epilog="To try it: gradual demo-data, then gradual fit --config configs/demo.yaml",
    )
    parser.add_argument("--version", action="version", version=f"gradual {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text in LIGHTNING_COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    for name, module, text in (
        ("report", report, "write the report of a comparison again, without training"),
        ("export", export, "write a checkpoint's weights as safetensors"),
        ("demo-data", demo, "write a small dialogue corpus and a tiny encoder to try things with"),
        ("download", download, "fetch public data"),
        ("convert", convert, "turn annotated texts into documents for event extraction"),
    ):
        command = commands.add_parser(name, help=text, description=(module.__doc__ or "").strip().splitlines()[0])
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    main()
