"""The driver: trains what is not finished of a tree of stages, whether one path (``fit``) or several (``compare``)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_only

from gradual.errors import InputError
from gradual.experiment.arguments import SEEDS
from gradual.experiment.controls import check_controls, with_controls
from gradual.experiment.executors import Collapsed, Executor, in_process
from gradual.experiment.experiment import Experiment, PathExperiment
from gradual.experiment.results import Results, RunResult, wide_console
from gradual.experiment.strategies import IN_DOMAIN_ONLY, Strategy
from gradual.experiment.tree import Node, Tree
from gradual.logging import note, quiet, saying_anew
from gradual.report import report_page, write_report
from gradual.report.collect import read_comparison
from gradual.report.remarks import same_paths
from gradual.report.tensorboard import save_stage_curve, save_strategies
from gradual.report.tree import drawing
from gradual.runs.callbacks import own_callbacks_fingerprint
from gradual.runs.directory import canonical
from gradual.runs.fingerprint import data_fingerprint, settings_fingerprint
from gradual.runs.identity import claim
from gradual.runs.recovery import load_result_or_reopen
from gradual.stage.callbacks.collapse import CollapsedError
from gradual.stage.callbacks.reported_scores import check_logged, names_in
from gradual.stage.interruption import interruptible
from gradual.stage.memory import stage_memory
from gradual.stage.trainer import callbacks_of

_log = logging.getLogger(__name__)

FIT = "fit"
"""The strategy of ``gradual.fit``, as its results name it."""


@interruptible()
@quiet()
def plan_tree(
    experiment: Experiment,
    strategies: Mapping[str, Strategy],
    seeds: Iterable[int],
    controls: bool | Sequence[str] = False,
) -> Tree:
    """Make the tree of ``strategies`` under ``seeds``, with the controls that are asked for.

    Raises:
        InputError: There is no seed, a strategy's schedule does not fit its pool (the message names the strategy), the
            paper's strategies are compared with a schedule that leaves the pool unused, or there is no control of that
            name.
    """
    seeds, kinds = SEEDS.check("seeds", seeds), check_controls(controls)
    strategies = {name: replace(one, final=one.final or experiment.final) for name, one in strategies.items()}

    def amounts(strategy: Strategy) -> list[int]:
        name = next(name for name, value in strategies.items() if value is strategy)
        try:
            return experiment.data(strategy.data).amounts_of(strategy.schedule)
        except InputError as error:
            raise InputError(f"The strategy '{name}': {error}") from error

    if kinds:
        counts = {name: amounts(strategy) for name, strategy in strategies.items()}
        strategies = with_controls(strategies, counts, kinds)
    tree = Tree(strategies, seeds, amounts, experiment.settings_of, experiment.samples_of)
    if any(strategy.also for strategy in strategies.values()) and (size := _unused_pool(experiment, tree)):
        raise InputError(
            f"No strategy would use the pool of {size} out-of-domain examples, since the schedule has none in any "
            "stage: give a schedule such as [1.0, 0.5, 0]."
        )
    return tree


def _unused_pool(experiment: Experiment, tree: Tree) -> int:
    """The size of the pool, if no stage uses it; 0 if one does."""
    is_used = any(amount for amounts in tree.amounts.values() for amount in amounts)
    return 0 if is_used else max(experiment.data(strategy.data).pool_size for strategy in tree.strategies.values())


@interruptible()
@quiet()
def plan_path(experiment: PathExperiment) -> Tree:
    """Make the tree of one path under one seed.

    Raises:
        InputError: The schedule does not fit the pool.
    """
    experiment.data({})
    return plan_tree(experiment, {FIT: Strategy(experiment.schedule)}, [experiment.defaults.seed])


@interruptible()
@quiet()
def claim_run(
    experiment: Experiment,
    tree: Tree,
    trainer: Mapping[str, Any],
    text: Callable[[type[LightningModule]], str],
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    search: Mapping[str, Any] | None = None,
) -> None:
    """Make the run directory, which is held, that of the experiment.

    Args:
        experiment: What the stages train with.
        tree: The stages.
        trainer: The Trainer's arguments.
        text: Returns the ``config.yaml`` to write, for the class of the model.
        arguments: The arguments that a configuration makes ``model`` and ``data`` with.
        search: What a search is made of; None for any other experiment.

    Raises:
        InputError: The run directory holds another experiment.
    """
    model, identity = experiment.describe_models(tree.seeds)
    to_draw = [node for node in tree.nodes if node.amounts[-1] and not node.directory(experiment.run).is_finished()]
    in_use = {canonical(node.data) for node in to_draw}
    identity["data"] = data_fingerprint(experiment.data({}), canonical({}) in in_use)
    callbacks = callbacks_of(experiment.trainer_arguments())
    identity["settings"] = settings_fingerprint(experiment.defaults, trainer, callbacks)
    identity["own_callbacks"] = own_callbacks_fingerprint(callbacks)
    others = {canonical(strategy.data): strategy.data for strategy in tree.strategies.values() if strategy.data}
    if others:
        identity["other_data"] = {
            name: data_fingerprint(experiment.data(data), name in in_use) for name, data in others.items()
        }
    if search is not None:
        identity["search"] = dict(search)
    claim(experiment.run, identity, text(model), arguments)


@interruptible()
@quiet()
@saying_anew()
def fit_path(experiment: PathExperiment, tree: Tree) -> RunResult:
    """Train what is not finished of one path, in a run directory that was claimed.

    Args:
        experiment: What the stages train with; its model has the weights of the last stage afterwards.
        tree: The tree of one path.

    Returns:
        The results, also written to ``results.json``.
    """
    results = Results("results.json", experiment, tree)
    ((strategy, seed),) = tree.paths

    def save() -> None:
        results.save()
        if stages := results.of(strategy, seed).stages:
            curve = experiment.run.seed(seed) / "by-stage" / "-".join(map(str, tree.amounts[strategy]))
            save_stage_curve(curve, stages)

    for remark in experiment.data({}).remarks_on(experiment.schedule):
        note("%s", remark)
    try:
        trained = _run_tree(experiment, tree, in_process(experiment), save)
        final = results.final_node(strategy, seed)
        if not trained or final is not trained[-1]:
            experiment.load_weights(final)
    finally:
        experiment.remember()
    return results.of(strategy, seed)


@interruptible()
@quiet()
@saying_anew()
def compare_tree(experiment: Experiment, tree: Tree, execute: Executor, baseline: str | None = None) -> Path:
    """Train what is not finished of a tree, in a run directory that was claimed, and write the report.

    Args:
        experiment: What the stages train with.
        tree: The stages.
        execute: Runs the stages: in this process, in several, or on a cluster.
        baseline: The strategy that differences are taken from; None for in-domain only, or else the first.

    Returns:
        The report's page.

    Raises:
        InputError: The baseline is none of the strategies, or one of the metrics is never logged.
    """
    results = Results("compare.json", experiment, tree, _baseline(tree, baseline))
    if size := _unused_pool(experiment, tree):
        note("No strategy uses the pool of %d out-of-domain examples.", size)
    _run_tree(experiment, tree, execute, results.save, lambda: _print_tree(experiment, tree))
    check_logged(experiment.metrics or (), names_in(experiment.run.results()))
    rank_zero_only(_report)(experiment.run.root)
    return report_page(experiment.run.root)


def _run_tree(
    experiment: Experiment,
    tree: Tree,
    execute: Executor,
    save: Callable[[], None],
    introduce: Callable[[], None] = lambda: None,
) -> list[Node]:
    """Repair what is damaged, check all stages, give out their folders, and train what is not finished.

    Args:
        experiment: What the stages train with.
        tree: The stages.
        execute: Runs the stages.
        save: Writes the results so far; called before the first stage and after each one.
        introduce: Called before the first stage trains, when all stages have their folders.

    Returns:
        The stages that were not finished before.
    """
    _repair(experiment, tree)
    to_do = [node for node in tree.nodes_with_averages if node.directory(experiment.run).result() is None]
    if to_train := [node for node in to_do if not node.averaged]:
        with stage_memory():
            experiment.check(to_train)

    def save_progress() -> None:
        give_out_folders(experiment, to_do)  # once, and here: stages that run at the same time must not choose
        save()

    rank_zero_only(save_progress)()
    rank_zero_only(introduce)()
    to_run = [node for node in tree.nodes_with_averages if node in to_do or experiment.lacks_test(node)]
    execute(to_run, rank_zero_only(save_progress), _ends_its_paths(tree))
    return to_do


def _ends_its_paths(tree: Tree) -> Collapsed:
    """What to do about a stage that collapsed: go on with the paths that do not need it, as long as there are any."""
    lost: set[int] = set()

    def collapsed(node: Node, error: CollapsedError) -> None:
        lost.add(id(node))
        lost.update(id(other) for other in tree.nodes if not lost.isdisjoint(map(id, other.depends_on)))
        if all(not lost.isdisjoint(map(id, path)) for path in tree.paths.values()):
            raise error.original
        rank_zero_only(_log.warning)("%s Paths that do not need this stage go on.", error.original)

    return collapsed


def _repair(experiment: Experiment, tree: Tree) -> None:
    """Reopen stages with a damaged result, and those with damaged weights that are still needed."""
    directories = {id(node): node.directory(experiment.run) for node in tree.nodes_with_averages}
    for node in reversed(
        tree.nodes_with_averages
    ):  # children first: a stage that is reopened needs its parent's weights
        directory = directories[id(node)]
        needed = experiment.hands_out_weights or any(
            not directories[id(other)].is_finished() for other in tree.users(node)
        )
        if load_result_or_reopen(directory, weights=needed) and not needed and experiment.lacks_test(node):
            load_result_or_reopen(directory)
    for directory in {id(copied): directories[id(copied)] for node in tree.nodes for copied in node.copies}.values():
        result = directory.result()
        if result is not None and result.steps is None:
            note("%s was trained by an earlier version: its last checkpoint says how many steps.", directory.path)
            rank_zero_only(directory.reopen)()


def give_out_folders(experiment: Experiment, nodes: Iterable[Node]) -> None:
    """Reserve the folders of stages whose settings are known: a control's are once what it copies is finished."""
    for node in nodes:
        settings, directory = node.settings_in(experiment.run), node.directory(experiment.run)
        if settings is not None and directory.settings() is None:
            directory.reserve(settings)


