"""What states hold is read back from checkpoints exactly and without running code, or refused before the first step."""

import collections
import datetime
import decimal
import enum
import io
import uuid
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback
from step_counting_runs import Net, PowerCut, Stop, data, fit
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from gradual import InputError, MixedDomainDataModule
from gradual.runs.checkpoint import WholeCheckpointIO, read_checkpoint
from gradual.runs.serialization import TABLE, from_plain, to_plain


def through_a_file(content):
    """What torch reads of ``content``, allowing no code, made what it was."""
    file = io.BytesIO()
    torch.save(to_plain(content), file)
    file.seek(0)
    return from_plain(torch.load(file, weights_only=True))


def same(left, right):
    """Whether two values are the same in type and content, in all depth."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, np.generic):
        return left.dtype == right.dtype and left.tobytes() == right.tobytes()
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list | tuple | collections.deque):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


VALUES = [
    *[np.dtype(name).type(1) for name in ("bool", "int8", "uint16", "int32", "int64", "uint64")],
    *[np.dtype(name).type(0.1) for name in ("float16", "float32", "float64", "complex64", "complex128")],
    *[np.float64("inf"), np.str_("a"), np.bytes_(b"a")],
    *[np.zeros(3, dtype=name) for name in ("bool", "uint8", "int16", "uint32", "uint64", "float16", "float64")],
    *[np.ones(2, dtype=np.complex64), b"", np.array([b"", b"a"])],
    *[np.arange(6).reshape(2, 3).T, np.arange(6)[::-2], np.array(3.0), np.empty((0, 2)), np.arange(3, dtype=">i4")],
    *[np.array(["a", "äöü"]), np.array([b"a"]), np.array(["2020-01-02"], dtype="datetime64[D]")],
    *[Path("a/b"), PurePosixPath("a"), datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5, 6)],
    *[datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), datetime.time(1, 2)],
    datetime.timedelta(days=-1, microseconds=7),
    *[uuid.UUID(int=7), decimal.Decimal("0.10"), frozenset({1, 2}), range(1, 9, 3), 10**40, 1j, b"a", bytearray(b"a")],
    *[collections.deque([np.float32(1)], maxlen=3), {1, np.int64(2)}, collections.Counter("ab"), torch.float16, None],
    collections.OrderedDict(b=Path("b"), a=(1, (np.float64(2), [Path("c")]))),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__} {value}")
def test_values_are_loaded_as_they_were_saved(value):
    content = {"callbacks": {"A": {"x": value, "y": [value, {"z": (value,)}]}}, "epoch": 3, "weights": torch.ones(2)}
    assert same(through_a_file(content), content)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.dates(),
    st.datetimes(), st.timedeltas(), st.uuids(), st.builds(np.float32, st.floats(width=32, allow_nan=False)),
    st.builds(np.int16, st.integers(-9, 9)), st.lists(st.floats(allow_nan=False), max_size=3).map(np.array),
    st.text("ab/", min_size=1, max_size=5).map(Path),
)  # fmt: skip
contents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(contents)
def test_states_of_any_plain_types_are_restored_exactly(value):
    assert same(through_a_file({"state": value}), {"state": value})


def test_plain_data_is_written_as_it_is_and_tensors_are_not_copied():
    content = {"state_dict": {"a": torch.ones(2)}, "callbacks": {"A": {"x": [1, (2.0, "c")]}}}
    plain = to_plain(content)
    assert plain == content
    assert plain["callbacks"] is content["callbacks"]
    assert plain["state_dict"]["a"] is content["state_dict"]["a"]
    mixed = to_plain(content | {"b": np.float64(3)})
    assert mixed["state_dict"] is content["state_dict"]
    assert TABLE in mixed


def test_others_read_a_number_text_or_tensor_where_something_else_was():
    """Who reads the file with torch alone finds the plain value in its place."""
    file = io.BytesIO()
    torch.save(to_plain({"best": np.float64(0.3), "file": Path("a"), "counts": np.arange(3), 1: "b"}), file)
    file.seek(0)
    content = torch.load(file, weights_only=True)
    assert (content["best"], content["file"], content["counts"].tolist()) == (0.3, "a", [0, 1, 2])


class Colour(enum.Enum):
    RED = 1


class Thing:
    pass


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"callbacks": {"Score{'a': 1}": {"x": {"y": Thing()}}}},
         r"^The state of the callback Score holds a [\w.]+\.Thing under 'x\.y'"),
        ({"callbacks": {"Score": {"y": np.array([Thing()])}}}, r"Score holds a numpy\.ndarray of object under 'y'"),
        ({"callbacks": {"Score": {"y": np.ones(1, dtype=[("a", "i4")])}}}, "numpy.ndarray of .* under 'y'"),
        ({"callbacks": {"Score": {Path("a"): 1}}}, "under 'its keys'"),
        ({"optimizer_states": [{"state": {0: {"fn": print}}}]}, "^The state of the optimizer holds a builtin_f"),
        ({"lr_schedulers": [{"kind": Colour.RED}]}, "^The state of the learning-rate scheduler .*Colour"),
        ({"best": [collections.namedtuple("P", "x")(1)]}, r"^What on_save_checkpoint or .*under 'best\.0'"),
        ({"best": datetime.datetime(2020, 1, 1, tzinfo=__import__("zoneinfo").ZoneInfo("Europe/Berlin"))}, "datetime"),
        ({"best": collections.defaultdict(list)}, "a collections.defaultdict under 'best'"),
    ],
)  # fmt: skip
def test_states_that_cannot_be_read_back_are_named(content, said):
    with pytest.raises(InputError, match=said) as refused:
        to_plain(content)
    assert "\n" not in str(refused.value)


def test_a_table_makes_nothing_but_what_we_write():
    """A file of a stranger's has a table, too."""
    for kind in ("os.system", "builtins.eval", "numpy.array Thing", "Thing"):
        with pytest.raises((KeyError, TypeError, ValueError)):
            from_plain({"a": "echo", TABLE: {"inside": {"a": {"kind": kind}}}})


