"""Names of scores, and what they say."""

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
_TURNED = {"neg", "negative", "minus", "inverse", "inverted"}  # before a score they may turn it round, or not
_SAY_NOTHING = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "epoch", "step"}
_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # F1Score, BinaryAUROC


def without_split(name: str) -> str:
    """A score's name without its split: ``loss`` for ``val/loss`` and ``val_loss``."""
    return re.sub(r"^(train|val|test)[/_]", "", name)


def better(name: str) -> Mode | None:
    """Which values of a score are better, by the last part of its name; None where it does not say.

    ``val/error_rate`` falls, ``val_joint_accuracy_epoch`` rises, ``val/f1_loss`` is a loss. A name with words of both
    kinds (``f1_error``, perhaps the F1 of a class) or with a word that may turn it round (``neg_f1``) says nothing.
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
    """The words of a name's last part that says something, in lower case; a phrase is one word."""
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
