"""The strategy of interest against its controls: strategies of as many steps with other amounts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gradual.report.comparison import Comparison, Split, StageRecord, Strategy
from gradual.report.scores import Score, final_score, mean_of
from gradual.report.significance import Finished, Significance, compare, compare_scores, strategy_of_interest
from gradual.score_names import without_split


@dataclass(frozen=True)
class BestControl:
    """The best control of each seed, chosen by the monitored validation score of the other seeds.

    A control that is chosen by the validation of the seeds that it is then compared in is favoured by the luck of those
    seeds, since validation and test scores of a model go up and down together. Chosen by the other seeds, it is not.

    Attributes:
        by_seed: The control of each seed; with one seed alone, chosen by that seed.
    """

    by_seed: dict[int, Strategy]

    @property
    def name(self) -> str:
        """The name of the row."""
        return "best control"

    @property
    def finished_seeds(self) -> list[int]:
        """The seeds that have one."""
        return list(self.by_seed)

    def final(self, seed: int) -> StageRecord | None:
        """The result of the control of a seed; None if there is none."""
        return self.by_seed[seed].final(seed) if seed in self.by_seed else None

    @property
    def chosen(self) -> dict[str, list[int]]:
        """The seeds of each control that was chosen, by its name."""
        found: dict[str, list[int]] = {}
        for seed, control in self.by_seed.items():
            found.setdefault(control.name, []).append(seed)
        return found


@dataclass(frozen=True)
class EqualTraining:
    """A strategy and its controls.

    Attributes:
        strategy: The strategy of interest.
        controls: Its controls, finished or not.
        best: The best control; None while no control has a finite monitored validation score.
        split: The split whose scores are compared: the test, or validation where nothing was tested.
        metrics: The scores that are compared.
        monitored: The monitored validation score by strategy, over the seeds that all have which have any.
        differences: The strategy minus each control, by control and metric, as far as they are known.
        from_best: The strategy minus the best control, by metric, as far as it is known.
    """

    strategy: Strategy
    controls: list[Strategy]
    best: BestControl | None
    split: Split
    metrics: list[str]
    monitored: dict[str, Score]
    differences: dict[str, dict[str, Significance]]
    from_best: dict[str, Significance]

    @property
    def without_result(self) -> list[Strategy]:
        """The controls without a monitored score, which cannot be the best one: as a rule, they are not finished."""
        return [control for control in self.controls if not self.monitored[control.name].by_seed]


def equal_training(comparison: Comparison) -> EqualTraining | None:
    """Compare the strategy of interest with its controls; None where it has none."""
    strategy = strategy_of_interest(comparison)
    controls = [one for one in comparison.strategies if strategy and one.control and one.control.of == strategy.name]
    if strategy is None or not controls:
        return None
    split: Split = "test" if comparison.has_test_scores else "val"
    metrics = comparison.shown[split]
    monitor = without_split(comparison.monitor)
    monitored = _over_shared_seeds({one.name: final_score(one, "val", monitor) for one in (strategy, *controls)})
    differences = {control.name: _differences(strategy, control, split, metrics) for control in controls}
    best = _best(controls, monitored, comparison.mode)
    from_best = _differences(strategy, best, split, metrics) if best else {}
    return EqualTraining(strategy, controls, best, split, metrics, monitored, differences, from_best)


def _differences(strategy: Strategy, other: Finished, split: Split, metrics: list[str]) -> dict[str, Significance]:
    found = {metric: difference(strategy, other, split, metric) for metric in metrics}
    return {metric: row for metric, row in found.items() if row is not None}


def difference(strategy: Strategy, other: Finished, split: Split, metric: str) -> Significance | None:
    """One strategy minus another: by example where test results are known by example, otherwise by seed."""
    found = compare(strategy, other, metric) if split == "test" else None
    return found or compare_scores(strategy, other, split, metric)


def explanations(controls: Iterable[Strategy]) -> list[str]:
    """What each control does, a sentence each."""
    return [f"{one.name}: {one.control.explanation}." for one in controls if one.control]


def _over_shared_seeds(scores: dict[str, Score]) -> dict[str, Score]:
    known = [set(score.by_seed) for score in scores.values() if score.by_seed]
    shared = sorted(set.intersection(*known)) if known else []
    return {name: score.of(shared) for name, score in scores.items()}


def _best(controls: list[Strategy], monitored: dict[str, Score], mode: str) -> BestControl | None:
    scores = {control.name: monitored[control.name].by_seed for control in controls if monitored[control.name].by_seed}
    by_name, better = {control.name: control for control in controls}, min if mode == "min" else max
    seeds = list(next(iter(scores.values()), ()))
    chosen = {}
    for seed in seeds:
        judges = [other for other in seeds if other != seed] or seeds
        means = {name: mean_of([of_seed[judge] for judge in judges]) for name, of_seed in scores.items()}
        finite = {name: mean for name, mean in means.items() if math.isfinite(mean)}
        if not finite:
            return None
        chosen[seed] = by_name[better(finite, key=finite.__getitem__)]
    return BestControl(chosen) if chosen else None
