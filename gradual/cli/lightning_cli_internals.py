"""The private parts of LightningCLI and of jsonargparse that the command line relies on, one per purpose.

Like gradual.stage.resume.lightning_internals, which says how they are tested.
"""

from __future__ import annotations

import argparse

import yaml
from jsonargparse import DefaultHelpFormatter, Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI


class WeightsOnlyCLI(LightningCLI):
    """LightningCLI that takes only weights from ``--ckpt_path``, and writes down little of the configuration.

    Lightning lets the hyperparameters in a checkpoint override the configuration of the model, its class included. No
    option turns this off. Before it makes model and data, it checks all settings again and writes them as YAML, though
    it only takes the hyperparameters of these two from there.
    """

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration as it is."""

    def _dump_config(self) -> None:
        """Write down the settings of model and data, which were checked when they were parsed."""
        if not hasattr(self, "config_dump"):
            config = self.config if self.subcommand is None else self.config[self.subcommand]
            own = Namespace(model=config.model, data=config.data)
            text = subcommand_parser(self).dump(
                own, format="yaml", skip_validation=True, skip_link_targets=False, skip_none=False
            )
            self.config_dump = yaml.safe_load(text)


def subcommand_parser(cli: LightningCLI, command: str | None = None) -> LightningArgumentParser:
    """The parser of a subcommand, that which is run unless another is named, or the only one if there are none.

    ``cli.parser`` is that of them all.
    """
    return cli._parser(command or cli.subcommand)


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The settings of a parser; argparse makes them available only one at a time, as they are added."""
    return parser._actions


def type_text(formatter: DefaultHelpFormatter, action: argparse.Action) -> str | None:
    """The type of a setting as help shows it, which jsonargparse only writes into the text of the help itself."""
    return formatter._get_type_str(action)
