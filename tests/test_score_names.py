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
SAY_NOTHING = (
    "val/score val/trig_c val/f1/micro val/elbo val/time val/f1_error val/neg_f1 val/1-f1 val/los val / monitor"
)


@pytest.mark.parametrize(("names", "expected"), [(FALL, "min"), (RISE, "max"), (SAY_NOTHING, None)])
def test_the_last_part_of_a_name_says_which_values_are_better(names, expected):
    assert {name: better(name) for name in names.split()} == dict.fromkeys(names.split(), expected)


def test_a_given_mode_is_used_and_auto_is_resolved():
    assert TrainSettings().mode == "min"
    assert TrainSettings(monitor="val/accuracy").mode == "max"
    assert TrainSettings(monitor="val/accuracy", mode="min").mode == "min"
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
