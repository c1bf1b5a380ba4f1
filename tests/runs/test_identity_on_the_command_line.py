"""What a run is made of, as commands see it: settings, every byte of the files, and the data of strategies."""

import functools
import json
import shutil
from pathlib import Path

import linear_model
import pytest
from identified_runs import PARTS, scores
from lightning.pytorch import Trainer
from recorded_runs import path_results
from row_files import write
from slow_cases import fast_one_in
from tokenized_files import WORDS, save_tokenizer

from gradual.__main__ import main
from gradual.tasks.dialogue import DialogueDataModule
from gradual.tasks.events import EventDataModule

pytestmark = pytest.mark.usefixtures("undrawn_figures")

MINE = """
import pathlib, torch
from lightning.pytorch import LightningModule
class Mine(LightningModule):
    def __init__(self, hidden: int = 4, log: str = ""):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(1, hidden), torch.nn.Linear(hidden, 1))
        self.log_file = pathlib.Path(log)
    def on_train_start(self):
        with self.log_file.open("a") as file:
            file.write(pathlib.Path(self.trainer.checkpoint_callback.dirpath).name + " ")
    def _loss(self, batch):
        return (self.net(batch["x"].unsqueeze(1)).squeeze(1) - batch["y"]).square().mean()
    def training_step(self, batch, batch_idx):
        return self._loss(batch)
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._loss(batch), batch_size=len(batch["x"]))
    def test_step(self, batch, batch_idx):
        self.log("test/loss", self._loss(batch), batch_size=len(batch["x"]))
"""


def write_rows(path: Path, size: int, slope: float, changed: int | None = None) -> None:
    """Numbers in a file; of one row the label is another."""
    rows = ({"id": f"{path.stem}{i}", "x": i / size, "y": slope * i / size + (i == changed)} for i in range(size))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with data, a model's code, and the arguments of a run on them."""
    (tmp_path / "identified.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.argv", ["gradual"])
    for name, size, slope in (("in", 300, 2.0), ("out", 40, 1.0), ("val", 10, 2.0), ("test", 8, 2.0)):
        write_rows(tmp_path / f"{name}.jsonl", size, slope)
    return tmp_path


def command(root: Path, *more: str, name: str = "fit") -> None:
    parts = {"in_domain": "in", "out_of_domain": "out", "val": "val", "test": "test"}
    given = ["--model=identified.Mine", f"--model.log={root}/trained.txt", "--data=gradual.FileDataModule"]
    given += [f"--data.{part}={root}/{file}.jsonl" for part, file in parts.items()]
    given += [f"--data.cache_dir={root}/cache", "--data.num_proc=1", "--data.id_column=id"]
    given += ["--optimizer.lr=0.05", "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.logger=false"]
    given += ["--schedule=[20, 0]"] if name == "fit" else ["--seeds=[0]"]
    main([name, *given, f"--run_dir={root}/run", "--trainer.enable_progress_bar=false", *more])


def said(capfd) -> str:
    (found,) = [row for row in capfd.readouterr().err.splitlines() if row.startswith("gradual:")]
    return found


@pytest.mark.slow
def test_the_command_line_refuses_another_experiment_too(files, capfd):
    command(files)
    trained = linear_model.trained(files)
    assert trained == ["20", "0"]
    for more, expected in (
        (["--patience=9"], "patience: 5, now 9"),
        (["--trainer.max_epochs=2"], "trainer.max_epochs: 1, now 2"),
        (["--model.hidden=5"], "model: hidden 4, now 5"),
        ([f"--data.val={files}/test.jsonl"], "data.val: '"),
        (["--data.batch_size=8"], "data.batch_size: 32, now 8"),
    ):
        with pytest.raises(SystemExit):
            command(files, *more)
        assert f"holds another experiment ({expected}" in said(capfd)
    command(files, "--data.eval_batch_size=4", "--data.num_proc=2", "--checkpoint_every=1", "--trainer.profiler=simple")
    assert linear_model.trained(files) == trained
    command(files, "--schedule=[20, {amount: 0, patience: 9}]")
    assert linear_model.trained(files) == [*trained, "0-2"]


@pytest.mark.parametrize("first", ["null", "{root}/test.jsonl"])
def test_a_stage_is_tested_on_the_test_data_that_its_results_are_of(files, first, monkeypatch):
    write_rows(files / "other.jsonl", 8, 5.0)
    command(files, f"--data.test={first.format(root=files)}", "--schedule=[0]")
    command(files, f"--data.test={files}/other.jsonl", "--schedule=[0]")
    measured, original = [], Trainer.test
    record = functools.wraps(original)(lambda *args, **more: measured.extend(original(*args, **more)))
    monkeypatch.setattr(Trainer, "test", record)
    main(["test", f"{files}/run"])
    ((scores,), stage) = measured, path_results(files / "run")["final"]
    assert scores["test/loss"] == pytest.approx(stage["test"]["loss"], rel=1e-6)