def _baseline(tree: Tree, name: str | None) -> str:
    """The strategy that differences are taken from, by its name in the tree."""
    if name is None:
        name = IN_DOMAIN_ONLY if IN_DOMAIN_ONLY in tree.strategies else next(iter(tree.strategies))
    name = next((other for other, strategy in tree.strategies.items() if name in strategy.also), name)
    if name not in tree.strategies:
        raise InputError(f"baseline is '{name}': it must be one of the strategies {', '.join(tree.strategies)}.")
    return name


def _print_tree(experiment: Experiment, tree: Tree) -> None:
    """Print the tree: what is done, what is to do, what is shared, and what sharing saves."""
    console = wide_console()
    console.print(drawing(read_comparison(experiment.run.root, details=False)))
    paths: dict[str, list[Any]] = {name: [*path] for (name, _), path in tree.paths.items()}  # as every seed has them
    for name, strategy in tree.strategies.items():
        paths[name].append(strategy.final)
    for sentence in same_paths(paths, {name: strategy.also for name, strategy in tree.strategies.items()}):
        console.print(sentence, markup=False)
    with_sharing, without = tree.examples(experiment.data({}).in_domain_size)
    done = sum(node.directory(experiment.run).result() is not None for node in tree.nodes)
    stages = f"{len(tree.nodes)} stages instead of {tree.stages_without_sharing}, {done} of them done"
    if experiment.data({}).amount_in == "tokens":
        console.print(f"{stages}.")
        return
    console.print(
        f"{stages}; an epoch of each is {with_sharing} examples instead of {without}: sharing saves "
        f"{1 - with_sharing / without:.0%}."
    )


def _report(root: Path) -> None:
    write_report(root)
    save_strategies(root)
