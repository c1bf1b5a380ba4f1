"""`gradual convert standoff`: which tokens and sentences the offsets of annotations become."""

from collections import Counter
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standoff_files import only, report, write

from gradual.tasks.events.convert import document, tokenizer
from gradual.tasks.events.standoff import read_standoff


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
