"""The tree of stages on disk: what is finished, what can be resumed, and which folder belongs to which stage.

A stage's folder is inside its parent's and named after its amount of out-of-domain data::

    runs/restaurant/config.yaml
    runs/restaurant/seed-0/2000/500/0/{best.ckpt,last.ckpt,sample.txt,stage.json,result.json}

A stage of a control is also named after the folders of the stages whose steps it takes: ``2000/2000-as-500``. An
average of the weights of a path's stages is in the folder of the last one: ``2000/500/0/average-from-2``.
``result.json`` is written last, by an atomic rename: a stage is finished if and only if it exists. ``checksums.json``
has the checksums of the small files beside it; a checkpoint ends with its own.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gradual.errors import InputError
from gradual.files import read_json, sha256, write_atomically
from gradual.lock import locked
from gradual.runs.result import StageResult

log = logging.getLogger(__name__)

_BY_NAME = "_by_name"
_SAVED = ("*.ckpt", "result.json", "collapses.json")
_MAX_SHOWN = 80  # characters of a value in a message
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class StageDirectory:
    """The folder of one stage."""

    def __init__(self, path: Path):
        self.path = path
        self.best = path / "best.ckpt"
        self.last = path / "last.ckpt"
        self.start = path / "start.pt"
        """The weights that a stage without a parent starts from; kept while it trains."""
        self.previous = path / "previous.ckpt"
        self.history = path / "history.jsonl"
        self.test_examples = path / "test_examples.jsonl"
        self._sample = path / "sample.txt"
        self._settings = path / "stage.json"
        self._result = path / "result.json"
        self._collapses = path / "collapses.json"
        self._checksums = path / "checksums.json"

    def result(self) -> StageResult | None:
        """Read the stage's result; None while the stage is not finished."""
        if not self._result.exists():
            return None
        content = read_json(self._result)
        try:
            return StageResult(**content)
        except TypeError as error:
            raise InputError(f"{self._result} is not the result of a stage: {error}.") from error

    def is_finished(self) -> bool:
        """Whether there is a result, which may be damaged."""
        return self._result.exists()

    def damaged_files(self) -> list[Path]:
        """List the small files of a finished stage that no longer have the content that was written."""
        try:
            self.result()
        except InputError:
            return [self._result]
        recorded = self._recorded_checksums()
        return [self.path / name for name, value in recorded.items() if _checksum(self.path / name) != value]

    def reopen(self) -> None:
        """Make a finished stage unfinished again, to be resumed from its last checkpoint."""
        self._result.unlink(missing_ok=True)

    def start_over(self) -> None:
        """Remove everything that the stage has trained."""
        self.reopen()  # first, since a stage with a result must have the rest, too
        self._discard_training()
        for path in (self._collapses, self.start):
            path.unlink(missing_ok=True)

    def _discard_training(self) -> None:
        for path in (self.last, self.previous, self.best, self.history, *self.path.glob("hpc_ckpt_*.ckpt")):
            path.unlink(missing_ok=True)

    def settings(self) -> dict[str, Any] | None:
        """Read the settings that the stage was started with; None if it never was."""
        return read_json(self._settings) if self._settings.exists() else None

    def reserve(self, settings: Mapping[str, Any]) -> None:
        """Reserve the folder for a stage with these settings before it starts."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = _settings_text(settings)
        write_atomically(self._checksums, json.dumps({self._settings.name: _sha256(text)}, indent=2) + "\n")
        write_atomically(self._settings, text)

    def has_begun(self) -> bool:
        """Whether the folder belongs to a stage already."""
        return self._settings.exists()

    def belongs_to(self, settings: Mapping[str, Any]) -> bool:
        """Whether the folder belongs to a stage with these settings.

        A damaged ``stage.json`` is restored if its checksum is that of these settings; otherwise the folder is left
        alone.
        """
        try:
            found = self.settings()
        except InputError:
            found = None
        text, recorded = _settings_text(settings), self._recorded_checksums().get(self._settings.name)
        if found is not None and recorded in (None, _checksum(self._settings)):
            return not differences(found, json.loads(text))
        ours = recorded == _sha256(text)
        log.warning("%s is damaged: %s.", self._settings, "it is restored" if ours else "its folder is left alone")
        if ours:
            write_atomically(self._settings, text)
        return ours

    def begin(self, settings: Mapping[str, Any], sample_ids: Iterable[str]) -> None:
        """Record what the stage trains with, before it trains."""
        self.reserve(settings)
        if not (self.last.exists() or self.previous.exists()):
            for pattern in ("events.out.tfevents.*", "hpc_ckpt_*.ckpt"):  # from an attempt without a checkpoint
                for path in self.path.glob(pattern):
                    path.unlink()
        for path in self.path.glob("*.tmp"):  # from a process that was killed while writing
            path.unlink()
        write_atomically(self._sample, "".join(f"{id_}\n" for id_ in sample_ids))

    def collapses(self) -> list[dict[str, Any]]:
        """Read the attempts that collapsed, as in ``StageResult.collapses``."""
        return read_json(self._collapses) if self._collapses.exists() else []

    def has_collapsed(self, attempts: int) -> bool:
        """Whether it has collapsed in all of its attempts; never where 0 are allowed, which watches for no collapse."""
        return 0 < attempts <= len(self.collapses())

    def start_again(self, collapses: Sequence[Mapping[str, Any]]) -> None:
        """Discard what the last of ``collapses`` trained, then record them; a crash in between repeats that attempt."""
        self._discard_training()
        write_atomically(self._collapses, json.dumps(collapses, indent=2) + "\n")

    def finish(self, result: StageResult) -> None:
        """Write the result, which finishes the stage."""
        self.start.unlink(missing_ok=True)
        text = json.dumps(asdict(result), indent=2) + "\n"
        beside = [self._settings, self._sample, self.history, *self.path.glob("test_examples.jsonl*")]
        checksums = {path.name: _checksum(path) for path in beside if path.exists()}
        checksums[self._result.name] = _sha256(text)
        write_atomically(self._checksums, json.dumps(checksums, indent=2) + "\n")
        write_atomically(self._result, text)
        self.previous.unlink(missing_ok=True)  # not needed beside a result

    def attribute_test(self, test_data: str) -> None:
        """Record on which test data the scores of a finished, undamaged stage are assumed to be measured."""
        if self.is_finished() and not self.damaged_files():
            result = self.result()
            if result is not None and result.test and not result.test_data:
                self.finish(replace(result, test_data=test_data))

    def drop_requeue_checkpoints(self) -> None:
        """Remove what SLURM's requeue saved: Lightning would load it in preference to anything else, even to test."""
        for path in self.path.glob("hpc_ckpt_*.ckpt"):
            path.unlink()

    def _recorded_checksums(self) -> dict[str, str]:
        try:
            return read_json(self._checksums) if self._checksums.exists() else {}
        except InputError as error:
            log.warning("%s The files beside it are not checked.", error)
            return {}


