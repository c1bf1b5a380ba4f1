"""The parser of the commands: environment variables, error messages and help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from gradual.cli.class_paths import GROUPS_OF_SETTINGS, public_path
from gradual.cli.configuration import check_configuration
from gradual.cli.help import HelpFormatter, command_help
from gradual.cli.lightning_cli_internals import actions_of
from gradual.cli.messages import sentence_of, sentence_of_class
from gradual.errors import InputError


class _Unread(str):
    """The text that the command line has for a setting of a class, which jsonargparse does not read as YAML.

    It would read the text before it knows the type of the setting: ``translate : `` would be a mapping.
    """


class Parser(LightningArgumentParser):
    """A parser that reads environment variables (``GRADUAL_FIT__RUN_DIR``) and reports each error in one sentence.

    Args:
        command: The command that it parses; None for the parser of all commands or of the settings of a class.
    """

    def __init__(self, *args: Any, command: str | None = None, **kwargs: Any):
        own = {"default_env": True, "env_prefix": "GRADUAL", "allow_abbrev": False, "formatter_class": HelpFormatter}
        super().__init__(*args, **{**kwargs, **own})
        self.command = command
        self._class: Any = None  # the class whose settings it parses

    def add_class_arguments(self, theclass: Any, nested_key: str | None = None, *args: Any, **kwargs: Any) -> list[str]:
        """Add the settings of a class, and remember the class if the parser has no other settings."""
        if nested_key is None and not self.exit_on_error:
            self._class = theclass
        return super().add_class_arguments(theclass, nested_key, *args, **kwargs)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *more: Any, **named: Any
    ) -> Namespace:
        """Parse arguments; texts for the settings of model and data are left to the parsers of their classes."""
        given = sys.argv[1:] if args is None else args
        return super().parse_args(list(_with_unread(given)), *more, **named)

    def parse_object(self, cfg_obj: Any, *more: Any, **named: Any) -> Namespace:
        """Parse the settings of a class, whose types this parser knows."""
        if isinstance(cfg_obj, Namespace):
            unread = {name: value for name, value in cfg_obj.items() if isinstance(value, _Unread)}
            cfg_obj = cfg_obj.clone() if unread else cfg_obj
            for name, value in unread.items():
                cfg_obj[name] = str(value)
        return super().parse_object(cfg_obj, *more, **named)

    def parse_path(self, cfg_path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Read a configuration file, or refuse it with file and line."""
        check_configuration(Path(str(cfg_path)))
        return super().parse_path(cfg_path, *args, **kwargs)

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """The help of a command or of a class."""
        if self.command is not None:
            return command_help(self.command, self.description or "", actions_of(self))
        self.usage = argparse.SUPPRESS
        return super().format_help() if formatter is None else super().format_help(formatter)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the sentence to standard error and exit with status 2."""
        print(f"gradual: {self._sentence(str(message), ex)}", file=sys.stderr)
        raise SystemExit(2)

    def _sentence(self, message: str, error: BaseException | None) -> str:
        while error is not None:
            if isinstance(error, InputError):
                return str(error)
            error = error.__cause__ or error.__context__
        if self._class is None:
            return sentence_of(message, self._known())
        if public_path(self._class) in GROUPS_OF_SETTINGS:
            setting, _ = GROUPS_OF_SETTINGS[public_path(self._class)]
            return sentence_of_class(message, setting, setting, self._known())
        bases = {"model": LightningModule, "data": LightningDataModule}
        is_class = isinstance(self._class, type)
        group = next((name for name, base in bases.items() if is_class and issubclass(self._class, base)), "")
        return sentence_of_class(message, public_path(self._class), group, self._known())

    def _known(self) -> list[str]:
        """The names of all settings, including those of the subcommands."""
        subcommands = [p for a in actions_of(self) if isinstance(a.choices, dict) for p in a.choices.values()]
        return [action.dest for parser in (self, *subcommands) for action in actions_of(parser)]


def _with_unread(arguments: Sequence[str]) -> Iterator[str]:
    """Mark the texts for the settings of model and data, such as ``--data.prefix``."""
    of_class = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith(("--model.", "--data.")):
            if equals and not value.startswith("-"):  # which would be an option without its name before it
                yield name
                yield _Unread(value)
            else:
                yield argument
            of_class = not equals
        else:
            yield _Unread(argument) if of_class and not argument.startswith("-") else argument
            of_class = False
