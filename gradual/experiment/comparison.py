"""Trains the tree of several strategies and seeds, each stage once, and reports it."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, seed_everything
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from rich.console import Console
from rich.tree import Tree as Drawing

from gradual.checks import checked
from gradual.data.module import MixedDomainDataModule
from gradual.errors import InputError
from gradual.experiment.arguments import EXPERIMENT, FACTORY, NAMES, SEEDS, STRATEGIES, made_by
from gradual.experiment.driver import describe, split_settings
from gradual.experiment.executors import Executor, in_process
from gradual.experiment.results import command_line, versions, wide_console
from gradual.experiment.strategies import IN_DOMAIN_ONLY, Strategy, parse_strategies, same_paths
from gradual.experiment.tree import Node, Tree
from gradual.files import write_atomically
from gradual.logging import quiet, saying_anew
from gradual.nn.compiled import lightning_module
from gradual.report import report_page, write_report
from gradual.report.tensorboard import save_strategies
from gradual.runs.directory import RunDirectory, canonical
from gradual.runs.fingerprint import data_fingerprint, model_fingerprint, settings_fingerprint, starting_weights
from gradual.runs.identity import Identity, claim
from gradual.runs.recovery import load_result_or_reopen
from gradual.runs.result import StageResult, reported_scores
from gradual.schedule import Schedule, Stage
from gradual.score_names import without_split
from gradual.settings import TrainSettings
from gradual.stage.callbacks.reported_scores import ReportedScores, check_logged, names_in
from gradual.stage.interruption import interruptible
from gradual.stage.layers import make_layers
from gradual.stage.loggers import copied
from gradual.stage.memory import stage_memory
from gradual.stage.preflight import check_stages
from gradual.stage.retest import lacks_test, tested_again
from gradual.stage.train import StageTraining
from gradual.stage.trainer import MakeTrainerArguments as TrainerArguments


@checked(model=FACTORY, strategies=STRATEGIES, seeds=SEEDS, metrics=NAMES, **EXPERIMENT)
def compare(
    model: Callable[[], LightningModule],
    datamodule: MixedDomainDataModule,
    schedule: Schedule | Iterable[float | Stage | Mapping[str, Any]],
    run_dir: str | Path,
    *,
    strategies: Mapping[str, Any] | Sequence[str] | None = None,
    seeds: Iterable[int] = (0, 1, 2),
    metrics: Iterable[str] | None = None,
    baseline: str | None = None,
    **settings: Any,
) -> Path:
    """Train several strategies under several seeds, each stage that they share once, and report them.

    Args:
        model: Makes an untrained model; called after the seed is set.
        datamodule: The data.
        schedule: The schedule of gradual fine-tuning.
        run_dir: Folder of the experiment; what is done there, by ``gradual.fit`` too, is not trained again.
        strategies: Some of the paper's four (in-domain only, mixed, one-stage, gradual) with the amounts of
            ``schedule``, as a list of names or as a mapping with overrides, e.g. ``{"mixed": {"max_epochs": 8}}``; a
            mapping may also have paths of its own, e.g. ``{"constant": [2000, 2000, 0]}``. None for all four, or for
            three if ``schedule`` has two stages: one-stage and gradual are then the same path.
        seeds: Each strategy is trained with each.
        metrics: Scores to report, of validation and of the test where there are any; None for all but the loss, or the
            loss alone.
        baseline: The strategy that differences are taken from; None for in-domain only.
        **settings: As ``gradual.fit`` takes them.

    Returns:
        The report's page, ``run_dir/report/report.html``; tables and figures lie beside it.

    Raises:
        InputError: An argument is of another kind, a schedule does not fit the pool, ``run_dir`` holds another
            experiment (see ``gradual.fit``), or one of the metrics is never logged.
    """
    if "seed" in settings:
        raise InputError(f"A comparison takes several seeds: write seeds=[{settings['seed']!r}] instead of seed.")
    defaults, trainer = split_settings(settings)
    schedule, model = Schedule(schedule), made_by(model)
    chosen = parse_strategies(strategies, schedule)
    if any(strategy.data for strategy in chosen.values()):
        raise InputError("A strategy with data settings of its own needs a configuration file: see gradual compare.")
    run = RunDirectory(run_dir)
    with run.held():
        experiment = Experiment(model, lambda _: datamodule, run, defaults, lambda: copied(trainer), metrics)
        tree = plan_tree(experiment, chosen, seeds)
        claim_comparison(experiment, tree, trainer, lambda cls: describe(cls, datamodule, schedule, defaults, trainer))
        return compare_tree(experiment, tree, in_process(experiment), baseline)


@dataclass
class Experiment:
    """What the stages of a tree are trained with.

    Attributes:
        model: Makes an untrained model; called after the seed is set.
        datamodule: Makes the data module, with the given arguments replaced.
        run: The run directory.
        defaults: What holds where a stage says nothing.
        trainer_arguments: Makes a Trainer's arguments.
        metrics: Scores to report; None for all but the loss, or the loss alone.
    """

    model: Callable[[], LightningModule]
    datamodule: Callable[[Mapping[str, Any]], MixedDomainDataModule]
    run: RunDirectory
    defaults: TrainSettings
    trainer_arguments: TrainerArguments
    metrics: Iterable[str] | None = None
    _data: dict[str, MixedDomainDataModule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.metrics is not None:
            self.metrics = [without_split(name) for name in self.metrics]

    def data(self, changes: Mapping[str, Any]) -> MixedDomainDataModule:
        """The data module with ``changes``, made and loaded once in each process."""
        key = json.dumps(changes, sort_keys=True)
        if key not in self._data:
            self._data[key] = self.datamodule(changes)
            self._data[key].prepare_data()
            self._data[key].setup("fit")
        return self._data[key]

    def train(self, node: Node) -> StageResult:
        """Train one stage of the tree; one that is done is not trained again."""
        directory = node.directory(self.run)
        done = directory.result()
        if done is not None and not lacks_test(done, self.data(node.data)):
            return done
        defaults = replace(self.defaults, seed=node.seed)
        model, data = self.make_model(node.seed), self.data(node.data)
        data.seed, data.schedule = node.seed, Schedule(node.stages)
        data.set_stage(len(node.stages) - 1)
        start = node.parent.directory(self.run).best if node.parent else None
        training = StageTraining(
            model,
            data,
            node.stages[-1],
            directory,
            start,
            defaults,
            self.trainer_arguments,
            node.settings,
            f"seed {node.seed}, ",
            self._reported(model, data),
        )
        return training.run() if done is None else tested_again(training, done)

    def make_model(self, seed: int) -> LightningModule:
        """The untrained model of a seed."""
        seed_everything(seed, verbose=False)
        model: LightningModule = lightning_module(self.model())
        return model

    def _reported(self, model: LightningModule, data: MixedDomainDataModule) -> ReportedScores | None:
        """Looks at a stage's scores, where not all metrics are known from others."""
        if not self.metrics or names_in(self.run.results()).issuperset(self.metrics):
            return None
        tested = data.domains.test is not None and is_overridden("test_step", model)
        return ReportedScores(list(self.metrics), tested, lambda: names_in(self.run.results()))


