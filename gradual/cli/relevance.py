"""Tables of ``gradual stats --relevance``: how far each source is from the target domain, and the nearest examples."""

from __future__ import annotations

import numpy as np
from rich import box
from rich.table import Table

from gradual.data.module import MixedDomainDataModule
from gradual.data.relevance.classifier import distance
from gradual.data.relevance.of_data import corpora, pool_scores
from gradual.data.relevance.settings import Order
from gradual.data.relevance.tokens import Corpus
from gradual.experiment.results import wide_console

_SHOWN = 10  # examples of each end
_LONGEST = 100  # characters of a text


def print_relevance(data: MixedDomainDataModule) -> None:
    """Print the distance of each source, and the most and the least relevant examples by the order of the data.

    Args:
        data: The data, set up; for a uniform order relevance is measured by a classifier.

    Raises:
        InputError: There is no pool, or examples have no text.
    """
    order = Order("classifier") if data.order.is_uniform else data.order
    in_domain, sources = corpora(data)
    console = wide_console()
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in ("source", "examples", "distance", "standard error"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    for name, corpus in sources.items():
        found = distance(in_domain, corpus)
        size = len(corpus) - len(corpus.left_out)
        table.add_row(name or "out-of-domain", str(size), f"{found.value:.2f}", f"{found.error:.2f}")
    console.print(table)
    console.print(
        "Distance: proxy A-distance from the in-domain training data, 0 for the same domain and 2 for data that a "
        "classifier of n-grams never confuses with it."
    )
    scores = pool_scores(data, order)
    ranking = np.argsort(-scores, kind="stable")
    middle = max(0, len(ranking) - _SHOWN)
    for title, places in (("most", ranking[:_SHOWN]), ("least", ranking[max(middle, min(_SHOWN, len(ranking))) :])):
        if len(places):
            console.print(f"\nThe {title} relevant out-of-domain examples, by {order.by}:")
            console.print(_examples(data, sources, places, scores))


def _examples(data: MixedDomainDataModule, sources: dict[str, Corpus], places: np.ndarray, scores: np.ndarray) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in ("score", "example", "text"):
        table.add_column(heading, justify="right" if heading == "score" else "left", overflow="fold")
    ends = np.cumsum([len(corpus) for corpus in sources.values()])
    for place in places.tolist():
        (position,) = data.pool_positions(np.array([place])).tolist()
        at = int(np.searchsorted(ends, position, side="right"))
        corpus = list(sources.values())[at]
        inside = position - int(ends[at]) + len(corpus)
        (text,) = corpus.texts(inside, inside + 1)
        shown = " ".join(text.split())
        shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
        (id_,) = data.pool_ids(np.array([position]))
        table.add_row(f"{scores[place]:.4g}", id_, shown)
    return table
