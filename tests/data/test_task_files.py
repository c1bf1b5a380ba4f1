"""Files of a task: columns that are found, features that are computed once, ids, and what is wrong with a row."""

import json
import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import word_tokenizer

import gradual.data.cached_features
import gradual.data.tokenization
from gradual.data.features import Features, RowError, tokenizer_key
from gradual.data.roles import Role
from gradual.data.task_files import TaskFileDataModule
from gradual.errors import InputError

WORDS = ["a", "b", "c", "d"]


@dataclass(frozen=True)
class WordCounts(Features):
    """The word pieces of a text, and how often each of some words is in it."""

    words: tuple[str, ...]
    longest: int | None

    def __call__(self, rows):
        for position, (text, words) in enumerate(zip(rows["text"], rows.get("tokens", rows["text"]))):
            if "tokens" in rows and len(words) != len(text.split()):
                raise RowError(position, f"has {len(words)} tokens, but {len(text.split())} words")
        ids = self.tokenizer(rows["text"], truncation=self.longest is not None, max_length=self.longest)["input_ids"]
        found = {"input_ids": ids, "counts": [[text.split().count(w) for w in self.words] for text in rows["text"]]}
        return {**found, "number": rows["number"]} if "number" in rows else found


class WordCountData(TaskFileDataModule):
    """As in the sketch in the docstring of ``gradual.data.task_files``."""

    def __init__(self, in_domain, text_column=None, number_column=None, words=("a", "b"), **settings):
        roles = (
            Role("text", text_column, ("text", "sentence"), is_text=True),
            Role("tokens", None, ("tokens",), needed=False),
            Role("number", number_column, ("number", "count"), predicted=True),
        )
        super().__init__(in_domain, roles, **settings)
        self.words = tuple(words)

    def features(self, part):
        return WordCounts(self.fast_tokenizer, self.words, self.longest)

    def collator(self):
        return list


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows(count, **changes):
    found = [{"text": " ".join(WORDS[: 1 + number % 4]), "number": number} for number in range(count)]
    return [{**row, **{name: value(at) for name, value in changes.items()}} for at, row in enumerate(found)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    word_tokenizer(WORDS, max_length=5).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def make(tmp_path, tokenizer):
    def make(in_domain, **settings):
        cache = str(tmp_path / "cache")
        return WordCountData(in_domain, **{"tokenizer": tokenizer, "cache_dir": cache, "num_proc": 1} | settings)

    return make


@pytest.fixture
def made(monkeypatch):
    """Names of the files whose features were computed, one entry each time."""
    files, original = [], gradual.data.cached_features._make_features

    def make(table, columns, features, paths, *rest):
        files.append(Path(paths[0]).name)
        original(table, columns, features, paths, *rest)

    monkeypatch.setattr(gradual.data.cached_features, "_make_features", make)
    return files


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_examples_are_features_and_an_id(make, tmp_path, suffix):
    data = make(write(tmp_path / f"in{suffix}", rows(6, id=lambda at: f"n{at}")))
    data.setup()
    examples = data.domains.in_domain
    for at in range(6):
        pieces = [4 + word for word in range(1 + at % 4)][:3]  # the tokenizer takes five, two of them special
        counts = [1, int(at % 4 > 0)]
        assert examples[at] == {"id": f"n{at}", "input_ids": [2, *pieces, 3], "counts": counts, "number": at}
    assert list(examples.ids) == [f"n{at}" for at in range(6)]
    assert np.asarray(examples.lengths).tolist() == [3, 4, 5, 5, 3, 4]
    assert data.statistics()["tokens"]["train (in-domain)"] == 24


def test_an_example_without_an_id_has_its_position(make, tmp_path):
    data = make(write(tmp_path / "in.jsonl", rows(4)))
    data.setup()
    assert data.domains.in_domain.ids is None
    assert [example["id"] for example in data.domains.in_domain.__getitems__([2, 0])] == ["2", "0"]


@pytest.mark.parametrize(
    ("names", "settings", "said"),
    [
        (("text", "number"), {}, "Columns: text is 'text', number is 'number'."),
        (("sentence", "count"), {}, "Columns: text is 'sentence', number is 'count'."),
        (("words", "count"), {"text_column": "words"}, "Columns: number is 'count'."),
        (("words", "n"), {"text_column": "words", "number_column": "n"}, None),
    ],
)
def test_columns_are_named_or_found_and_said(make, tmp_path, caplog, names, settings, said):
    caplog.set_level(logging.INFO, "gradual")
    text, number = names
    path = write(tmp_path / "in.jsonl", [{text: "a b", number: 3, "other": {"x": [1, "2"][at]}} for at in (0, 1)])
    data = make(path, **settings)
    data.setup()
    assert data.domains.in_domain[0] == {"id": "0", "input_ids": [2, 4, 5, 3], "counts": [1, 1], "number": 3}
    found = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Columns")]
    assert found == ([] if said is None else [said])


def test_a_column_that_is_nowhere(make, tmp_path):
    data = make(write(tmp_path / "in.jsonl", [{"words": "a", "number": 1}]))
    with pytest.raises(
        InputError, match=r"in\.jsonl has no column named text or sentence, but words, number: set text_"
    ):
        data.setup()
    data = make(write(tmp_path / "in.jsonl", rows(3)), val=write(tmp_path / "dev.jsonl", [{"text": "a"}]))
    with pytest.raises(InputError, match=r"dev\.jsonl has no column 'number'"):
        data.setup()


def test_parts_may_lack_ids_and_nothing_else_that_in_domain_data_have(make, tmp_path):
    ids, tokens = {"id": lambda at: f"n{at}"}, {"tokens": lambda at: WORDS[: 1 + at % 4]}
    pool = write(tmp_path / "pool.jsonl", rows(3))
    data = make(write(tmp_path / "in.jsonl", rows(3, **ids)), out_of_domain=pool)
    data.setup()
    assert [example["id"] for example in data.domains.in_domain.__getitems__([0, 2])] == ["n0", "n2"]
    assert data.domains.out_of_domain[1]["id"] == "1"
    path = write(tmp_path / "with-tokens.jsonl", rows(3, **tokens))
    for part in ("out_of_domain", "val", "test", "predict"):
        with pytest.raises(InputError, match=r"pool\.jsonl has no column 'tokens'"):
            make(path, **{part: pool}).setup()
        with pytest.raises(InputError, match=r"with-tokens\.jsonl has the column 'tokens', but .*pool\.jsonl has none"):
            make(pool, **{part: path}).setup()


@pytest.mark.parametrize("name", ["id", "idx"])
def test_ids_are_found_in_files_that_have_some_though_the_training_data_have_none(make, tmp_path, name):
    train, same = write(tmp_path / "in.jsonl", rows(3)), {name: lambda at: f"q{at + 1}"}
    pool = write(tmp_path / "pool.jsonl", rows(4, **same))
    data = make(train, out_of_domain=pool, val=write(tmp_path / "dev.jsonl", rows(2, **same)), predict=pool)
    data.setup()
    assert [example["id"] for example in data.domains.predict.__getitems__([0, 3])] == ["q1", "q4"]
    assert data.domains.in_domain[0]["id"] == "0"
    assert (data.in_domain_size, data.pool_size) == (3, 2), "of the pool, two are validation examples"


@pytest.mark.parametrize("part", ["in_domain", "out_of_domain"])
@pytest.mark.parametrize("evaluated", ["val", "test"])
def test_a_file_without_ids_that_is_trained_on_and_evaluated_on_is_noticed(make, tmp_path, caplog, part, evaluated):
    paths = [write(tmp_path / f"{name}.jsonl", rows(3)) for name in ("one", "two")]
    settings = {"in_domain": paths[0], "out_of_domain": paths[1]}
    make(**settings, **{evaluated: settings[part]}).setup()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    where = f"{settings[part]} is both {part} and {evaluated}"
    assert record.getMessage() == f"{where}: the model is evaluated on examples that it was trained on."


@pytest.mark.parametrize(
    ("two_parts", "said"),
    [
        (("val", "test"), "is both val and test: test scores are those that the best epoch was chosen by."),
        (("in_domain", "out_of_domain"), "is both in_domain and out_of_domain: its examples are no other domain."),
    ],
)
@pytest.mark.parametrize("ids", [{}, {"id": lambda at: f"q{at}"}])
def test_a_file_that_is_given_for_two_parts_is_noticed(make, tmp_path, caplog, two_parts, said, ids):
    parts = {name: write(tmp_path / f"{name}.jsonl", rows(3)) for name in ("in_domain", "out_of_domain", "val", "test")}
    twice = write(tmp_path / "twice.jsonl", rows(3, **ids))
    make(**parts | dict.fromkeys(two_parts, twice)).setup()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == f"{twice} {said}"
    caplog.clear()
    make(**parts).setup()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_file_of_a_named_source_that_is_in_domain_too_is_noticed(make, tmp_path, caplog):
    own, other = (write(tmp_path / f"{name}.jsonl", rows(3)) for name in ("own", "other"))
    make(own, out_of_domain={"books": other, "dvd": own}).setup()
    assert f"{own} is both in_domain and out_of_domain.dvd: its examples are no other domain." in caplog.messages


OTHER_NAMES = {"text": "sentence", "number": "count"}


def renamed(rows):
    return [{OTHER_NAMES.get(name, name): value for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
def test_each_file_may_have_other_usual_names(make, tmp_path, caplog, suffix):
    def written(name, rows):
        if suffix != ".csv":
            return write(tmp_path / f"{name}{suffix}", rows)
        (tmp_path / f"{name}.csv").write_text(
            "\n".join(",".join(map(str, row)) for row in [rows[0], *map(dict.values, rows)])
        )
        return str(tmp_path / f"{name}.csv")

    first, second = rows(6), rows(4, number=lambda at: at + 100)
    parts = {"in_domain": written("in", first), "val": written("val", renamed(second))}
    expected = make(
        **parts | {"val": written("same", second)}, out_of_domain=[written("a", first), written("b", second)]
    )
    caplog.set_level(logging.INFO)
    data = make(**parts, out_of_domain=[written("c", first), written("d", renamed(second))])
    for each in (expected, data):
        each.setup("fit")
    assert "Columns: text is 'text', number is 'number'." in caplog.messages
    said = [message for message in caplog.messages if message.startswith("Columns of")]
    assert said == [
        f"Columns of {tmp_path / name}{suffix}: text is 'sentence', number is 'count'." for name in ("d", "val")
    ]
    for part in ("out_of_domain", "val"):
        ours, theirs = (getattr(each.domains, part) for each in (data, expected))
        assert [ours[at] for at in range(len(ours))] == [theirs[at] for at in range(len(theirs))]


def test_a_row_is_named_with_its_line_whatever_its_file_calls_the_column(make, tmp_path):
    good = write(tmp_path / "in.jsonl", rows(3))
    without = write(tmp_path / "pool.jsonl", [*renamed(rows(2)), {"sentence": "a", "count": None}])
    with pytest.raises(InputError, match=r"pool\.jsonl:3: 'number' has no value"):
        make(good, out_of_domain=without).setup("fit")
    tokens = write(tmp_path / "tokens.jsonl", rows(2, tokens=lambda at: WORDS[: 1 + at]))
    wrong = renamed(rows(2, tokens=lambda at: WORDS[:1]))
    with pytest.raises(InputError, match=r"wrong\.jsonl:2: has 1 tokens, but 2 words"):
        make(tokens, out_of_domain=write(tmp_path / "wrong.jsonl", wrong)).setup("fit")


def test_a_column_that_is_named_must_be_in_all_files(make, tmp_path):
    good, other = write(tmp_path / "in.jsonl", rows(3)), write(tmp_path / "pool.jsonl", renamed(rows(2)))
    with pytest.raises(InputError, match=r"pool\.jsonl has no column 'text'; its columns are sentence, count"):
        make(good, out_of_domain=other, text_column="text").setup("fit")


def test_what_is_predicted_is_not_read_of_examples_to_predict(make, tmp_path):
    predict = write(tmp_path / "new.jsonl", [{"text": "a c", "number": "unknown", "id": 7}, {"text": "d", "id": None}])
    data = make(write(tmp_path / "in.jsonl", rows(3, id=lambda at: f"n{at}")), predict=predict)
    data.setup()
    assert data.domains.predict[0] == {"id": "7", "input_ids": [2, 4, 6, 3], "counts": [1, 0]}
    assert data.domains.predict[1]["id"] == "1"


def test_a_row_that_has_no_features_is_named_with_its_line(make, tmp_path):
    good, bad = rows(4, tokens=lambda at: WORDS[: 1 + at % 4]), {"text": "a b c", "number": 1, "tokens": ["a"]}
    files = [tmp_path / "in1.jsonl", tmp_path / "in2.jsonl"]
    write(files[0], good)
    files[1].write_text("\n" + json.dumps(good[0]) + "\n" + json.dumps(bad) + "\n")
    with pytest.raises(InputError, match=r"in2\.jsonl:3: has 1 tokens, but 3 words\.$"):
        make([str(file) for file in files]).setup()


def test_several_processes_compute_the_same_features(make, tmp_path, monkeypatch, made):
    monkeypatch.setattr(gradual.data.tokenization, "_ROWS_PER_PROCESS", 5)
    path = write(tmp_path / "in.jsonl", rows(23))
    one, two = make(path), make(path, num_proc=2, cache_dir=str(tmp_path / "other"))
    for data in (one, two):
        data.setup()
    assert [*one.domains.in_domain] == [*two.domains.in_domain]
    assert made == ["in.jsonl"] * 2


def test_features_are_computed_once_for_the_same_files_and_settings(make, tmp_path, made):
    path = write(tmp_path / "in.jsonl", rows(5))
    for settings, again in (
        ({}, True),
        ({}, False),
        ({"words": ("c",)}, True),
        ({"max_length": 4}, True),
        ({"batch_size": 3}, False),
    ):
        before = len(made)
        make(path, **settings).setup()
        assert (len(made) > before) is again
    (tmp_path / "in.jsonl").rename(tmp_path / "moved.jsonl")
    make(str(tmp_path / "moved.jsonl")).setup()
    assert len(made) == 3
    write(tmp_path / "moved.jsonl", rows(6))
    make(str(tmp_path / "moved.jsonl")).setup()
    assert len(made) == 4


def test_damaged_features_are_computed_again(make, tmp_path, made):
    path = write(tmp_path / "in.jsonl", rows(5))
    make(path).setup()
    folders = {file.parent for file in (tmp_path / "cache").glob("*/*.arrow")}
    for folder in folders:
        (folder / "state.json").write_text("{")
    data = make(path)
    data.setup()
    assert len(data.domains.in_domain) == 5
    assert made == ["in.jsonl"] * 2


@pytest.mark.parametrize(("texts", "named", "left_out"), [("same", False, 2), ("other", False, 0), ("other", True, 2)])
def test_ids_that_only_number_the_examples_of_a_file(make, tmp_path, caplog, texts, named, left_out):
    """An example with the id of an evaluated one is not trained on, unless ids that were found mean something else."""
    caplog.set_level(logging.INFO, "gradual")
    train = write(tmp_path / "in.jsonl", rows(5, id=lambda at: at))
    dev = rows(2, id=lambda at: at)
    if texts == "other":
        dev = [{**row, "text": "d d d"} for row in dev]
    data = make(train, val=write(tmp_path / "dev.jsonl", dev), **({"id_column": "id"} if named else {}))
    data.setup()
    assert data.in_domain_size == 5 - left_out
    assert bool(re.search("The ids in 'id' only number the examples of each file", caplog.text)) is (left_out == 0)
    assert [data.domains.val[at]["id"] for at in (0, 1)] == ["0", "1"]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["d1", "d1", "d2", "d3"], "4 test examples have 3 different ids in 'id'"),
        (["d1", "d1", "", None], "2 test examples have the same id in 'id'"),
        (["", "", None, "d1"], ""),
        ([1, 2, 3, 4], ""),
    ],
)
def test_test_examples_that_share_ids_are_said(make, tmp_path, caplog, ids, said):
    caplog.set_level(logging.INFO, "gradual")
    test = write(tmp_path / "test.jsonl", [{**row, "id": id_} for row, id_ in zip(rows(4), ids)])
    data = make(write(tmp_path / "in.jsonl", rows(3)), test=test)
    data.setup()
    data.setup()
    lines = [line for line in caplog.messages if "count as one unit" in line]
    assert [line.split(":")[0] for line in lines] == ([said] if said else [])


