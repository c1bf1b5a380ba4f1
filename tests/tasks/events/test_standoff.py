"""`gradual convert standoff`: annotated texts of brat and the BioNLP shared tasks become documents."""

import json
import re
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest
from damaged_bytes import mutate, mutations
from hypothesis import given
from hypothesis import strategies as st

from gradual.__main__ import main
from gradual.errors import InputError
from gradual.tasks.events.convert import Tokens, document, tokenizer
from gradual.tasks.events.data import read_documents
from gradual.tasks.events.documents import Event, Sentence
from gradual.tasks.events.standoff import read_standoff

# characters:  0   4    9      16  20  24   29   34  36     43     50  54     61 64    70
NEWS_TEXT = "The bomb killed two men near Hilla.\nPolice blamed the attack on rebels.\n"
# tokens:      0   1    2      3   4   5    6    7   8      9      10  11     12 13    14
NEWS_ANN = """\
T1	Weapon 4 8	bomb
T2	Die 9 15	killed
T3	Person 16 23	two men
T4	Place 29 34	Hilla
E1	Die:T2 Victim:T3 Place:T4 Instrument:T1
R1	Located Arg1:T3 Arg2:T4
T5	Attack 50 60	the attack
T6	Person 64 70	rebels
E2	Attack:T5 Attacker:T6 Place2:T4 Cause:E1
T7	Blame 43 49	blamed
E3	Blame:T7 Topic:E2
R2	Foe Arg1:T6 Arg2:T3
*	Equiv T1 T4
A1	Negation E2
M1	Speculation E2
N1	Reference T4 Wikipedia:1	Hilla
#1	AnnotatorNotes T1	sure?
"""
SIZES = {"documents": 1, "sentences": 2, "tokens": 15, "entities": 4, "relations": 1, "events": 3, "arguments": 5}
NEWS = {
    "doc_key": "news",
    "sentences": [
        ["The", "bomb", "killed", "two", "men", "near", "Hilla", "."],
        ["Police", "blamed", "the", "attack", "on", "rebels", "."],
    ],
    "ner": [[[1, 1, "Weapon"], [3, 4, "Person"], [6, 6, "Place"]], [[13, 13, "Person"]]],
    "relations": [[[3, 4, 6, 6, "Located"]], []],
    "events": [
        [[[2, "Die"], [1, 1, "Instrument"], [3, 4, "Victim"], [6, 6, "Place"]]],
        [[[9, "Blame"], [11, 11, "Topic"]], [[11, "Attack"], [13, 13, "Attacker"]]],
    ],
}


