"""Recovery of damaged stages: what is damaged is logged, and the stage resumes from its newest intact state."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from gradual.runs.checkpoint import damage
from gradual.runs.directory import StageDirectory
from gradual.runs.result import StageResult

log = logging.getLogger(__name__)


def load_result_or_reopen(directory: StageDirectory, weights: bool = True) -> StageResult | None:
    """Load the result of a stage if it is finished and intact; make a damaged stage unfinished again.

    If ``best.ckpt`` is damaged, the stage is trained again from its start. Any other file is written again from the
    last checkpoint, after which there is nothing left to train.

    Args:
        directory: The stage's folder.
        weights: Whether to check its weights, too.

    Returns:
        The result; None where the stage is to be trained or resumed.
    """
    if not directory.is_finished():
        return None
    wrong = damage(directory.best) if weights else None
    if wrong:
        _warn("%s is damaged (%s): the stage is trained again from its start.", directory.best, wrong)
        rank_zero_only(directory.start_over)()
        return None
    damaged = directory.damaged_files()
    if damaged:
        files = ", ".join(map(str, damaged))
        _warn("%s: damaged; the stage is resumed from its last checkpoint.", files)
        rank_zero_only(directory.reopen)()
        return None
    return directory.result()


def resume_point(directory: StageDirectory) -> Path | None:
    """Find the newest intact checkpoint to resume an unfinished stage from; None to start the stage."""
    candidates = [path for path in (directory.last, directory.previous) if path.exists()]
    wrong = damage(directory.best) if directory.best.exists() else None
    if wrong and candidates:  # the best epoch is earlier than every checkpoint to resume from
        _warn("%s is damaged (%s): the stage is trained again from its start.", directory.best, wrong)
        rank_zero_only(directory.start_over)()
        return None
    for path in candidates:
        wrong = damage(path)
        if wrong is None:
            return path
        _warn("%s is damaged (%s): the stage is resumed from the state before it.", path, wrong)
        rank_zero_only(path.unlink)(missing_ok=True)
    return None


def _warn(message: str, *arguments: object) -> None:
    rank_zero_only(log.warning)(message, *arguments)
