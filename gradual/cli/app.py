"""The commands that run through LightningCLI, with one configuration for all of them."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from gradual.cli.chosen_classes import import_chosen
from gradual.cli.chosen_stage import with_stage
from gradual.cli.class_paths import find_modules_in
from gradual.cli.comparison import workers
from gradual.cli.configured import ConfiguredCLI
from gradual.cli.evaluation import evaluate, predictions_path
from gradual.cli.help import class_listing
from gradual.cli.parser import Parser
from gradual.cli.plan import print_plan, print_statistics
from gradual.cli.precedence import ordered
from gradual.cli.relevance import print_relevance
from gradual.cli.sample import write_samples
from gradual.cli.search import search_and_confirm
from gradual.data.module import MixedDomainDataModule
from gradual.errors import InputError
from gradual.experiment.driver import claim_run, compare_tree, fit_path, plan_path, plan_tree
from gradual.experiment.executors import MakeExperiment, in_process, pooled
from gradual.experiment.experiment import Experiment, PathExperiment
from gradual.experiment.final import Final
from gradual.experiment.search.driver import Claims
from gradual.experiment.strategies import parse_strategies
from gradual.logging import to_standard_error
from gradual.report import check_packages
from gradual.runs.directory import RunDirectory
from gradual.stage.callbacks.distributed_metrics import DistributedMetrics
from gradual.stage.callbacks.predictions import PredictionWriter
from gradual.stage.trainer import trainer_errors


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


class GradualCLI(ConfiguredCLI):
    """The command line: the commands of a gradual run. The arguments are those of ``ConfiguredCLI``."""

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

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make a Trainer for the subcommands that evaluate; the stages make their own."""
        if self.subcommand in (None, "fit", "compare", "search", "plan", "stats", "sample"):
            return self.trainer_class  # type: ignore[return-value]
        own: dict[str, Any] = {"logger": False}
        if self.subcommand == "predict":
            own["callbacks"] = [PredictionWriter(predictions_path(self._settings))]
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
        check_packages()
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
        evaluate("validate", self.trainer, model, self._settings, self._linked, **arguments)

    def test(self, model: LightningModule, **arguments: Any) -> None:
        """Print the test scores of a checkpoint."""
        evaluate("test", self.trainer, model, self._settings, self._linked, **arguments)

    def predict(self, model: LightningModule, **arguments: Any) -> None:
        """Write the predictions of a checkpoint."""
        evaluate("predict", self.trainer, model, self._settings, self._linked, **arguments)


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
