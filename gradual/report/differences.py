"""Tables of differences between strategies, with what they depend on: seeds, test examples, or both."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradual.report.comparison import SPLITS, Comparison
from gradual.report.equal_training import BestControl, EqualTraining, explanations
from gradual.report.remarks import marked
from gradual.report.scores import better_values, final_score, in_percent, steps
from gradual.report.significance import Significance
from gradual.report.tables import (
    DASH,
    MINUS,
    Cell,
    Table,
    count,
    difference_text,
    legend,
    metric_name,
    schedule_text,
    score_text,
)
from gradual.report.uncertainty import RESAMPLES
from gradual.score_names import without_split

DIFFERENCE_HEADING = ["difference", "95% interval", "seeds alone", "test examples alone", "p"]

UNCERTAINTY = (
    "The interval and the two-sided p hold for other seeds and other test examples together, by a hierarchical "
    f"bootstrap of {RESAMPLES:,} resamples: the mean over seeds is drawn from its t distribution, and whole test "
    "examples are resampled, the same for both strategies and all seeds. Beside it are the interval for other seeds on "
    "these test examples, and that for other test examples with these seeds. One seed does not show how much a "
    "difference depends on the seed."
)


def significance_table(found: Sequence[Significance], comparison: Comparison) -> Table:
    """One row for each comparison of two strategies in a metric."""
    percent = in_percent(comparison)
    names = {strategy.name: marked(strategy) for strategy in comparison.strategies}
    rows = []
    for row in found:
        words = (f"{names[row.strategy]} {MINUS} {names[row.other]}", metric_name(row.metric))
        rest = (*difference_texts(row, row.metric in percent), count(row.examples), str(len(row.seeds)))
        rows.append([Cell(text) for text in (*words, *rest)])
    note = UNCERTAINTY + legend(comparison)
    heading = ["strategies", "score", *DIFFERENCE_HEADING, "test examples", "seeds"]
    return Table("Significance", note, heading, rows, left=2)


def difference_texts(found: Significance, percent: bool) -> list[str]:
    """The cells of a difference: itself, its three intervals, and p."""
    ends = ((found.low, found.high), (found.seeds_low, found.seeds_high), (found.examples_low, found.examples_high))
    intervals = [interval_text(low, high, percent) for low, high in ends]
    p_value = "seeds unknown" if len(found.seeds) < 2 else DASH if found.p_value is None else f"{found.p_value:.4f}"
    return [difference_text(found.difference, percent), *intervals, p_value]


def interval_text(low: float | None, high: float | None, percent: bool) -> str:
    """The ends of an interval; a dash for None."""
    if low is None or high is None:
        return DASH
    return f"{difference_text(low, percent)} to {difference_text(high, percent)}"


def equal_training_tables(found: EqualTraining | None, comparison: Comparison) -> list[Table]:
    """The strategy of interest against its best control, and against each of them."""
    if found is None:
        return []
    percent = in_percent(comparison)
    controls = [_against_best(found, comparison, percent)] if found.best else []
    return [*controls, _against_all(found, comparison, percent)]


def _against_best(found: EqualTraining, comparison: Comparison, percent: set[str]) -> Table:
    assert found.best is not None
    ours, theirs = found.strategy, found.best
    rows = []
    for metric, row in found.from_best.items():
        scores = [final_score(one, found.split, metric).of(row.seeds).mean for one in (ours, theirs)]
        texts = [score_text(score, metric in percent) for score in scores]
        texts += [*difference_texts(row, metric in percent), str(len(row.seeds))]
        rows.append([Cell(text) for text in (metric_name(metric), *texts)])
    note = (
        _choice(theirs, found, comparison)
        + ("" if found.split == "test" else "There are no test scores: these are validation scores. ")
        + UNCERTAINTY
    )
    return Table(
        f"{_capitalized(marked(ours))} against the best control of equal training",
        note + legend(comparison),
        [f"{SPLITS[found.split]} score", marked(ours), "best control", *DIFFERENCE_HEADING, "seeds"],
        rows,
        left=1,
        explained=_against_each(found, comparison, percent),
    )


def _choice(best: BestControl, found: EqualTraining, comparison: Comparison) -> str:
    """How the best control was chosen of those that have a result, and which it is."""
    names, monitor = {control.name: marked(control) for control in found.controls}, comparison.monitor
    waiting = [names.pop(control.name) for control in found.without_result]
    without = f"Controls without a result, which cannot be the best one yet: {'; '.join(waiting)}. " if waiting else ""
    if waiting and len(names) == 1:
        return f"{next(iter(names.values()))} is the only control with a result. {without}"
    return without + _chosen(best, names, monitor, comparison)


def _chosen(best: BestControl, names: dict[str, str], monitor: str, comparison: Comparison) -> str:
    if len(best.by_seed) == 1:
        name, (seed,) = names[next(iter(best.chosen))], best.by_seed
        under = "the only seed" if len(comparison.seeds) == 1 else f"seed {seed}, the only one that all have"
        return f"{name} is the best of {len(names)} by validation ({monitor}) under {under}. "
    which = ", ".join(
        f"{names[name]} ({'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))})"
        for name, seeds in best.chosen.items()
    )
    return (
        f"The best control of each seed is the best of {len(names)} by the validation of the other seeds ({monitor}, "
        "mean): chosen by the seed that it is compared in, it would be favoured by the luck of that seed. It is "
        f"{which}. "
    )


def _against_each(found: EqualTraining, comparison: Comparison, percent: set[str]) -> list[str]:
    """Whether the strategy is ahead of all its controls, a sentence for each score of which better values are known.

    It is ahead of all of them only if it is ahead of each, so that the largest p of these differences is the p of the
    whole statement, without a correction for their number.
    """
    ours, sentences = marked(found.strategy), []
    known = found.differences.values()
    for metric in found.metrics:
        which = better_values(metric, comparison)
        if which is None or len(known) < 2 or not all(_is_finite(rows.get(metric)) for rows in known):
            continue
        sign = -1 if which == "min" else 1
        closest, rows = min(
            ((one, found.differences[one.name]) for one in found.controls),
            key=lambda each: sign * each[1][metric].difference,
        )
        size = score_text(abs(rows[metric].difference), metric in percent)
        if sign * rows[metric].difference <= 0:
            sentences.append(f"{metric_name(metric)}: {ours} is not ahead of {marked(closest)} ({size} behind).")
            continue
        values = [each[metric].p_value for each in known]
        p = "" if None in values else f"; p = {max(v for v in values if v is not None):.4f}, the largest of all"
        sentences.append(f"{metric_name(metric)}: {ours} is ahead of every control, by {size} or more{p}.")
    return sentences


def _is_finite(row: Significance | None) -> bool:
    return row is not None and math.isfinite(row.difference)


def _against_all(found: EqualTraining, comparison: Comparison, percent: set[str]) -> Table:
    monitor = without_split(comparison.monitor)
    chosen = found.best.chosen if found.best else {}
    heading = ["strategy", "schedule", "seeds", "steps", f"validation {metric_name(monitor)}"]
    for metric in found.metrics:
        heading += [f"{SPLITS[found.split]} {metric_name(metric)}", "95% interval"]
    rows, unshared = [], False
    for one in (found.strategy, *found.controls):
        shared = found.monitored[one.name].by_seed
        unshared |= len(shared) < len(one.finished_seeds)
        cells = [
            marked(one),
            schedule_text(one.amounts, one.stages_cut_off),
            str(len(shared)),
            count(steps(one)),
            score_text(found.monitored[one.name].mean, monitor in percent),
        ]
        for metric in found.metrics:
            row = found.differences.get(one.name, {}).get(metric)
            cells += [DASH, DASH] if row is None else _short(row, metric in percent)
        rows.append([Cell(text, bold=one.name in chosen) for text in cells])
    collapsed = any(one.collapsed(stage) for one in found.controls for stage in range(len(one.amounts)))
    note = (
        f"Each control takes as many optimizer steps as {found.strategy.name}, at the batch size and the learning "
        "rates of the stage whose steps it takes (those of the first stage where one takes the steps of several"
        + (", and lower ones where it collapsed itself, see the notes" * collapsed)
        + f"), and keeps the best weights of as many validations. {SPLITS[found.split].capitalize()} scores are "
        f"differences, {found.strategy.name} minus the control; the best control by validation is in bold, several "
        "where other seeds choose others."
        + (" Validation scores are of the seeds that all have, a difference of those that the two have." * unshared)
    )
    title = f"Controls of {found.strategy.name}"
    return Table(title, note + legend(comparison), heading, rows, 2, explanations(found.controls))


def _short(row: Significance, percent: bool) -> list[str]:
    """A difference with the widest interval that is known of it, and what it is of if not of seeds and examples."""
    difference, together, *parts, _ = difference_texts(row, percent)
    if together != DASH:
        return [difference, together]
    known = [f"{text} ({name})" for text, name in zip(parts, DIFFERENCE_HEADING[2:]) if text != DASH]
    return [difference, known[0] if known else DASH]


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
