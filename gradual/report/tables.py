"""The report's tables: for reading as Markdown, LaTeX and cells of the page, for further processing as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gradual.report.comparison import SPLITS, Comparison, Split
from gradual.report.equal_training import EqualTraining
from gradual.report.remarks import best_stages, marked
from gradual.report.scores import StrategyScores, best, in_percent
from gradual.report.significance import Significance
from gradual.runs.result import CUT_OFF

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\char34{}", "\n": " ",
    "±": r"$\pm$", "→": r"$\to$", MINUS: "$-$", DASH: "--", "Δ": r"$\Delta$",
    CUT_OFF: r"$\dagger$",
}  # fmt: skip
_MARKDOWN = {character: f"\\{character}" for character in "\\`*_[]<>|#~"} | {"\n": " "}


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and whether it is the best in its column."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table for readers.

    Attributes:
        title: Its title.
        note: An explanation below it.
        heading: The names of the columns.
        rows: The cells of each row, as many as there are columns.
        left: How many columns on the left hold text; the others hold numbers.
        explained: Further explanations below it, one sentence each.
    """

    title: str
    note: str
    heading: list[str]
    rows: list[list[Cell]]
    left: int
    explained: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """A Markdown table with aligned columns, readable as plain text."""
        cells = [
            [markdown(name) for name in self.heading],
            *([f"**{markdown(c.text)}**" if c.bold else markdown(c.text) for c in row] for row in self.rows),
        ]
        widths = [max(3, *map(len, column)) for column in zip(*cells)]
        rule = ["-" * width if i < self.left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
        sides = [str.ljust if i < self.left else str.rjust for i in range(len(widths))]
        lines = [
            " | ".join(side(cell, width) for side, cell, width in zip(sides, row, widths))
            for row in [cells[0], rule, *cells[1:]]
        ]
        return "".join(f"| {line} |\n" for line in lines)

    def latex(self, label: str) -> str:
        """A LaTeX ``table`` in the style of booktabs."""
        cells = [[rf"\textbf{{{latex(c.text)}}}" if c.bold else latex(c.text) for c in row] for row in self.rows]
        lines = [" & ".join(row) + r" \\" for row in [[latex(name) for name in self.heading], *cells]]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering\small\setlength{\tabcolsep}{4pt}",
                rf"\caption{{{latex(self.title)}. {latex(self.note)}}}",
                rf"\label{{{label}}}",
                rf"\begin{{tabular}}{{{'l' * self.left}{'r' * (len(self.heading) - self.left)}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def score_tables(rows: list[StrategyScores], comparison: Comparison) -> list[Table]:
    """The table of validation scores, and that of test scores if there are any."""
    return [scores_table(rows, comparison, split) for split in comparison.shown]


def scores_table(rows: list[StrategyScores], comparison: Comparison, split: Split) -> Table:
    """One row per strategy: seeds, scores with differences from the baseline, training time and examples seen."""
    heading, metrics = ["strategy", "schedule", "seeds"], comparison.shown[split]
    for metric in metrics:
        heading += [metric_name(metric), *(["Δ"] if comparison.baseline else [])]
    percent = in_percent(comparison)
    bests = {metric: score_text(best(rows, split, metric, comparison), metric in percent) for metric in metrics}
    cells = []
    for row in rows:
        found, wanted = len(row.strategy.finished_seeds), len(comparison.seeds)
        line = [
            Cell(marked(row.strategy)),
            Cell(schedule_text(row.strategy.amounts, row.strategy.stages_cut_off)),
            Cell(str(found) if found == wanted else f"{found} of {wanted}"),
        ]
        for metric in metrics:
            mean, std = row.scores[split][metric].mean, row.scores[split][metric].std
            text = score_text(mean, metric in percent)
            spread = "" if std is None else f" ± {score_text(std, metric in percent)}"
            line.append(Cell(text + spread, bold=mean is not None and text == bests[metric]))
            if comparison.baseline:
                line.append(Cell(difference_text(row.differences[split][metric], metric in percent)))
        cells.append([*line, Cell(duration(row.seconds)), Cell(count(row.examples_seen))])
    note = "Mean ± sample standard deviation over seeds; the best mean in bold"
    note += "; accuracy, F1, precision and recall in percent" if percent & {*metrics} else ""
    if comparison.baseline:
        note += f"; Δ: difference from {comparison.baseline} over the seeds that both have"
        note += ", in percentage points" if percent & {*metrics} else ""
    note += ". Training time and examples seen (all epochs of all stages of the path) are means over seeds."
    note += legend(comparison)
    return Table(
        f"{SPLITS[split].capitalize()} scores by strategy",
        note,
        [*heading, "training time", "examples seen"],
        cells,
        left=2,
    )


def legend(comparison: Comparison) -> str:
    """The explanation of ``CUT_OFF``, if it is used."""
    cut = any(strategy.stages_cut_off for strategy in comparison.strategies)
    return f" {CUT_OFF}: a stage ended before it converged." if cut else ""


def scores_csv(rows: list[StrategyScores], comparison: Comparison) -> str:
    """One row per strategy, with unrounded numbers."""
    return _csv(numbers(row, comparison) for row in rows)


def significance_csv(found: Sequence[Significance]) -> str:
    """One row for each comparison of two strategies in a metric, with unrounded numbers."""
    columns = list(Significance.__dataclass_fields__)
    return _csv(({**asdict(row), "seeds": len(row.seeds)} for row in found), columns)


def results_json(
    rows: list[StrategyScores],
    found: Sequence[Significance],
    controls: EqualTraining | None,
    comparison: Comparison,
    notes: list[str],
    missing: list[str],
) -> str:
    """All numbers of the tables, the scores of each seed, the stages that were cut off, and how they were made."""
    rivals = controls.best.by_seed if controls and controls.best else {}
    strategies = {
        row.strategy.name: numbers(row, comparison)
        | {
            "by_seed": {metric: score.by_seed for metric, score in row.scores["test"].items()},
            "val_by_seed": {metric: score.by_seed for metric, score in row.scores["val"].items()},
            "cut_off": [
                {"seed": seed, "stage": stage, "ended_by": result.ended_by}
                for stage in row.strategy.stages_cut_off
                for seed, result in row.strategy.cut_off(stage).items()
            ],
            "best_stage": best_stages(row.strategy, comparison.monitor, comparison.mode),
            "also": row.strategy.also,
        }
        for row in rows
    }
    content = {
        "baseline": comparison.baseline,
        "seeds": comparison.seeds,
        "metrics": comparison.metrics,
        "val_metrics": comparison.val_metrics,
        "strategies": strategies,
        "significance": [asdict(significance) for significance in found],
        "best_control": {
            "by_seed": {seed: control.name for seed, control in rivals.items()},
            "differences": [asdict(row) for row in controls.from_best.values()] if controls else [],
        },
        "notes": notes,
        "missing": missing,
        "command": comparison.command,
        "versions": comparison.versions,
        "environment": comparison.environment,
    }
    return json.dumps(finite(content), indent=2, allow_nan=False) + "\n"


def finite(content: Any) -> Any:
    """Plain data with None for numbers that are not finite, which JSON cannot represent."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def numbers(row: StrategyScores, comparison: Comparison) -> dict[str, Any]:
    """The numbers of a row by column name."""
    columns: dict[str, Any] = {
        "strategy": row.strategy.name,
        "amounts": " ".join(map(str, row.strategy.amounts)),
        "seeds": len(row.strategy.finished_seeds),
    }
    columns |= _score_columns(row, "test", "")
    columns |= {"seconds": row.seconds, "examples_seen": row.examples_seen, "steps": row.steps}
    columns |= _score_columns(row, "val", "val_")
    return columns | {"converged": not row.strategy.stages_cut_off}


def _score_columns(row: StrategyScores, split: Split, prefix: str) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for metric, score in row.scores[split].items():
        name = f"{prefix}{metric}"
        columns |= {f"{name}_mean": score.mean, f"{name}_std": score.std, f"{name}_n": len(score.by_seed)}
        columns[f"{name}_diff"] = row.differences[split][metric]
    return columns


def latex(text: str) -> str:
    """``text`` escaped for LaTeX."""
    return "".join(_LATEX.get(character, character) for character in text)


def markdown(text: str) -> str:
    """``text`` escaped for Markdown; an underscore within a word needs no escape."""
    escaped = "".join(_MARKDOWN.get(character, character) for character in text)
    return re.sub(r"(?<=\w)\\_(?=\w)", "_", escaped)


def metric_name(metric: str) -> str:
    """A metric's name for readers: slot accuracy for ``slot_accuracy``."""
    return metric.replace("_", " ")


def schedule_text(amounts: Sequence[int], cut_off: Sequence[int] = ()) -> str:
    """The amounts with arrows between them, and ``CUT_OFF`` after those of stages (from 0) that were cut off."""
    return " → ".join(f"{amount}{CUT_OFF * (stage in cut_off)}" for stage, amount in enumerate(amounts))


def score_text(value: float | None, percent: bool) -> str:
    """A score: in percent with two decimals, or with four significant digits; a dash for None."""
    if value is None:
        return DASH
    return f"{100 * value:.2f}" if percent else f"{value:.4g}"


def difference_text(value: float | None, percent: bool) -> str:
    """A difference of scores with its sign, in percentage points if they are in percent; a dash for None."""
    text = score_text(value if value is None else abs(value), percent)
    if value is None or not text.strip("0."):
        return text
    return f"{MINUS if value < 0 else '+'}{text}"


def duration(seconds: float | None) -> str:
    """Hours and minutes, minutes and seconds, or seconds; a dash for None."""
    if seconds is None:
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def count(value: float | None) -> str:
    """A rounded number with thousands separators; a dash for None."""
    return DASH if value is None else f"{round(value):,}"


def _csv(rows: Iterable[dict[str, Any]], columns: Sequence[str] | None = None) -> str:
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]) if rows or columns else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
