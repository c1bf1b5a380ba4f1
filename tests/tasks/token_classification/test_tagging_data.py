"""Tagging data: columns and schemes are found, spans are kept, and what does not fit is one sentence."""

import json
import logging
from itertools import accumulate

import datasets
import pytest
import torch
from datasets import ClassLabel, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from row_files import refused
from seqeval.metrics.sequence_labeling import get_entities
from tagging_examples import WORDS, sentences, write_conll, write_encoder

from gradual.errors import InputError
from gradual.tasks import TokenClassificationData
from gradual.tasks.token_classification.tag_columns import rewritten


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"), max_length=20)


@pytest.fixture
def make(tmp_path, encoder):
    def make(*files, **changes):
        given = {"tokenizer": encoder, "cache_dir": str(tmp_path / "cache"), "num_proc": 1}
        return TokenClassificationData(*map(str, files), **given | changes)

    return make


@pytest.fixture
def put(tmp_path):
    def put(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return put


def said(caplog) -> str:
    return "\n".join(record.message for record in caplog.records)


def tags_of(data, part):
    """The tags of all sentences of a part, as text."""
    return [[data.tags[at] for at in example["tags"]] for example in getattr(data.domains, part)]


def test_columns_and_tags_are_found_and_said(make, put, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train = write_conll(tmp_path / "train.txt", [(["sam", "met", "men"], ["B-PER", "O", "O"]), (["paris"], ["B-LOC"])])
    data = make(train, val=put("val.jsonl", json.dumps({"tokens": ["sam"], "tags": ["B-PER"]})))
    data.setup()
    assert "Columns: tokens is 'tokens', tags is 'tags'." in said(caplog)
    assert "Column 'tags': spans of 2 types in IOB2." in said(caplog)
    spec = data.spec()
    assert (spec.tags, spec.spans, spec.allowed, spec.padding) == (("B-LOC", "B-PER", "O"), True, (), 0)
    assert tags_of(data, "in_domain") == [["B-PER", "O", "O"], ["B-LOC"]]
    assert tags_of(data, "val") == [["B-PER"]]


@pytest.mark.parametrize("column", ["upos", "ner_tags", "pos_tags", "labels"])
def test_usual_names_of_columns(make, put, column):
    data = make(put("a.jsonl", json.dumps({"words": ["sam", "met"], column: ["PROPN", "VERB"]})))
    assert data.domains.in_domain[0]["tags"] == [0, 1]
    assert data.spec().tags == ("PROPN", "VERB")
    assert data.spec().spans is False


def test_columns_of_conll_by_name_and_number(make, put):
    train = put("a.conll", "sam PROPN B-NP B-PER\nmet VERB B-VP O\n")
    assert make(train).spec().tags == ("B-PER", "O")
    assert make(train, tags_column="3").spec().tags == ("B-NP", "B-VP")
    assert make(train, tags_column="2", tokens_column="1").spec().tags == ("PROPN", "VERB")
    assert "a.conll has no column '5'" in refused(make(train, tags_column="5"))


def test_names_of_integer_tags_are_kept(make, tmp_path):
    tags = ["O", "B-PER", "I-PER"]
    features = datasets.Features(
        {
            "id": Value("string"),
            "tokens": datasets.Sequence(Value("string")),
            "ner_tags": datasets.Sequence(ClassLabel(names=tags)),
        }
    )
    rows = [{"id": "x", "tokens": ["sam", "met"], "ner_tags": [1, 0]}]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    data = make(tmp_path / "saved")
    assert tags_of(data, "in_domain") == [["B-PER", "O"]]
    assert data.domains.in_domain[0]["id"] == "x"


def test_integer_tags_without_names_are_their_digits(make, put):
    data = make(put("a.jsonl", json.dumps({"tokens": ["a", "b"], "tags": [10, 9]})))
    assert data.spec().tags == ("9", "10")
    assert data.spec().spans is False


SCHEMES = {
    "IOB1": ["I-PER", "I-PER", "B-PER", "O", "I-LOC"],
    "IOB2": ["B-PER", "I-PER", "B-PER", "O", "B-LOC"],
    "BIOES": ["B-PER", "E-PER", "S-PER", "O", "S-LOC"],
    "BILOU": ["B-PER", "L-PER", "U-PER", "O", "U-LOC"],
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("other", SCHEMES)
def test_all_parts_are_read_in_the_scheme_of_the_target_domain(make, tmp_path, caplog, scheme, other):
    caplog.set_level(logging.INFO)
    words = ["sam", "sam", "rebels", "in", "basra"]
    train = write_conll(tmp_path / "train.txt", [(words, SCHEMES[scheme])])
    pool = write_conll(tmp_path / "pool.txt", [(["met"], ["O"]), (words, SCHEMES[other])])
    data = make(train, out_of_domain=pool)
    data.setup()
    assert tags_of(data, "out_of_domain") == [["O"], SCHEMES[scheme]]
    assert set(data.spec().tags) == set(SCHEMES[scheme])
    assert (f"out_of_domain has its spans in {other}, and is read in {scheme}." in said(caplog)) == (scheme != other)


TAGS = ["O", *(f"{letter}-{type_}" for letter in "BIES" for type_ in ("PER", "LOC"))]


@given(
    st.lists(st.lists(st.sampled_from(TAGS), max_size=6), min_size=1, max_size=4),
    st.sampled_from(["BIOES", "IOB1", "IOB2"]),
)
def test_rewriting_changes_no_span(tags, scheme):
    written = rewritten(scheme, tags)
    assert [get_entities(sentence) for sentence in written if sentence] == [
        get_entities(sentence) for sentence in tags if sentence
    ]
    assert rewritten(scheme, written) == written


def test_a_part_without_spans_is_in_every_scheme(make, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train = write_conll(tmp_path / "train.txt", [(["sam", "sam"], ["I-PER", "B-PER"])])
    data = make(train, out_of_domain=write_conll(tmp_path / "pool.txt", [(["met"], ["O"])]))
    assert tags_of(data, "out_of_domain") == [["O"]]
    assert "out_of_domain has its spans" not in said(caplog)


def test_tags_that_break_the_rules_are_counted(make, tmp_path, caplog):
    train = write_conll(tmp_path / "a.txt", [(["sam"] * 4, ["B-PER", "O", "I-PER", "B-PER"])])
    data = make(train)
    data.setup()
    assert "a.txt): 1 tags break the rules of IOB2; spans are read as conlleval reads them." in said(caplog)
    assert tags_of(data, "in_domain") == [["B-PER", "O", "I-PER", "B-PER"]]


def test_the_pool_s_own_labels(make, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train = write_conll(tmp_path / "train.txt", [(["a"] * 4, ["B-PER", "I-PER", "B-LOC", "O"])])
    pool = write_conll(tmp_path / "pool.txt", [(["a"] * 3, ["B-PER", "O", "B-ORG"])])
    data = make(train, out_of_domain=pool, out_of_domain_labels="own")
    spec = data.spec()
    assert spec.tags == ("B-LOC", "B-ORG", "B-PER", "I-PER", "O")
    # of a type that the pool has, all tags
    assert spec.allowed == ((True,) * 5, (False, True, True, True, True))
    assert data.domains.out_of_domain[0]["schema"] == 1
    assert data.domains.in_domain[0]["schema"] == 0
    assert "Column 'tags', types of spans: only the pool has the label 'ORG'." in said(caplog)
    plain = write_conll(tmp_path / "plain.txt", [(["a"] * 2, ["X", "Y"])])
    data = make(plain, out_of_domain=write_conll(tmp_path / "q.txt", [(["a"], ["X"])]), out_of_domain_labels="own")
    assert data.spec().allowed == ((True, True), (True, False))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"tokens": ["a", "b"], "tags": ["O"]}], "a.jsonl:1: the sentence has 2 tokens, but 1 tags."),
        ([{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a", None], "tags": ["O", "O"]}], ":2: token 2 is null."),
        ([{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a", "b"], "tags": ["O", None]}], ":2: token 2 has no tag."),
        ([{"tokens": "a b", "tags": ["O"]}], "The column 'tokens' holds text: it must hold lists of text, a list for"),
        ([{"tokens": ["a"], "tags": "O"}], "The column 'tags' holds text: it must hold lists of text or lists of"),
        ([{"tokens": ["a"], "tags": [1.5]}], "The column 'tags' holds lists of numbers: it must hold lists of text or"),
        ([{"tokens": [], "tags": []}], "'tokens' holds lists of nothing"),
        ([{"tokens": ["a", "b"], "tags": ["O", "B-PER"]}, {"tokens": ["a"], "tags": ["PER"]}],
         "has the tag 'PER', but tags of spans must be O or begin with B-, I-, E- or S-, as 'B-PER' does; for"),
        ([{"text": ["a"]}], "a.jsonl has no column named tokens or words or form, but text: set tokens_column."),
        ([{"tokens": ["a"], "tags": None}], ":1: 'tags' has no value; every example needs one."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, put, rows, says):
    assert says in refused(make(put("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))))


def test_tags_may_be_declared_to_be_no_spans(make, put):
    rows = put("a.jsonl", json.dumps({"tokens": ["a", "b", "c"], "tags": ["O", "B-PER", "PER"]}))
    assert make(rows, spans=False).spec().spans is False
    plain = put("b.jsonl", json.dumps({"tokens": ["a"], "tags": ["NOUN"]}))
    assert "has the tag 'NOUN', but tags of spans must be O or begin with B-, I-, E- or S-; for" in refused(
        make(plain, spans=True)
    )
    with pytest.raises(InputError, match=r"out_of_domain_labels is 'mine': it must be all or own\."):
        make(rows, out_of_domain_labels="mine")


# Features and batches


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.sampled_from([*WORDS, "\x07", "", "zebra!"]), min_size=1, max_size=14), min_size=1, max_size=5)
)
def test_a_word_is_read_at_its_first_piece_with_the_most_context(make, tmp_path, words):
    rows = [{"tokens": each, "tags": ["X" if word else "Y" for word in each]} for each in words]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = make(tmp_path / "a.jsonl", predict=str(tmp_path / "a.jsonl"), eval_batch_size=5)
    (batch,) = data.predict_dataloader()
    tokenizer = data.fast_tokenizer
    assert batch.words == words
    assert batch.sentence.tolist() == [index for index, each in enumerate(words) for _ in each]
    ids = batch.pieces.ids
    expected = [
        tokenizer.convert_tokens_to_ids((tokenizer.tokenize(word) or ["[UNK]"])[0]) for each in words for word in each
    ]
    assert ids[batch.word].tolist() == expected
    assert list(data.domains.predict.lengths) == [len(row["pieces"]) for row in data.domains.predict]
    # in its window, a word is as far from a cut as in any other one
    places, first_of_window = iter(batch.word.tolist()), iter(batch.pieces.first.tolist())
    for row in data.domains.predict:
        sizes = [max(1, len(tokenizer.tokenize(word))) for word in row["words"]]
        size = sum(sizes)
        starts = [0] if size <= ROOM else [*range(0, size - ROOM, ROOM // 2), size - ROOM]
        assert row["windows"] == [min(size, ROOM) + 2 for _ in starts]
        where = {next(first_of_window) + 1 - start: start for start in starts}
        for piece in accumulate(sizes[:-1], initial=0):
            place = next(places)
            chosen = next(start for shift, start in where.items() if shift + piece == place and in_window(piece, start))
            assert context(piece, chosen, size) == max(
                context(piece, start, size) for start in starts if in_window(piece, start)
            )


ROOM = 18  # word pieces of a window of 20, without the special ones


def in_window(piece, start):
    return start <= piece < start + ROOM


def context(piece, start, size):
    """Word pieces to the nearer edge of a window at which something is cut off."""
    left = piece - start if start else size
    return min(left, start + ROOM - 1 - piece if start + ROOM < size else size)


def test_batches_have_about_as_many_tokens_as_asked_for(make, tmp_path):
    train = write_conll(tmp_path / "a.txt", sentences(40))
    data = make(train, batch_tokens=60)
    sizes = [len(batch.pieces.ids) for batch in data.train_dataloader()]
    assert sum(sizes) == data.statistics()["tokens"]["train (in-domain)"]
    assert len(sizes) == -(-sum(sizes) // 60)
    batch = next(iter(data.train_dataloader()))
    assert batch.words is None, "training keeps no text in memory"
    assert batch.tags.dtype == torch.long


def test_data_to_predict_needs_no_tags(make, tmp_path, put):
    train = write_conll(tmp_path / "a.txt", [(["sam", "met"], ["B-PER", "O"])])
    data = make(train, predict=put("p.txt", "paris\nmet\n"))
    (batch,) = data.predict_dataloader()
    assert (batch.tags, batch.words) == (None, [["paris", "met"]])
    data = make(train, predict=put("q.txt", "paris UNKNOWN\n"))
    (batch,) = data.predict_dataloader()
    assert batch.tags is None
