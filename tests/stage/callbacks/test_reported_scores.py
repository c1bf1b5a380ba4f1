"""Scores to report that are never logged are refused early, and none that is logged ever is."""

import json
from pathlib import Path

import pytest
from recorded_runs import ADAM, LinearModel, data

import gradual
from gradual import InputError
from gradual.__main__ import main
from gradual.cli.app import make_experiment

pytestmark = pytest.mark.usefixtures("undrawn_figures")
DEMO = Path(__file__).parents[3] / "gradual/cli/demo.yaml"
SETTINGS = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "max_epochs": 3, "optimizer": ADAM}


class Scores(LinearModel):
    """Logs one score in validation alone and one in the test alone."""

    epochs = 0

    def on_train_epoch_start(self):
        Scores.epochs += 1

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log("val/close", 0.5, batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        super().test_step(batch, batch_idx)
        self.log("test/far", 0.5, batch_size=len(batch[0]))


def compare(tmp_path, metrics, **parts):
    Scores.epochs = 0
    strategies = {"mixed": [5], "one-stage": [5, 0]}
    return gradual.compare(
        Scores, data(**parts), [5, 0], tmp_path / "run", strategies=strategies, seeds=[0], metrics=metrics, **SETTINGS
    )


def test_without_a_test_an_unknown_score_is_refused_after_the_first_validation(tmp_path):
    for metrics in (["clos"], ["close", "clos"], ["far"]):
        said = f"^metrics contains '{metrics[-1]}', which is not logged; the names logged are close, loss"
        with pytest.raises(InputError, match=said):
            compare(tmp_path, metrics, test=None)
        assert Scores.epochs == 1


def test_with_a_test_an_unknown_score_is_a_warning_at_first_and_refused_after_the_stage(tmp_path, caplog):
    with pytest.raises(
        InputError, match=r"'clos', which is not logged; the names logged are close, far, loss\. Did you mean 'close'\?"
    ):
        compare(tmp_path, ["loss", "clos"])
    assert Scores.epochs == 3
    (line,) = [record.getMessage() for record in caplog.records if "metrics contains 'clos'" in record.getMessage()]
    assert line.endswith("Unless the test logs it, the run will end after this stage.")
    compare(tmp_path, ["loss", "close"])
    assert Scores.epochs == 3, "what was trained is kept: the other stage is left"


def test_scores_that_any_stage_logs_are_accepted(tmp_path):
    compare(tmp_path, ["far", "val/close", "test/loss"])
    content = json.loads((tmp_path / "run/compare.json").read_text())
    assert content["metrics"] == ["far", "close", "loss"]
    with pytest.raises(InputError, match="metrics contains 'clos'"):
        compare(tmp_path, ["clos"])
    assert not Scores.epochs


def test_a_worker_knows_what_the_command_was_asked_to_report(small_demo, tmp_path, capsys):
    given = ["compare", f"--config={DEMO}", f"--data.root={small_demo}", "--metrics=[slot_acuracy]"]
    with pytest.raises(SystemExit):
        main([*given, f"--model.encoder={small_demo}/encoder", "--print_config"])
    assert make_experiment(capsys.readouterr().out, str(tmp_path), str(tmp_path)).metrics == ["slot_acuracy"]
