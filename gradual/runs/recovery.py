"""Notices what is damaged in a stage's folder, says so, and opens the stage again from its newest good state."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from gradual.runs.checkpoint import damage
from gradual.runs.directory import StageDirectory
from gradual.runs.result import StageResult

log = logging.getLogger(__name__)


def load_result_or_reopen(directory: StageDirectory, weights: bool = True) -> StageResult | None:
    """The result of a stage that is finished and undamaged; a damaged one is opened again.

    A damaged ``best.ckpt`` is made again from the stage's start. Anything else is made from the last checkpoint, from
    which there is nothing to train.

    Args:
        directory: The stage's folder.
        weights: Look at its weights, too.
    """
    if not directory.is_finished():
        return None
    wrong = damage(directory.best) if weights else None
    if wrong:
        _say("%s is damaged (%s): the stage is trained again from its start.", directory.best, wrong)
        rank_zero_only(directory.start_over)()
        return None
    damaged = directory.damaged_files()
    if damaged:
        files = ", ".join(map(str, damaged))
        _say("%s: damaged; the stage is taken up again from its last checkpoint.", files)
        rank_zero_only(directory.reopen)()
        return None
    return directory.result()


def resume_point(directory: StageDirectory) -> Path | None:
    """The newest good checkpoint that an unfinished stage can go on from; None to start it."""
    candidates = [path for path in (directory.last, directory.previous) if path.exists()]
    wrong = damage(directory.best) if directory.best.exists() else None
    if wrong and candidates:  # the best epoch is behind every checkpoint to go on from
        _say("%s is damaged (%s): the stage is trained again from its start.", directory.best, wrong)
        rank_zero_only(directory.start_over)()
        return None
    for path in candidates:
        wrong = damage(path)
        if wrong is None:
            return path
        _say("%s is damaged (%s): the stage goes on from what was before it.", path, wrong)
        rank_zero_only(path.unlink)(missing_ok=True)
    return None


def _say(message: str, *arguments: object) -> None:
    rank_zero_only(log.warning)(message, *arguments)
