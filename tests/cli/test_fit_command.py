"""``gradual fit`` from its arguments to its table, and validate, test and predict on what it left."""

import csv
import functools
import json

import pytest
import torch
from demo_commands import DEMO, FAST, arguments
from recorded_runs import path_results
from slow_cases import fast_one_in
from wrong_commands import mistake

from gradual.__main__ import main


@pytest.fixture(scope="module")
def finished(small_demo, tmp_path_factory):
    """A run directory with two trained stages."""
    run_dir = tmp_path_factory.mktemp("runs") / "demo"
    main(arguments("fit", small_demo, run_dir, "--schedule=[20, {amount: 0, optimizer: {lr_scale: 0.5}}]"))
    return run_dir


def test_fit_writes_the_layout_and_ends_with_the_table(small_demo, tmp_path, capsys):
    run_dir = tmp_path / "run"
    main(arguments("fit", small_demo, run_dir, "--schedule=[20, 0]", "--seed_everything=3"))
    output = capsys.readouterr().out
    content = path_results(run_dir, seed=3)
    assert [stage["path"] for stage in content["stages"]] == ["seed-3/20", "seed-3/20/0"]
    assert json.loads((run_dir / "results.json").read_text())["seeds"] == [3]
    names = {"loss", "slot_accuracy", "joint_accuracy", "slot_accuracy_all", "joint_accuracy_all"}
    for stage in content["stages"]:
        assert set(stage["val"]) == set(stage["test"]) == names
        assert (run_dir / stage["path"] / "best.ckpt").exists()
        assert len((run_dir / stage["path"] / "sample.txt").read_text().splitlines()) == stage["out_of_domain"]
    lines = [line for line in output.splitlines() if line.startswith("stage ")]
    assert len(lines) == 4  # a line an epoch
    assert "stage 1/2 (20 out-of-domain): epoch 1/2, loss " in lines[0]
    assert "best" in lines[0]
    assert "left" in lines[0]
    assert not {"\x1b", "\r", "\b"} & set(output)
    *_, last, below = (line for line in output.splitlines() if line.strip())
    assert last.split()[0] == "test"
    assert below.startswith("† ended before it converged")
    rows = {" ".join(row[:2]): row[2:] for row in (line.split() for line in output.splitlines()) if len(row) == 4}
    for name in names:
        for split in ("val", "test"):
            expected = [f"{stage[split][name]:.4f}" for stage in content["stages"]]
            assert rows[f"{split} {name}"] == expected


