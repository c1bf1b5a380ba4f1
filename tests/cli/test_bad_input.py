"""Whatever is wrong with what a user gives: one sentence on standard error, and no traceback."""

import json
import os
import pkgutil
from pathlib import Path

import pytest
import torch
import yaml
from events_files import document, sentence, write_documents
from slow_cases import fast_one_in
from wrong_commands import mistake

from gradual.cli.class_paths import GROUPS_OF_SETTINGS

DEMO = Path(__file__).parents[2] / "gradual/cli/demo.yaml"


def demo_arguments(command, root, *more):
    data = [f"--data.root={root}", "--data.pool=train30.tsv", f"--model.encoder={root}/encoder"]
    schedule = [] if command in ("validate", "test", "predict") else ["--schedule=[10, 0]"]
    return [command, f"--config={DEMO}", *data, "--trainer.accelerator=cpu", *schedule, *more]


CONFIGURATIONS = {
    "is missing": (None, "bad.yaml"),
    "is a folder": (Path.mkdir, "bad.yaml"),
    "is no YAML": ("patience: 3\nschedule: [10, 0", "bad.yaml:2: not valid YAML"),
    "has a tab": ("trainer:\n\tmax_epochs: 1", "bad.yaml:2: not valid YAML"),
    "is a list": ("- schedule\n- [10, 0]\n", "bad.yaml is a list: it must be a mapping"),
    "is a text": ("schedule", "bad.yaml is text: it must be a mapping"),
    "is no UTF-8": (b"run_dir: caf\xe9\n", "bad.yaml:1: not UTF-8"),
    "has NUL bytes": (b"run_dir: a\0b\n", "bad.yaml: not valid YAML"),
    "runs Python": ("mode: min\nrun_dir: !!python/object/apply:os.getcwd []", "bad.yaml:2: the tag"),
    "has a setting twice": ("patience: 1\nmode: min\npatience: 2", "bad.yaml:3: the setting 'patience' appears twice"),
    "has an empty group": ("patience: 1\noptimizer:\n", "bad.yaml:2: optimizer has no settings"),
    "has an empty group in one": ("later_stages:\n  lr_schedule: null", "bad.yaml:2: lr_schedule has no settings"),
    "has an unknown alias": ("run_dir: *other", "bad.yaml:1: not valid YAML"),
    "has another setting": ("shedule: [10, 0]", "Did you mean 'schedule'?"),
    "has a setting of another kind": ("trainer: {max_epochs: many}", "max_epochs"),
    "has a mapping for a number": ("patience: {of: 3}", "patience"),
    "has a list for the model": ("model: [a, b]", "model"),
    "has settings beside a class": (
        "model: {class_path: a.B, width: 3}",
        "bad.yaml:1: model has 'width' beside class_path",
    ),
    "has settings beside a callback's": (
        "trainer:\n  callbacks:\n    - {class_path: a.B,\n       monitor: x}",
        "bad.yaml:4: callbacks has 'monitor' beside class_path; they belong in init_args.",
    ),
    "has a class that is none": ("model: {class_path: os.getcwd}", "model"),
    "nests without end": ("schedule: " + "[" * 2000 + "]" * 2000, "bad.yaml: not valid YAML"),
}


SLOW = pytest.param("nests without end", marks=pytest.mark.slow)  # which PyYAML is slow to refuse


@pytest.mark.parametrize("kind", [SLOW if kind in SLOW.values else kind for kind in CONFIGURATIONS])
def test_a_configuration(small_demo, tmp_path, capfd, kind):
    content, said = CONFIGURATIONS[kind]
    path = tmp_path / "bad.yaml"
    if callable(content):
        content(path)
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert said in mistake(capfd, [*demo_arguments("plan", small_demo), f"--config={path}"])


OPTIONS = {
    "--run_dir={file}": "cannot be created",
    "--run_dir={file}/below": "cannot be created",
    "--data.root={file}": "is not a folder of dialogue files",
    "--data.root=": "is not a folder of dialogue files",
    "--data.domain=../../..": "ontology.json: No such file or directory",
    "--data.pool=.": "Is a directory",
    "--data.pool=none.tsv": "No such file",
    "--data.pool=../../encoder/config.json": "config.json:1: found 1 columns",
    "--data.predict_file={folder}": "Is a directory",
    "--data.max_length=-1": "max_length is -1",
    "--data.max_length=10000": "max_length is 10000",
    "--data.batch_size=0": "batch_size is 0",
    "--data.batch_size=1e400": "batch_size",
    "--data.num_workers=-1": "num_workers",
    "--model.encoder={file}": "cannot be loaded as an encoder",
    "--model.encoder={folder}": "cannot be loaded as an encoder",
    "--model.encoder=a\nb": "cannot be loaded as an encoder",
    "--model.hidden=0": "hidden",
    "--schedule=[1e400]": "schedule",
    "--schedule=[.nan]": "schedule",
    "--schedule=[99999999999999999999]": "the pool holds 30",
    "--seed_everything=-1": "seed",
    "--seed_everything=99999999999999999999": "seed",
    "--trainer.max_epochs=x": "max_epochs",
    "--trainer.max_epochs=0": "trainer.max_epochs is 0: it must be an integer of at least 1, or -1 for no limit",
    "--trainer.accumulate_grad_batches=0": "trainer.accumulate_grad_batches is 0: it must be an integer of at least 1",
    "--trainer.precision=17": "precision",
    "--optimizer.lr=nan": "optimizer.lr",
}


