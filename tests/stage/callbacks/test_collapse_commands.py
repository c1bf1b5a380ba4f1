"""Collapses of stages that are trained from the command line, by one process and by two."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from recorded_runs import path_results

from gradual.__main__ import main

MINE = """
import math, torch, gradual
from lightning.pytorch import LightningModule

class Mine(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def training_step(self, batch, i):
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        return self.layer(batch).square().mean() * (math.nan if lr > {limit} and self.global_rank == {rank} else 1)
    def validation_step(self, batch, i):
        self.log("val/loss", self.layer(batch).square().mean(), sync_dist=True)

class Numbers(gradual.MixedDomainDataModule):
    def __init__(self):
        super().__init__(batch_size=2)
    def load(self):
        return gradual.Domains(torch.randn(6, 2), torch.randn(9, 2), torch.randn(4, 2))
"""


def command(root: Path, limit: float, rank: int = 0) -> list[str]:
    (root / "collapsing.py").write_text(MINE.format(limit=limit, rank=rank))
    given = ["fit", "--model=collapsing.Mine", "--data=collapsing.Numbers", "--schedule=[9, 0]", "--optimizer.lr=0.1"]
    return [*given, f"--run_dir={root}/run", "--trainer.accelerator=cpu", "--trainer.max_epochs=2"]


def test_the_command_line_takes_the_settings(tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gradual"])
    given = command(tmp_path, 0.03)
    with pytest.raises(SystemExit):
        main([*given, "--collapse.factor=0.25", "--print_config"])
    expected = {"attempts": 3, "factor": 0.25, "ratio": 10.0, "scores": None}
    assert yaml.safe_load(capfd.readouterr().out)["collapse"] == expected
    with pytest.raises(SystemExit) as ended:
        main([*given, "--collapse.attempts=1"])
    assert ended.value.code == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("gradual:")]
    assert "collapsed in 1 of 1 attempts" in line
    with pytest.raises(SystemExit):
        main([*given, "--collapse.factor=2"])
    assert "collapse.factor is 2.0: it must be a number between 0 and 1." in capfd.readouterr().err

    (tmp_path / "collapse.yaml").write_text("collapse: {attempts: 4, factor: 0.25}\n")
    main([*given, f"--config={tmp_path}/collapse.yaml"])
    assert "attempt 2 of 4 goes back" in caplog.text
    rows = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["attempts", "2", "2"] in rows
    identity = json.loads((tmp_path / "run/experiment.json").read_text())
    assert identity["settings"]["collapse"]["attempts"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_all_processes_restart_a_collapsed_stage_whichever_noticed_it(tmp_path, rank):
    given = [*command(tmp_path, 0.03, rank), "--trainer.devices=2", "--trainer.strategy=ddp"]
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from gradual.__main__ import main; main(sys.argv[1:])"
    (tmp_path / "start.py").write_text(code)
    ran = subprocess.run([sys.executable, tmp_path / "start.py", *given], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    stages = path_results(tmp_path / "run")["stages"]
    assert [[entry["lr_scale"] for entry in stage["collapses"]] for stage in stages] == [[1.0, 0.5]] * 2
    assert ran.stderr.count("attempt 3 of 3 goes back") == 2  # once a stage: by one process
