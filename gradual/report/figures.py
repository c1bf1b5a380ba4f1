"""Plots scores against stages, as in the paper's Figures 2 and 3; training ends at the right."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradual.report.comparison import SPLITS, Comparison, Split, Strategy
from gradual.report.remarks import marked
from gradual.report.scores import in_percent, stage_score
from gradual.report.tables import metric_name
from gradual.runs.result import CUT_OFF

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

INK, PAPER, GRID = "#222222", "#ffffff", "#d9d9d9"
_DODGE = 0.03  # points of several strategies at one place are this fraction of the axis apart
_WIDTH = 0.7  # and occupy at most this fraction of the place

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures are the same everywhere
    "font.size": 9,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "legend.frameon": False,
    "svg.hashsalt": "gradual",
}


@dataclass(frozen=True)
class Style:
    """The look of a strategy: colour, marker and line each suffice to tell it apart (palette after Okabe and Ito).

    Attributes:
        color: Colour on a light background.
        dark: Colour on a dark background.
        marker: Matplotlib marker.
        dashes: Lengths of dashes and gaps, in line widths; empty for a solid line.
    """

    color: str
    dark: str
    marker: str
    dashes: tuple[float, ...] = ()


STYLES = (
    Style(INK, "#e8e8e8", "D", (1, 1.5)),
    Style("#009e73", "#35c99c", "s", (5, 1.5, 1, 1.5)),
    Style("#d55e00", "#ff8a3d", "^", (5, 2)),
    Style("#0072b2", "#59aef0", "o"),
    Style("#b0568c", "#e29cc4", "v", (3, 1.5)),
    Style("#a87400", "#e8b43a", "P", (7, 1.5, 1, 1.5, 1, 1.5)),
    Style("#2f8fc4", "#a5dcf8", "X", (9, 2)),
)


def style(number: int) -> Style:
    """The style of the strategy with this number, from 0; after the seventh, colours repeat with other lines."""
    again, first = divmod(number, len(STYLES))
    look, other = STYLES[first], STYLES[(number + 3 * again) % len(STYLES)]
    return Style(look.color, look.dark, other.marker, (*look.dashes, *(2, 1) * again))


def stage_positions(strategies: Sequence[Strategy]) -> tuple[list[int], dict[str, list[int]]]:
    """The positions of stages on an axis of decreasing amounts of out-of-domain data.

    Returns:
        The amounts along the axis, each as often as the strategy that repeats it most has it, and the positions of each
        strategy's stages. A strategy that has an amount less often is aligned with its last positions.
    """
    repeats: Counter[int] = Counter()
    for strategy in strategies:
        repeats |= Counter(strategy.amounts)
    axis = sorted(repeats.elements(), reverse=True)
    places: dict[str, list[int]] = {}
    for strategy in strategies:
        left = Counter(strategy.amounts)
        places[strategy.name] = []
        for amount in strategy.amounts:
            places[strategy.name].append(axis.index(amount) + repeats[amount] - left[amount])
            left[amount] -= 1
    return axis, places


Panel = tuple[Split, str]
"""The split and the metric that a panel shows."""


def panel_groups(comparison: Comparison) -> list[list[Panel]]:
    """A panel for each score in the tables, grouped by split, or in one group if each split has only one metric."""
    groups: list[list[Panel]] = [[(split, metric) for metric in names] for split, names in comparison.shown.items()]
    alone = all(len(group) == 1 for group in groups)
    return [[panel for group in groups for panel in group]] if alone else [group for group in groups if group]


def draw_stages(comparison: Comparison, groups: Sequence[Sequence[Panel]]) -> Figure:
    """Plot scores against stages: one panel per metric, one line per strategy, mean and standard deviation over seeds.

    Stages that were cut off have hollow markers. Each group of panels starts a new row. Controls are left out: they
    would hide the others.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(RC):
        most = max(map(len, groups), default=1)
        columns = 2 if most == 4 else min(most, 3)
        rows = [group[start : start + columns] for group in groups for start in range(0, len(group), columns)] or [[]]
        figure = Figure(figsize=(columns * 4.3 + 0.4, len(rows) * 3.6 + 0.5), layout="constrained")
        lines = []
        for row, line_of_axes in zip(rows, figure.subplots(len(rows), columns, squeeze=False)):
            lines += [_draw_metric(axes, comparison, *panel) for axes, panel in zip(line_of_axes, row)]
            for axes in line_of_axes[len(row) :]:
                axes.set_axis_off()
        figure.get_layout_engine().set(wspace=0.08)  # type: ignore[union-attr,call-arg]
        if not lines:
            figure.axes[0].text(0.5, 0.5, "no scores yet", ha="center")
        else:
            handles = [*lines[0], *_cut_off_handle(comparison)]
            figure.legend(
                handles,
                [str(handle.get_label()) for handle in handles],
                loc="outside lower center",
                ncols=min(len(handles), 2 * columns),
                handlelength=3.5,
                columnspacing=1.5,
            )
        return figure