def write(folder, **files):
    """Files by their names, the dot written as an underscore: `x_ann`."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        content = content if isinstance(content, bytes) else content.encode()
        (folder / ".".join(name.rsplit("_", 1))).write_bytes(content)
    return folder


def convert(folder, *options):
    out = folder.parent / "out" / "converted.json"
    main(["convert", "standoff", str(folder), "--out", str(out), *options])
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def only(folder, *options):
    (record,) = convert(folder, *options)
    return record


def report(capsys):
    """What stderr says was changed, and how often."""
    return {change: count for change, count in table(capsys.readouterr().err).items() if change not in SIZES}


def table(text):
    return {what: int(count) for count, what in re.findall(r"^ +(\d+)  (.+)$", text, re.M)}


def refusal(folder, capsys, *options):
    with pytest.raises(SystemExit) as stopped:
        convert(folder, *options)
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert not (folder.parent / "out" / "converted.json").exists()
    return lines[0]


@pytest.mark.slow
def test_brat(tmp_path, capsys):
    assert convert(write(tmp_path / "in", news_txt=NEWS_TEXT, news_ann=NEWS_ANN)) == [NEWS]
    assert report(capsys) == {
        "changed: arguments that are events, now the event's trigger": 1,  # E2, of E3
        "changed: roles of a second or later argument, now without the number": 1,  # Place2, as there is a Place
        "changed: triggers of several tokens, now the last one": 1,  # the attack
        "ignored: attributes": 1,
        "ignored: equivalences": 1,
        "ignored: modifications": 1,
        "ignored: normalizations": 1,
        "ignored: notes": 1,
        "left out: arguments in another sentence than their event": 2,  # Hilla and E1, of E2
        "left out: relations between two sentences": 1,  # R2
    }


def test_bionlp(tmp_path, capsys):
    folder = write(
        tmp_path / "in",
        #          0     6       14         25 28   33 36      44
        PMID_txt="TRAF2 induces expression of CD40 in nuclei .\n",
        PMID_a1="T1\tProtein 0 5\tTRAF2\nT2\tProtein 28 32\tCD40\n",
        PMID_a2="T3\tEntity 36 42\tnuclei\n"
        "T4\tPositive_regulation 6 13\tinduces\nT5\tGene_expression 14 24\texpression\n"
        "E1\tGene_expression:T5 Theme:T2\nE2\tPositive_regulation:T4 Theme:E1 Cause:T1\nM1\tSpeculation E2\n"
        "E3\tGene_expression:T5 Theme:T1 AtLoc:T3\nE4\tGene_expression:T5 Theme2:T2\n",
    )
    assert only(folder) == {
        "doc_key": "PMID",
        "sentences": [["TRAF2", "induces", "expression", "of", "CD40", "in", "nuclei", "."]],
        "ner": [[[0, 0, "Protein"], [4, 4, "Protein"], [6, 6, "Entity"]]],
        "events": [
            [
                [[1, "Positive_regulation"], [0, 0, "Cause"], [2, 2, "Theme"]],
                [[2, "Gene_expression"], [0, 0, "Theme"], [4, 4, "Theme"], [6, 6, "AtLoc"]],
            ]
        ],
    }
    assert report(capsys) == {
        "changed: arguments that are events, now the event's trigger": 1,
        "changed: roles of a second or later argument, now without the number": 1,
        "ignored: modifications": 1,
        "merged: arguments equal to another": 1,  # the Theme of E1 and E4
        "merged: events with the trigger and type of another": 2,
    }


def test_numbers_that_tell_roles_apart_stay(tmp_path, capsys):
    bounds = "T1\tPER 0 3\tBob\nT2\tSell 4 8\tsold\nT3\tPER 9 12\tAnn\nT4\tCar 13 16\tcar\n"
    folder = write(tmp_path / "in", a_txt="Bob sold Ann car\n", a_ann=bounds + "E1\tSell:T2 Arg0:T1 Arg1:T4 Arg2:T3\n")
    assert only(folder)["events"] == [[[[1, "Sell"], [0, 0, "Arg0"], [2, 2, "Arg2"], [3, 3, "Arg1"]]]]
    assert report(capsys) == {}
    write(folder, b_txt="Bob sold Ann car\n", b_ann=bounds + "E1\tSell:T2 Arg:T1 Arg1:T4 Arg10:T3\n")
    of_arg, _ = convert(folder)[::-1]
    assert of_arg["events"] == [[[[1, "Sell"], [0, 0, "Arg"], [2, 2, "Arg"], [3, 3, "Arg1"]]]]


def test_reader_accepts_what_is_written(tmp_path):
    convert(write(tmp_path / "in", news_txt=NEWS_TEXT, news_ann=NEWS_ANN, bare_txt="Nothing here."))
    bare, news = read_documents(tmp_path / "out" / "converted.json")
    assert (bare.id, bare.layers) == ("bare", frozenset())
    assert news.layers == {"ner", "relations", "events"}
    assert news.sentences[1] == Sentence(
        tokens=["Police", "blamed", "the", "attack", "on", "rebels", "."],
        ner=[(5, 5, "Person")],
        events=[Event(1, "Blame", [(3, 3, "Topic")]), Event(3, "Attack", [(5, 5, "Attacker")])],
    )


def test_documents_are_in_the_order_of_their_names(tmp_path):
    folder = write(tmp_path / "in", b_txt="B.", a_txt="A.", c_1_txt="C.", c_1_ann="T1\tX 0 1\tC\n")
    (folder / "more").mkdir()
    write(folder, readme_md="no text", annotation_conf="[entities]")
    (folder / "._a.txt").write_bytes(b"\xff of another system")
    assert [record["doc_key"] for record in convert(folder)] == ["a", "b", "c_1"]


class TestLayers:
    def test_of_a_text_without_annotations(self, tmp_path, capsys):
        _, bare = convert(write(tmp_path / "in", a_txt=NEWS_TEXT, a_ann=NEWS_ANN, bare_txt="Go."))
        assert bare == {"doc_key": "bare", "sentences": [["Go", "."]]}
        assert report(capsys)["without layers: texts that have no annotation files"] == 1

    def test_of_a_text_annotated_with_nothing(self, tmp_path):
        _, empty = convert(write(tmp_path / "in", a_txt=NEWS_TEXT, a_ann=NEWS_ANN, b_txt="Go.", b_ann=""))
        assert empty == {"doc_key": "b", "sentences": [["Go", "."]], "ner": [[]], "relations": [[]], "events": [[]]}

    def test_that_nothing_in_the_folder_has_are_not_written(self, tmp_path, capsys):
        record = only(write(tmp_path / "in", a_txt="Ali ran.", a_ann="T1\tPER 0 3\tAli\n"))
        assert record == {"doc_key": "a", "sentences": [["Ali", "ran", "."]], "ner": [[[0, 0, "PER"]]]}
        assert f"{tmp_path / 'out' / 'converted.json'}, with ner:\n" in capsys.readouterr().err

    def test_of_a_folder_without_annotations(self, tmp_path, capsys):
        assert only(write(tmp_path / "in", a_txt="Go.", a_ann="")) == {"doc_key": "a", "sentences": [["Go", "."]]}
        assert ", with no layers:\n" in capsys.readouterr().err

    def test_of_entities_whose_events_are_not_given(self, tmp_path, capsys):
        a1 = "T1\tPER 0 3\tAli\n"
        folder = write(tmp_path / "in", a_txt="Ali ran.", a_a1=a1, a_a2="T2\tMove 4 7\tran\nE1\tMove:T2 Who:T1\n")
        given_events, not_given = convert(write(folder, b_txt="Ali ran.", b_a1=a1))
        assert given_events["events"] == [[[[1, "Move"], [0, 0, "Who"]]]]
        assert "events" not in not_given
        assert not_given["ner"] == given_events["ner"] == [[[0, 0, "PER"]]]
        assert report(capsys) == {"without relations and events: texts that have .a1 but no .a2": 1}


class TestOffsets:
    def test_count_the_carriage_returns(self, tmp_path):
        record = only(write(tmp_path / "in", a_txt="One.\r\nAli ran.\r\n", a_ann="T1\tPER 6 9\tAli\r\n"))
        assert record["sentences"] == [["One", "."], ["Ali", "ran", "."]]
        assert record["ner"] == [[], [[2, 2, "PER"]]]

    def test_count_characters_beyond_16_bits_as_one(self, tmp_path):
        record = only(write(tmp_path / "in", a_txt="\U0001f600 é Ali", a_ann="T1\tPER 4 7\tAli\n"))
        assert record == {"doc_key": "a", "sentences": [["\U0001f600", "é", "Ali"]], "ner": [[[2, 2, "PER"]]]}

    @pytest.mark.parametrize("counted", [0, 1])
    def test_may_count_the_byte_order_mark(self, tmp_path, counted):
        ann = f"T1\tPER {counted} {counted + 3}\tAli\n"
        record = only(write(tmp_path / "in", a_txt=b"\xef\xbb\xbfAli ran.", a_ann=b"\xef\xbb\xbf" + ann.encode()))
        assert record == {"doc_key": "a", "sentences": [["Ali", "ran", "."]], "ner": [[[0, 0, "PER"]]]}

    def test_in_a_token_are_widened(self, tmp_path, capsys):
        folder = write(tmp_path / "in", a_txt="Prewar talks", a_ann="T1\tWar 3 6\twar\nT2\tX 3 12\twar talks\n")
        assert only(folder)["ner"] == [[[0, 0, "War"], [0, 1, "X"]]]
        assert report(capsys) == {"changed: entities and triggers widened to whole tokens": 2}

    def test_of_pieces_cover_what_lies_between(self, tmp_path, capsys):
        #                                  0    5   9     15
        folder = write(tmp_path / "in", a_txt="left and right arms up", a_ann="T1\tBody 0 4;15 19\tleft arms\n")
        assert only(folder)["ner"] == [[[0, 3, "Body"]]]
        key = "changed: discontinuous entities and triggers, now with the text in between"
        assert report(capsys) == {key: 1}

    def test_of_pieces_that_a_line_end_parts(self, tmp_path, capsys):
        folder = write(tmp_path / "in", a_txt="in New\nYork now", a_ann="T1\tCity 3 6;7 11\tNew York\n")
        record = only(folder, "--wrapped")
        assert record["sentences"] == [["in", "New", "York", "now"]]
        assert record["ner"] == [[[1, 2, "City"]]]
        assert report(capsys) == {}

    def test_that_coincide_after_widening_are_one_entity(self, tmp_path, capsys):
        folder = write(tmp_path / "in", a_txt="Prewar", a_ann="T1\tX 0 3\tPre\nT2\tX 3 6\twar\n")
        assert only(folder)["ner"] == [[[0, 0, "X"]]]
        assert report(capsys)["merged: entities equal to another"] == 1

    def test_of_white_space_alone(self, tmp_path, capsys):
        bounds = "T1\tX 3 5\t  \nT2\tY 0 3\tAli\nT3\tGo 5 8\tran\n"
        others = "E1\tGo:T3 A:T1 B:T2\nE2\tGo:T1 A:T2\nE3\tGo:T3 C:E2\nR1\tZ Arg1:T1 Arg2:T2\n"
        folder = write(tmp_path / "in", a_txt="Ali  ran", a_ann=bounds + others)
        record = only(folder)
        assert record["ner"] == [[[0, 0, "Y"]]]
        assert record["events"] == [[[[1, "Go"], [0, 0, "B"]]]]
        assert report(capsys) == {
            "left out: entities and triggers of white space alone": 1,
            "left out: events whose trigger is left out": 1,
            "left out: arguments whose entity or event is left out": 2,
            "left out: relations whose entity or event is left out": 1,
            "merged: events with the trigger and type of another": 1,
        }


class TestSentences:
    def test_end_at_line_ends(self, tmp_path):
        record = only(write(tmp_path / "in", a_txt="Results\nAli ran. He \n\n fell \n"))
        assert record["sentences"] == [["Results"], ["Ali", "ran", "."], ["He"], ["fell"]]

    def test_of_wrapped_text_end_at_empty_lines(self, tmp_path):
        record = only(write(tmp_path / "in", a_txt="Results\r\n\r\nAli\r\nran. He\nfell\n \nUp\n"), "--wrapped")
        assert record["sentences"] == [["Results"], ["Ali", "ran", "."], ["He", "fell"], ["Up"]]

    def test_are_joined_where_an_entity_runs_across(self, tmp_path, capsys):
        #                                          0  3  6  9    14   19
        folder = write(tmp_path / "in", a_txt="A ! B ! C ! D .\nE", a_ann="T1\tX 4 9\tB ! C\nT2\tY 16 17\tE\n")
        record = only(folder)
        assert record["sentences"] == [["A", "!"], ["B", "!", "C", "!"], ["D", "."], ["E"]]
        assert record["ner"] == [[], [[2, 4, "X"]], [], [[8, 8, "Y"]]]
        assert report(capsys) == {"changed: sentences joined with the one before, as an entity spans both": 1}

    def test_are_not_joined_for_a_trigger(self, tmp_path):
        folder = write(tmp_path / "in", a_txt="A ! B ! C", a_ann="T1\tX 0 5\tA ! B\nE1\tX:T1\n")
        record = only(folder)
        assert record["sentences"] == [["A", "!"], ["B", "!"], ["C"]]
        assert record["events"] == [[], [[[2, "X"]]], []]

    def test_of_a_language(self, tmp_path):
        folder = write(tmp_path / "in", a_txt="هل جاء علي؟ نعم.")
        for language in ("ar", "xx"):
            assert only(folder, "--language", language)["sentences"] == [["هل", "جاء", "علي", "؟"], ["نعم", "."]]


def test_cycle_of_events(tmp_path):
    ann = "T1\tA 0 3\tAli\nE1\tA:T1 Cause:E2 \nT2\tB 4 7\tran\nE2\tB:T2 Cause:E1 Of:E2 With:T1\n"
    record = only(write(tmp_path / "in", a_txt="Ali ran.", a_ann=ann))
    assert "ner" not in record, "a trigger is no entity, and there is no other"
    assert record["events"] == [
        [[[0, "A"], [1, 1, "Cause"]], [[1, "B"], [0, 0, "Cause"], [0, 0, "With"], [1, 1, "Of"]]]
    ]


def test_types_to_skip(tmp_path, capsys):
    record = only(write(tmp_path / "in", a_txt=NEWS_TEXT, a_ann=NEWS_ANN), "--skip", "Place", "Blame")
    assert record["ner"] == [[[1, 1, "Weapon"], [3, 4, "Person"]], [[13, 13, "Person"]]]
    assert record["events"] == [
        [[[2, "Die"], [1, 1, "Instrument"], [3, 4, "Victim"]]],
        [[[11, "Attack"], [13, 13, "Attacker"]]],
    ]
    changes = report(capsys)
    assert changes["left out: entities and triggers of a type to skip"] == 2
    assert changes["left out: events whose trigger is left out"] == 1
    assert changes["left out: arguments whose entity or event is left out"] == 2  # Hilla, of E1 and E2
    assert changes["left out: relations whose entity or event is left out"] == 1  # R1


def test_relation_in_the_names_of_a_corpus(tmp_path):
    ann = "T1\tA 0 3\tAli\nT2\tB 4 7\tran\nR1\tDid What:T2 Who:T1\t\nR2\tNumbered Arg2:T2 Arg1:T1\n"
    record = only(write(tmp_path / "in", a_txt="Ali ran.", a_ann=ann))
    assert record["relations"] == [[[0, 0, 1, 1, "Numbered"], [1, 1, 0, 0, "Did"]]]


def test_texts_without_words_are_left_out(tmp_path, capsys):
    assert len(convert(write(tmp_path / "in", a_txt="Go.", b_txt="", c_txt=" \n"))) == 1
    assert report(capsys)["left out: texts without a token"] == 2


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("T1 PER 0 3 Ali", "found 'T1 PER 0 3 Ali', expected an id"),
        ("no annotation", "found 'no annotation', expected an id"),
        ("X1\tPER 0 3\tAli", "expected an id that starts with one of T, R, E,"),
        ("T1\tPER 0\tAli", "found 'PER 0\\tAli', expected TYPE START END"),
        ("T1\tPER 0 3", "expected TYPE START END, a tab and the text"),
        ("T1\tPER 3 3\tAli", "found the offsets 3 3, expected fragments"),
        ("T1\tPER 0 3;2 5\tAli", "found the offsets 0 3;2 5, expected fragments that do not overlap"),
        ("T1\tPER 0 9\tAli", "T1 ends at 9, but a.txt has 8 characters"),
        ("T1\tPER 1 4\tAli", "T1 is 'Ali', but a.txt has 'li ' there"),
        ("T9\tPER 0 3\tAli", "the id 'T9' is already defined at"),
        ("E1\tGo:T8", "refers to 'T8', which is not defined"),
        ("E1\tGo:T9 Who:E2", "refers to 'E2', which is not defined"),
        ("E1\tGo:E1", "found the id 'E1', expected T and a number"),
        ("E1\tGo:T9 Who:R1", "found the id 'R1', expected T and a number or E and a number"),
        ("E1\tGo", "found an event without a trigger, 'Go'"),
        ("E1\tGo:T9 Who", "found 'Go:T9 Who', expected TYPE:ID ROLE:ID ..."),
        ("E1\t", "expected TYPE:ID ROLE:ID ..."),
        ("R1\tGo Arg1:T9", "found 'Go Arg1:T9', expected TYPE Arg1:ID Arg2:ID"),
        ("R1\tGo Arg1:T9 Arg2:T8", "refers to 'T8'"),
    ],
)
def test_refuses_a_line(tmp_path, capsys, line, found):
    folder = write(tmp_path / "in", a_txt="Ali ran.", a_ann=f"T9\tPER 0 3\tAli\n\n{line}\n")
    message = refusal(folder, capsys)
    assert message.startswith(f"gradual: {folder / 'a.ann'}:3: ")
    assert found in message


class TestRefuses:
    def test_annotations_without_their_text(self, tmp_path, capsys):
        folder = write(tmp_path / "in", a_txt="Go.", b_a1="")
        assert f"{folder / 'b.a1'}: there is no b.txt beside it" in refusal(folder, capsys)

    def test_events_without_the_entities(self, tmp_path, capsys):
        folder = write(tmp_path / "in", a_txt="Go.", a_a2="")
        assert "a.a2: there is no a.a1 beside it" in refusal(folder, capsys)

    def test_both_formats_of_one_text(self, tmp_path, capsys):
        folder = write(tmp_path / "in", a_txt="Go.", a_a1="", a_ann="")
        assert "a.txt: has both .ann and .a1 or .a2 beside it" in refusal(folder, capsys)

    def test_folder_without_texts(self, tmp_path, capsys):
        assert "has no .txt file" in refusal(write(tmp_path / "in", readme_md=""), capsys)

    def test_folder_that_is_not_there(self, tmp_path, capsys):
        assert f"{tmp_path / 'in'} cannot be read: No such file" in refusal(tmp_path / "in", capsys)

    def test_texts_without_words(self, tmp_path, capsys):
        assert "all its .txt files are empty" in refusal(write(tmp_path / "in", a_txt="\n"), capsys)

    def test_text_in_another_encoding(self, tmp_path, capsys):
        folder = write(tmp_path / "in", a_txt=b"Go.\n\xe9")
        assert f"{folder / 'a.txt'}:2: not UTF-8" in refusal(folder, capsys)

    def test_unknown_language(self, tmp_path, capsys):
        message = refusal(write(tmp_path / "in", a_txt="Go."), capsys, "--language", "klingon")
        assert "--language klingon: spaCy has no tokenizer for it" in message

    def test_out_that_is_a_folder(self, tmp_path, capsys):
        folder = write(tmp_path / "in", a_txt="Go.")
        with pytest.raises(SystemExit):
            main(["convert", "standoff", str(folder), "--out", str(folder)])
        assert f"--out {folder} cannot be written: Is a directory." in capsys.readouterr().err
        assert [path.name for path in folder.iterdir()] == ["a.txt"]

    def test_missing_spacy(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "spacy", None)
        assert "pip install 'gradual[convert]'" in refusal(write(tmp_path / "in", a_txt="Go."), capsys)


english = cache(lambda wrapped: tokenizer("en", wrapped))
TEXTS = st.lists(
    st.sampled_from(["Ali", "IL-4", "U.S.", "(p<0.5)", "don't", "é\U0001f600", "؟", "."])
    | st.sampled_from([" ", "  ", "\n", "\r\n", "\t", "\u2028", "\u200b"]),
    min_size=1,
).map("".join)


@given(text=TEXTS, wrapped=st.booleans(), data=st.data())
def test_tokens_cover_what_was_annotated(tmp_path_factory, text, wrapped, data):
    """Token indices taken back to characters cover an annotation, each token of it overlaps it, and no word is lost."""
    places = st.integers(0, len(text))
    pairs = st.tuples(places, places).map(sorted).filter(lambda pair: pair[0] < pair[1])
    annotations = data.draw(st.lists(pairs, max_size=4))
    folder = tmp_path_factory.mktemp("random")
    ann = [f"T{i}\tX{i} {a} {b}\t{' '.join(text[a:b].split()) or ' '}\n" for i, (a, b) in enumerate(annotations)]
    write(folder, a_txt=text, a_ann="".join(ann))
    annotated = read_standoff(folder / "a.txt")
    tokens = english(wrapped)(text)
    record = document(annotated, tokens, {"ner"}, Counter())
    assert (record is None) == (not text.strip())
    if record is None:
        return
    words = [word for sentence in record["sentences"] for word in sentence]
    assert "".join(words) == "".join(text.split())
    assert all(record["sentences"])
    places_of_words, at = [], 0
    for word in words:
        at = text.index(word, at)
        places_of_words.append(range(at, at + len(word)))
        at += len(word)
    found = {}
    start = 0
    for sentence, entities in zip(record["sentences"], record["ner"], strict=True):
        for first, last, label in entities:
            assert start <= first <= last < start + len(sentence)
            found[label] = places_of_words[first : last + 1]
        start += len(sentence)
    visible = {i: {c for c in range(a, b) if not text[c].isspace()} for i, (a, b) in enumerate(annotations)}
    assert set(found) == {f"X{i}" for i, characters in visible.items() if characters}
    for label, spans in found.items():
        characters = visible[int(label[1:])]
        assert characters <= {c for span in spans for c in span}
        assert all(characters & set(span) for span in (spans[0], spans[-1]))


PLAIN_ANN = "".join(line for line in NEWS_ANN.splitlines(keepends=True) if line[0] in "TRE")


DAMAGE = mutations(b"\t", b"\n", b"\r", b" ", b";", b":", b"T1", b"9", b"\0")


def read_or_refused(path):
    """What was read, or None for the one error that names a file."""
    try:
        return read_standoff(path)
    except InputError as error:
        message = str(error)
    assert message.startswith(str(path.parent))
    assert "\n" not in message
    return None


def lines_of(content):
    """By id, the columns of a file of annotations; the last of two equal ids."""
    lines = [line.removesuffix("\r").split("\t") for line in content.decode("utf-8-sig").split("\n")]
    return {id_: columns for id_, *columns in lines}


@given(changes=DAMAGE, spoilt=st.sampled_from(["ann", "txt"]))
def test_damaged_files_are_refused_or_read_as_they_stand(tmp_path_factory, changes, spoilt):
    """Every annotation that is read is a line of the file, refers to another one, and is where it says in the text."""
    folder = tmp_path_factory.getbasetemp() / "damaged"
    content = {"txt": NEWS_TEXT.encode(), "ann": PLAIN_ANN.encode()}
    content[spoilt] = mutate(content[spoilt], changes)
    write(folder, a_txt=content["txt"], a_ann=content["ann"])
    annotated = read_or_refused(folder / "a.txt")
    if annotated is None:
        return
    lines, text = lines_of(content["ann"]), content["txt"].decode("utf-8-sig")
    for id_, bound in annotated.bounds.items():
        offsets = ";".join(f"{start} {end}" for start, end in bound.fragments)
        assert re.sub(r"\b0+(?=\d)", "", lines[id_][0]) in (f"{bound.type} {offsets}", lines[id_][0])
        if not content["txt"].startswith(b"\xef\xbb\xbf"):
            found = [text[start:end] for start, end in bound.fragments]
            assert " ".join(found).split() == "\t".join(lines[id_][1:]).split()
    for id_, event in annotated.events.items():
        assert lines[id_][0].split()[0] == f"{event.type}:{event.trigger}"
        assert {event.trigger, *(target for _, target in event.arguments)} <= {*annotated.bounds, *annotated.events}
    words = [match.span() for match in re.finditer(r"\S+", annotated.text)]
    record = document(annotated, Tokens(words, [0]), {"ner", "relations", "events"}, Counter())
    if record is not None and words:
        (folder / "a.json").write_text(json.dumps(record) + "\n")
        read_documents(folder / "a.json")


@pytest.mark.slow
def test_from_the_command_line(tmp_path):
    folder = write(tmp_path / "in", news_txt=NEWS_TEXT, news_ann=NEWS_ANN)
    command = [sys.executable, "-m", "gradual", "convert", "standoff", str(folder), "--out", "new/news.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads((tmp_path / "new" / "news.json").read_text(encoding="utf-8")) == NEWS
    assert done.stdout == ""
    assert done.stderr.startswith("new/news.json, with ner, relations, events:\n       1  documents\n")
    assert SIZES.items() <= table(done.stderr).items()


def test_import_is_light():
    code = "import sys, gradual.tasks.events.convert; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "spacy", "lightning", "numpy", "rich"} & set(modules)
