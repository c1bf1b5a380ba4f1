"""The names of sources that ``gradual init`` proposes for the files of a pool."""

from __future__ import annotations

import re
from collections.abc import Sequence
from os.path import commonprefix
from pathlib import Path

from gradual.errors import InputError

_MOST = 10  # tables have a column for each source
_UP_TO_SEPARATOR = re.compile(r"(.*[-_. ])?")
_ENDS = "-_. *?"  # separators, and what a pattern may end with


def sources_in(given: str | Sequence[str]) -> str | Sequence[str] | dict[str, str]:
    """Name the sources of a pool by its files: by what tells their names apart, or else those of their folders.

    ``pool-books.jsonl`` and ``pool-dvd.jsonl`` are the sources ``books`` and ``dvd``. Files that numbers alone tell
    apart are parts of one source, which needs no name.

    Args:
        given: A file or pattern, or several.

    Returns:
        Each file by the name of its source; what was given where there is one source, or too many, or no good names.
    """
    if isinstance(given, str) or len(given) > _MOST:
        return given
    paths = [Path(file) for file in given]
    for texts in ([path.name.removesuffix(path.suffix) for path in paths], [path.parent.name for path in paths]):
        match = _UP_TO_SEPARATOR.match(commonprefix(texts))  # noqa: RUF071 - of the characters
        names = [text.removeprefix(match[0] if match else "").strip(_ENDS) for text in texts]
        without_numbers = {re.sub(r"\d", "", name) for name in names}
        if len(without_numbers) == len(names) and _can_be(names):
            return dict(zip(names, given))
    return given


def _can_be(names: Sequence[str]) -> bool:
    """Whether sources can have these names."""
    from gradual.data.sources import check_names

    try:
        check_names(dict.fromkeys(names))
    except InputError:
        return False
    return True