class RunDirectory:
    """The folder of an experiment.

    Args:
        root: The folder; created if it is missing.

    Raises:
        InputError: ``root`` is not a folder, or is not writable.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The run directory {self.root} cannot be created: {error.strerror}.") from error
        if not os.access(self.root, os.W_OK):
            raise InputError(f"The run directory {self.root} cannot be written to.")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Reserve the directory for this process, and report a full disk in one sentence.

        Raises:
            InputError: Another process uses the directory, or the disk is full.
        """
        with locked(self.root):
            try:
                yield
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                raise InputError(
                    f"The run directory {self.root} cannot be written to ({error.strerror}): make room, and run the "
                    "same command again, which goes on from what is saved."
                ) from error

    def has_started(self) -> bool:
        """Whether a stage has saved anything."""
        return any(any(self.root.glob(f"seed-*/**/{name}")) for name in ("*.ckpt", "result.json"))

    def remove_leftovers(self) -> None:
        """Remove what processes left behind that failed or were killed: partial files, and stages that saved nothing.

        The folder of a stage that saved nothing would change the names of those that come after it.
        """
        for path in self.root.glob("*.tmp"):
            path.unlink(missing_ok=True)
        stages = [path.parent for path in self.root.glob("seed-*/**/stage.json")]
        for folder in sorted(stages, reverse=True):  # children first
            saved = [path for name in _SAVED for path in folder.glob(f"**/{name}")]
            if not saved:
                shutil.rmtree(folder)

    def remove_stages(self) -> None:
        """Remove all stages, none of which may have saved anything."""
        for path in self.root.glob("seed-*"):
            shutil.rmtree(path)

    def seed(self, seed: int) -> Path:
        """Return the folder of the stages with one seed, the parent of every first stage."""
        return self.root / f"seed-{seed}"

    def stage(self, parent: Path, name: int | str, settings: Mapping[str, Any] | None) -> StageDirectory:
        """Find the folder of the stage below ``parent`` with this name and these settings.

        Stages that differ only in their settings are different stages: the first one has the name, the second one has
        ``-2`` appended, and so on.

        Args:
            parent: The folder of the stage before, or of the seed.
            name: The stage's out-of-domain examples, with what the name of a control's stage says beside them, such as
                ``2000-as-500``; or the name of an average of stages.
            settings: All that it trains with; None while this is unknown, for the next folder that is free.
        """
        name = str(name)
        found = [re.fullmatch(re.escape(name) + r"-(\d+)", path.name) for path in parent.glob(f"{name}-*")]
        last = max([1, *(int(match[1]) for match in found if match)])
        free: list[StageDirectory] = []
        for number in range(1, last + 2):  # an earlier one may have been removed
            directory = StageDirectory(parent / (name if number == 1 else f"{name}-{number}"))
            if not directory.has_begun():
                free.append(directory)
            elif settings is not None and directory.belongs_to(settings):
                return directory
        return free[0]

    def results(self) -> list[StageResult]:
        """Read the results of all finished stages, leaving out those that are damaged."""
        found = []
        for path in sorted(self.root.glob("seed-*/**/result.json")):
            try:
                found.append(StageDirectory(path.parent).result())
            except InputError:
                log.debug("%s is left out.", path)
        return [result for result in found if result is not None]

    def relative(self, path: Path) -> str:
        """Return ``path`` relative to the run directory."""
        return path.relative_to(self.root).as_posix()


def canonical(settings: Any) -> str:
    """Turn plain data into text that is the same for equal settings, in whatever order they were written.

    Only the order of name patterns, as in ``lr_by_name``, matters, since the first match is used.
    """

    def ordered(value: Any, name: str) -> Any:
        if not isinstance(value, Mapping):
            return value
        items = [(key, ordered(part, str(key))) for key, part in value.items()]
        return items if name.endswith(_BY_NAME) else dict(items)

    return json.dumps(ordered(settings, ""), sort_keys=True)


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """List what differs between two pieces of plain data, each difference as ``name: old, now new``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if name.endswith(_BY_NAME) and old == new and list(old) != list(new):
            return [f"{name}: {', '.join(old)}, now {', '.join(new)}, and the first match is used"]
        keys = sorted(set(old) | set(new))
        return [
            line
            for key in keys
            for line in differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if old == new else [f"{name}: {_shown(old)}, now {_shown(new)}"]


def _shown(value: Any) -> str:
    text = "not set" if value is None else repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _settings_text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=2) + "\n"


def _checksum(path: Path) -> str | None:
    try:
        return sha256(path)
    except InputError:
        return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
