"""The commands that run through LightningCLI, with one configuration for all of them."""

from __future__ import annotations

import dataclasses
import functools
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, set_parsing_settings
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from gradual.checks import did_you_mean
from gradual.cli.chosen_classes import import_chosen
from gradual.cli.chosen_stage import with_stage
from gradual.cli.class_paths import find_modules_in
from gradual.cli.commands import LIGHTNING_COMMANDS
from gradual.cli.comparison import add_comparison_arguments, workers
from gradual.cli.configuration import GROUPS, strategies_in
from gradual.cli.evaluation import evaluate, predictions_path
from gradual.cli.help import class_listing, describe_classes, describe_stages
from gradual.cli.lightning_cli_internals import WeightsOnlyCLI, actions_of, subcommand_parser
from gradual.cli.links import link_encoder
from gradual.cli.parser import Parser
from gradual.cli.plan import print_plan, print_statistics
from gradual.cli.precedence import check_command, named_settings, ordered, settle
from gradual.cli.relevance import print_relevance
from gradual.cli.sample import write_samples
from gradual.cli.search import add_search_arguments, schedule_of, search_and_confirm
from gradual.data.module import MixedDomainDataModule
from gradual.errors import InputError
from gradual.experiment.arguments import check_trainer
from gradual.experiment.driver import claim_run, compare_tree, fit_path, plan_path, plan_tree
from gradual.experiment.executors import MakeExperiment, in_process, pooled
from gradual.experiment.experiment import Experiment, PathExperiment
from gradual.experiment.final import Final
from gradual.experiment.search.driver import Claims
from gradual.experiment.strategies import parse_strategies
from gradual.logging import note, to_standard_error
from gradual.runs.directory import RunDirectory
from gradual.schedule import Schedule
from gradual.settings import MAX_EPOCHS, SEED, StageOverrides, TrainSettings
from gradual.stage.callbacks.distributed_metrics import DistributedMetrics
from gradual.stage.callbacks.predictions import PredictionWriter
from gradual.stage.requirements import installed
from gradual.stage.trainer import trainer_errors

# what may change between two runs of one experiment: where data is kept, how it is read, what is evaluated on
_NOT_IDENTITY_OF_DATA = (
    *("test", "predict", "predict_file", "cache_dir", "num_proc", "num_workers", "eval_batch_size"),
    *("batch_size", "batch_tokens", "amount_in", "order"),  # which every data module has, whatever its class
)


class StageTrainer(Trainer):
    """A Trainer with the additional subcommands; LightningCLI takes their help from here."""

    def compare(self, model: LightningModule, datamodule: Any = None) -> None:
        """Train several strategies with several seeds, and write a report."""

    def search(self, model: LightningModule, datamodule: Any = None) -> None:
        """Search for a schedule within a budget."""

    def plan(self, model: LightningModule, datamodule: Any = None) -> None:
        """Print what each stage would train on, without training."""

    def stats(self, model: LightningModule, datamodule: Any = None) -> None:
        """Print the sizes of the data."""

    def sample(self, model: LightningModule, datamodule: Any = None) -> None:
        """Write the examples of each stage as JSON lines, for other trainers."""


