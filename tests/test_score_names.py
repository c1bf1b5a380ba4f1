"""Which values of a score are better, by its name, and the mode that comes of it."""

import pytest

from gradual import InputError, TrainSettings
from gradual.logging import saying_anew
from gradual.score_names import better
from gradual.settings import resolve_mode

FALL = """
val/loss val_loss loss Loss/val val/f1_loss val/loss_epoch val_nll/dataloader_idx_0 val/error val/error_rate
val/top5_err val/neg_log_likelihood val/cross_entropy val/CrossEntropyLoss valid_ppl val/perplexity
wer val/cer val/mae val/rmse
val/MeanSquaredError val/WordErrorRate val/brier_score val/layer_1_loss
"""
RISE = """
val/accuracy val/joint_accuracy val_acc_epoch val/acc@1 val/BinaryAccuracy val/f1 val/arg_c_f1 val/MulticlassF1Score
val/precision val/recall_at_10 val/auc val/BinaryAUROC val/roc_auc val/bleu val/bleu4 val/rougeL val/rouge1_fmeasure
val/mcc val/em val/exact_match val/chrf val/r2 val/R2Score val/map val/mAP50 val/ndcg val/ndcg@5 val/pearson
val/spearman val/iou val/dice val/fold_1_accuracy val/log_likelihood
"""
SAY_NOTHING = "val/score val/trig_c val/elbo val/time val/f1_error val/neg_f1 val/1-f1 val/los val / monitor"


@pytest.mark.parametrize(("names", "expected"), [(FALL, "min"), (RISE, "max"), (SAY_NOTHING, None)])
def test_the_words_of_a_name_say_which_values_are_better(names, expected):
    assert {name: better(name) for name in names.split()} == dict.fromkeys(names.split(), expected)


BY_PART = {
    # scores of a label or a type, whatever it is called
    "val/f1/LOC": "max", "val/f1/micro": "max", "f1/error": "max", "val/f1/loss": "max", "f1/cost": "max",
    "recall/distance": "max", "precision/error_rate": "max", "val/macro_f1/loss": "max", "val_f1/error": "max",
    "val/BinaryAccuracy/error": "max", "val/acc5/cost": "max", "f1/loss/low": "max", "f1/low/loss": "max",
    "val/f1/error/dataloader_idx_0": "max", "val/map/person": "max", "val/wer/books": "min", "val/mae/sum": "min",
    # losses of a source, and parts of a loss
    "val/loss/books": "min", "train/loss/dvd": "min", "val/loss/accuracy": "min", "val/loss/f1": "min",
    "loss/dice": "min", "val/joint_loss/recall": "min", "val/f1_loss/books": "min", "Loss/val": "min",
    # what is grouped, without the name of a score that decides
    "reward/loss": "min", "dice/loss": "min", "val/books/loss": "min", "books/f1": "max", "error/cost": "min",
    "val/error/mae/books": "min", "val/map/ndcg": "max",
    # the name of a score, or of a class
    "error/f1": "max", "val/cost/precision": "max", "loss/f1": "min", "wer/bleu": None,
    "map/error": None, "error/map/x": None,
    # reversed
    "val/neg_f1/error": None, "val/1-accuracy/books": None, "neg_map/x": None,
    "": None, "val": None, "val/books/": None, "/": None,
}  # fmt: skip


@pytest.mark.parametrize("name", BY_PART)
def test_the_first_part_that_names_a_loss_or_a_rate_decides(name):
    assert better(name) == BY_PART[name]


def test_a_given_mode_is_used_and_auto_is_resolved():
    assert TrainSettings().mode == "min"
    assert TrainSettings(monitor="val/accuracy").mode == "max"
    assert TrainSettings(monitor="val/accuracy", mode="min").mode == "min"
    assert TrainSettings(monitor="val/f1/error").mode == "max"
    assert (
        TrainSettings(monitor="val/accuracy").to_plain() == TrainSettings(monitor="val/accuracy", mode="max").to_plain()
    )
    assert TrainSettings(monitor="val/score", mode="max").mode == "max"
    with pytest.raises(InputError, match=r"'val/score', does not say which values are better: .*set mode to 'min'"):
        TrainSettings(monitor="val/score")


@pytest.mark.parametrize(
    ("monitor", "mode", "found", "expected"),
    [("val/loss", "max", "highest", "lowest"), ("val/macro_f1", "min", "lowest", "highest")],
)
def test_a_mode_that_the_name_contradicts_is_said(caplog, monitor, mode, found, expected):
    with saying_anew():
        assert resolve_mode(monitor, mode) == mode
        (line,) = caplog.messages
        assert f"so the {found} '{monitor}' counts as the best one, though by its name the {expected} should be" in line
        assert resolve_mode("val/score", mode) == mode
        assert resolve_mode(monitor, "auto") != mode
    assert len(caplog.messages) == 1
