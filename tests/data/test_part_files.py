"""A file that is given twice: refused within a part and in two sources, and noticed in two parts."""

import logging

import pytest
from row_files import write

from gradual import InputError
from gradual.data.part_files import expand
from gradual.tasks.dialogue import DialogueDataModule
from gradual.tasks.events import EventDataModule


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """Two files in the working folder, and a link to the first."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", [{"text": name, "id": name, "label": 0}])
    (tmp_path / "link.jsonl").symlink_to("a.jsonl")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a.jsonl", "b.jsonl", "a.jsonl"], "pool: a.jsonl is given twice."),
        (["[ab].jsonl", "a.jsonl"], "pool: a.jsonl is given twice."),
        (["a.jsonl", "./b.jsonl", "{}/b.jsonl"], "pool: {}/b.jsonl is given twice, also as b.jsonl."),
        (["*.jsonl", "link.jsonl"], "pool: link.jsonl is given twice, also as a.jsonl."),
    ],
)
def test_a_file_is_given_once_in_a_part(paths, given, said):
    with pytest.raises(InputError) as caught:
        expand("pool", [each.format(paths) for each in given])
    assert str(caught.value) == said.format(paths)


def test_links_among_the_matches_of_a_pattern_are_read_once(paths):
    (paths / "0.jsonl").symlink_to("b.jsonl")
    assert [path.name for path in expand("pool", str(paths / "*.jsonl"))] == ["a.jsonl", "b.jsonl"]


def test_a_file_is_in_one_source(make, paths):
    data = make("b.jsonl", {"dvd": "a.jsonl", "books": ["link.jsonl"]})
    with pytest.raises(InputError) as caught:
        data.setup()
    assert str(caught.value) == (
        "a.jsonl is both out_of_domain.books and out_of_domain.dvd: a file must be in one source only."
    )


@pytest.mark.parametrize(
    "module",
    [
        lambda files: EventDataModule("in.json", "val.json", "x", out_of_domain=files),
        lambda files: DialogueDataModule(".", "hotel", "x", files),
    ],
)
def test_a_file_of_documents_or_dialogues_is_in_one_source(module):
    module({"one": "a.json", "two": "b.json"})
    with pytest.raises(InputError, match=r"a\.json is both out_of_domain\.one and out_of_domain\.two: "):
        module({"one": "a.json", "two": "./a.json"})


def test_files_without_a_task_are_compared_by_where_they_lie(make, paths, caplog):
    with caplog.at_level(logging.WARNING, "gradual.data.part_files"):
        make("a.jsonl", val="link.jsonl", id_column="id", label_column="label").prepare_data()
        assert caplog.messages == []
        make("a.jsonl", val="link.jsonl", label_column="label").prepare_data()
    assert caplog.messages == [
        "link.jsonl is both in_domain and val: the model is evaluated on examples that it was trained on."
    ]