def test_running_again_reports_and_trains_nothing(finished, small_demo, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.ckpt")}
    stages = path_results(finished)["stages"]
    main(arguments("fit", small_demo, finished, "--schedule=[20, {amount: 0, optimizer: {lr_scale: 0.5}}]"))
    assert path_results(finished)["stages"] == stages
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.ckpt")} == before
    assert "epoch 1" not in capsys.readouterr().out


@pytest.mark.parametrize("index", fast_one_in(2, [0, 1]))
def test_test_and_validate_give_a_stage_s_scores_exactly(finished, index, monkeypatch):
    stage = path_results(finished)["stages"][index]
    measured = {}
    for command, split in (("test", "test"), ("validate", "val")):
        from lightning.pytorch import Trainer

        original = getattr(Trainer, command)

        @functools.wraps(original)
        def record(self, *args, original=original, command=command, **kwargs):
            measured[command] = original(self, *args, **kwargs)
            return measured[command]

        monkeypatch.setattr(Trainer, command, record)
        checkpoint = finished / stage["path"] / "best.ckpt"
        main([command, f"--config={finished}/config.yaml", f"--ckpt_path={checkpoint}"])
        assert measured[command] == [{f"{split}/{name}": value for name, value in stage[split].items()}]


def test_predict_writes_the_belief_state_of_each_turn(finished, small_demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = finished / "seed-0/20/0/best.ckpt"
    target = tmp_path / "out" / "states.jsonl"
    main(["predict", f"--config={finished}/config.yaml", f"--ckpt_path={checkpoint}", f"--predictions={target}"])
    assert list(tmp_path.iterdir()) == [target.parent], "nothing else is written, such as a logger's folder"
    records = [json.loads(line) for line in target.read_text().splitlines()]
    with (small_demo / "domains/hostel/test.tsv").open() as file:
        rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if not row[0].startswith("#")]
    turns = sorted((record["dialogue"], record["turn"]) for record in records)
    assert turns == sorted((row[0], int(row[1])) for row in rows)
    ontology = json.loads((small_demo / "domains/hostel/ontology.json").read_text())
    assert all(value in ontology[slot] for record in records for slot, value in record["state"].items())
    slots = sorted(ontology)
    gold = {(row[0], int(row[1])): dict(zip(slots, row[4:])) for row in rows}
    target_slots = [slot for slot in slots if slot.startswith("hostel-")]
    right = sum(
        record["state"].get(slot, "none") == gold[record["dialogue"], record["turn"]][slot]
        for record in records
        for slot in target_slots
    )
    expected = path_results(finished)["final"]["test"]["slot_accuracy"]
    assert right / (len(records) * len(target_slots)) == pytest.approx(expected)


def test_an_untrained_model_predicts_nothing(finished, small_demo, tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own.yaml"

    def command(name, run_dir):
        own.write_text(f"run_dir: {run_dir}\n")
        data = [f"--data.root={small_demo}", "--data.pool=train30.tsv", f"--model.encoder={small_demo}/encoder"]
        return [name, f"--config={DEMO}", f"--config={own}", *data, "--trainer.accelerator=cpu"]

    said = mistake(capfd, command("predict", finished))
    assert said == f"gradual: The model is untrained: give a trained one, as in gradual predict {finished}."
    said = mistake(capfd, command("predict", tmp_path / "none"))
    assert said.endswith("as in gradual predict RUN_DIR.")
    assert list(tmp_path.iterdir()) == [own]
    main(command("validate", finished))
    untrained = "This is the untrained model, before the first stage; for a trained one: gradual validate"
    assert f"{untrained} {finished}." in caplog.messages


def test_predict_on_a_file_of_one_s_own(finished, small_demo, tmp_path):
    lines = (small_demo / "domains/hostel/dev.tsv").read_text().splitlines(keepends=True)
    own = tmp_path / "own.tsv"
    first = lines[1].split("\t")[0]
    own.write_text("".join([lines[0], *(line for line in lines[1:] if line.startswith(first + "\t"))]))
    config, checkpoint = f"--config={finished}/config.yaml", f"--ckpt_path={finished}/seed-0/20/best.ckpt"
    main(["predict", config, checkpoint, f"--data.predict_file={own}"])
    records = [json.loads(line) for line in (finished / "seed-0/20/predictions.jsonl").read_text().splitlines()]
    assert {record["dialogue"] for record in records} == {first}


@pytest.mark.slow
def test_the_mode_goes_by_the_monitor_s_name_and_an_equal_one_is_the_same_experiment(small_demo, tmp_path, capfd):
    given = arguments("fit", small_demo, tmp_path / "run", "--schedule=[0]", "--monitor=val/slot_accuracy")
    main(given)
    assert json.loads((tmp_path / "run/experiment.json").read_text())["settings"]["mode"] == "max"
    assert json.loads((tmp_path / "run/seed-0/0/stage.json").read_text())["mode"] == "max"
    capfd.readouterr()
    main([*given, "--mode=max"])
    assert "epoch 1/2" not in capfd.readouterr().out
    assert "mode: 'max', now 'min'" in mistake(capfd, [*given, "--mode=min"])
    said = mistake(capfd, arguments("compare", small_demo, tmp_path / "other", "--monitor=val/score"))
    assert "'val/score', does not say which values are better" in said


@pytest.mark.slow
def test_logger_and_callbacks_are_chosen_by_class(small_demo, tmp_path):
    callbacks = (
        "--trainer.callbacks=[{class_path: lightning.pytorch.callbacks.ModelSummary}, "
        "{class_path: lightning.pytorch.callbacks.DeviceStatsMonitor, init_args: {cpu_stats: false}}]"
    )
    save_dir = f"init_args: {{save_dir: {tmp_path}}}"
    logger = f"--trainer.logger={{class_path: lightning.pytorch.loggers.CSVLogger, {save_dir}}}"
    main(arguments("fit", small_demo, tmp_path / "run", "--schedule=[10, 0]", logger, callbacks))
    logged = [tmp_path / "lightning_logs/run/seed-0" / stage / "metrics.csv" for stage in ("10", "10/0")]
    assert sorted(tmp_path.rglob("metrics.csv")) == sorted(logged)
    assert "val/joint_accuracy" in logged[0].read_text()
    assert not list((tmp_path / "run").rglob("seed-0/10/events*"))


def test_a_model_and_data_of_one_s_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch, gradual\nfrom lightning.pytorch import LightningModule\n"
        "class Mine(LightningModule):\n"
        "    def __init__(self, width: int = 2):\n"
        "        super().__init__(); self.layer = torch.nn.Linear(width, 1)\n"
        "    def training_step(self, batch, i): return self.layer(batch).square().mean()\n"
        "    def validation_step(self, batch, i): self.log('val/loss', self.layer(batch).square().mean())\n"
        "class Numbers(gradual.MixedDomainDataModule):\n"
        "    def __init__(self, size: int = 6):\n"
        "        super().__init__(batch_size=2); self.size = size\n"
        "    def load(self):\n"
        "        return gradual.Domains(torch.randn(self.size, 2), torch.randn(9, 2), torch.randn(4, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model_and_data = ["--model=mine.Mine", "--data=mine.Numbers", "--data.size=5", "--optimizer.lr=0.1"]
    main(["fit", *model_and_data, "--schedule=[9, 1.0, 0.34, 0]", f"--run_dir={tmp_path}/run", *FAST])
    stages = path_results(tmp_path / "run")["stages"]
    assert [(stage["in_domain"], stage["out_of_domain"]) for stage in stages] == [(5, 9), (5, 9), (5, 3), (5, 0)]


def test_checkpoints_load_without_running_code(finished):
    paths = list(finished.rglob("*.ckpt"))
    assert paths
    for path in paths:
        assert "state_dict" in torch.load(path, weights_only=True)
