"""`gradual export` of runs, stages and checkpoints: which can be named, from where, and which are refused."""

import json
import sys

import pytest
from exported_runs import SIZES, WORDS, check_labels, export, fit, texts, write
from tiny_models import write_model
from transformers import AutoModelForSequenceClassification, pipeline
from wrong_commands import mistake

import gradual
from gradual.__main__ import main
from gradual.runs.directory import StageDirectory
from gradual.tasks import TextClassificationData, TextClassifier

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


def test_of_a_comparison_a_stage_is_chosen(trained, tmp_path, capsys):
    run = trained["label"].parents[3]
    said = mistake(capsys, ["export", run, "--out", tmp_path / "model"])
    val = {seed: StageDirectory(run / f"seed-{seed}/8/4/0").result().val["loss"] for seed in (0, 1)}
    best = min(val, key=val.get)
    assert said.startswith(f"gradual: {run} holds a comparison: give one of its stages, such as")
    assert f"{run}/seed-{best}/8/4/0 (gradual)" in said
    assert "(in-domain only), each with the seed that has the best val/loss." in said
    assert not (tmp_path / "model").exists()


def test_a_run_whose_test_ids_repeat_or_are_empty_is_exported(trained, tmp_path):
    files = trained.files()
    rows = [{**row, "id": id_} for row, id_ in zip(texts(4), ("d1", "d1", "", "d2"))]
    run = fit(tmp_path, "TextClassifier", trained["bert"], "run", **files | {"test": write(tmp_path / "t.jsonl", rows)})
    card = (export(run, tmp_path / "model") / "README.md").read_text()
    assert "4 test" in card
    assert "test accuracy" in card


@pytest.mark.parametrize("command", ["export", "predict", "test"])
def test_what_is_no_stage(command, tmp_path, capsys):
    out = ["--out", tmp_path / "model"] if command == "export" else []
    assert "nothing does not exist: it must be a run directory" in mistake(
        capsys, [command, tmp_path / "nothing", *out]
    )
    assert "is no stage: it must be a run directory" in mistake(capsys, [command, tmp_path, *out])


def test_a_run_that_is_not_finished(trained, tmp_path, capsys):
    run = trained["merged"]
    result = run / "seed-0/0/result.json"
    kept = result.read_text()
    result.unlink()
    try:
        assert "is not finished: run gradual fit again" in mistake(capsys, ["export", run, "--out", tmp_path / "m"])
        said = mistake(capsys, ["export", run / "seed-0/0", "--out", tmp_path / "m"])
        assert "seed-0/0 is not finished" in said
        export(run / "seed-0/0/best.ckpt", tmp_path / "m", "--merge")  # its best epoch so far
        assert "not finished" in (tmp_path / "m/README.md").read_text()
    finally:
        result.write_text(kept)


def test_a_folder_with_content_is_left_alone(trained, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    kept = tmp_path / "model/notes.txt"
    kept.write_text("mine")
    assert "model exists: choose another folder" in mistake(capsys, ["export", trained["labels"], "--out", kept.parent])
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "notes.txt"]


def test_only_an_adapter_is_merged(trained, tmp_path, capsys):
    out = ["--out", tmp_path / "model", "--merge"]
    assert "has no adapter: leave out --merge" in mistake(capsys, ["export", trained["labels"], *out])
    out[1] = tmp_path / "model.safetensors"
    assert "--out must be a folder" in mistake(capsys, ["export", trained["merged"], *out])


def test_from_inside_the_run_directory(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained["labels"] / "seed-0/0")
    export("best.ckpt", tmp_path / "model")
    assert "## Training" in (tmp_path / "model/README.md").read_text()


def test_a_checkpoint_without_its_run_directory(trained, tmp_path):
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes((trained["labels"] / "seed-0/0/best.ckpt").read_bytes())
    export(copy, tmp_path / "model")
    card = (tmp_path / "model/README.md").read_text()
    assert "Labels: `any`" in card
    assert "## Training" not in card


def test_a_run_made_from_python(tmp_path, capsys):
    bert = write_model(tmp_path / "bert", "bert", WORDS)
    files = {part: write(tmp_path / f"{part}.jsonl", texts(size)) for part, size in (("in_domain", 6), ("val", 5))}
    data = TextClassificationData(**files, tokenizer=bert, cache_dir=str(tmp_path / "cache"), num_proc=1, max_length=5)
    gradual.fit(TextClassifier(bert), data, [0], tmp_path / "run", max_epochs=1)
    export(tmp_path / "run", tmp_path / "model")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert loaded.config.label2id == {"neg": 0, "neutral": 1, "pos": 2}
    said = mistake(capsys, ["predict", tmp_path / "run"])
    assert "was made from Python" in said
    assert f"--ckpt_path {tmp_path / 'run/seed-0/0/best.ckpt'}" in said


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A run that names the folder of its model as it is seen from the folder where it was trained."""
    root = tmp_path_factory.mktemp("moved")
    write_model(root / "bert", "bert", WORDS)
    files = {part: write(root / f"{part}.jsonl", texts(size)) for part, size in SIZES.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(sys, "argv", ["gradual"])
        fit(root, "TextClassifier", "bert", "run", **files)
    return root


def commands(run, out):
    yield "--pretrained", ["export", run, "--out", out / "model"]
    yield "--model.pretrained", ["predict", run, "--predictions", out / "predictions.jsonl"]
    yield "--model.pretrained", ["test", run]
    yield "--model.pretrained", ["validate", run]


def test_another_tokenizer_of_the_name_that_a_run_recorded_is_refused(moved, tmp_path, monkeypatch, capsys):
    (there := tmp_path / "there").mkdir()
    write_model(there / "bert", "bert", WORDS[::-1])  # as many words
    monkeypatch.chdir(there)
    for option, command in commands(moved / "run", tmp_path):
        said = mistake(capsys, command)
        assert f"bert has another tokenizer than the one that {moved / 'run'} was trained with" in said
        assert f"{option} FOLDER" in said
    assert list(tmp_path.iterdir()) == [there]
    for option, command in commands(moved / "run", tmp_path):
        main([*map(str, command), f"{option}={moved / 'bert'}"])
    assert (tmp_path / "predictions.jsonl").exists()
    texts_and_labels = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    found = pipeline("text-classification", str(tmp_path / "model"), truncation=True)([row["text"] for row in texts(9)])
    check_labels(found, texts_and_labels)


def test_a_folder_that_is_missing_is_not_asked_of_the_hub(moved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for option, command in commands(moved / "run", tmp_path):
        said = mistake(capsys, command)
        assert "The folder bert does not exist: run the command in the folder where" in said
        assert f"{option} FOLDER" in said
    said = mistake(capsys, ["export", moved / "run", "--out", tmp_path / "m", "--pretrained", tmp_path / "none"])
    assert "none: it must be a folder" in said
    said = mistake(capsys, ["export", moved / "run", "--out", "a.safetensors", "--pretrained", moved / "bert"])
    assert "--pretrained is for a whole folder" in said
    assert not list(tmp_path.iterdir())
