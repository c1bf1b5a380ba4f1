"""The report of several comparisons as a page, its table and its sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradual.report.differences import DIFFERENCE_HEADING, UNCERTAINTY, difference_texts, interval_text
from gradual.report.figures import to_svg
from gradual.report.forest import COLOR, DARK, draw_forest
from gradual.report.page import embedded, rendered
from gradual.report.pooled import Pooled
from gradual.report.remarks import marked
from gradual.report.scores import in_percent
from gradual.report.several import AGAINST, BEST_CONTROL, DataSet, is_pooled
from gradual.report.tables import DASH, MINUS, Cell, Table, difference_text, score_text
from gradual.runs.result import CUT_OFF

CAPTION = (
    "The gain of {strategy} in each data set: the line at 0 is no difference, and a point on its right is a gain, "
    "whatever the score. A filled point has its 95% interval for other seeds and other test examples; a hollow "
    "one with a dashed line has the interval of one of them alone. A diamond is the pooled gain with its 95% interval."
)


def render_several(found: Sequence[DataSet], pools: Mapping[str, Pooled]) -> str:
    """Render the page of several comparisons."""
    from markupsafe import Markup

    return rendered(
        "several.html.j2",
        title=f"{_strategy(found).capitalize()} on {len(found)} data sets",
        found=found,
        lead=lead(found, pools),
        figure=Markup(embedded(to_svg(draw_forest(found, pools)), "forest", {COLOR: "var(--point)"})),
        caption=CAPTION.format(strategy=_strategy(found)),
        table=several_table(found, pools),
        notes=notes(found, pools),
        color=COLOR,
        dark=DARK,
    )


def _strategy(found: Sequence[DataSet]) -> str:
    """What is compared: the strategy of interest, which may have another name in each data set."""
    names = list(dict.fromkeys(one.strategy.name for one in found))
    return "gradual fine-tuning" if names == ["gradual"] else ", ".join(names)


def lead(found: Sequence[DataSet], pools: Mapping[str, Pooled]) -> list[str]:
    """What the report says first: the pooled differences, a sentence each."""
    percent = all(one.metric in in_percent(one.comparison) for one in found)
    unit = " percentage points" if percent else ""
    sentences = []
    if _strategy(found) != "gradual fine-tuning":
        sentences.append(f"The strategy of interest is {_strategy(found)}.")
    for against in AGAINST:
        if against in pools:
            one, other = pools[against], f"the {BEST_CONTROL}" if against == BEST_CONTROL else against
            sentences.append(
                f"Against {other}, pooled over {one.data_sets} data sets: "
                f"{difference_text(one.difference, percent)}{unit} (95% interval "
                f"{interval_text(one.low, one.high, percent)}). From one data set to another, the true difference "
                f"varies with a standard deviation of about {score_text(one.tau, percent)}{unit}: "
                f"{one.i_squared:.0%} of the variance of the differences."
            )
    if BEST_CONTROL not in pools:
        sentences.insert(0, "No pooled difference from controls of equal training: see the notes.")
    return sentences


def several_table(found: Sequence[DataSet], pools: Mapping[str, Pooled]) -> Table:
    """One row for each data set and what its strategy is compared with, and the pooled rows."""
    percent = all(one.metric in in_percent(one.comparison) for one in found)
    rows = []
    for against in AGAINST:
        weights = iter(pools[against].weights if against in pools else ())
        for one in found:
            if row := one.differences.get(against):
                words = [one.name, one.score, f"{marked(one.strategy)} {MINUS} {_others(one, against)}"]
                weight = f"{next(weights):.0%}" if against in pools and is_pooled(one, against) else DASH
                rows.append([*words, *difference_texts(row, percent), str(len(row.seeds)), weight])
        if against in pools:
            whole = pools[against]
            texts = [difference_text(whole.difference, percent), interval_text(whole.low, whole.high, percent)]
            rows.append([f"pooled ({whole.data_sets})", "", f"against {against}", *texts, DASH, DASH, DASH, "", ""])
    cut = any(CUT_OFF in cell for row in rows for cell in row)
    note = UNCERTAINTY + (
        " Differences are gains: positive where the strategy is better. The pooled gain is that of a random-effects "
        "meta-analysis of the data sets with an interval of seeds and examples together (Paule and Mandel; Hartung, "
        "Knapp, Sidik and Jonkman), and the weight is the share of a data set in it. With three seeds for each data "
        "set, standard errors are rough, and such an interval holds in 90 to 93% of cases rather than in 95%."
        + (f" {CUT_OFF}: a stage ended before it converged." if cut else "")
    )
    heading = ["data set", "score", "strategies", *DIFFERENCE_HEADING, "seeds", "weight"]
    return Table("Differences", note, heading, [[Cell(text) for text in row] for row in rows], left=3)


def _others(one: DataSet, against: str) -> str:
    """What the strategy of a data set is compared with, with the names of its best controls."""
    names = {strategy.name: marked(strategy) for strategy in one.comparison.strategies}
    if against != BEST_CONTROL or one.controls is None or one.controls.best is None:
        return names[against]
    chosen = [names[name].removeprefix(f"{one.strategy.name}: ") for name in one.controls.best.chosen]
    return f"{against} ({'; '.join(chosen)})"


def notes(found: Sequence[DataSet], pools: Mapping[str, Pooled]) -> list[str]:
    """What the pooled differences leave out, a sentence each."""
    lines = []
    for against in AGAINST:
        missing = [one.name for one in found if against not in one.differences]
        others = [one for one in found if against in one.differences and not is_pooled(one, against)]
        partial = [one.name for one in others if one.differences[against].standard_error is None]
        same = [one.name for one in others if one.differences[against].standard_error is not None]
        if missing:
            lines.append(f"Against {against}: no difference in {', '.join(missing)}.")
        if partial:
            lines.append(
                f"Against {against}: {', '.join(partial)} not pooled, for want of two seeds, of test results by "
                "example, or of finite scores."
            )
        if same:
            lines.append(f"Against {against}: {', '.join(same)} not pooled, since the difference never varies.")
    for one in found:
        if one.controls and one.controls.best and (waiting := one.controls.without_result):
            lines.append(
                f"Against {BEST_CONTROL}: in {one.name}, {len(waiting)} of {len(one.controls.controls)} controls have "
                "no result and cannot be the best one yet."
            )
    scores = list(dict.fromkeys(one.score for one in found))
    if len(scores) > 1 and pools:
        lines.append(
            f"The pooled gains mix points of {', '.join(scores)}, which do not mean the same; the weights show which "
            "data sets decide."
        )
    return lines
