"""Whether ids identify examples, only number those of each file (as in many published data sets), or are shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradual.data.file_dataset import ArrowColumn
from gradual.data.sources import is_training
from gradual.data.subsets import positions_of

_COMPARED = 100  # examples of a part


def other_example(tables: Mapping[str, Any], column: str, inputs: Sequence[str]) -> str | None:
    """Look for a training example that has the id of a validation or test example, but another content.

    Args:
        tables: The tables of the parts, as ``datasets.Dataset``; each has the column of ids.
        column: The column of ids.
        inputs: The columns to compare.

    Returns:
        Such an example in words; None if there is none among the first hundred of each part that share an id.
    """
    evaluated = {part: tables[part].select_columns(list(inputs)) for part in ("val", "test") if part in tables}
    ids = {part: ArrowColumn(tables[part], column) for part in tables}
    held_out = {id_ for part in evaluated for id_ in ids[part] if id_ is not None}
    for part in tables if held_out else ():
        shared = positions_of(ids[part], held_out)[:_COMPARED].tolist() if is_training(part) else []
        for position in shared:
            id_, example = ids[part][position], tables[part].select_columns(list(inputs))[position]
            same = [
                evaluated[other][index] for other in evaluated for index in positions_of(ids[other], {id_}).tolist()
            ]
            if example not in same:
                return f"'{id_}' is another example in {part.replace('_', '-')} data than in validation or test data"
    return None


def shared_ids(ids: Any) -> tuple[int, int] | None:
    """Count examples and ids where several examples have one id.

    Args:
        ids: The ids of the examples, as a ``pyarrow.ChunkedArray``; those that are null or empty are no ids.

    Returns:
        The number of examples with an id, and of different ids; None if these are the same.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = ids.cast(pa.string())
    known = texts.filter(pc.not_equal(texts, ""))
    different = pc.count_distinct(known).as_py()
    return None if different == len(known) else (len(known), different)
