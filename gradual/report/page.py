"""The report as a single HTML page, which contains everything it shows and loads nothing."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradual.report.comparison import SPLITS, Comparison, StageRecord
from gradual.report.figures import GRID, INK, PAPER, Panel, Style, draw_stages, panel_groups, style, to_svg
from gradual.report.remarks import marked
from gradual.report.scores import in_percent, is_share
from gradual.report.tables import Table, duration, finite, metric_name, score_text
from gradual.report.tree import flatten, stage_tree, walk
from gradual.runs.result import CUT_OFF

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent
_NO_CURVE = {"epoch", "seconds"}


def render_page(
    comparison: Comparison,
    controls: Sequence[Table],
    scores: Sequence[Table],
    significance: Table,
    notes: Sequence[str],
    missing: Sequence[str],
) -> str:
    """Render the page.

    Args:
        comparison: The comparison.
        controls: The tables of the strategy of interest against its controls; they lead the page.
        scores: The tables of scores.
        significance: The table of differences.
        notes: Remarks for the reader, one sentence each.
        missing: What the comparison lacks, one sentence each.
    """
    from markupsafe import Markup

    tree = stage_tree(comparison)
    largest = max((stage.examples + (stage.in_domain or 0) for stage in walk(tree)), default=0)
    percent = in_percent(comparison)
    return rendered(
        "page.html.j2",
        title=f"Strategies compared: {comparison.root.resolve().name}",
        comparison=comparison,
        strategies=[(marked(strategy), style(number)) for number, strategy in enumerate(comparison.strategies)],
        controls=controls,
        scores=scores,
        significance=significance,
        notes=notes,
        missing=missing,
        figure_groups=panel_groups(comparison),
        panels=_panels(comparison),
        splits=SPLITS,
        cut_off=CUT_OFF,
        any_collapsed=any(
            stage.collapsed for one in comparison.strategies for path in one.stages.values() for stage in path
        ),
        any_cut_off=any(strategy.stages_cut_off for strategy in comparison.strategies),
        mark=lambda record: "cut off" if record.result and not record.result.converged else record.state,
        figure=lambda panel: Markup(inline_svg(comparison, panel)),
        tree=tree,
        largest=max(largest, 1),
        curves=learning_curves(comparison),
        score=lambda value, metric: score_text(value, metric in percent),
        plain=flatten,
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
    )


def rendered(template: str, **values: Any) -> str:
    """Render one of the templates with the style sheet."""
    from markupsafe import Markup

    css = Markup((_HERE / "page.css").read_text(encoding="utf-8"))
    return _environment().get_template(template).render(css=css, **values)


@functools.cache  # an environment keeps the templates that it has compiled
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "metric_name": metric_name}
    return environment


def learning_curves(comparison: Comparison) -> dict[str, Any]:
    """The data of the page's script: the history of each stage, once, and the stages of each strategy and seed."""
    stages: dict[str, tuple[StageRecord, int]] = {}
    for strategy in comparison.strategies:
        for path in strategy.stages.values():
            stages |= {record.path: (record, amount) for record, amount in zip(path, strategy.amounts)}
    histories = {path: [dict(flatten(entry, "/")) for entry in record.history] for path, (record, _) in stages.items()}
    values: dict[str, list[float]] = {}
    for entry in (entry for history in histories.values() for entry in history):
        for name, value in entry.items():
            if name not in _NO_CURVE and isinstance(value, int | float):
                values.setdefault(name, []).append(value)
    monitor_first = sorted(values, key=lambda name: (name != comparison.monitor, not name.startswith("val/"), name))
    percent = {name for name in monitor_first if is_share(name, values[name])}
    content = {
        "metrics": [{"name": name, "percent": name in percent} for name in monitor_first],
        "strategies": [
            {
                "name": strategy.name,
                "paths": {str(seed): [record.path for record in path] for seed, path in strategy.stages.items()},
            }
            for strategy in comparison.strategies
        ],
        "stages": {
            path: {
                "amount": amount,
                "best": record.result.best_epoch if record.result else None,
                "cut_off": bool(record.result and not record.result.converged),
                "epochs": [entry["epoch"] for entry in histories[path]],
                "values": {
                    name: [_scaled(entry.get(name), name in percent) for entry in histories[path]]
                    for name in monitor_first
                },
            }
            for path, (record, amount) in stages.items()
            if histories[path]
        },
    }
    return finite(content)


def inline_svg(comparison: Comparison, panel: Panel) -> str:
    """The figure of one score for the page, with colours that follow the page's light or dark scheme."""
    looks: list[Style] = [style(number) for number in range(len(comparison.strategies))]
    colors = {look.color: f"var({variable(look)})" for look in looks}
    return embedded(to_svg(draw_stages(comparison, [[panel]])), f"stages-{_panels(comparison).index(panel)}", colors)


def embedded(svg: str, name: str, colors: Mapping[str, str]) -> str:
    """A figure as an element of a page.

    Args:
        svg: The figure as a file.
        name: Begins the ids of its elements, which must differ from those of other figures; ``NAME-caption`` labels it.
        colors: Replacements of colours, besides those of ink, paper and grid.
    """
    svg = svg[svg.index("<svg") :]
    for attribute in ('id="', 'href="#', "url(#"):
        svg = svg.replace(attribute, f"{attribute}{name}-")
    for color, replacement in {**colors, INK: "var(--ink)", PAPER: "var(--page)", GRID: "var(--line)"}.items():
        svg = svg.replace(color, replacement)
    return svg.replace("<svg ", f'<svg role="img" aria-labelledby="{name}-caption" ', 1)


def _panels(comparison: Comparison) -> list[Panel]:
    return [panel for group in panel_groups(comparison) for panel in group]


def variable(look: Style) -> str:
    """The name of a style's colour in the page's style sheet."""
    return f"--{look.color.removeprefix('#')}"


def _scaled(value: Any, percent: bool) -> Any:
    return 100 * value if percent and isinstance(value, int | float) else value
