"""Remarks that a reader needs before trusting the scores, one sentence each."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

from gradual.report.comparison import Comparison, Strategy
from gradual.report.significance import same_test_data, strategy_of_interest
from gradual.runs.result import CUT_OFF, StageResult, best_stage
from gradual.score_names import without_split


def remarks(comparison: Comparison) -> list[str]:
    """The remarks on a comparison."""
    strategies = comparison.strategies
    paths = {
        strategy.name: [record.path for path in (*strategy.stages.values(), finals) for record in path]
        for strategy in strategies
        for finals in [list(strategy.results_of_paths.values())]
    }
    found = _without_controls(comparison)
    found += _cut_off([strategy for strategy in strategies if not strategy.is_control])  # controls follow from them
    found += _collapsed(strategies)
    found += same_paths(paths, {strategy.name: strategy.also for strategy in strategies})
    found += [sentence for strategy in strategies if (sentence := _worse_in_the_end(strategy, comparison))]
    if not comparison.has_test_scores and any(strategy.finished_seeds for strategy in strategies):
        found.append("There are no test scores, since no stage was tested: all scores are validation scores.")
    found += _other_test_data(strategies)
    found += _shared_ids(strategies)
    if without := comparison.without_examples:
        none = len(without) == len(comparison.metrics)
        found.append(
            f"The test gives no results by example for {_listed(without)}: the significance of differences is "
            + ("not computed." if none else "computed for the other scores.")
        )
    return found


def same_paths(paths: Mapping[str, Sequence[Hashable]], also: Mapping[str, Sequence[str]]) -> list[str]:
    """One sentence for each path that several strategies take.

    Args:
        paths: The stages of each strategy; empty where they are not known.
        also: By strategy, the other names of the same path, which have no row of their own.
    """
    sentences = [
        f"With this schedule, {_listed([*names, name])} are the same path: the row {name} stands for "
        f"{'both' if len(names) == 1 else 'all of them'}."
        for name, names in also.items()
        if names
    ]
    by_path: dict[tuple[Hashable, ...], list[str]] = {}
    for name, path in paths.items():
        by_path.setdefault(tuple(path), []).append(name)
    return sentences + [
        f"{_listed(names)} are the same path: its stages are trained once, and the scores are the same."
        for path, names in by_path.items()
        if path and len(names) > 1
    ]


def marked(strategy: Strategy) -> str:
    """A strategy's name, with ``CUT_OFF`` if one of its stages was cut off."""
    return strategy.name + CUT_OFF * bool(strategy.stages_cut_off)


def best_stages(strategy: Strategy, monitor: str, mode: str) -> dict[int, int]:
    """For each finished seed, the stage (counted from 0) with the best monitored score; of equal ones, the last."""
    paths = {
        seed: [stage.result for stage in strategy.stages[seed] if stage.result] for seed in strategy.finished_seeds
    }
    found = {seed: best_stage(path, monitor, mode) for seed, path in paths.items()}
    return {seed: stage for seed, stage in found.items() if stage is not None}


def _without_controls(comparison: Comparison) -> list[str]:
    """A remark if the strategy of interest has several stages and no controls; none otherwise."""
    strategy = strategy_of_interest(comparison)
    if strategy is None or len(strategy.amounts) < 2 or any(one.is_control for one in comparison.strategies):
        return []
    return [
        f"{strategy.name} has no controls, so differences may be due to unequal training: gradual compare --controls "
        "trains strategies of as many steps."
    ]


def _other_test_data(strategies: Sequence[Strategy]) -> list[str]:
    """A remark if not all strategies were tested on the same data; none otherwise."""
    if same_test_data(*strategies):
        return []
    groups: dict[str, list[str]] = {}
    for strategy in strategies:
        for seed in strategy.finished_seeds:
            final = strategy.final(seed)
            if final and final.result and final.result.test_data:
                groups.setdefault(final.result.test_data, []).append(f"{strategy.name}, seed {seed}")
    sides = " against ".join(f"({'; '.join(names)})" for names in groups.values())
    return [
        "Test scores were measured on different test data, and differences between them are left out: "
        f"{sides}. The same gradual compare tests them all on the present data."
    ]


def _shared_ids(strategies: Sequence[Strategy]) -> list[str]:
    """A remark if several test examples have one id; none otherwise."""
    finals = [strategy.final(seed) for strategy in strategies for seed in strategy.finished_seeds]
    counts = {
        (final.tested, len(final.examples))
        for final in finals
        if final is not None and final.examples is not None and len(final.examples) < final.tested
    }
    return [
        f"Test examples with the same id, such as the sentences of a document, are resampled together: {tested:,} "
        f"examples have {ids:,} {'id' if ids == 1 else 'different ids'}."
        for tested, ids in sorted(counts)[-1:]
    ]


