"""`gradual export`: a checkpoint's weights as safetensors, the same to the bit, and what it says of them."""

import json
import os
import resource
from contextlib import suppress
from pathlib import PurePosixPath

import pytest
import torch
from damaged_bytes import mutate, mutations
from hypothesis import given
from safetensors import safe_open
from safetensors.torch import load_file

from gradual.__main__ import main
from gradual.cli.export import export
from gradual.errors import InputError
from gradual.runs.checkpoint import read_checkpoint


def state():
    shared = torch.arange(6.0).reshape(2, 3)
    return {
        "model.encoder.weight": shared,
        "model.tied.weight": shared,  # two names of one tensor
        "model.part": shared.t()[1:],  # not contiguous, and a part of another
        "model.half": torch.tensor([1.5, -0.0, float("inf")], dtype=torch.bfloat16),
        "model.mask": torch.tensor([True, False]),
        "model.empty": torch.zeros(0, 4, dtype=torch.int64),
        "model.scalar": torch.tensor(7),
    }


def checkpoint(path, **content):
    torch.save({"pytorch-lightning_version": "2.6.0", "state_dict": state(), **content}, path)
    return path


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_weights_come_back_to_the_bit(tmp_path, capsys):
    out = tmp_path / "new" / "best.safetensors"
    main(["export", str(checkpoint(tmp_path / "best.ckpt")), "--out", str(out)])
    assert capsys.readouterr().out == f"{out}: 7 tensors of {tmp_path / 'best.ckpt'}\n"
    read = load_file(out)
    assert sorted(read) == sorted(state())
    for name, tensor in state().items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_the_checkpoint_s_description_of_its_model_is_exported_too(tmp_path):
    hyperparameters = {"_class_path": "a.Model", "_instantiator": "x", "encoder": "é/b", "hidden": 100, "layers": None}
    labels = {"ner": ["PER"], "triggers": []}
    plain = {"labels": labels, "max_span_width": 8, "slots": {"hotel-area": ["north", "none"]}}
    path = checkpoint(tmp_path / "a.ckpt", hyper_parameters=hyperparameters, **plain)
    assert export(path, tmp_path / "a.safetensors") == 7
    found = metadata(tmp_path / "a.safetensors")
    assert found["class"] == "a.Model"
    assert json.loads(found["hyperparameters"]) == {"encoder": "é/b", "hidden": 100, "layers": None}
    assert json.loads(found["labels"]) == labels
    assert found["max_span_width"] == "8"
    assert json.loads(found["slots"]) == {"hotel-area": ["north", "none"]}


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_file_is_for_those_whom_the_system_lets_read_files(tmp_path, mask):
    before = os.umask(mask)
    try:
        export(checkpoint(tmp_path / "a.ckpt"), tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask


def test_hyperparameters_that_are_no_plain_data_are_left_out(tmp_path):
    path = checkpoint(tmp_path / "a.ckpt", hyper_parameters={"classes": {1, 2}, "rate": float("nan")})
    export(path, tmp_path / "a.safetensors")
    assert set(metadata(tmp_path / "a.safetensors")) == {"format", "gradual"}


def test_a_file_that_exists_is_left_as_it_is(tmp_path, capsys):
    out = tmp_path / "model.safetensors"  # perhaps the pretrained weights
    out.write_bytes(b"old")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(checkpoint(tmp_path / "a.ckpt")), "--out", str(out)])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"gradual: --out {out} exists: choose another file, or remove it.\n"
    assert out.read_bytes() == b"old"


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def fails(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(InputError, match=r"cannot be written: No space left on device\.$"):
        export(checkpoint(tmp_path / "a.ckpt"), tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_disk_that_takes_no_more_is_one_sentence(tmp_path):
    """No file may grow beyond a few bytes: what is written by safetensors itself fails."""
    path = checkpoint(tmp_path / "a.ckpt")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))
    try:
        with pytest.raises(InputError, match=r"^--out .* cannot be written: File too large\.$"):
            export(path, tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def save(path, content):
    torch.save(content, path)


NO_CHECKPOINTS = {
    "nothing": (lambda path: None, "does not exist: it must be a run directory"),
    "a folder": (lambda path: path.mkdir(), "is no stage: it must be a run directory"),
    "an empty file": (lambda path: path.write_bytes(b""), "not end as a checkpoint does"),
    "a text": (lambda path: path.write_text("weights"), "not end as a checkpoint does"),
    "half a file": (lambda path: path.write_bytes(checkpoint(path).read_bytes()[:900]), "not end as a checkpoint does"),
    "a list": (lambda path: save(path, [1]), "is not a Lightning checkpoint"),
    "weights alone": (lambda path: save(path, state()), "is not a Lightning checkpoint"),
    "no version": (lambda path: save(path, {"state_dict": state()}), "is not a Lightning checkpoint"),
    "weights as a list": (lambda path: checkpoint(path, state_dict=[1]), "is not a Lightning checkpoint"),
    "a number as weight": (lambda path: checkpoint(path, state_dict={"a": 1}), "the weight 'a' is not a tensor"),
    "an object": (lambda path: checkpoint(path, extra=PurePosixPath("a")), "contains more than tensors and plain data"),
}


@pytest.mark.parametrize("kind", NO_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, capsys, kind):
    make, said = NO_CHECKPOINTS[kind]
    make(tmp_path / "a.ckpt")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "a.ckpt"), "--out", str(tmp_path / "a.safetensors")])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gradual: {tmp_path / 'a.ckpt'}")
    assert said in line
    assert not (tmp_path / "a.safetensors").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@given(changes=mutations(b"\0", b"PK", b"cos\nsystem\n", b"x" * 64))
def test_a_damaged_checkpoint_is_refused_or_has_the_same_weights(folder, changes):
    weight = torch.arange(8000.0)  # most of the file
    path = checkpoint(folder / "a.ckpt", state_dict={"weight": weight})
    path.write_bytes(mutate(path.read_bytes(), changes))
    with suppress(InputError):
        assert torch.equal(read_checkpoint(path)["state_dict"]["weight"], weight)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = checkpoint(tmp_path / "a.ckpt", state_dict={"weight": torch.arange(8000.0)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be loaded \(the checksum of its part a/data/0 does not match\)"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("a.bin", "is no model of transformers: its weights can be written to a file whose name ends in .safetensors"),
        ("folder.safetensors", "folder.safetensors exists: choose another file, or remove it."),
        ("a.ckpt/b.safetensors", "File exists"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(tmp_path, capsys, out, said):
    (tmp_path / "folder.safetensors").mkdir()
    checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "a.ckpt"), "--out", str(tmp_path / out)])
    assert said in capsys.readouterr().err
