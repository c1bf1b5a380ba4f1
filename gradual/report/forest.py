"""A forest plot: the differences of several data sets with their intervals, and the pooled ones below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gradual.report.figures import GRID, INK, PAPER, RC
from gradual.report.pooled import Pooled
from gradual.report.scores import in_percent
from gradual.report.several import AGAINST, DataSet
from gradual.report.significance import Significance
from gradual.report.tables import metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOR, DARK = "#0072b2", "#59aef0"  # on a light and on a dark background


def draw_forest(found: Sequence[DataSet], pools: Mapping[str, Pooled]) -> Figure:
    """Draw a panel for each comparison that a data set has, with a row for each data set.

    A filled point has its interval for other seeds and other examples; a hollow one with a dashed line has less: that
    for other examples or for other seeds alone, whichever is known. The diamonds are pooled.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = [against for against in AGAINST if any(against in one.differences for one in found)]
    percent = all(one.metric in in_percent(one.comparison) for one in found)
    unit = "percentage points" if percent else metric_name(found[0].metric)
    with mpl.rc_context(RC):
        columns = max(1, len(shown))
        figure = Figure(figsize=(2.6 + 2.9 * columns, 1.5 + 0.5 * (len(found) + bool(pools))), layout="constrained")
        panels = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
        for axes, against in zip(panels, shown):
            _draw(axes, against, found, pools.get(against), 100 if percent else 1)
            axes.set_xlabel(f"gain in {unit}")
        if not shown:
            panels[0].text(0.5, 0.5, "no differences yet", ha="center")
        panels[0].set_yticks(range(len(found) + 1), [*map(_label, found), "pooled" if pools else ""])
        panels[0].set_ylim(len(found) + (0.6 if pools else -0.4), -0.6)
        return figure


def _draw(axes: Axes, against: str, found: Sequence[DataSet], pooled: Pooled | None, scale: float) -> None:
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    for place, one in enumerate(found):
        row = one.differences.get(against)
        if row is None:
            continue
        ends, whole = interval_of(row)
        if ends is not None:
            dashes = "-" if whole else (0, (2, 2))
            axes.plot([scale * end for end in ends], [place, place], color=COLOR, linewidth=1.6, linestyle=dashes)
        face = COLOR if whole else PAPER
        axes.plot(scale * row.difference, place, "s", color=COLOR, markerfacecolor=face, markersize=6, zorder=3)
    if pooled is not None:
        corners = [(pooled.low, 0.0), (pooled.difference, -0.22), (pooled.high, 0.0), (pooled.difference, 0.22)]
        axes.fill(*zip(*[(scale * x, len(found) + y) for x, y in corners]), color=INK, zorder=3)
    axes.set_title(f"against {against}", fontsize=10)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def interval_of(row: Significance) -> tuple[tuple[float, float] | None, bool]:
    """The interval to draw, and whether it is that of seeds and examples together."""
    if row.low is not None and row.high is not None:
        return (row.low, row.high), True
    for low, high in ((row.examples_low, row.examples_high), (row.seeds_low, row.seeds_high)):
        if low is not None and high is not None:
            return (low, high), False
    return None, False


def _label(one: DataSet) -> str:
    seeds = max((len(row.seeds) for row in one.differences.values()), default=0)
    return f"{one.name}\n{one.score}, {seeds} seed{'' if seeds == 1 else 's'}"