def test_ids_are_found_beside_the_column_of_an_order(make, tmp_path):
    """Only the pool has the column of an order, so that examples of an id are not told apart by it."""
    ids, pool = {"id": lambda at: f"n{at}"}, rows(4, id=lambda at: f"p{at}", time=lambda at: 1_700_000_000 + at)
    files = {"val": write(tmp_path / "dev.jsonl", rows(2, **ids)), "out_of_domain": write(tmp_path / "p.jsonl", pool)}
    data = make(write(tmp_path / "in.jsonl", rows(5, **ids)), **files, order={"by": "column", "column": "time"})
    data.schedule = [2, 0]
    data.setup()
    assert data.in_domain_size == 3
    assert data.sample_ids() == ["p3", "p2"]


@pytest.mark.parametrize("name", ["truncation_side", "model_input_names"])
def test_features_are_those_of_the_tokenizer_as_it_is_configured(make, tmp_path, tokenizer, name):
    path = write(tmp_path / "in.jsonl", [{"text": "a b c d d d", "number": 1}])
    first = make(path)
    first.setup()
    folder = Path(shutil.copytree(tokenizer, tmp_path / "other"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    value = {"truncation_side": "left", "model_input_names": ["input_ids"]}[name]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {name: value}))
    here, alone = (
        make(path, tokenizer=str(folder)),
        make(path, tokenizer=str(folder), cache_dir=str(tmp_path / "alone")),
    )
    here.setup()
    alone.setup()
    assert here.domains.in_domain[0] == alone.domains.in_domain[0]
    assert tokenizer_key(here.fast_tokenizer) != tokenizer_key(first.fast_tokenizer)
    if name == "truncation_side":
        assert here.domains.in_domain[0] != first.domains.in_domain[0]


def test_batches_may_hold_a_number_of_tokens(make, tmp_path):
    data = make(write(tmp_path / "in.jsonl", rows(40)), batch_tokens=20)
    data.setup()
    sizes = [sum(len(example["input_ids"]) for example in batch) for batch in data.train_dataloader()]
    assert sum(sizes) == 10 * (3 + 4 + 5 + 5)
    assert len(sizes) == 9
    assert max(sizes) <= 24
