"""Training in bfloat16: going on after an interruption and testing agree with it, and slow CPUs are warned of."""

import functools
import logging
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from linear_model import LinearModel, make_data, trainer_arguments
from recorded_runs import path_results

import gradual
from gradual.__main__ import main

DEMO = Path(__file__).parents[2] / "gradual/cli/demo.yaml"


class PowerCut(Callback):
    """Fails once in the second stage's second epoch, and notes what the computation is done in."""

    happened = True
    dtypes: set[torch.dtype] = set()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if not PowerCut.happened and trainer.datamodule.stage == 1 and trainer.current_epoch == 1:
            PowerCut.happened = True
            raise RuntimeError("power cut")

    def on_test_start(self, trainer, pl_module):
        def note(module, inputs, output):
            PowerCut.dtypes |= {output.dtype, module.weight.dtype}

        pl_module.model.encoder.encoder.layer[0].output.dense.register_forward_hook(note)


def fit(root: Path, run_dir: Path) -> dict:
    given = [f"--config={DEMO}", f"--data.root={root}", "--data.pool=train30.tsv", f"--model.encoder={root}/encoder"]
    given += ["--trainer.accelerator=cpu", "--trainer.precision=bf16-mixed", "--trainer.max_epochs=2"]
    cut = f"--trainer.callbacks=[{{class_path: {__name__}.PowerCut}}]"
    main(["fit", *given, "--schedule=[20, 0]", f"--run_dir={run_dir}", cut])
    return path_results(run_dir)["final"]


@pytest.mark.parametrize(("precision", "slow", "times"), [("bf16-mixed", True, 1), ("bf16", False, 0), ("32", True, 0)])
def test_bfloat16_on_a_cpu_without_instructions_for_it_is_warned_of(
    tmp_path, monkeypatch, caplog, precision, slow, times
):
    monkeypatch.setattr("gradual.stage.trainer.has_slow_bfloat16", lambda: slow)
    model, data = LinearModel(tmp_path / "log"), make_data({})
    arguments = {**trainer_arguments(), "max_epochs": 1, "precision": precision}
    with caplog.at_level(logging.WARNING, logger="gradual"):
        gradual.fit(model, data, schedule=[20, 0], run_dir=tmp_path / "run", optimizer={"lr": 0.1}, **arguments)
    assert caplog.text.count("no instructions for bfloat16: precision bf16-mixed") == times


@pytest.mark.slow
def test_bfloat16_trains_resumes_and_tests_with_the_same_configuration(small_demo, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gradual"])
    whole = fit(small_demo, tmp_path / "whole")
    assert PowerCut.dtypes == {torch.bfloat16, torch.float32}, "computed in the one, weights kept in the other"

    PowerCut.happened = False
    with pytest.raises(RuntimeError, match="power cut"):
        fit(small_demo, tmp_path / "cut")
    assert fit(small_demo, tmp_path / "cut") == whole
    ours, theirs = (
        torch.load(tmp_path / name / "seed-0/20/0/best.ckpt", weights_only=True)["state_dict"]
        for name in ("cut", "whole")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert {value.dtype for value in theirs.values()} == {torch.float32, torch.bool}

    measured = []
    original = Trainer.test

    @functools.wraps(original)
    def test(*args, **kwargs):
        measured.extend(original(*args, **kwargs))

    monkeypatch.setattr(Trainer, "test", test)
    main(["test", f"--config={tmp_path}/cut/config.yaml", f"--ckpt_path={tmp_path}/cut/seed-0/20/0/best.ckpt"])
    assert measured == [{f"test/{name}": value for name, value in whole["test"].items()}]
