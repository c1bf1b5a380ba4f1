"""Folders of ``save_to_disk`` come out as the datasets that were saved, with the names of their labels."""

import tempfile
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from row_files import refused

from gradual import FileDataModule
from gradual.data.formats import Columns
from gradual.data.saved_datasets import read_saved

NAMES = ["O", "B-PER", "I-PER", "é"]
LABEL = st.integers(0, 3)
KINDS = {
    "text": (Value("string"), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
    "number": (Value("int32"), st.integers(-(2**31), 2**31 - 1)),
    "share": (Value("float64"), st.floats(allow_nan=False)),
    "label": (ClassLabel(names=NAMES), LABEL),
    "tags": (datasets.Sequence(ClassLabel(names=NAMES)), st.lists(LABEL, max_size=3)),
    "pairs": (datasets.Sequence(ClassLabel(names=NAMES), length=2), st.lists(LABEL, min_size=2, max_size=2)),
    "many": (datasets.LargeList(ClassLabel(names=NAMES)), st.lists(LABEL, max_size=3)),
    "levels": (datasets.Sequence(datasets.Sequence(ClassLabel(names=NAMES))), st.lists(st.lists(LABEL, max_size=2))),
    "words": (datasets.Sequence(Value("string")), st.lists(st.text("ab", max_size=2), max_size=3)),
    "object": ({"a": Value("int64"), "b": Value("string")}, st.fixed_dictionaries({"a": LABEL, "b": st.text("ab")})),
}
LABELLED = ("label", "tags", "pairs", "many", "levels")


@pytest.fixture(autouse=True)
def no_progress_bars():
    datasets.disable_progress_bars()


def named(value):
    """Labels as their names, also in lists."""
    return [named(part) for part in value] if isinstance(value, list) else None if value is None else NAMES[value]


def examples(path: Path, names=None) -> list[dict]:
    found = []
    for rows in read_saved(path, Columns(names)):
        assert len(rows.places) == len(next(iter(rows.columns.values())))
        found += pa.table(rows.columns).to_pylist()
    return found


@st.composite
def tables(draw):
    """Random columns with gaps, and some of their rows by number."""
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4, unique=True))
    row = st.fixed_dictionaries({kind: st.none() | KINDS[kind][1] for kind in kinds})
    rows = draw(st.lists(row, min_size=1, max_size=6))
    return rows, draw(st.none() | st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6))


@settings(max_examples=20)
@given(tables())
def test_datasets_come_out_as_they_were_saved(case):
    rows, order = case
    saved = Dataset.from_list(rows, features=Features({kind: KINDS[kind][0] for kind in rows[0]}))
    if order is not None:
        saved, rows = saved.select(order), [rows[index] for index in order]
    with tempfile.TemporaryDirectory() as name:
        saved.save_to_disk(f"{name}/saved", num_shards=min(2, len(rows)))
        found = examples(Path(name) / "saved")
        first = next(iter(rows[0]))
        assert [row[first] for row in examples(Path(name) / "saved", (first,))] == [row[first] for row in found]
    assert found == [{kind: named(value) if kind in LABELLED else value for kind, value in row.items()} for row in rows]


def save(path: Path, rows, **features) -> str:
    given = Features(features) if features else None
    Dataset.from_list(rows, features=given).save_to_disk(str(path))
    return str(path)


@pytest.fixture
def make(tmp_path):
    def make(*files, **settings):
        return FileDataModule(*files, cache_dir=str(tmp_path / "cache"), num_proc=1, **settings)

    return make


def test_labels_keep_their_names_in_a_data_module(make, tmp_path):
    label = ClassLabel(names=["good", "bad"])
    rows = [{"id": k, "label": k % 2} for k in range(2500)]
    train = save(tmp_path / "train", rows, id=Value("int64"), label=label)
    other = save(tmp_path / "other", [{"id": 9, "label": 1}], id=Value("int64"), label=ClassLabel(names=["x", "good"]))
    data = make(train, train, other, label_column="label", id_column="id")
    data.setup()
    assert data.label_names == ["bad", "good"]
    assert [data.domains.in_domain[index] for index in (0, 2499)] == [
        {"id": "0", "label": 1},
        {"id": "2499", "label": 0},
    ]
    assert data.domains.val[0] == {"id": "9", "label": 1}  # its own number for good
    assert data.in_domain_size == 2499
    assert data.content_of("in_domain") == data.content_of("out_of_domain") != data.content_of("val")


def test_a_changed_dataset_is_read_again(make, tmp_path):
    path = save(tmp_path / "a", [{"n": 1}])
    assert make(path).domains.in_domain[0] == {"n": 1}
    save(tmp_path / "a", [{"n": 2}])
    assert make(path).domains.in_domain[0] == {"n": 2}


def test_a_label_that_is_missing_or_has_no_name(make, tmp_path):
    features = {"label": ClassLabel(names=["a", "b"]), "text": Value("string")}
    path = save(tmp_path / "missing", [{"label": 0, "text": "x"}, {"label": -1, "text": "y"}], **features)
    assert [row["label"] for row in examples(Path(path))] == ["a", None]
    assert "missing, row 2: 'label' has no value; every example needs one." in refused(make(path, label_column="label"))
    table = pa.table({"tags": pa.array([[0], None, [1, 2]], pa.list_(pa.int64()))})
    info = datasets.DatasetInfo(features=Features({"tags": datasets.Sequence(ClassLabel(names=["a", "b"]))}))
    Dataset(table, info=info).save_to_disk(str(tmp_path / "odd"))
    assert "odd, row 3: 'tags' has the label 2, but there are names for 0 to 1." in refused(make(str(tmp_path / "odd")))


def test_a_split_is_chosen_by_its_folder(make, tmp_path):
    one = Dataset.from_list([{"n": 1}])
    DatasetDict({"train": one, "validation": one}).save_to_disk(str(tmp_path / "both"))
    assert len(make(str(tmp_path / "both/train"), val=str(tmp_path / "both/validation")).domains.val) == 1
    assert len(make(f"{tmp_path}/both/*/").domains.in_domain) == 2
    says = f"in_domain: {tmp_path}/both holds the splits train, validation; give the folder of one, such as "
    assert refused(make(str(tmp_path / "both"))) == f"{says}{tmp_path}/both/train."


def test_what_cannot_be_read_is_refused(make, tmp_path):
    path = save(tmp_path / "a", [{"n": 1, "text": "x"}])
    assert refused(make(path, columns=["m"])).endswith("a has no column 'm'; its columns are n, text.")
    (file,) = (tmp_path / "a").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:40])
    assert "a cannot be read as a folder of datasets: " in refused(make(path))
    (tmp_path / "b").mkdir()
    assert refused(make(str(tmp_path / "b"))).startswith(f"in_domain: {tmp_path}/b is a folder; give its files")
    other = tmp_path / "c.csv"
    other.write_text("n\n1\n")
    save(tmp_path / "d", [{"n": 1}])
    assert "differ in format" in refused(make([str(other), str(tmp_path / "d")]))
    assert [row["n"] for row in make(str(other), val=str(tmp_path / "d")).domains.val.__getitems__([0])] == [1]
