"""The columns that a task reads of its files: named by the user, or found by their usual names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradual.data.formats import Columns
from gradual.data.reading import column_names
from gradual.data.sources import is_pool
from gradual.errors import InputError

ID = "id"
"""The role of ids, and their name in examples."""
ORDER = "order"
"""The role of the column that the pool is ordered by."""


@dataclass(frozen=True)
class Role:
    """A column that a task reads.

    Attributes:
        name: What the task calls it; its setting is ``NAME_column``.
        given: The column that the user names; None to find it.
        usual: Names by which it is found, the first that a file has.
        needed: Whether there must be one. Where there is one, every file has it, with a value in every example; only
            ids, where the user names no column, may be in some files and not in others.
        is_text: Whether its values must be text.
        predicted: Whether it is what the model predicts, which is not read of the examples to predict.
    """

    name: str
    given: str | None
    usual: tuple[str, ...]
    needed: bool = True
    is_text: bool = False
    predicted: bool = False


def find_columns(
    roles: Sequence[Role], files: Mapping[str, Sequence[Path]]
) -> tuple[dict[str, str], dict[str, Columns]]:
    """Find the column of each role, and say which columns are read of each part.

    Columns are found in the first file of ``in_domain``, and ids in the first file that has some. The other files may
    call them by other usual names.

    Args:
        roles: The roles of a task.
        files: The files of each part, of which ``in_domain`` has one at least.

    Returns:
        The column of each role that was named or found, and the columns to read of each part.

    Raises:
        InputError: A file cannot be read, a column that is needed is missing, or in-domain files lack a column that
            others have.
    """
    names = {path: column_names(path) for paths in files.values() for path in paths}
    first = files["in_domain"][0]
    there = names[first]
    column_of: dict[str, str] = {}
    for role in roles:
        places = names.values() if role.name == ID else [there]
        column = role.given or next((name for own in places for name in role.usual if name in own), None)
        if column is not None:
            column_of[role.name] = column
        elif role.needed:
            usual = " or ".join(role.usual)
            raise InputError(f"{first} has no column named {usual}, but {', '.join(there)}: set {role.name}_column.")
        else:
            _check_alike(role, names, first)
    known = [role for role in roles if role.name in column_of]
    owned = {path: _own_names(known, column_of, names[path]) for path in names}
    own = {path: of_file for path, of_file in owned.items() if of_file}

    def columns_of(part: str, path: Path) -> Columns:
        present = [
            role
            for role in known
            if (role.name != ID or role.given or column_of[ID] in {*names[path], *owned[path]})
            and not (part == "predict" and role.predicted)
            and (is_pool(part) or role.name != ORDER)
        ]
        return Columns(
            tuple(dict.fromkeys(column_of[role.name] for role in present)),
            needed=tuple(column_of[role.name] for role in present if role.name != ID or role.given),
            text=tuple(column_of[role.name] for role in present if role.is_text),
            ids=next((column_of[ID] for role in present if role.name == ID), None),
            own=own,
        )

    return column_of, {part: columns_of(part, paths[0]) for part, paths in files.items()}


def _check_alike(role: Role, names: Mapping[Path, Sequence[str]], first: Path) -> None:
    """Check that what in-domain examples do not have, the examples of no other file have."""
    for path, own in names.items():
        column = next((name for name in role.usual if name in own), None)
        if column is not None and role.name != ID:
            raise InputError(
                f"{path} has the column '{column}', but {first} has none of {' or '.join(role.usual)}: all files must "
                f"have a {role.name}, or none. Set {role.name}_column if in-domain examples have one by another name."
            )


def _own_names(roles: Sequence[Role], column_of: Mapping[str, str], there: Sequence[str]) -> dict[str, str]:
    """The name that a file has for each column that it calls by another usual name of the column's role."""
    own: dict[str, str] = {}
    for role in roles:
        column = column_of[role.name]
        if role.given is None and column not in there:
            other = next((name for name in role.usual if name in there), None)
            own |= {} if other is None else {column: other}
    return own