class GradualCLI(WeightsOnlyCLI):
    """The command line: model, data, trainer, and the settings of a gradual run.

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

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The subcommand that is run, with the arguments of its method that are no settings."""
        skipped = {"ckpt_path", "weights_only", "verbose"}
        lightning = LightningCLI.subcommands()
        own = {"fit": lightning["fit"] | skipped} | {
            name: {"model", "datamodule"} for name in ("compare", "search", "plan", "stats", "sample")
        }
        # checkpoints run no code, and no option can make them
        own |= {name: lightning[name] | {"weights_only"} for name in ("validate", "test", "predict")}
        return {name: skipped for name, skipped in own.items() if name == self._command}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings of a gradual run to every subcommand, so that all can share a configuration."""
        parser.add_argument(
            "--schedule",
            type=Any,
            default=[0],
            help="out-of-domain examples in each stage, such as [2000, 500, 0]: numbers of examples or fractions of "
            "the pool (0.5), which must not rise; to override settings in a stage, write it as a mapping: {amount: 0, "
            "max_epochs: 8, optimizer: {lr: 4.0e-5}}",
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
                "least relevant examples",
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

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make a Trainer for the subcommands that evaluate; the stages make their own."""
        if self.subcommand in (None, "fit", "compare", "search", "plan", "stats", "sample"):
            return self.trainer_class  # type: ignore[return-value]
        own: dict[str, Any] = {"logger": False}
        if self.subcommand == "predict":
            path = predictions_path(self._settings.get("predictions"), self._settings.get("ckpt_path"))
            own["callbacks"] = [PredictionWriter(path)]
        with trainer_errors():
            return super().instantiate_trainer(**own)

    def fit(self, model: LightningModule, datamodule: MixedDomainDataModule) -> None:
        """Train the stages of the schedule, and print a table of their scores."""
        run = RunDirectory(self._settings.get("run_dir"))
        with run.held():
            schedule, defaults = self._schedule(), self._defaults()
            final = Final.read(self._settings.get("final"))
            experiment = PathExperiment(model, datamodule, schedule, run, defaults, self._trainer_arguments, final)
            tree = plan_path(experiment)
            trainer, arguments = self._identity()
            claim_run(experiment, tree, trainer, lambda _: self._resolved(), arguments)
            result = fit_path(experiment, tree)
        rank_zero_only(result.print_table)()

    def compare(self, model: LightningModule, datamodule: MixedDomainDataModule) -> None:
        """Train the tree of all strategies, and print the tables of the report and where it is."""
        run = RunDirectory(self._settings.get("run_dir"))
        with run.held():
            page = self._compare(run, datamodule)
        rank_zero_only(self._print_report)(page)

    @staticmethod
    def _print_report(page: Path) -> None:
        print((page.parent / "table.md").read_text(encoding="utf-8"))
        print(f"Report: {page}")

    def _compare(self, run: RunDirectory, datamodule: MixedDomainDataModule) -> Path:
        experiment = self.experiment(run, {"{}": datamodule})
        make = functools.partial(make_experiment, self._resolved(), str(run.root), str(Path.cwd()))
        several = workers(make, self._settings)
        execute = in_process(experiment) if several is None else pooled(several)
        strategies = parse_strategies(self._settings.strategies, self._schedule(), self._strategies_in_files())
        tree = plan_tree(experiment, strategies, self._settings.seeds, self._settings.controls)
        trainer, arguments = self._identity()
        claim_run(experiment, tree, trainer, lambda _: self._resolved(), arguments)
        return compare_tree(experiment, tree, execute, self._settings.baseline)

    def search(self, model: LightningModule, datamodule: MixedDomainDataModule) -> None:
        """Grow the tree of a search, confirm what it found, and print the report and where it is."""
        trainer, arguments = self._identity()
        claims = Claims(trainer, lambda _: self._resolved(), arguments)

        def opened(run: RunDirectory, tests: bool) -> tuple[Experiment, MakeExperiment]:
            data = datamodule if tests else datamodule.without_test()
            make = functools.partial(make_experiment, self._resolved(), str(run.root), str(Path.cwd()), not tests)
            return self.experiment(run, {"{}": data}, not tests), make

        result = search_and_confirm(self._settings, self._schedule(), self._defaults().seed, claims, opened)
        rank_zero_only(self._print_search)(result.page)

    @staticmethod
    def _print_search(page: Path) -> None:
        print(page.with_suffix(".md").read_text(encoding="utf-8"))
        print(f"Schedule: {page.parent.parent / 'search.yaml'}")
        print(f"Report: {page}")

    def experiment(
        self, run: RunDirectory, data: dict[str, MixedDomainDataModule], without_test: bool = False
    ) -> Experiment:
        """The experiment, which makes models and data modules from the configuration."""

        def make_data(changes: Mapping[str, Any]) -> MixedDomainDataModule:
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

    def plan(self, model: LightningModule, datamodule: MixedDomainDataModule) -> None:
        """Print what each stage would train on, without training."""
        limit = self._settings.trainer.max_epochs
        print_plan(model, datamodule, self._schedule(), self._defaults(), limit)

    def stats(self, model: LightningModule, datamodule: MixedDomainDataModule) -> None:
        """Print the sizes of the data (for the paper's experiment its Table 1)."""
        datamodule.schedule = [0]
        datamodule.prepare_data()
        datamodule.setup()
        print_statistics(datamodule.statistics())
        if self._settings.relevance:
            print_relevance(datamodule)

    def sample(self, model: LightningModule, datamodule: MixedDomainDataModule) -> None:
        """Write the examples of each stage as JSON lines, for other trainers."""
        if not self._settings.out:
            raise InputError("--out is not set: give the folder to write the stages to.")
        datamodule.seed = self._defaults().seed
        print(f"Stages: {write_samples(datamodule, self._schedule(), Path(self._settings.out))}")

    def validate(self, model: LightningModule, **arguments: Any) -> None:
        """Print the validation scores of a checkpoint."""
        evaluate("validate", self.trainer, model, **arguments)

    def test(self, model: LightningModule, **arguments: Any) -> None:
        """Print the test scores of a checkpoint."""
        evaluate("test", self.trainer, model, **arguments)

    def predict(self, model: LightningModule, **arguments: Any) -> None:
        """Write the predictions of a checkpoint."""
        evaluate("predict", self.trainer, model, **arguments)

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


def make_experiment(config: str, run_dir: str, folder: str, without_test: bool = False) -> Experiment:
    """Make the experiment in another process, from its resolved configuration; its modules are in ``folder``."""
    to_standard_error()
    find_modules_in(folder)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(config)
        file.flush()
        cli = make_cli(None, [f"--config={file.name}"])
    return cli.experiment(RunDirectory(run_dir), {}, without_test)


def run(arguments: Sequence[str] | None = None) -> None:
    """Run a subcommand, from ``arguments`` or from the command line."""
    to_standard_error()
    find_modules_in(Path.cwd())
    given = ordered(with_stage(sys.argv[1:] if arguments is None else arguments))
    for group in ("model", "data"):
        if f"--{group}.help" in given[-1:]:
            print(class_listing(given[0], group))
            return
    make_cli(given[0], given, import_chosen(given[0], given))


def make_cli(
    command: str | None, arguments: list[str], data_class: str | None = None, cls: type[GradualCLI] = GradualCLI
) -> GradualCLI:
    """Make the command line, which parses the arguments and runs the command; see ``GradualCLI``."""
    # nothing is made for arguments of the type Any: else a configuration could call anything
    set_parsing_settings(instantiate_subclass_spec_in_any=False)
    return cls(
        command,
        data_class,
        subclass_mode_model=True,
        subclass_mode_data=True,
        trainer_class=StageTrainer,
        parser_class=Parser,
        trainer_defaults={"use_distributed_sampler": False, "callbacks": DistributedMetrics()},
        auto_configure_optimizers=False,
        seed_everything_default=0,
        save_config_callback=None,
        args=arguments,
    )
