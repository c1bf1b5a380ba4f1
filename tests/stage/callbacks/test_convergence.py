"""What ended a stage, whether it had converged, and which stage is the best."""

import json
import math
from pathlib import Path

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, Timer
from recorded_runs import ADAM, QUIET, LinearModel, Scripted, Stop, data, path_results, run
from slow_cases import fast_one_in

import gradual
from gradual import RunResult, StageResult
from gradual.settings import MAX_EPOCHS

FALLING = [float(9 - epoch) for epoch in range(9)]
INSTANT = {"microseconds": 1}


class Enough(Callback):
    """A rule of the user's own."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == 1


def stopped_early():
    return EarlyStopping("train/loss", patience=1, min_delta=1e6)


CASES = {
    "patience": ([5.0, 3.0, 4.0, 3.5], {"patience": 2, "max_epochs": 9}, (4, True, "patience")),
    "no patience": ([5.0, 5.0], {"patience": 0, "max_epochs": 9}, (2, True, "patience")),
    "patience in the last epoch": ([5.0, 3.0, 4.0, 3.5], {"patience": 2, "max_epochs": 4}, (4, True, "patience")),
    "patience of the user's": (FALLING, {"callbacks": [stopped_early()], "max_epochs": 9}, (2, True, "patience")),
    # at its second epoch patience has run out, then it has to go on, and improves
    "min_epochs": ([5.0, 5.0, 1.0], {"patience": 1, "min_epochs": 3, "max_epochs": 9}, (3, True, "patience")),
    "max_epochs": (FALLING, {"max_epochs": 3}, (3, False, "max_epochs")),
    "max_epochs of the stage": (FALLING, {"schedule": [{"amount": 0, "max_epochs": 2}]}, (2, False, "max_epochs")),
    "max_steps": (FALLING, {"max_steps": 6, "max_epochs": 9}, (2, False, "max_steps")),
    "max_time": (FALLING, {"max_time": INSTANT, "max_epochs": 9}, (1, False, "max_time")),
    "a timer": (FALLING, {"callbacks": [Timer(INSTANT)], "max_epochs": 9}, (1, False, "max_time")),
    "a rule of the user's": (FALLING, {"callbacks": [Enough()], "max_epochs": 9}, (2, True, "")),
    "not finite": ([5.0, math.nan], {"collapse": {"attempts": 0}, "max_epochs": 9}, (2, False, "")),
}


def trained(tmp_path, losses, settings):
    _, result = run(tmp_path, Scripted(losses), **{"schedule": [0], "patience": 3, **settings})
    (stage,) = result.stages
    return stage


@pytest.mark.parametrize("case", CASES)
def test_the_reason_that_ended_a_stage_is_recorded_and_found_again_without_its_result(tmp_path, case):
    losses, settings, expected = CASES[case]
    stage = trained(tmp_path, losses, settings)
    assert (stage.epochs, stage.converged, stage.ended_by) == expected
    (tmp_path / "run" / stage.path / "result.json").unlink()
    again = trained(tmp_path, losses, settings)
    if case != "a rule of the user's":  # which would have it train on
        assert (again.epochs, again.converged, again.ended_by) == expected


@pytest.mark.parametrize("case", fast_one_in(3, ["patience", "max_epochs", "max_steps"]))
def test_an_interrupted_stage_is_ended_by_the_same_rule(tmp_path, case):
    losses, settings, expected = CASES[case]
    with pytest.raises(RuntimeError, match="power cut"):
        trained(tmp_path, losses, {**settings, "callbacks": [Stop.at(0, 4)]})
    stage = trained(tmp_path, losses, settings)
    assert (stage.epochs, stage.converged, stage.ended_by) == expected


def test_a_stage_that_did_not_converge_is_reported_and_marked(tmp_path, caplog, capsys):
    _, result = run(tmp_path, Scripted([5.0, 3.0, 4.0]), [5, {"amount": 0, "patience": 1}], patience=3, max_epochs=3)
    assert [(stage.converged, stage.ended_by) for stage in result.stages] == [(False, "max_epochs"), (True, "patience")]
    written = path_results(tmp_path / "run")["stages"]
    assert [(stage["converged"], stage["ended_by"]) for stage in written] == [(False, "max_epochs"), (True, "patience")]
    (said,) = [record.getMessage() for record in caplog.records if "converged" in record.getMessage()]
    assert said.startswith(
        "Stage 1 (5 out-of-domain) was ended by max_epochs before it converged: its best epoch was 2 of 3"
    )
    assert said.endswith("Raise max_epochs, or lower patience.")
    result.print_table()
    lines = capsys.readouterr().out.splitlines()
    (epochs,) = [line.split() for line in lines if line.strip().startswith("epochs (best)")]
    assert epochs[2:] == ["3", "(2)", "†", "3", "(2)"]
    (below,) = [line for line in lines if line.startswith("† ")]
    assert "Raise max_epochs, or lower patience" in below


class ByStage(LinearModel):
    """A score of each stage, written down beforehand."""

    def __init__(self, name: str, scores: list[float]):
        super().__init__()
        self.name, self.scores = name, scores

    def validation_step(self, batch, batch_idx):
        self.log(self.name, self.scores[self.trainer.datamodule.stage], batch_size=len(batch[0]))


@pytest.mark.parametrize(
    ("name", "scores", "best"),
    fast_one_in(
        2,
        [
            ("val/loss", [0.9, 0.559, 0.704], 1),
            ("val/accuracy", [0.9, 0.559, 0.704], 0),
            ("valid_loss", [0.9, 0.559, 0.704], 1),  # a split that we have no name for
            ("val/loss", [0.9, 0.8, 0.7], 2),
            ("val/loss", [0.9, 0.5, 0.5], 2),
        ],
    ),
)
def test_a_last_stage_with_a_worse_validation_score_is_reported(tmp_path, capsys, name, scores, best):
    _, result = run(tmp_path, ByStage(name, scores), monitor=name, max_epochs=1)
    assert result.best_stage == path_results(tmp_path / "run")["best_stage"] == best
    result.print_table()
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("The last stage is worse")]
    if best == 2:
        assert not said
    else:
        now = f"{name} is {scores[-1]}, and was {scores[best]} ({result.best_checkpoint(best)})"
        assert said == [f"The last stage is worse on validation than stage {best + 1}: {now}."]


def test_a_run_without_a_score_has_no_best_stage():
    stages = [StageResult(index, 0, 1, 0, 1, 1, 1.0, val={"loss": math.nan}) for index in range(2)]
    result = RunResult(stages, [0, 0], 0, Path("run"), "val/loss", "min")
    assert result.best_stage is None
    assert result.remarks() == []


def test_the_mode_by_the_monitor_s_name_keeps_the_best_epoch_and_is_the_same_stage(tmp_path):
    class Scores(LinearModel):
        def validation_step(self, batch, batch_idx):
            self.log("val/accuracy", [0.5, 0.9, 0.7, 0.6][self.trainer.current_epoch], batch_size=len(batch[0]))

    settings = {"monitor": "val/accuracy", "patience": 2, "max_epochs": 9}
    _, result = run(tmp_path, Scores(), [0], **settings)
    (stage,) = result.stages
    assert (stage.epochs, stage.best_epoch, stage.val["accuracy"]) == (4, 2, pytest.approx(0.9))
    assert json.loads((tmp_path / "run" / stage.path / "stage.json").read_text())["mode"] == "max"
    again, _ = run(tmp_path, Scores(), [0], **settings, mode="max")
    assert not again.losses
    with pytest.raises(gradual.InputError, match="does not say which values are better"):
        run(tmp_path / "other", Scores(), [0], monitor="val/score")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("given", [{}, {"max_epochs": None}])
def test_without_max_epochs_a_stage_has_a_hundred(tmp_path, given):
    model = Scripted([1.0])
    quiet = {name: value for name, value in QUIET.items() if name != "max_epochs"}
    gradual.fit(model, data(), [0], tmp_path, optimizer=ADAM, patience=1, **quiet, **given)
    assert [trainer.max_epochs for trainer in model.trainers] == [MAX_EPOCHS] == [100]
    assert json.loads((tmp_path / "experiment.json").read_text())["settings"]["trainer"]["max_epochs"] == 100


@pytest.mark.parametrize(("schedule", "said"), [([5, 0], False), ([5, 2], True), ([0.5, 0.1], True), ([0.01], False)])
def test_a_schedule_that_does_not_end_with_in_domain_data_is_noted_once(tmp_path, caplog, schedule, said):
    caplog.set_level("INFO", logger="gradual")
    run(tmp_path, Scripted([1.0]), schedule, max_epochs=1)
    lines = [record.getMessage() for record in caplog.records if "schedule ends with" in record.getMessage()]
    assert len(lines) == said
    if said:
        amount = {(5, 2): 2, (0.5, 0.1): 4}[tuple(schedule)]
        assert lines[0].startswith(f"The schedule ends with {amount} out-of-domain examples")