# ------------------------------------------------------------------------------------------------------------ in stages


class Noted(Callback):
    """Has a state of its own, and notes what it gets back."""

    restored = None

    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state_dict):
        Noted.restored = state_dict


class Cosine(Net):
    """A schedule made with numpy, and a rate from it."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=np.logspace(-3, -1, 3)[1])
        return {"optimizer": optimizer, "lr_scheduler": LambdaLR(optimizer, lambda epoch: np.cos(epoch / 10))}

    def on_save_checkpoint(self, checkpoint):
        checkpoint["best"] = {"score": np.float64(0.3), "file": Path("a"), "weights": np.arange(3)}

    def on_load_checkpoint(self, checkpoint):
        assert same(checkpoint["best"], {"score": np.float64(0.3), "file": Path("a"), "weights": np.arange(3)})


class Indexed(MixedDomainDataModule):
    """Data with a state."""

    restored = None

    def state_dict(self):
        return {"order": np.arange(3), "when": datetime.date(2020, 1, 1)}

    def load_state_dict(self, state_dict):
        Indexed.restored = state_dict


def indexed():
    return Indexed(*data()._given, batch_size=4)


def test_a_run_with_numpy_in_every_state_resumes_to_the_same_result(tmp_path):
    state = {
        "best": np.float32(0.1),
        "scores": np.linspace(0, 1, 3),
        "file": Path("x"),
        "at": datetime.date(2020, 1, 1),
    }
    _, whole = fit(tmp_path / "a", Cosine(), datamodule=indexed(), callbacks=[Noted(state)])
    with pytest.raises(PowerCut):
        fit(tmp_path / "b", Cosine(), datamodule=indexed(), callbacks=[Noted(state), Stop(9)])
    _, again = fit(tmp_path / "b", Cosine(), datamodule=indexed(), callbacks=[Noted(state)])
    assert same(Noted.restored, state)
    assert same(Indexed.restored, indexed().state_dict())
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    for path in tmp_path.rglob("*.ckpt"):
        torch.load(path, weights_only=True)
    assert same(read_checkpoint(tmp_path / "a/run/seed-0/24/best.ckpt")["best"]["file"], Path("a"))


@pytest.mark.parametrize("where", ["callback", "module", "data"])
def test_states_that_could_not_be_read_back_are_refused_before_the_first_step(tmp_path, where, monkeypatch):
    model, callbacks = Net(), []
    if where == "callback":
        callbacks = [Noted({"y": Thing()})]
    elif where == "module":
        monkeypatch.setattr(Net, "on_save_checkpoint", lambda self, checkpoint: checkpoint.update(thing=Thing()))
    else:
        monkeypatch.setattr(Indexed, "state_dict", lambda self: {"thing": Thing()})
    with pytest.raises(InputError, match=r"holds a [\w.]+\.Thing under '[a-zA-Z.]+', which cannot"):
        fit(tmp_path, model, datamodule=indexed(), callbacks=callbacks)
    assert model.steps == 0


def test_the_trial_leaves_no_file(tmp_path):
    with pytest.raises(PowerCut):
        fit(tmp_path, callbacks=[Stop(0)], collapse={"attempts": 0})
    assert not [path for path in tmp_path.rglob("*") if "trial" in path.name or path.suffix == ".ckpt"]
    assert not Path("trial").exists()


def test_states_that_appear_with_the_first_step_are_converted_too(tmp_path):
    class Late(torch.optim.SGD):
        def step(self, closure=None):
            loss = super().step(closure)
            for group in self.param_groups:
                group["mean"] = np.float32(0.5)
            return loss

    class Model(Net):
        def configure_optimizers(self):
            return Late(self.parameters(), lr=0.05)

    with pytest.raises(PowerCut):
        fit(tmp_path, Model(), [24], callbacks=[Stop(9)])
    content = torch.load(tmp_path / "run/seed-0/24/last.ckpt", weights_only=True)
    assert content["optimizer_states"][0]["param_groups"][0]["mean"] == 0.5
    result, _ = fit(tmp_path, Model(), [24])
    assert len(result.stages) == 1


def test_states_that_appear_later_and_could_not_be_read_back_are_refused_when_saved(tmp_path):
    class Late(Noted):
        def on_train_batch_end(self, *args):
            self.state["thing"] = Thing()

    with pytest.raises(InputError, match=r"callback Late holds a .*Thing under 'thing'"):
        fit(tmp_path, callbacks=[Late({})])


def test_a_user_s_own_way_to_write_files_is_tried_as_it_is(tmp_path):
    class Own(TorchCheckpointIO):
        pass

    with pytest.raises(InputError, match=r"callbacks.*CheckpointIO plugin cannot read back"):
        fit(tmp_path, callbacks=[Noted({"best": np.float64(1)})], plugins=[Own()])
    result, _ = fit(tmp_path / "b", plugins=[Own()])
    assert len(result.stages) == 3


def test_weights_are_loaded_under_the_names_of_the_module(tmp_path):
    compiled = nn.Sequential(torch.compile(nn.Linear(2, 2), backend="eager"))
    plain = nn.Sequential(nn.Linear(2, 2))
    files = WholeCheckpointIO({}, plain)
    files.save_checkpoint({"state_dict": compiled.state_dict()}, tmp_path / "a.ckpt")
    plain.load_state_dict(files.load_checkpoint(tmp_path / "a.ckpt")["state_dict"])
    assert torch.equal(plain[0].weight, compiled[0].weight)
    content = WholeCheckpointIO({}, compiled).load_checkpoint(tmp_path / "a.ckpt")
    compiled.load_state_dict(content["state_dict"])