@interruptible()
@quiet()
def claim_comparison(
    experiment: Experiment,
    tree: Tree,
    trainer: Mapping[str, Any],
    text: Callable[[type[LightningModule]], str],
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Make the run directory, which is held, that of a comparison.

    Args:
        experiment: What to train with.
        tree: The stages.
        trainer: The Trainer's arguments.
        text: Gives the ``config.yaml`` to write, for the class of the model.
        arguments: Those that a configuration makes ``model`` and ``data`` with.

    Raises:
        InputError: It holds another experiment.
    """
    weights = {}
    with isolate_rng(include_cuda=torch.cuda.is_initialized()):
        for seed in tree.seeds:
            model = experiment.make_model(seed)
            weights[f"seed-{seed}"] = starting_weights(model)
    identity: Identity = {
        "model": model_fingerprint(model),
        "starting_weights": weights,
        "data": data_fingerprint(experiment.data({})),
        "settings": settings_fingerprint(experiment.defaults, trainer),
    }
    others = {canonical(strategy.data): strategy.data for strategy in tree.strategies.values() if strategy.data}
    if others:
        identity["other_data"] = {name: data_fingerprint(experiment.data(data)) for name, data in others.items()}
    claim(experiment.run, identity, text(type(model)), arguments)


def plan_tree(experiment: Experiment, strategies: Mapping[str, Strategy], seeds: Iterable[int]) -> Tree:
    """The tree of ``strategies`` under ``seeds``.

    Raises:
        InputError: There is no seed, or a strategy's schedule does not fit its pool; the message names the strategy.
    """
    seeds = SEEDS.check("seeds", seeds)

    def amounts(strategy: Strategy) -> list[int]:
        name = next(name for name, value in strategies.items() if value is strategy)
        try:
            return strategy.schedule.amounts(experiment.data(strategy.data).pool_size)
        except InputError as error:
            raise InputError(f"The strategy '{name}': {error}") from error

    return Tree(strategies, seeds, amounts, lambda stage, seed: replace(experiment.defaults, seed=seed).resolve(stage))


@interruptible()
@quiet()
@saying_anew()
def compare_tree(experiment: Experiment, tree: Tree, execute: Executor, baseline: str | None = None) -> Path:
    """Train what is not done of ``tree``, and write the report.

    Args:
        experiment: What to train with.
        tree: The stages.
        execute: Runs the stages: in this process, in several, or on a cluster.
        baseline: The strategy that differences are taken from; None for in-domain only, or else the first.

    Returns:
        The report's page.

    Raises:
        InputError: The baseline is none of the strategies, or one of the metrics is never logged.
    """
    if baseline is None:
        baseline = IN_DOMAIN_ONLY if IN_DOMAIN_ONLY in tree.strategies else next(iter(tree.strategies))
    baseline = next((name for name, strategy in tree.strategies.items() if baseline in strategy.also), baseline)
    if baseline not in tree.strategies:
        raise InputError(f"baseline is '{baseline}'; accepted are {', '.join(tree.strategies)}.")
    _repair(experiment, tree)
    rank_zero_only(print_tree)(experiment, tree, wide_console())
    for node in tree.nodes:  # folders are given out here, once: stages that run at the same time must not choose
        directory = node.directory(experiment.run)
        if directory.settings() is None:
            directory.reserve(node.settings)
    rank_zero_only(_write_comparison)(experiment, tree, baseline)
    to_do = [node for node in tree.nodes if node.directory(experiment.run).result() is None]
    with stage_memory():
        _check(experiment, to_do)
    execute([node for node in tree.nodes if node in to_do or _lacks_test(experiment, node)])
    check_logged(experiment.metrics or (), names_in(experiment.run.results()))
    rank_zero_only(_report)(experiment, tree, baseline)
    return report_page(experiment.run.root)


def _check(experiment: Experiment, nodes: Sequence[Node]) -> None:
    """Check stages before any of them trains, one that several seeds have once."""
    models: dict[str, LightningModule] = {}
    seen = set()
    for node in nodes:
        key = canonical([node.settings | {"seed": None}, node.amounts[-1], node.data])
        if key in seen:
            continue
        seen.add(key)
        data, variant = experiment.data(node.data), canonical(node.data)
        data.seed, data.schedule = node.seed, Schedule(node.stages)
        if variant not in models:
            models[variant] = experiment.make_model(node.seed)
            make_layers(models[variant], data)
        k = len(node.stages) - 1
        title = f"Stage {k + 1} of the strategy '{node.strategies[0]}' ({node.amounts[-1]} out-of-domain)"
        defaults, arguments = replace(experiment.defaults, seed=node.seed), experiment.trainer_arguments
        check_stages(models[variant], data, {k: node.stages[k]}, defaults, arguments, {k: title}, has_layers=True)


def _lacks_test(experiment: Experiment, node: Node) -> bool:
    result = node.directory(experiment.run).result()
    return result is not None and lacks_test(result, experiment.data(node.data))


def _report(experiment: Experiment, tree: Tree, baseline: str) -> None:
    _write_comparison(experiment, tree, baseline)
    save_strategies(experiment.run.root)
    write_report(experiment.run.root)


def _repair(experiment: Experiment, tree: Tree) -> None:
    """Open again what is damaged: results of any stage, and weights that another one is to start from."""
    directories = {id(node): node.directory(experiment.run) for node in tree.nodes}
    for node in reversed(tree.nodes):  # children first: a stage that is opened again needs its parent's weights
        to_do = [child for child in tree.nodes if child.parent is node and not directories[id(child)].is_finished()]
        if (
            load_result_or_reopen(directories[id(node)], weights=bool(to_do))
            and not to_do
            and _lacks_test(experiment, node)
        ):
            load_result_or_reopen(directories[id(node)])


def print_tree(experiment: Experiment, tree: Tree, console: Console) -> None:
    """Print the tree: what is done, what is to do, what is shared, and what sharing saves."""
    for seed in tree.seeds:
        drawing = Drawing(f"seed {seed}")
        branches: dict[int, Drawing] = {}
        for node in (node for node in tree.nodes if node.seed == seed):
            directory = node.directory(experiment.run)
            state = "done" if directory.result() else "to continue" if directory.last.exists() else "to do"
            parent = branches[id(node.parent)] if node.parent else drawing
            shared = f", shared by {len(node.strategies)}" if len(node.strategies) > 1 else ""
            text = f"{node.amounts[-1]} out-of-domain: {state}{shared} ({', '.join(node.strategies)})"
            branches[id(node)] = parent.add(text, highlight=False)
        console.print(drawing)
    paths = {name: path for (name, _), path in tree.paths.items()}  # as every seed has them
    for sentence in same_paths(paths, {name: strategy.also for name, strategy in tree.strategies.items()}):
        console.print(sentence, markup=False)
    with_sharing, without = tree.examples(experiment.data({}).in_domain_size)
    done = sum(node.directory(experiment.run).result() is not None for node in tree.nodes)
    console.print(
        f"{len(tree.nodes)} stages instead of {tree.stages_without_sharing}, {done} of them done; an epoch of each is "
        f"{with_sharing} examples instead of {without}: sharing saves {1 - with_sharing / without:.0%}."
    )


def _write_comparison(experiment: Experiment, tree: Tree, baseline: str) -> None:
    """Write ``compare.json``, all that the report needs besides the stages' own folders."""
    run = experiment.run
    paths: dict[str, dict[str, list[str]]] = {}
    for (name, seed), path in tree.paths.items():
        paths.setdefault(name, {})[str(seed)] = [run.relative(node.directory(run).path) for node in path]
    results = [result for node in tree.nodes if (result := node.directory(run).result())]
    asked = list(experiment.metrics or ())
    content = {
        "strategies": {
            name: {**strategy.to_plain(), "amounts": tree.amounts[name]} for name, strategy in tree.strategies.items()
        },
        "seeds": tree.seeds,
        "metrics": asked or reported_scores(results, "test"),
        "val_metrics": reported_scores(results, "val", asked),
        "baseline": baseline,
        "monitor": experiment.defaults.monitor,
        "mode": experiment.defaults.mode,
        "paths": paths,
        "command": command_line(),
        "versions": versions(),
        "environment": _environment(),
    }
    write_atomically(run.root / "compare.json", json.dumps(content, indent=2) + "\n")


def _environment() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = f"{names[0]}, {len(names)} cores" if names else cpu
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"machine": platform.platform(), "cpu": cpu, "gpus": gpus, "threads": torch.get_num_threads()}