@pytest.mark.parametrize("option", fast_one_in(3, OPTIONS))
def test_an_option(small_demo, tmp_path, capfd, option):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    given = option.format(file=tmp_path / "file", folder=tmp_path / "folder")
    run_dir = [] if "run_dir" in option else [f"--run_dir={tmp_path}/run"]
    assert OPTIONS[option] in mistake(capfd, demo_arguments("fit", small_demo, *run_dir, given))


@pytest.mark.parametrize("command", ["fit", "validate"])
@pytest.mark.parametrize("option", fast_one_in(3, ["accelerator=abacus", "devices=0", "accelerator=gpu"]))
def test_an_option_that_the_trainer_refuses(small_demo, tmp_path, capfd, command, option):
    if option == "accelerator=gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    run_dir = [f"--run_dir={tmp_path}/run"] if command == "fit" else []
    given = demo_arguments(command, small_demo, *run_dir, f"--trainer.{option}")
    assert "The Trainer cannot be made" in mistake(capfd, given)


@pytest.mark.parametrize("seeds", fast_one_in(3, ["[-1]", "[0, 4294967296]", "[]"]))
def test_seeds_are_refused_before_anything_is_trained(small_demo, tmp_path, capfd, seeds):
    given = demo_arguments("compare", small_demo, f"--run_dir={tmp_path}/run", "--strategies=null", f"--seeds={seeds}")
    assert f"seeds is {seeds}: it must be a list of integers from 0 to 4294967295" in mistake(capfd, given)
    assert not list(tmp_path.glob("run/seed*"))


@pytest.mark.parametrize("devices", fast_one_in(3, ["2", "[0, 1]", "0,1"]))
def test_stages_that_train_at_once_have_one_device_each(small_demo, tmp_path, capfd, devices):
    given = demo_arguments("compare", small_demo, f"--run_dir={tmp_path}/run", f"--trainer.devices={devices}")
    given.append("--strategies=null")
    for at_once in ("--jobs=2", "--ray=local"):
        assert "each stage must be trained on one device" in mistake(capfd, [*given, at_once])


def event_arguments(root, **files):
    data = [f"--data.{name}={path}" for name, path in ({"in_domain": "a.json", "val": "a.json"} | files).items()]
    classes = ["--model=gradual.tasks.events.EventExtractor", "--data=gradual.tasks.events.EventDataModule"]
    return ["plan", *classes, f"--model.encoder={root}/encoder", "--optimizer.lr=0.1", *data]


DOCUMENTS = [
    ({"in_domain": "none.json"}, "none.json: No such file or directory"),
    ({"val": "."}, ": Is a directory"),
    ({"test": "d.json"}, "d.json:1: not UTF-8"),
    ({"out_of_domain": "b.json"}, "b.json:1: ner[0][0]: found the token index 1"),
    ({"in_domain": "c.json", "val": "e.json"}, "nothing to learn"),
    ({}, "the in-domain data is also in the validation or test data"),
    ({"out_of_domain_labels": "some"}, "it must be all or own"),
    ({"max_span_width": 0}, "max_span_width is 0"),
    ({"batch_tokens": 0}, "batch_tokens is 0"),
]


