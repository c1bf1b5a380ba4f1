"""Reads a comparison from its run directory: strategies, seeds and stages, as far as they exist.

``compare.json`` lists the strategies and the folders of their stages; a stage is finished when its folder contains
``result.json``. Nothing here trains or needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Literal

from gradual.checks import is_number
from gradual.errors import InputError
from gradual.files import read_json
from gradual.report.checked import kind_of, list_in, mapping_in, read_lines, read_mapping
from gradual.runs.result import StageResult, best_stage, reported_scores

Split = Literal["val", "test"]
SPLITS: dict[Split, str] = {"val": "validation", "test": "test"}
"""The splits that scores are measured on, and their names for readers."""

Examples = dict[str, dict[str, tuple[float, float]]]
"""Test results by id and metric, as numerator and denominator; scores of several examples divide their sums.

Examples of one id, such as the sentences of a document, are one entry with their sums: what was sampled, and what is
resampled, is the document.
"""


@dataclass(frozen=True)
class StageRecord:
    """One stage of one seed, as far as it exists.

    Attributes:
        path: Its folder, relative to the run directory.
        started: Whether training has begun; the folder may be created earlier.
        collapsed: Whether it has collapsed in every attempt.
        settings: The settings it was started with; None if it never was.
        result: Its result; None until it is finished.
        history: Logged values, one entry per epoch, in order.
        examples: Test results by example; None if they were not saved.
        tested: Number of test results by example, of which several may have one id.
    """

    path: str
    started: bool
    collapsed: bool = False
    settings: dict[str, Any] | None = None
    result: StageResult | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    examples: Examples | None = None
    tested: int = 0

    @property
    def sources(self) -> dict[str, int]:
        """Out-of-domain examples of each named source; empty for a pool without names."""
        return (self.result.sources if self.result else None) or (self.settings or {}).get("sources") or {}

    @property
    def state(self) -> str:
        """``finished``, ``collapsed``, ``started`` or ``not started``."""
        unfinished = "collapsed" if self.collapsed else "started" if self.started else "not started"
        return "finished" if self.result else unfinished


@dataclass(frozen=True)
class Control:
    """What makes a strategy a control of another one: it takes as many steps with other amounts.

    Attributes:
        of: Name of the strategy that it copies.
        copies: For each of its stages, the stages (from 0) of that strategy whose steps it takes; empty for a stage
            that the two share.
        explanation: What it does differently, in a clause.
    """

    of: str
    copies: list[list[int]]
    explanation: str


@dataclass(frozen=True)
class Strategy:
    """One path of stages, trained once for each seed.

    Attributes:
        name: Its name in the comparison.
        amounts: Numbers of out-of-domain examples of its stages.
        overrides: The settings that each stage overrides, as plain data; the strategy's own are with the first stage.
        stages: Its stages by seed, in order; fewer than ``amounts`` if the comparison has not assigned folders yet.
        also: Other strategies with the same path, which have no row of their own.
        control: What makes it a control of another strategy; None if it is none.
        kept: What its result is: ``last``, ``best`` or ``average``.
        results_of_paths: The stage or average that is its result, by seed, as far as it exists; where it is left out,
            the last stage.
    """

    name: str
    amounts: list[int]
    overrides: list[dict[str, Any]]
    stages: dict[int, list[StageRecord]]
    also: list[str] = field(default_factory=list)
    control: Control | None = None
    kept: str = "last"
    results_of_paths: dict[int, StageRecord] = field(default_factory=dict)

    def final(self, seed: int) -> StageRecord | None:
        """The result of the path of a seed, as a rule its last stage; None until the path is finished."""
        return self.results_of_paths.get(seed, self.stages[seed][-1]) if self.is_finished(seed) else None

    def is_finished(self, seed: int) -> bool:
        """Whether all stages of a seed are finished, and the average of their weights if this is the result."""
        stages = self.stages.get(seed, [])
        if len(stages) != len(self.amounts) or not all(stage.result for stage in stages):
            return False
        return self.kept == "last" or (seed in self.results_of_paths and bool(self.results_of_paths[seed].result))

    @property
    def finished_seeds(self) -> list[int]:
        """The seeds whose stages are all finished."""
        return [seed for seed in self.stages if self.is_finished(seed)]

    @property
    def is_control(self) -> bool:
        """Whether it is a control of another strategy."""
        return self.control is not None

    def results(self, stage: int) -> dict[int, StageResult]:
        """The results of a stage (counted from 0) by seed, as far as they exist."""
        paths = {seed: path[stage] for seed, path in self.stages.items() if stage < len(path)}
        return {seed: record.result for seed, record in paths.items() if record.result}

    def cut_off(self, stage: int) -> dict[int, StageResult]:
        """The results of a stage that ended before it converged, by seed."""
        return {seed: result for seed, result in self.results(stage).items() if not result.converged}

    def collapsed(self, stage: int) -> dict[int, StageResult]:
        """The results of a stage of which earlier attempts collapsed, by seed; of a control, not of what it shares."""
        shared = self.control is not None and not self.control.copies[stage]
        return {} if shared else {seed: result for seed, result in self.results(stage).items() if result.collapses}

    @property
    def stages_cut_off(self) -> list[int]:
        """The stages (counted from 0) that ended before they converged for at least one seed."""
        return [stage for stage in range(len(self.amounts)) if self.cut_off(stage)]


@dataclass(frozen=True)
class Comparison:
    """Strategies, each trained with several seeds.

    Attributes:
        root: The run directory.
        strategies: The strategies in the order of the configuration.
        seeds: The seeds of the comparison, finished or not.
        metrics: Test scores to show: those of ``compare.json`` that the test logs; if there are none, all but the loss,
            or the loss if it is the only one. Where all but the loss are shown and none of them is known by example,
            as with the perplexity of language models, the loss is shown, too, if it is.
        val_metrics: Validation scores to show, chosen likewise.
        unknown: Scores of ``compare.json`` that no finished stage has.
        baseline: The strategy that differences are relative to; None for no differences.
        monitor: Validation metric that decided convergence and the best epoch.
        mode: ``min`` or ``max``: whether lower or higher values of the monitor are better.
        command: The command line of the comparison.
        versions: Versions of Python and packages.
        environment: The machine, as plain data.
        amount_in: What amounts count: ``examples`` or ``tokens``.
    """

    root: Path
    strategies: list[Strategy]
    seeds: list[int]
    metrics: list[str]
    val_metrics: list[str]
    unknown: list[str]
    baseline: str | None
    monitor: str
    mode: str
    command: str
    versions: dict[str, Any]
    environment: dict[str, Any]
    amount_in: str = "examples"

    @cached_property
    def has_test_scores(self) -> bool:
        """Whether any finished stage has test scores."""
        return any(result.test for result in _results(self.strategies))

    @property
    def shown(self) -> dict[Split, list[str]]:
        """The metrics to show by split: those of validation always, those of the test if there was one."""
        return {"val": self.val_metrics, "test": self.metrics} if self.has_test_scores else {"val": self.val_metrics}

    @cached_property
    def missing(self) -> list[str]:
        """One sentence for each thing that the comparison lacks."""
        lines = [line for strategy in self.strategies for seed in self.seeds for line in self._missing(strategy, seed)]
        lines += [f"No stage has a score '{metric}'." for metric in self.unknown]
        if self.knows_no_examples:
            lines.append(
                "There are no test results by example, and therefore no significance: to provide them, return a list "
                'of {"id": ..., SCORE: [numerator, denominator]} from test_step.'
            )
        return lines

    @cached_property
    def knows_no_examples(self) -> bool:
        """Whether strategies were tested but none has test results by example: the module does not return them."""
        finals = [strategy.final(seed) for strategy in self.strategies for seed in self.seeds]
        kept = [final.examples is not None for final in finals if final is not None and self.has_test_scores]
        return bool(kept) and not any(kept)

    @cached_property
    def without_examples(self) -> list[str]:
        """The metrics that no test example has although there are results by example, such as a mean over labels."""
        named = _known_by_example(self.strategies)
        return [metric for metric in self.metrics if named and metric not in named]

    def _missing(self, strategy: Strategy, seed: int) -> list[str]:
        who = f"{strategy.name}, seed {seed}"
        final = strategy.final(seed)
        if final is None:
            stages = strategy.stages.get(seed, [])
            done = sum(stage.result is not None for stage in stages)
            states = {"started": "has started", "not started": "has not started"}
            states["collapsed"] = "collapsed in every attempt"
            at = next((f"; {stage.path} {states[stage.state]}" for stage in stages if not stage.result), "")
            needs = self._collapsed_in_copied(strategy, seed)
            at = f"; it needs {needs}, which collapsed in every attempt" if needs else at
            return [f"{who}: {done} of {len(strategy.amounts)} stages finished{at}."]
        lines = [
            f"{who}: no validation score '{metric}' in {final.path}/result.json."
            for metric in self.val_metrics
            if final.result and metric not in final.result.val
        ]
        if not self.has_test_scores:
            return lines
        for metric in self.metrics:
            score = final.result.test.get(metric) if final.result else None
            if score is None:
                lines.append(f"{who}: no test score '{metric}' in {final.path}/result.json.")
                continue
            kept = pooled_score(final.examples, metric) if final.examples is not None else None
            if final.examples is not None and kept is None and metric not in self.without_examples:
                lines.append(f"{who}: no '{metric}' in {final.path}/test_examples.jsonl.")
            elif kept is not None and not math.isclose(kept, score, abs_tol=1e-4):
                lines.append(
                    f"{who}: '{metric}' is {kept:.4f} in {final.path}/test_examples.jsonl, but {score:.4f} in "
                    "result.json; significance is computed from the former."
                )
        if final.examples is None and not self.knows_no_examples:
            lines.append(f"{who}: no {final.path}/test_examples.jsonl, so significance is computed without it.")
        return lines

    def _collapsed_in_copied(self, strategy: Strategy, seed: int) -> str:
        """The stage of the copied strategy that keeps a control from being trained on; empty if there is none."""
        control, stages = strategy.control, strategy.stages.get(seed, [])
        at = next((k for k, stage in enumerate(stages) if not stage.result), None)
        if control is None or at is None or not control.copies[at]:
            return ""
        copied = next((one.stages.get(seed, []) for one in self.strategies if one.name == control.of), [])
        before = copied[: control.copies[at][-1] + 1]
        return next((stage.path for stage in before if stage.state == "collapsed"), "")


def pooled_score(examples: Examples, metric: str) -> float | None:
    """The score of all examples: the sum of numerators over the sum of denominators; None if no example has it."""
    pairs = [scores[metric] for scores in examples.values() if metric in scores]
    if not pairs:
        return None
    denominator = sum(pair[1] for pair in pairs)
    return sum(pair[0] for pair in pairs) / denominator if denominator else 0.0


def read_comparison(run_dir: Path, details: bool = True, name: str = "compare.json") -> Comparison:
    """Read a comparison, as far as it exists.

    Args:
        run_dir: A run directory with the ``compare.json`` of ``gradual compare``.
        details: Whether to read the histories and test examples of the stages, too.
        name: ``results.json`` for the only path of ``gradual fit``, as a comparison of one strategy.

    Raises:
        InputError: There is no such file, or a file is damaged; the message names it.
    """
    file = run_dir / name
    if not file.is_file():
        raise InputError(f"{run_dir} holds no comparison: {file} is missing; run gradual compare first.")
    content = read_mapping(file)
    seeds = list_in(content, "seeds", int, file)
    stage_at = cache(lambda path: _stage(run_dir, path, details))  # strategies share stages
    monitor, mode = str(content.get("monitor", "")), str(content.get("mode", "min"))
    best_of = partial(best_stage, monitor=monitor, mode=mode)
    strategies = [
        _strategy(name, entry, seeds, stage_at, best_of, file)
        for name, entry in mapping_in(content, "strategies", file).items()
    ]
    baseline = content.get("baseline")
    if baseline is not None and baseline not in [strategy.name for strategy in strategies]:
        raise InputError(f"{file}: the baseline {baseline!r} is not one of the strategies.")
    results = list(_results(strategies))
    asked = list_in(content, "metrics", str, file)
    metrics = reported_scores(results, "test", asked) or asked
    val_metrics = list_in({"val_metrics": [], **content}, "val_metrics", str, file)
    val_metrics = val_metrics or reported_scores(results, "val", asked)
    known = _known_by_example(strategies)
    if {*metrics} == {*reported_scores(results, "test")} and known.isdisjoint(metrics) and "loss" in known:
        metrics = [*metrics, "loss"]
        if "loss" not in val_metrics and any("loss" in one.val for one in results):
            val_metrics = [*val_metrics, "loss"]
    return Comparison(
        root=run_dir,
        strategies=strategies,
        seeds=seeds,
        metrics=metrics,
        val_metrics=val_metrics,
        unknown=[name for name in asked if results and not any(name in {**one.val, **one.test} for one in results)],
        baseline=baseline,
        monitor=monitor,
        mode=mode,
        command=str(content.get("command", "")),
        versions=mapping_in({"versions": {}, **content}, "versions", file),
        environment=mapping_in({"environment": {}, **content}, "environment", file),
        amount_in=str(content.get("amount_in", "examples")),
    )


def _strategy(
    name: str,
    entry: Any,
    seeds: list[int],
    stage_at: Callable[[str], StageRecord],
    best_of: Callable[[list[StageResult]], int | None],
    file: Path,
) -> Strategy:
    where = f"{file}: the strategy '{name}'"
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {kind_of(entry)}: it must be a mapping.")
    amounts = list_in(entry, "amounts", int, file)
    schedule = list_in(entry, "schedule", object, file)
    if not amounts or len(schedule) != len(amounts):
        raise InputError(f"{where} has {len(schedule)} stages in its schedule, but {len(amounts)} amounts.")
    by_seed = mapping_in(entry, "seeds", file)
    overrides = [
        {key: value for key, value in stage.items() if key != "amount"} if isinstance(stage, dict) else {}
        for stage in schedule
    ]
    if entry.get("data"):  # applies to the whole path
        overrides[0] = {"data": entry["data"], **overrides[0]}
    kept = "average" if isinstance(entry.get("final"), dict) else str(entry.get("final") or "last")
    stages: dict[int, list[StageRecord]] = {}
    finals: dict[int, StageRecord] = {}
    for seed in seeds:
        of_seed = mapping_in({str(seed): {}, **by_seed}, str(seed), file)
        places = list_in({"paths": [], **of_seed}, "paths", str, file)
        if len(places) > len(amounts):
            raise InputError(f"{where} has {len(places)} paths for seed {seed}, but {len(amounts)} stages.")
        stages[seed] = [stage_at(path) for path in places]
        path = mapping_in({"final": {}, **of_seed}, "final", file).get("path")
        if kept == "best" and stages[seed]:  # the file may have been written before the last stage ended
            index = best_of([stage.result for stage in stages[seed] if stage.result])
            finals[seed] = stages[seed][-1 if index is None else index]
        elif kept == "average" and path is not None:
            finals[seed] = stage_at(str(path))
    also = list_in({"also": [], **entry}, "also", str, file)
    control = _control(mapping_in(entry, "control", file), file) if entry.get("control") else None
    return Strategy(name, amounts, overrides, stages, also, control, kept, finals)


def _control(entry: dict[str, Any], file: Path) -> Control:
    copies = list_in(entry, "copies", list, file)
    return Control(str(entry.get("of", "")), copies, str(entry.get("explanation", "")))


def _stage(root: Path, path: str, details: bool) -> StageRecord:
    folder = root / path
    settings, result, history = folder / "stage.json", folder / "result.json", folder / "history.jsonl"
    finished = result.is_file()
    kept = folder / "test_examples.jsonl"
    examples, tested = _examples(kept) if details and kept.is_file() else (None, 0)
    return StageRecord(
        path=path,
        started=finished or history.is_file() or (folder / "sample.txt").is_file(),
        collapsed=not finished and _has_collapsed(folder),
        settings=read_mapping(settings) if settings.is_file() else None,
        result=_result(result) if finished else None,
        history=_history(history, finished) if details else [],
        examples=examples,
        tested=tested,
    )


def _has_collapsed(folder: Path) -> bool:
    """Whether a stage has collapsed in as many attempts as its settings allow."""
    settings, collapses = folder / "stage.json", folder / "collapses.json"
    if not (settings.is_file() and collapses.is_file()):
        return False
    attempts = mapping_in({"collapse": {}, **read_mapping(settings)}, "collapse", settings).get("attempts", 0)
    return 0 < attempts <= len(read_json(collapses))


def _results(strategies: list[Strategy]) -> Iterator[StageResult]:
    """The results of the finished stages; a shared stage is repeated for each strategy that shares it."""
    stages = (stage for strategy in strategies for path in strategy.stages.values() for stage in path)
    return (stage.result for stage in stages if stage.result)


def _known_by_example(strategies: list[Strategy]) -> set[str]:
    """The test scores that the results of paths have by example."""
    finals = [strategy.final(seed) for strategy in strategies for seed in strategy.finished_seeds]
    kept = [final.examples for final in finals if final is not None and final.examples is not None]
    return {name for examples in kept for scores in examples.values() for name in scores}


def _result(file: Path) -> StageResult:
    try:
        result = StageResult(**read_mapping(file))
        counts = (result.amount, result.in_domain, result.out_of_domain, result.epochs, result.seconds)
        scores = [*result.val.values(), *result.test.values()]
    except (TypeError, AttributeError) as error:
        raise InputError(f"{file} is not the result of a stage: {error}.") from error
    for value in (*counts, *scores):
        if not is_number(value):
            raise InputError(f"{file} is not the result of a stage: it has {value!r} in place of a number.")
    return result


def _history(file: Path, finished: bool) -> list[dict[str, Any]]:
    """The entries in the order of epochs; if an interruption made an epoch train twice, the later entry counts."""
    by_epoch = {}
    for number, entry in read_lines(file, still_written=not finished) if file.is_file() else ():
        if not isinstance(entry.get("epoch"), int):
            raise InputError(f"{file}, line {number}: 'epoch' is {entry.get('epoch')!r}: it must be an integer.")
        by_epoch[entry["epoch"]] = entry
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def _examples(file: Path) -> tuple[Examples, int]:
    """The results by id, and how many lines they are of; an example without an id is known by its line."""
    examples: Examples = {}
    number = 0
    for number, entry in read_lines(file):
        name = entry.pop("id", None)
        sums = examples.setdefault(f"(line {number})" if name in (None, "") else str(name), {})
        for metric, pair in entry.items():
            if not isinstance(pair, list) or len(pair) != 2 or not all(map(is_number, pair)):
                expected = "it must be [numerator, denominator]"
                raise InputError(f"{file}, line {number}: '{metric}' is {pair!r}: {expected}.")
            before = sums.get(metric, (0, 0))
            sums[metric] = (before[0] + pair[0], before[1] + pair[1])
    return examples, number
