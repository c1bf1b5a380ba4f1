"""Names of scores, and which values are better according to them."""

from __future__ import annotations

import re
from typing import Literal

Mode = Literal["min", "max"]

_FALL = """
    loss losses error errors err perplexity ppl nll xent bce ce brier ece mae mse rmse mape smape msle rmsle mase
    wer cer ter mer der eer fid lpips bpb bpc fpr fnr fdr cost distance divergence residual
    cross_entropy neg_log_likelihood negative_log_likelihood
"""
_RISE = """
    accuracy accuracies acc f f1 fbeta fscore fmeasure precision recall sensitivity specificity tpr tnr
    auc auroc auprc aupr ap map miou iou jaccard dice mcc matthews kappa r2 explained
    bleu sacrebleu gleu chrf meteor comet bleurt bertscore cider spice em exact_match ndcg mrr hit hits psnr ssim
    pearson pearsonr spearman spearmanr kendall correlation concordance correct reward log_likelihood loglik
"""
_BETTER: dict[str, Mode] = {**dict.fromkeys(_FALL.split(), "min"), **dict.fromkeys(_RISE.split(), "max")}
_PHRASES = sorted((name for name in _BETTER if "_" in name), key=len, reverse=True)
_TURNED = {"neg", "negative", "minus", "inverse", "inverted"}  # before the name of a score they may reverse it, or not
_SAY_NOTHING = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "epoch", "step"}
_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # F1Score, BinaryAUROC


def without_split(name: str) -> str:
    """The name of a score without its split: ``loss`` for ``val/loss`` and ``val_loss``."""
    return re.sub(r"^(train|val|test)[/_]", "", name)


def better(name: str) -> Mode | None:
    """Return whether lower or higher values of a score are better, by the last part of its name.

    For example ``min`` for ``val/error_rate`` and ``val/f1_loss``, ``max`` for ``val_joint_accuracy_epoch``. The answer
    is None for an unknown name, for one with words of both kinds (``f1_error`` may be the F1 of a class called error),
    and for one with a word that may reverse it (``neg_f1``).
    """
    words = _words(name)
    found = [_better(word) for word in words]
    kinds = {kind for kind in found if kind}
    if not kinds:
        return None
    before = words[: next(place for place, kind in enumerate(found) if kind)]
    if not _TURNED.isdisjoint(before):
        return None
    if words[-1] in ("loss", "losses"):
        return "min"
    return kinds.pop() if len(kinds) == 1 else None


def _better(word: str) -> Mode | None:
    if word.startswith("rouge"):
        return "max"
    return _BETTER.get(word) or _BETTER.get(word.rstrip("0123456789"))  # acc5, bleu4, ap50


def _words(name: str) -> list[str]:
    """The words, in lower case, of the last part of a name that is more than a split; a phrase counts as one word."""
    parts = [_CAPITALS.sub("_", part).lower() for part in name.split("/") if not part.startswith("dataloader_idx_")]
    for part in reversed(parts):
        part = re.sub(r"^1\s*-", "minus_", part)
        text = "_".join(word for word in re.split(r"[^a-z0-9]+", part) if word and word not in _SAY_NOTHING)
        if text:
            break
    else:
        return []
    phrases = "|".join(_PHRASES)
    return [word.strip("_") for word in re.findall(rf"(?:(?:{phrases})(?=_|$))|[^_]+", text)]
