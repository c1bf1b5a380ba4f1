"""The features of a table's rows, computed once and then kept in the cache folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradual.data.cache import ReadOptions
from gradual.data.cache_folder import digest, kept, making, opened, versions
from gradual.data.features import LENGTH, Features, RowError
from gradual.data.formats import Columns, describe
from gradual.data.tokenization import processes_for
from gradual.errors import InputError

_ROW = "row: "  # before the names of columns that features are made of


def read_features(
    table: Any,
    columns: Mapping[str, str],
    features: Features,
    files: Sequence[Path],
    options: ReadOptions,
    read: Columns,
) -> Any:
    """Compute the features of a table, or find them in the cache, as a ``datasets.Dataset`` mapped from there.

    Args:
        table: One of the tables that ``read_tables`` returns.
        columns: For each column that ``features`` reads, its name in the table. A column ``id`` is kept.
        features: Turns rows into features.
        files: The files of the table, for messages.
        options: How files are turned into tables.
        read: The columns that were read of them.

    Raises:
        InputError: A row has no features; the message names its place.
    """
    source = Path(table.cache_files[0]["filename"]).parent.name  # the key of the table
    key = digest([source, dict(columns), features.key(), versions()])
    folder = options.cache / key

    def make() -> None:
        _make_features(table, columns, features, files, options, folder, read)

    return kept(lambda: opened(folder), options.cache / f"{key}.lock", files, make)


def _make_features(
    table: Any,
    columns: Mapping[str, str],
    features: Features,
    files: Sequence[Path],
    options: ReadOptions,
    folder: Path,
    read: Columns,
) -> None:
    from gradual.data.tables import place_of

    # names that no feature has: datasets gives a feature the type of the column of its name
    named = {name: role if role == "id" else f"{_ROW}{role}" for role, name in columns.items()}
    rows = table.select_columns(list(columns.values())).rename_columns(named)
    with making(folder, files) as work:
        try:
            made = rows.map(
                _featurize,
                batched=True,
                with_indices=True,
                remove_columns=[name for name in named.values() if name != "id"],
                fn_kwargs={"features": features},
                num_proc=processes_for(rows, options.processes),
                cache_file_name=str(work / "features.arrow"),
                load_from_cache_file=False,
                new_fingerprint="features",  # any constant, as for tokens
                desc=f"Preparing {describe(files)}",
            )
        except RowError as error:
            place = place_of(files, error.position, next(iter(columns.values())), read)
            raise InputError(f"{place}: {error.problem}.") from None
        made.save_to_disk(str(work / "table"))


def _featurize(batch: Mapping[str, list[Any]], indices: list[int], features: Features) -> dict[str, Any]:
    try:
        found = features({name.removeprefix(_ROW): values for name, values in batch.items()})
    except RowError as error:
        raise RowError(indices[error.position], error.problem) from None
    return found if LENGTH in found else {**found, LENGTH: [len(tokens) for tokens in found["input_ids"]]}
