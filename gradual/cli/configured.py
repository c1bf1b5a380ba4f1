"""The settings of a gradual run as LightningCLI parses them, and what is made from them: one configuration for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from gradual.checks import did_you_mean
from gradual.cli.commands import LIGHTNING_COMMANDS
from gradual.cli.comparison import add_comparison_arguments
from gradual.cli.configuration import GROUPS, strategies_in
from gradual.cli.help import describe_classes, describe_stages
from gradual.cli.lightning_cli_internals import WeightsOnlyCLI, actions_of, subcommand_parser
from gradual.cli.links import link_encoder
from gradual.cli.precedence import check_command, named_settings, settle
from gradual.cli.search import add_search_arguments, schedule_of
from gradual.data.module import MixedDomainDataModule
from gradual.errors import InputError
from gradual.experiment.arguments import check_trainer
from gradual.experiment.experiment import Experiment
from gradual.experiment.final import Final
from gradual.logging import note
from gradual.runs.directory import RunDirectory
from gradual.schedule import Schedule
from gradual.settings import MAX_EPOCHS, SEED, StageOverrides, TrainSettings
from gradual.stage.requirements import installed

# what may change between two runs of one experiment: where data is kept, how it is read, what is evaluated on
_NOT_IDENTITY_OF_DATA = (
    *("test", "predict", "predict_file", "cache_dir", "num_proc", "num_workers", "eval_batch_size"),
    *("batch_size", "batch_tokens", "amount_in", "order"),  # which every data module has, whatever its class
)


class ConfiguredCLI(WeightsOnlyCLI):
    """Parses model, data, trainer and the settings of a gradual run, and makes what they describe.

    Args:
        command: The subcommand that is run; the parsers of the others, which take most of the time, are not made. None
            parses the settings alone.
        data_class: The class path of the data module that is used where none is given; None for no such.
        arguments: Those of ``LightningCLI``.
    """

    def __init__(self, command: str | None, data_class: str | None = None, **arguments: Any):
        self._command, self._data_class = command, data_class
        own = {} if command is None else {command: {"command": command, "description": LIGHTNING_COMMANDS[command]}}
        super().__init__(
            LightningModule, MixedDomainDataModule, parser_kwargs=own, run=command is not None, **arguments
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings of a gradual run to every subcommand, so that all can share a configuration."""
        parser.add_argument(
            "--schedule",
            type=Any,
            default=[0],
            help="out-of-domain examples in each stage, such as [2000, 500, 0]: numbers of examples or fractions of "
            "the pool (0.5; 1.0 is all of it, 1 is one example), which must not rise; to override settings in a stage, "
            "write it as a mapping: {amount: 0, max_epochs: 8, optimizer: {lr: 4.0e-5}}",
        )
        for name, which in (("later_stages", "all stages but the first"), ("last_stage", "the last of several stages")):
            parser.add_class_arguments(StageOverrides, name)
            (parser.groups or {})[name].title = f"Overrides for {which}"
            describe_stages(actions_of(parser), name, which)
        parser.add_argument(
            "--final",
            type=str | dict[str, int],
            default="last",
            help="result of a path: its last stage, the best one on validation, or the average of the stages' weights, "
            "as {average: 2} from stage 2 on",
        )
        parser.add_argument("--run_dir", type=str, default="runs/gradual", help="folder of the experiment")
        parser.add_argument(
            "--predictions",
            type=str | None,
            default=None,
            help="file to write the predictions to; default: predictions.jsonl beside the checkpoint",
        )
        if self._command == "stats":
            parser.add_argument(
                "--relevance",
                action="store_true",
                help="also print how far each source of the pool is from the in-domain data, and the ten most and "
                "least relevant examples; needs gradual[relevance]",
            )
        if self._command == "sample":
            parser.add_argument("--out", type=str | None, default=None, help="folder to write to")
        add_comparison_arguments(parser)
        add_search_arguments(parser)
        parser.add_class_arguments(TrainSettings, nested_key=None, skip={"seed"}, sub_configs=True)
        parser.set_defaults({"trainer.max_epochs": MAX_EPOCHS})

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the seed. Lightning's own may also be random, and the same command would then not repeat a run."""
        text = "seed of the samples, the order of examples, dropout and new weights"
        parser.add_argument("--seed_everything", type=int, default=self.seed_everything_default, help=text)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add Lightning's arguments, with help for model and data."""
        super().add_core_arguments_to_parser(parser)
        describe_classes(actions_of(parser))
        if self._data_class is not None:
            parser.set_defaults({"data": {"class_path": self._data_class}})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, remember which settings are on the command line, and check the seed before it is used."""
        self._named = named_settings(args)
        super().parse_arguments(parser, args)
        parsed = self.config[self.config.subcommand] if "subcommand" in self.config else self.config
        SEED.check("seed_everything", int(parsed.seed_everything))

    def before_instantiate_classes(self) -> None:
        """Give options precedence over files, and refuse a value in place of a group of settings."""
        groups = [*GROUPS, *(f"{stages}.{group}" for stages in ("later_stages", "last_stage") for group in GROUPS)]
        for name in groups:
            value = self._settings.get(name)
            if value is not None and not isinstance(value, Namespace):
                raise InputError(f"{name} is {value!r}: it is a group of settings, so it must be a mapping.")
        if self.subcommand is not None:
            check_command(self.subcommand, self._named)
        if self.subcommand == "compare":
            self._settings.strategies = self._selected_strategies()
        self._settings.schedule = schedule_of(self._settings.schedule)
        if self.subcommand in ("fit", "compare", "search", "plan", "sample"):
            for sentence in settle(self._settings, self.subcommand, self._named):
                note(sentence)
        data = self._settings.data
        if data.class_path == "gradual.MixedDomainDataModule" and data.init_args.in_domain is None:
            raise InputError("The data has no class: give --data my_module.MyData, or class_path in a file.")
        self._linked = link_encoder(self._settings)

    def instantiate_classes(self) -> None:
        """Make the objects that the configuration describes."""
        with installed():
            super().instantiate_classes()

    def experiment(
        self, run: RunDirectory, data: dict[str, MixedDomainDataModule], without_test: bool = False
    ) -> Experiment:
        """The experiment, which makes models and data modules from the configuration."""

        def make_data(changes: Mapping[str, Any]) -> MixedDomainDataModule:
            for part in sorted({"val", "test"} & changes.keys()):
                raise InputError(
                    f"A strategy has data of its own for '{part}': strategies are compared on the same data. Set "
                    f"data.{part}, which holds for all of them."
                )
            made: MixedDomainDataModule = self._instantiate("data", changes)
            return made.without_test() if without_test else made

        return Experiment(
            lambda: self._instantiate("model", {}),
            make_data,
            run,
            self._defaults(),
            self._trainer_arguments,
            None if without_test else self._settings.get("metrics"),
            Final.read(self._settings.get("final")),
            data,
        )

    def _instantiate(self, group: str, changes: Mapping[str, Any]) -> Any:
        config = self._settings[group].clone()
        for name, value in changes.items():
            if name not in config.init_args:
                known = list(config.init_args)
                raise InputError(
                    f"{config.class_path} has no setting '{name}'; its settings are {', '.join(known)}."
                    f"{did_you_mean(name, known)}"
                )
            config.init_args[name] = value
        return subcommand_parser(self).instantiate_classes(Namespace({group: config}))[group]

    def _selected_strategies(self) -> Any:
        """The strategies of the configuration, with names that are defined in a file replaced by their definitions."""
        given, defined = self._settings.get("strategies"), self._strategies_in_files() or {}
        return {name: defined[name] for name in given} if isinstance(given, list) and {*given} <= {*defined} else given

    def _strategies_in_files(self) -> dict[str, Any] | None:
        """The strategies that configuration files define, for names on the command line to select from."""
        return strategies_in(self._settings.get("config") or [])

    @property
    def _settings(self) -> Namespace:
        """The parsed configuration of the subcommand; a worker process has no subcommand."""
        return self.config if self.subcommand is None else self.config[self.subcommand]

    @property
    def _instantiated(self) -> Namespace:
        """The same, with the objects that were made from it."""
        return self.config_init if self.subcommand is None else self.config_init[self.subcommand]

    def _schedule(self) -> Schedule:
        get = self._instantiated.get
        return Schedule(get("schedule"), get("later_stages"), get("last_stage"))

    def _defaults(self) -> TrainSettings:
        config = self._instantiated
        names = [field.name for field in dataclasses.fields(TrainSettings) if field.name != "seed"]
        return TrainSettings(**{name: config[name] for name in names}, seed=int(config["seed_everything"]))

    def _trainer_arguments(self) -> dict[str, Any]:
        """The Trainer's arguments, with new callbacks and loggers."""
        trainer = self._settings.trainer.clone()
        arguments: Namespace = subcommand_parser(self).instantiate_classes(Namespace(trainer=trainer))
        return check_trainer(dict(arguments.trainer), "trainer.{}")

    def _resolved(self) -> str:
        """The whole configuration as YAML, which every subcommand accepts."""
        config = self._settings.clone()
        config.pop("config", None)
        for name in self._linked:  # to be linked again, perhaps to another encoder
            config.pop(name)
        return subcommand_parser(self).dump(config, skip_none=False)

    def _identity(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """The Trainer's settings, and the arguments of model and data that identify the experiment."""
        config = yaml.safe_load(self._resolved())
        arguments = {group: config[group].get("init_args", {}) for group in ("model", "data")}
        for group in arguments:
            arguments[group].pop("trust_remote_code", None)
        for name in _NOT_IDENTITY_OF_DATA:
            arguments["data"].pop(name, None)
        return config["trainer"], arguments
