"""The parsers of the commands by themselves, for what only asks which settings there are: completion, the handbook."""

from __future__ import annotations

import argparse
import functools
import pkgutil
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from gradual.cli.app import GradualCLI, make_cli
from gradual.cli.class_paths import OWN_CLASSES
from gradual.cli.help import STAGES, shown_settings
from gradual.cli.lightning_cli_internals import actions_of, subcommand_parser
from gradual.cli.parser import Parser


class _ParserCLI(GradualCLI):
    """Makes the parser of a command, and neither parses nor runs anything."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Take no arguments."""
        self.config = Namespace(subcommand=None, seed_everything=False)

    def before_instantiate_classes(self) -> None:
        """Do nothing."""

    def instantiate_classes(self) -> None:
        """Make nothing."""


def command_parser(command: str, data_class: str | None = None) -> LightningArgumentParser:
    """The parser of a command.

    Args:
        command: The command, one of ``LIGHTNING_COMMANDS``.
        data_class: The class path of the data module that is used where none is given; None for no such.
    """
    return subcommand_parser(make_cli(command, [], data_class, _ParserCLI), command)


@functools.cache
def class_settings(group: str, path: str) -> list[argparse.Action]:
    """The settings of a class of models or data, such as ``data.in_domain``.

    Args:
        group: ``model`` or ``data``.
        path: Its class path.
    """
    parser = Parser()
    parser.add_class_arguments(pkgutil.resolve_name(path), group, fail_untyped=False, sub_configs=True)
    return [action for action in actions_of(parser) if action.dest.startswith(f"{group}.")]


def all_settings(command: str) -> list[argparse.Action]:
    """The settings that a command uses, those of the package's classes and of stages included, each name once."""
    actions = actions_of(command_parser(command))
    shown = [action for _, section in shown_settings(command, actions) for action in section]
    tops = {action.dest for action in shown} & {*STAGES}
    of_stages = [action for action in actions if action.dest.partition(".")[0] in tops and "." in action.dest]
    of_classes = [one for group, paths in OWN_CLASSES.items() for path in paths for one in class_settings(group, path)]
    by_name = {action.dest: action for action in reversed([*shown, *of_stages, *of_classes]) if action.option_strings}
    return list(reversed(by_name.values()))
