"""The files of the parts of the data: patterns and lists become files, of which none counts twice."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradual.data.arguments import PATH
from gradual.data.formats import FORMATS
from gradual.data.sources import files_of_sources, is_pool, is_training, part_of
from gradual.errors import InputError

log = logging.getLogger(__name__)


def expand_parts(given: Mapping[str, Any]) -> dict[str, list[Path]]:
    """List the files of each part for which some are given.

    Args:
        given: For each part a file, a pattern, a list of these, or None.

    Raises:
        InputError: There are no in-domain files, ``expand`` raises it, or a file is in two sources of the pool.
    """
    files = {part: expand(part, patterns) for part, patterns in given.items() if patterns}
    if "in_domain" not in files:
        raise InputError("in_domain is empty: it must be a file, a pattern or a list of these.")
    refuse_shared_files(files)
    return files


def files_of_named_sources(given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[float, ...] | None]:
    """Read the setting of a pool whose sources are one file each.

    Returns:
        The file of each source, by the name of its part, and the weights.

    Raises:
        InputError: ``files_of_sources`` raises it, or two sources are the same file.
    """
    sources, weights = files_of_sources(given, PATH)
    files = {part_of(name): path for name, path in sources.items()}
    refuse_shared_files({part: [path] for part, path in files.items()})
    return files, weights


def refuse_shared_files(files: Mapping[str, Sequence[str | Path]]) -> None:
    """Refuse a file that is in two sources of the pool, whose samples would have its examples twice.

    Args:
        files: The files of each part.

    Raises:
        InputError: There is one.
    """
    known: dict[str, str] = {}
    for part, path in [(part, path) for part, paths in files.items() if is_pool(part) for path in paths]:
        other = known.setdefault(os.path.realpath(path), part)
        if other != part:
            raise InputError(f"{path} is both {other} and {part}: a file must be in one source only.")


def warn_of_shared_files(files: Mapping[str, Sequence[Path]], with_ids: Container[str]) -> None:
    """Warn of a file that is given for two parts.

    Args:
        files: The files of each part.
        with_ids: The parts whose examples have ids, so that none is both trained on and evaluated on.
    """
    real = {part: {os.path.realpath(path): path for path in paths} for part, paths in files.items()}
    trained = {path: part for part, paths in real.items() if is_training(part) for path in paths}
    for evaluated in ("val", "test"):
        for path, name in real.get(evaluated, {}).items():
            part = trained.get(path)
            if part is not None and not (part in with_ids and evaluated in with_ids):
                log.warning(
                    "%s is both %s and %s: the model is evaluated on examples that it was trained on.",
                    *(name, part, evaluated),
                )
    for path, name in real.get("test", {}).items():
        if path in real.get("val", {}):
            log.warning("%s is both val and test: test scores are those that the best epoch was chosen by.", name)
    for path, name in real["in_domain"].items():
        if is_pool(trained[path]):
            log.warning("%s is both in_domain and %s: its examples are no other domain.", name, trained[path])


def expand(name: str, given: str | Sequence[str]) -> list[Path]:
    """List the files of a setting, those that match a pattern in sorted order.

    Args:
        name: The setting, for messages.
        given: A file, a pattern, or a list of these.

    Raises:
        InputError: There is no such file, a file is given twice, or the files do not all have one format that can be
            read.
    """
    paths: list[Path] = []
    for pattern in [given] if isinstance(given, str | Path) else given:
        path = Path(pattern)
        matches = glob.glob(str(pattern), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
        found = [path] if path.exists() else [Path(match) for match in sorted({*matches})]
        if not found:
            what = "matches no file" if glob.has_magic(str(pattern)) else "does not exist"
            raise InputError(f"{name}: {pattern} {what}.")
        paths += _once(found)
    known: dict[str, Path] = {}
    for path in paths:
        first = known.setdefault(os.path.realpath(path), path)
        if first is not path:
            as_what = "" if first == path else f", also as {first}"
            raise InputError(f"{name}: {path} is given twice{as_what}.")
        if path.is_dir():
            _check_folder(name, path)
        elif path.suffix.lower() not in FORMATS:
            raise InputError(f"{name}: {path} has an unknown format; it must end in one of {', '.join(FORMATS)}.")
        if _ending(path) != _ending(paths[0]):
            raise InputError(f"{name}: {path} and {paths[0]} differ in format; all files of a part must have the same.")
    return paths


def _once(matches: Sequence[Path]) -> list[Path]:
    """The matches of a pattern without links to others of them."""
    kept: dict[str, Path] = {}
    for path in sorted(matches, key=lambda path: path.is_symlink()):  # the file itself rather than a link
        first = kept.setdefault(os.path.realpath(path), path)
        if first is not path:
            log.info("%s is a link to %s, which matches the same pattern, and is not read.", path, first)
    return [path for path in matches if path in kept.values()]


def _check_folder(name: str, path: Path) -> None:
    """Check that a folder is one split of a dataset, as ``datasets`` writes it."""
    if (path / "dataset_dict.json").is_file():
        splits = sorted(file.parent.name for file in path.glob("*/state.json"))
        example = f"; give the folder of one, such as {path / splits[0]}" if splits else ""
        raise InputError(f"{name}: {path} holds the splits {', '.join(splits)}{example}.")
    if not (path / "state.json").is_file():
        raise InputError(f"{name}: {path} is a folder; give its files, such as {path / '*.jsonl'}.")


def _ending(path: Path) -> str | None:
    return None if path.is_dir() else path.suffix.lower()
