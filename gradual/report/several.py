"""The report of several comparisons, one a data set: a forest plot of differences, and a pooled estimate."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gradual.errors import InputError
from gradual.report.comparison import SPLITS, Comparison, Split, Strategy
from gradual.report.equal_training import EqualTraining, difference, equal_training
from gradual.report.pooled import Pooled, pool
from gradual.report.scores import better_values, in_percent
from gradual.report.significance import Finished, Significance, strategy_of_interest
from gradual.report.tables import metric_name
from gradual.score_names import without_split

BEST_CONTROL, ONE_STAGE, IN_DOMAIN_ONLY = "best control", "one-stage", "in-domain only"
AGAINST = (BEST_CONTROL, ONE_STAGE, IN_DOMAIN_ONLY)
"""What the strategy of interest is compared with in every data set."""


@dataclass(frozen=True)
class DataSet:
    """One comparison in the report of several.

    Attributes:
        name: The name of its run directory.
        comparison: The comparison.
        strategy: The strategy of interest.
        split: The split of the score: the test, or validation where nothing was tested.
        metric: The score.
        controls: The strategy's controls; None if it has none.
        differences: The strategy's gain over others, by ``AGAINST``: positive if it is better, whatever the score.
    """

    name: str
    comparison: Comparison
    strategy: Strategy
    split: Split
    metric: str
    controls: EqualTraining | None
    differences: dict[str, Significance]

    @property
    def score(self) -> str:
        """The score for readers, after its split: test joint accuracy."""
        return f"{SPLITS[self.split]} {metric_name(self.metric)}"


def data_sets(comparisons: Mapping[str, Comparison], metrics: Sequence[str] = ()) -> list[DataSet]:
    """The data sets of several comparisons.

    Args:
        comparisons: The comparisons by name.
        metrics: Scores in the order of preference; without one that a comparison has, the monitored score, or else the
            first that its report shows.

    Raises:
        InputError: A comparison has no strategy, none has one of the scores, nothing tells which values of a score are
            better, or the scores have no common unit.
    """
    for metric in metrics:
        if not any(metric in shown for one in comparisons.values() for shown in one.shown.values()):
            known = sorted({name for one in comparisons.values() for shown in one.shown.values() for name in shown})
            raise InputError(f"No run has a score '{metric}'; their scores are {', '.join(known)}.")
    found = [_data_set(name, comparison, metrics) for name, comparison in comparisons.items()]
    units = {"%" if one.metric in in_percent(one.comparison) else one.metric for one in found}
    if len(units) > 1:
        listed = ", ".join(f"{one.metric} of {one.name}" for one in found)
        raise InputError(f"These scores have no common unit: {listed}. Choose others with --metric.")
    return found


def names_of(run_dirs: Sequence[Path]) -> list[str]:
    """A name for each run directory: its own, or the whole path where several have the same.

    Raises:
        InputError: One is given twice, perhaps by another path: it would count as two data sets.
    """
    given: dict[Path, Path] = {}
    for path in run_dirs:
        if path.resolve() in given:
            raise InputError(f"{given[path.resolve()]} and {path} are the same run directory: give each data set once.")
        given[path.resolve()] = path
    names = [path.name for path in given]
    counts = Counter(names)
    return [str(path) if counts[name] > 1 else name for path, name in zip(run_dirs, names)]


def pooled(found: Sequence[DataSet]) -> dict[str, Pooled]:
    """The pooled differences, by ``AGAINST``."""
    pools = {}
    for against in AGAINST:
        rows = [one.differences[against] for one in found if is_pooled(one, against)]
        if estimate := pool([row.difference for row in rows], [row.standard_error or 0 for row in rows]):
            pools[against] = estimate
    return pools


def is_pooled(one: DataSet, against: str) -> bool:
    """Whether a difference has a standard error above 0: one that never varies says nothing about other data sets."""
    return against in one.differences and bool(one.differences[against].standard_error)


def differences_csv(found: Sequence[DataSet], pools: Mapping[str, Pooled]) -> str:
    """One row for each difference of a data set, and for each pooled one, with unrounded numbers."""
    columns = ["data_set", "split", "against", *Significance.__dataclass_fields__, "tau", "i_squared"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for against in AGAINST:
        for one in found:
            if against in one.differences:
                row = one.differences[against]
                names = {"data_set": one.name, "split": one.split, "against": against}
                writer.writerow({**names, **asdict(row), "seeds": len(row.seeds)})
        if against in pools:
            estimate = asdict(pools[against])
            del estimate["weights"]
            writer.writerow({"data_set": "pooled", "against": against, **estimate})
    return text.getvalue()


def _data_set(name: str, comparison: Comparison, metrics: Sequence[str]) -> DataSet:
    strategy = strategy_of_interest(comparison)
    split: Split = "test" if comparison.has_test_scores else "val"
    shown = comparison.shown[split]
    if strategy is None or not shown:
        raise InputError(f"{comparison.root} has no finished strategy to report.")
    preferred = [*metrics, without_split(comparison.monitor), shown[0]]
    metric = next(one for one in preferred if one in shown)
    controls = equal_training(comparison)
    others = {one.name: one for one in comparison.strategies}
    compared: dict[str, Finished | None] = {BEST_CONTROL: controls.best if controls else None}
    compared |= {against: others.get(against) for against in (ONE_STAGE, IN_DOMAIN_ONLY)}
    which = better_values(metric, comparison)
    if which is None:
        raise InputError(
            f"Nothing tells whether low or high values of '{metric}' are better in {comparison.root}: choose another "
            "score with --metric."
        )
    differences = {}
    for against, other in compared.items():
        row = difference(strategy, other, split, metric) if other and other is not strategy else None
        if row is not None:
            differences[against] = _turned(row) if which == "min" else row
    return DataSet(name, comparison, strategy, split, metric, controls, differences)


def _turned(row: Significance) -> Significance:
    """The difference of a score for which lower is better as a gain."""
    return replace(
        row,
        difference=-row.difference,
        low=_minus(row.high),
        high=_minus(row.low),
        seeds_low=_minus(row.seeds_high),
        seeds_high=_minus(row.seeds_low),
        examples_low=_minus(row.examples_high),
        examples_high=_minus(row.examples_low),
    )


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
