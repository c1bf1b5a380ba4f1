"""The strategy of interest against its controls: strategies of as many steps with other amounts."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from gradual.report.collect import Comparison, Split, Strategy
from gradual.report.scores import Score, final_score
from gradual.report.significance import Significance, compare, compare_scores, strategy_of_interest
from gradual.score_names import without_split


@dataclass(frozen=True)
class EqualTraining:
    """A strategy and its controls.

    Attributes:
        strategy: The strategy of interest.
        controls: Its controls, finished or not.
        best: The control with the best monitored validation score, the mean over the seeds that all finished controls
            have; None while no control is finished.
        split: The split whose scores are compared: the test, or validation where nothing was tested.
        metrics: The scores that are compared.
        monitored: The monitored validation score by strategy.
        differences: The strategy minus each control, by control and metric, as far as they are known.
    """

    strategy: Strategy
    controls: list[Strategy]
    best: Strategy | None
    split: Split
    metrics: list[str]
    monitored: dict[str, Score]
    differences: dict[str, dict[str, Significance]]


def equal_training(comparison: Comparison) -> EqualTraining | None:
    """Compare the strategy of interest with its controls; None where it has none."""
    strategy = strategy_of_interest(comparison)
    controls = [one for one in comparison.strategies if strategy and one.control and one.control.of == strategy.name]
    if strategy is None or not controls:
        return None
    split: Split = "test" if comparison.has_test_scores else "val"
    metrics = comparison.shown[split]
    monitor = without_split(comparison.monitor)
    monitored = {one.name: final_score(one, "val", monitor) for one in (strategy, *controls)}
    differences = {
        control.name: {
            metric: found for metric in metrics if (found := difference(strategy, control, split, metric)) is not None
        }
        for control in controls
    }
    best = _best(controls, monitored, comparison.mode)
    return EqualTraining(strategy, controls, best, split, metrics, monitored, differences)


def difference(strategy: Strategy, other: Strategy, split: Split, metric: str) -> Significance | None:
    """One strategy minus another: by example where test results are known by example, otherwise by seed."""
    found = compare(strategy, other, metric) if split == "test" else None
    return found or compare_scores(strategy, other, split, metric)


def explanations(controls: Iterable[Strategy]) -> list[str]:
    """What each control does, a sentence each."""
    return [f"{one.name}: {one.control.explanation}." for one in controls if one.control]


def _best(controls: list[Strategy], monitored: dict[str, Score], mode: str) -> Strategy | None:
    scores = {control.name: monitored[control.name].by_seed for control in controls if monitored[control.name].by_seed}
    shared = set.intersection(*map(set, scores.values())) if scores else set()
    if not shared:
        return None
    means = {name: statistics.fmean(by_seed[seed] for seed in sorted(shared)) for name, by_seed in scores.items()}
    chosen = (min if mode == "min" else max)(means, key=means.__getitem__)
    return next(control for control in controls if control.name == chosen)