@pytest.mark.parametrize("part", fast_one_in(3, ["in", "out", "val"]))
def test_any_changed_byte_of_a_data_file_is_noticed(files, capfd, part):
    command(files)
    sizes = {"in": 300, "out": 40, "val": 10}
    slope = 1.0 if part == "out" else 2.0
    write_rows(files / f"{part}.jsonl", sizes[part], slope, changed=7)
    with pytest.raises(SystemExit):
        command(files)
    name = {"in": "in_domain", "out": "out_of_domain"}.get(part, part)
    assert f"({name}: different content)" in said(capfd)


def test_a_changed_tokenizer_in_the_same_folder_is_noticed(files, capfd):
    for name, size in (("in", 8), ("out", 8), ("val", 4), ("test", 4)):
        rows = [{"id": f"{name}{i}", "x": i / 9, "y": i % 2, "text": WORDS[4 + i % 7]} for i in range(size)]
        write(files / f"{name}.jsonl", rows)
    text = ("--data.text_column=text", f"--data.tokenizer={files}/tokenizer", "--schedule=[4, 0]")
    save_tokenizer(files / "tokenizer", ["[PAD]", "[UNK]", *WORDS])
    command(files, *text, "--data.max_length=5")
    trained = linear_model.trained(files)
    save_tokenizer(files / "tokenizer", ["[PAD]", "[UNK]", *WORDS[::-1]])
    for max_length, expected in ((5, "data.tokenizer: different content"), (4, "data.max_length: 5, now 4; data.tok")):
        with pytest.raises(SystemExit):
            command(files, *text, f"--data.max_length={max_length}")
        assert f"({expected}" in said(capfd)
    save_tokenizer(files / "tokenizer", ["[PAD]", "[UNK]", *WORDS])
    command(files, *text, "--data.max_length=5")
    assert linear_model.trained(files) == trained


def test_any_changed_byte_of_a_task_s_files_is_noticed_in_its_part(small_demo, tmp_path):
    shutil.copytree(small_demo / "domains", tmp_path / "domains")
    folder = tmp_path / "domains/hostel"
    for name in PARTS:
        (tmp_path / f"{name}.json").write_text("{}")
    dialogues = DialogueDataModule(str(tmp_path), "hostel", "", pool="train30.tsv")
    events = EventDataModule(**{name: f"{tmp_path}/{name}.json" for name in PARTS})
    names = {"in_domain": "train", "out_of_domain": "train30", "val": "dev", "test": "test"}
    for part, name in names.items():
        before = [{p: module.content_of(p) for p in PARTS} for module in (dialogues, events)]
        for file in (folder / f"{name}.tsv", tmp_path / f"{part}.json"):
            content = bytearray(file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(content)
        after = [{p: module.content_of(p) for p in PARTS} for module in (dialogues, events)]
        for old, new in zip(before, after):
            assert [p for p in PARTS if old[p] != new[p]] == [part]


def test_another_test_file_is_measured_without_training(files):
    command(files)
    before, trained = scores(files), linear_model.trained(files)
    write_rows(files / "other.jsonl", 9, 3.0)
    command(files, f"--data.test={files}/other.jsonl")
    assert scores(files) != before
    command(files)
    assert scores(files) == pytest.approx(before)
    command(files, "--strategies={gradual: [20, 0]}", f"--data.test={files}/other.jsonl", name="compare")
    assert scores(files) != before
    assert linear_model.trained(files) == trained


@pytest.mark.slow
def test_the_data_of_a_strategy_counts_too(files, capfd):
    for name in ("pool", "shared"):
        write_rows(files / f"{name}.jsonl", 40, 3.0)
    strategies = f"{{plain: [5], other: {{schedule: [5], data: {{out_of_domain: {files}/pool.jsonl}}}}}}"
    command(files, f"--strategies={strategies}", name="compare")
    trained = linear_model.trained(files)
    assert trained == ["5", "5-2"]
    command(files, f"--strategies={strategies}", name="compare")
    write_rows(files / "pool.jsonl", 40, 3.0, changed=7)
    capfd.readouterr()
    with pytest.raises(SystemExit):
        command(files, f"--strategies={strategies}", name="compare")
    assert 'pool.jsonl"}: out_of_domain: different content)' in said(capfd)
    command(files, "--schedule=[5]")
    assert linear_model.trained(files) == trained
