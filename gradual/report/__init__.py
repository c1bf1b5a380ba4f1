"""The report of a comparison: tables, significance, figures and a page, which need no training to be made again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gradual.errors import InputError
from gradual.files import write_atomically

if TYPE_CHECKING:
    from gradual.report.collect import Comparison
    from gradual.report.tables import Table

_PACKAGES = ("jinja2", "matplotlib", "scipy")


def write_report(run_dir: Path) -> Path:
    """Write the report of a comparison from what its run directory contains so far.

    Args:
        run_dir: The run directory of ``gradual compare``.

    Returns:
        The path of the page, ``RUN_DIR/report/report.html``; beside it are ``table.md``, ``table.csv``, ``table.tex``,
        ``significance.csv``, ``stages.png``, ``stages.svg`` and ``results.json``. All contents are computed before any
        file is replaced, and each file is replaced atomically.

    Raises:
        InputError: There is no comparison, one of its files is damaged, or a package of ``gradual[report]`` is not
            installed.
    """
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise InputError(f"The report needs {package}, which is not installed: pip install 'gradual[report]'.")
    from gradual.report import differences, figures, tables
    from gradual.report.collect import read_comparison
    from gradual.report.equal_training import equal_training
    from gradual.report.page import render_page
    from gradual.report.remarks import remarks
    from gradual.report.scores import strategy_scores
    from gradual.report.significance import not_computed, significances

    comparison = read_comparison(Path(run_dir))
    rows = strategy_scores(comparison)
    found = significances(comparison)
    missing = [*comparison.missing, *not_computed(comparison, found)]
    notes = remarks(comparison)
    shown = tables.score_tables(rows, comparison)
    significance = differences.significance_table(found, comparison)
    controls = differences.equal_training_tables(equal_training(comparison), comparison)
    figure = figures.draw_stages(comparison, figures.panel_groups(comparison))
    contents: dict[str, str | bytes] = {
        "table.md": _markdown(controls, shown, significance, notes, missing),
        "table.csv": tables.scores_csv(rows, comparison),
        "table.tex": _latex(controls, shown, significance, comparison),
        "significance.csv": tables.significance_csv(found),
        "stages.png": figures.to_png(figure),
        "stages.svg": figures.to_svg(figure),
        "report.html": render_page(comparison, controls, shown, significance, notes, missing),
        "results.json": tables.results_json(rows, found, comparison, notes, missing),
    }
    page = report_page(run_dir)
    report = page.parent
    try:
        report.mkdir(exist_ok=True)
        for name, content in contents.items():
            write_atomically(report / name, content)
    except OSError as error:
        raise InputError(f"The report cannot be written to {report}: {error.strerror}.") from error
    return page


def report_page(run_dir: Path) -> Path:
    """The path of a comparison's report, which need not exist yet."""
    return Path(run_dir) / "report" / "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``gradual report``."""
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the run directory of gradual compare")


def run(arguments: argparse.Namespace) -> None:
    """Write the report, and print its scores, its notes and its path."""
    page = write_report(arguments.run_dir)
    sections = page.with_name("table.md").read_text(encoding="utf-8").split("\n## ")
    print("\n## ".join(section for section in sections if not section.startswith("Significance")))
    print(f"Report: {page}")


def _markdown(
    controls: Sequence[Table],
    scores: Sequence[Table],
    significance: Table,
    notes: Sequence[str],
    missing: Sequence[str],
) -> str:
    from gradual.report.tables import markdown

    def table(shown: Table) -> str:
        explained = "".join(f"- {markdown(line)}\n" for line in shown.explained)
        note = f"{markdown(shown.note)}\n" + (f"\n{explained}" if explained else "")
        return f"## {shown.title}\n\n{shown.markdown()}\n{note}" if shown.rows else ""

    def lines(title: str, sentences: Sequence[str]) -> str:
        return f"## {title}\n\n" + "".join(f"- {markdown(line)}\n" for line in sentences) if sentences else ""

    parts = [*map(table, (*controls, *scores)), lines("Notes", notes), table(significance), lines("Missing", missing)]
    return "\n".join(filter(None, parts))


def _latex(controls: Sequence[Table], scores: Sequence[Table], significance: Table, comparison: Comparison) -> str:
    labels = {"val": "tab:validation", "test": "tab:scores"}
    labelled = [*zip(reversed(controls), ("tab:controls", "tab:best-control"))][::-1]  # there may be no best one
    labelled += [*zip(scores, map(labels.__getitem__, comparison.shown)), (significance, "tab:significance")]
    parts = [table.latex(label) for table, label in labelled if table.rows]
    return "\n".join(["% needs \\usepackage{booktabs}\n", *parts])