def to_png(figure: Figure) -> bytes:
    """The figure as PNG, at 200 dots per inch."""
    return _save(figure, "png", dpi=200)


def to_svg(figure: Figure) -> str:
    """The figure as SVG, without a date, so that it is reproducible."""
    return _save(figure, "svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))).decode()


def _cut_off_handle(comparison: Comparison) -> list[Line2D]:
    """The legend's entry for hollow markers, if there are any."""
    from matplotlib.lines import Line2D

    if not any(strategy.stages_cut_off for strategy in comparison.strategies):
        return []
    hollow = Line2D([], [], color=INK, marker="o", markersize=6, markerfacecolor=PAPER, markeredgewidth=1.4, ls="")
    hollow.set_label(f"{CUT_OFF} hollow: not converged")
    return [hollow]


def _draw_metric(axes: Axes, comparison: Comparison, split: Split, metric: str) -> list[Line2D]:
    """Draw one panel, and return its lines in the order of the strategies."""
    axis, places = stage_positions([one for one in comparison.strategies if not one.is_control])
    percent = metric in in_percent(comparison)
    scale = 100 if percent else 1
    lines = []
    for number, strategy in enumerate(comparison.strategies):
        if strategy.is_control:
            continue
        look = style(number)
        xs: list[float] = []
        means, stds, hollow = [], [], []
        for stage, place in enumerate(places[strategy.name]):
            score = stage_score(strategy, stage, split, metric)
            if score.mean is not None:
                here = [name for name in places if place in places[name]]
                step = min(_DODGE * len(axis), _WIDTH / len(here))
                if strategy.cut_off(stage):
                    hollow.append(len(xs))
                xs.append(place + step * (here.index(strategy.name) - (len(here) - 1) / 2))
                means.append(scale * score.mean)
                stds.append(scale * (score.std or 0))
        (line,) = axes.plot(
            xs,
            means,
            color=look.color,
            marker=look.marker,
            markersize=6,
            markeredgewidth=1.4,
            linewidth=1.6,
            linestyle=(0, look.dashes) if look.dashes else "-",
            label=marked(strategy),
            zorder=3,
        )
        axes.plot(
            [xs[k] for k in hollow],
            [means[k] for k in hollow],
            color=look.color,
            marker=look.marker,
            markersize=6,
            markeredgewidth=1.4,
            markerfacecolor=PAPER,
            linestyle="none",
            zorder=4,
        )
        axes.errorbar(xs, means, stds, fmt="none", ecolor=look.color, elinewidth=1, capsize=3, zorder=2)
        lines.append(line)
    axes.set_xticks(range(len(axis)), list(map(str, axis)), rotation=45 if len(axis) > 8 else 0)
    axes.set_xlim(-0.5, len(axis) - 0.5)
    axes.set_xlabel(f"out-of-domain {comparison.amount_in} in the stage\n(training ends on the right)")
    axes.set_ylabel(f"{SPLITS[split]} {metric_name(metric)}" + (" (%)" if percent else ""))
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return lines


def _save(figure: Figure, kind: str, **arguments: Any) -> bytes:
    import matplotlib as mpl

    content = io.BytesIO()
    with mpl.rc_context(RC):
        figure.savefig(content, format=kind, **arguments)
    return content.getvalue()
