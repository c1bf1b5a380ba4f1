"""Names of scores, and which values are better according to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

Mode = Literal["min", "max"]

_FALL = """
    loss losses error errors err perplexity ppl nll xent bce ce brier ece mae mse rmse mape smape msle rmsle mase
    wer cer ter mer der eer fid lpips bpb bpc fpr fnr fdr cost distance divergence residual
    cross_entropy neg_log_likelihood negative_log_likelihood
"""
_OF_LABELS = """
    accuracy accuracies acc f1 fbeta fscore fmeasure precision recall sensitivity specificity tpr tnr
"""  # which a name may have a label or a type after
_RISE = """
    f auc auroc auprc aupr ap map miou iou jaccard dice mcc matthews kappa r2 explained
    bleu sacrebleu gleu chrf meteor comet bleurt bertscore cider spice em exact_match ndcg mrr hit hits psnr ssim
    pearson pearsonr spearman spearmanr kendall correlation concordance correct reward log_likelihood loglik
"""
_BETTER: dict[str, Mode] = {
    **dict.fromkeys(_FALL.split(), "min"),
    **dict.fromkeys((_OF_LABELS + _RISE).split(), "max"),
}
_DECIDE = frozenset(_OF_LABELS.split())
_PHRASES = sorted((name for name in _BETTER if "_" in name), key=len, reverse=True)
_LOSSES = {"loss", "losses"}
_TURNED = {"neg", "negative", "minus", "inverse", "inverted"}  # before the name of a score they may reverse it, or not
_SAY_NOTHING = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "epoch", "step"}
_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # F1Score, BinaryAUROC


def without_split(name: str) -> str:
    """The name of a score without its split: ``loss`` for ``val/loss`` and ``val_loss``."""
    return re.sub(r"^(train|val|test)[/_]", "", name)


def named_scores(scores: Mapping[str, Any], split: str, monitor: str = "") -> dict[str, float]:
    """The scores of one split, without the split in their names, and the monitor, whatever its name."""
    prefixes = (f"{split}/", f"{split}_")
    chosen = [name for name in scores if name == monitor] + [name for name in scores if name.startswith(prefixes)]
    return {without_split(name): float(scores[name]) for name in chosen}


def better(name: str) -> Mode | None:
    """Return whether lower or higher values of a score are better, by its name.

    For example ``min`` for ``val/error_rate`` and ``val/f1_loss``, ``max`` for ``val_joint_accuracy_epoch``.

    The first part that names a loss, an accuracy, F1, precision or recall decides, since what follows is what it is of:
    a label, a type, a source, or a part of a loss. Thus it is ``max`` for ``val/f1/error``, and ``min`` for
    ``val/loss/books`` and ``val/loss/dice``. A last part that is nothing but such a name decides, too: ``error/f1``.
    Otherwise it is the last part that names a score.

    The answer is None for an unknown name, for one with words of both kinds (``f1_error`` may be the F1 of a class
    called error), and for one with a word that may reverse it (``neg_f1``).
    """
    parts = _parts(name)
    for words in parts[:-1]:
        if words[-1] in _LOSSES or not _DECIDE.isdisjoint(map(_plain, words)):
            return _better_of(words)
    if parts and _DECIDE.issuperset(map(_plain, parts[-1])):
        return "max"
    kinds = {kind for words in parts[:-1] if (kind := _better_of(words))}
    last = parts[-1] if parts else []
    if not any(map(_better, last)):
        return kinds.pop() if len(kinds) == 1 else None
    found = _better_of(last)
    return found if kinds <= {found} or last[-1] in _LOSSES else None


def _better_of(words: list[str]) -> Mode | None:
    """The same of a part of a name."""
    found = [_better(word) for word in words]
    kinds = {kind for kind in found if kind}
    if not kinds:
        return None
    before = words[: next(place for place, kind in enumerate(found) if kind)]
    if not _TURNED.isdisjoint(before):
        return None
    if words[-1] in _LOSSES:
        return "min"
    return kinds.pop() if len(kinds) == 1 else None


def _better(word: str) -> Mode | None:
    if word.startswith("rouge"):
        return "max"
    return _BETTER.get(_plain(word))


def _plain(word: str) -> str:
    """The word without a number that follows it, as in ``acc5``, ``bleu4`` and ``ap50``, unless it belongs to it."""
    return word if word in _BETTER else word.rstrip("0123456789")


def _parts(name: str) -> list[list[str]]:
    """The words, in lower case, of each part of a name that is more than a split; a phrase counts as one word."""
    parts = [_CAPITALS.sub("_", part).lower() for part in name.split("/") if not part.startswith("dataloader_idx_")]
    return [words for part in parts if (words := _words(part))]


def _words(part: str) -> list[str]:
    part = re.sub(r"^1\s*-", "minus_", part)
    text = "_".join(word for word in re.split(r"[^a-z0-9]+", part) if word and word not in _SAY_NOTHING)
    phrases = "|".join(_PHRASES)
    return [word.strip("_") for word in re.findall(rf"(?:(?:{phrases})(?=_|$))|[^_]+", text)]