@pytest.mark.parametrize(("given", "said"), fast_one_in(3, DOCUMENTS))
def test_documents(small_demo, tmp_path, capfd, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    write_documents(Path("a.json"), [document("a", sentence("they met", events=[(1, "Meet", [])]))])
    Path("b.json").write_text('{"doc_key": "b", "sentences": [["a"]], "ner": [[[0, 1, "PER"]]]}\n')
    Path("c.json").write_text(json.dumps({"doc_key": "c", "sentences": [["a"]]}) + "\n")
    Path("e.json").write_text(json.dumps({"doc_key": "e", "sentences": [["a"]]}) + "\n")
    Path("d.json").write_bytes(b"\xff\xfe{\x00}\x00")
    assert said in mistake(capfd, event_arguments(small_demo, **given))


def test_other_commands(small_demo, tmp_path, capfd):
    (tmp_path / "file").write_text("x")
    (tmp_path / "compare.json").write_text("[1, 2")
    for given, said in (
        (["report", str(tmp_path / "none")], "compare.json is missing"),
        (["report", str(tmp_path / "file")], "holds no comparison"),
        (["report", str(tmp_path)], "compare.json cannot be read"),
        (["report"], "RUN_DIR"),
        (["convert", "standoff", str(tmp_path / "file"), "--out", "x"], "cannot be read: Not a directory"),
        (["convert", "brat", str(tmp_path), "--out", "x"], "invalid choice: 'brat'"),
        (["init", "--demo", "--out", "x.yaml"], "--demo takes no other option: leave out --out."),
        (["init", "--in_domain", "a", "--out", "x"], "needs --out_of_domain, --val, --pretrained (or --demo alone)"),
        (["download", "multiwoz", "--out", str(tmp_path), "--mirror", "ftp://x"], "--mirror must be an address"),
        (["export", str(tmp_path / "file"), "--out", str(tmp_path / "x.safetensors")], "not end as a checkpoint does"),
        (["export", str(tmp_path / "file")], "--out"),
        ([], "COMMAND"),
    ):
        assert said in mistake(capfd, given)


@pytest.mark.parametrize("target", fast_one_in(3, ["folder", "file/x.jsonl", "a\0b"]))
def test_predictions_that_cannot_be_written(small_demo, tmp_path, capfd, target):
    """Said before anything is predicted."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    given = demo_arguments("predict", small_demo, f"--predictions={tmp_path}/{target}")
    assert "The predictions cannot be written to" in mistake(capfd, given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--model.lora=16", "model.lora is 16: it must be a mapping of settings, such as {r: 16}."),
        ("--model.lora=true", "model.lora is true: it must be a mapping of settings, such as {r: 16}."),
        ("--model.lora=r:8", "model.lora is 'r:8': it must be a mapping of settings, such as {r: 16}."),
        ("--model.lora={rank: 8}", "model.lora has no setting 'rank'. Did you mean 'model.lora.r'?"),
        ("--model.lora={r: many}", "model.lora.r is 'many': it must be an integer."),
        (
            "--model.lora={class_path: a.B, r: 3}",
            "model.lora has no setting 'class_path'; its settings are alpha, dropout,",
        ),
        ("--data.order={bye: ngrams}", "data.order has no setting 'bye'. Did you mean 'data.order.by'?"),
    ],
)
def test_groups_of_settings_have_their_own_names(capfd, given, said):
    """As a user writes them, and not those of the dataclasses that hold them."""
    more = ["--model=TextClassifier", "--model.pretrained=none", "--data.in_domain=none.jsonl"]
    assert mistake(capfd, ["plan", *more, given]).startswith(f"gradual: {said}")


def test_each_group_of_settings_accepts_its_example():
    for path, (_, example) in GROUPS_OF_SETTINGS.items():
        assert pkgutil.resolve_name(path)(**yaml.safe_load(example))


def read_files(root):
    """A file for each way in which a setting can name one that `predict` reads."""
    own, checkpoint, config = root / "own.tsv", root / "best.ckpt", root / "own.yaml"
    own.write_text("rows")
    checkpoint.write_text("weights")
    config.write_text("patience: 3\n")
    (root / "link.tsv").symlink_to(own)
    return {
        "data": (own, f"--data.predict_file={own}", "data.predict_file"),
        "a link to it": (own, f"--data.predict_file={root / 'link.tsv'}", "data.predict_file"),
        "a pattern": (own, f"--data.predict_file={root}/o*.tsv", "data.predict_file"),
        "the checkpoint": (checkpoint, f"--ckpt_path={checkpoint}", "ckpt_path"),
        "a configuration": (config, f"--config={config}", "config"),
    }


@pytest.mark.parametrize("what", ["data", "a link to it", "a pattern", "the checkpoint", "a configuration"])
def test_predictions_replace_no_file_that_is_read(small_demo, tmp_path, capfd, what):
    target, setting, name = read_files(tmp_path)[what]
    before = target.read_text()
    line = mistake(capfd, demo_arguments("predict", small_demo, setting, f"--predictions={target}"))
    said = f"The predictions would replace {target}, which {name} names: set --predictions to another file."
    assert line == f"gradual: {said}"
    assert target.read_text() == before


def test_a_refused_predict_leaves_no_file(small_demo, tmp_path, capfd):
    target = tmp_path / "found.jsonl"
    given = demo_arguments("predict", small_demo, f"--predictions={target}", f"--ckpt_path={tmp_path}/none.ckpt")
    assert "none.ckpt" in mistake(capfd, given)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(small_demo, tmp_path, capfd):
    path = tmp_path / "train.tsv"
    path.write_text("x")
    path.chmod(0)
    assert "Permission denied" in mistake(capfd, demo_arguments("plan", small_demo, f"--data.predict_file={path}"))