def _cut_off(strategies: Sequence[Strategy]) -> list[str]:
    """One remark on all strategies with a stage that was cut off; none if every stage converged."""
    cut = [
        f"{strategy.name} ({'; '.join(_ended(strategy, stage) for stage in strategy.stages_cut_off)})"
        for strategy in strategies
        if strategy.stages_cut_off
    ]
    if not cut:
        return []
    return [
        f"{CUT_OFF} Stages ended before they converged, so their scores might still improve, and differences may be "
        f"due to unequal training: {', '.join(cut)}. To fix this, raise the limit until patience ends every stage: "
        "max_epochs of these stages in the schedule, or the Trainer's limits in a new run directory."
    ]


def _collapsed(strategies: Sequence[Strategy]) -> list[str]:
    """One remark on all stages of which attempts collapsed; none without one."""
    found = []
    for strategy in strategies:
        stages = [
            f"stage {stage + 1}, seed {seed}: attempt {len(result.collapses) + 1}"
            for stage in range(len(strategy.amounts))
            for seed, result in strategy.collapsed(stage).items()
        ]
        found += [f"{strategy.name} ({'; '.join(stages)})"] if stages else []
    if not found:
        return []
    return [
        "Stages collapsed and were trained again at lower learning rates than those configured, or for a control, than "
        f"those of the stage whose steps it takes: {', '.join(found)}."
    ]


def _ended(strategy: Strategy, stage: int) -> str:
    cut = strategy.cut_off(stage)
    seeds = "" if len(cut) == len(strategy.results(stage)) else f", seed {', '.join(map(str, cut))}"
    return f"stage {stage + 1}{seeds}: {_limits(cut)}"


def _limits(cut: Mapping[int, StageResult]) -> str:
    return ", ".join(dict.fromkeys(result.ended_by or "unknown cause" for result in cut.values()))


def _worse_in_the_end(strategy: Strategy, comparison: Comparison) -> str:
    """A remark if the last stage is worse on validation than an earlier one, otherwise empty."""
    if strategy.kept != "last":
        return _result_of_path(strategy, comparison)
    last, examples = len(strategy.amounts) - 1, []
    scores = _monitored(strategy, comparison.monitor)
    for seed, best in best_stages(strategy, comparison.monitor, comparison.mode).items():
        if last in scores[seed] and scores[seed][best] != scores[seed][last]:
            examples.append(
                f"seed {seed}: {scores[seed][best]:.4g} after stage {best + 1}, {scores[seed][last]:.4g} at the end"
            )
    if not examples:
        return ""
    return (
        f"{strategy.name}: the last stage is worse on validation than an earlier one ({comparison.monitor}; "
        f"{'; '.join(examples)})."
    )


def _result_of_path(strategy: Strategy, comparison: Comparison) -> str:
    """What the result of the path is, if it is not the last stage, with the monitored scores of both."""
    name, examples = without_split(comparison.monitor), []
    for seed in strategy.finished_seeds:
        final, last = strategy.final(seed), strategy.stages[seed][-1]
        if final is None or final.result is None or last.result is None:
            continue
        where = [record.path for record in strategy.stages[seed]]
        chosen = f"stage {where.index(final.path) + 1}" if final.path in where else "the average"
        scores = [result.val.get(name, math.nan) for result in (final.result, last.result)]
        examples.append(f"seed {seed}: {chosen}, {scores[0]:.4g}, and {scores[1]:.4g} after the last stage")
    what = "best stage on validation" if strategy.kept == "best" else "average of its stages' weights"
    return f"{strategy.name}: its result is the {what} ({comparison.monitor}; {'; '.join(examples)})." * bool(examples)


def _monitored(strategy: Strategy, monitor: str) -> dict[int, dict[int, float]]:
    """For each finished seed, the monitored validation score of each stage that has one."""
    name, stages = without_split(monitor), range(len(strategy.amounts))
    results = [strategy.results(stage) for stage in stages]
    return {
        seed: {stage: results[stage][seed].val[name] for stage in stages if name in results[stage][seed].val}
        for seed in strategy.finished_seeds
    }


def _listed(names: Sequence[str]) -> str:
    return " and ".join(", ".join(part) for part in (names[:-1], names[-1:]) if part)
