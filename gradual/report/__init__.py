"""The report of a comparison: tables, significance, figures and a page, which need no training to be made again."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gradual.errors import InputError
from gradual.files import write_atomically

if TYPE_CHECKING:
    from gradual.report.comparison import Comparison
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
    check_packages()
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
    training = equal_training(comparison)
    controls = differences.equal_training_tables(training, comparison)
    figure = figures.draw_stages(comparison, figures.panel_groups(comparison))
    contents: dict[str, str | bytes] = {
        "table.md": _markdown(controls, shown, significance, notes, missing),
        "table.csv": tables.scores_csv(rows, comparison),
        "table.tex": _latex(controls, shown, significance, comparison),
        "significance.csv": tables.significance_csv(found),
        "stages.png": figures.to_png(figure),
        "stages.svg": figures.to_svg(figure),
        "report.html": render_page(comparison, controls, shown, significance, notes, missing),
        "results.json": tables.results_json(rows, found, training, comparison, notes, missing),
    }
    page = report_page(run_dir)
    _write(contents, page.parent)
    return page


def write_search(run_dir: Path) -> Path:
    """Write the report of a search from what its run directory contains so far.

    Args:
        run_dir: The run directory of ``gradual search``.

    Returns:
        The path of the page, ``RUN_DIR/report/search.html``; beside it is ``search.md``.

    Raises:
        InputError: As ``write_report``.
    """
    check_packages()
    from gradual.report.search import confirmation_tables, lead, paths_table, render_search, tree_table
    from gradual.report.searched import read_search

    search = read_search(Path(run_dir))
    tables = [*confirmation_tables(search), tree_table(search), paths_table(search)]
    sentences = "\n\n".join(lead(search))
    contents: dict[str, str | bytes] = {
        "search.md": f"{sentences}\n\n{_markdown([], tables, None, [], [])}",
        "search.html": render_search(search, tables),
    }
    folder = report_page(run_dir).parent
    _write(contents, folder)
    return folder / "search.html"


def write_several(run_dirs: Sequence[Path], folder: Path, metrics: Sequence[str] = ()) -> Path:
    """Write one report of several comparisons, one a data set: their differences, a forest plot and a pooled estimate.

    Args:
        run_dirs: Run directories of ``gradual compare``.
        folder: The folder to write to.
        metrics: Scores in the order of preference; without one that a comparison has, its monitored score is shown.

    Returns:
        The path of the page, ``FOLDER/report.html``; beside it are ``table.md``, ``differences.csv``, ``forest.png``
        and ``forest.svg``.

    Raises:
        InputError: As ``write_report``; or there is no score of that name, or the scores have no common unit.
    """
    check_packages("statsmodels")
    from gradual.report import figures, several, several_page
    from gradual.report.collect import read_comparison
    from gradual.report.forest import draw_forest

    comparisons = {name: read_comparison(path) for name, path in zip(several.names_of(run_dirs), run_dirs)}
    found = several.data_sets(comparisons, metrics)
    pools = several.pooled(found)
    figure = draw_forest(found, pools)
    table = several_page.several_table(found, pools)
    sentences = "\n\n".join(several_page.lead(found, pools))
    contents: dict[str, str | bytes] = {
        "table.md": f"{sentences}\n\n{_markdown([table], [], None, several_page.notes(found, pools), [])}",
        "differences.csv": several.differences_csv(found, pools),
        "forest.png": figures.to_png(figure),
        "forest.svg": figures.to_svg(figure),
        "report.html": several_page.render_several(found, pools),
    }
    _write(contents, folder)
    return folder / "report.html"


def check_packages(*others: str) -> None:
    """Check that the packages of the report are installed; without loading them, so that it can be done early.

    Args:
        others: Further packages that are needed.

    Raises:
        InputError: One is not installed.
    """
    for package in (*_PACKAGES, *others):
        if find_spec(package) is None:
            raise InputError(f"The report needs {package}, which is not installed: pip install 'gradual[report]'.")


def _write(contents: Mapping[str, str | bytes], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise InputError(f"The report cannot be written to {folder}: {error.strerror}.") from error


def report_page(run_dir: Path) -> Path:
    """The path of a comparison's report, which need not exist yet."""
    return Path(run_dir) / "report" / "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``gradual report``."""
    text = (
        "the run directory of gradual compare or gradual search; several of comparisons, one a data set, make one page "
        "with a forest plot"
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, nargs="+", help=text)
    text = "the folder for the report of several run directories (default: report)"
    parser.add_argument("--out", metavar="DIR", type=Path, help=text)
    text = "the score to compare several run directories by; may be given again for those that do not have it"
    parser.add_argument("--metric", metavar="NAME", action="append", default=[], help=text)


def run(arguments: argparse.Namespace) -> None:
    """Write the report, and print its scores, its notes and its path; both reports of a comparison and a search."""
    if len(arguments.run_dir) > 1:
        pages = [write_several(arguments.run_dir, arguments.out or Path("report"), arguments.metric)]
    elif arguments.out or arguments.metric:
        raise InputError("--out and --metric are for the report of several run directories; here is one.")
    else:
        pages = [write(arguments.run_dir[0]) for write in _reports_of(arguments.run_dir[0])]
    for page in pages:
        tables = page.with_name("search.md" if page.stem == "search" else "table.md")
        sections = tables.read_text(encoding="utf-8").split("\n## ")
        print("\n## ".join(section for section in sections if not section.startswith("Significance")))
        print(f"Report: {page}")


def _reports_of(run_dir: Path) -> list[Callable[[Path], Path]]:
    """What writes the reports of a run directory, which may hold a comparison, a search or both."""
    writers = {"compare.json": write_report, "search.json": write_search}
    return [write for file, write in writers.items() if (run_dir / file).is_file()] or [write_report]


def _markdown(
    controls: Sequence[Table],
    scores: Sequence[Table],
    significance: Table | None,
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

    parts = [*map(table, (*controls, *scores)), lines("Notes", notes), table(significance) if significance else ""]
    parts.append(lines("Missing", missing))
    return "\n".join(filter(None, parts))


def _latex(controls: Sequence[Table], scores: Sequence[Table], significance: Table, comparison: Comparison) -> str:
    labels = {"val": "tab:validation", "test": "tab:scores"}
    labelled = [*zip(reversed(controls), ("tab:controls", "tab:best-control"))][::-1]  # there may be no best one
    labelled += [*zip(scores, map(labels.__getitem__, comparison.shown)), (significance, "tab:significance")]
    parts = [table.latex(label) for table, label in labelled if table.rows]
    return "\n".join(["% needs \\usepackage{booktabs}\n", *parts])
