"""`gradual convert standoff`: what cannot be used is refused in one sentence, a damaged file unless it can be read."""

import json
import re
import sys
from collections import Counter

import pytest
from damaged_bytes import mutate, mutations
from hypothesis import example, given
from hypothesis import strategies as st
from standoff_files import NEWS_ANN, NEWS_TEXT, refusal, write

from gradual.__main__ import main
from gradual.errors import InputError
from gradual.tasks.events.convert import Tokens, document
from gradual.tasks.events.data import read_documents
from gradual.tasks.events.standoff import read_standoff


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
@example(changes=[], spoilt="ann")
def test_damaged_files_are_refused_or_read_as_they_stand(tmp_path_factory, changes, spoilt):
    """Every annotation that is read is a line of the file, refers to another one, and is where it says in the text."""
    folder = tmp_path_factory.getbasetemp() / "damaged"
    content = {"txt": NEWS_TEXT.encode(), "ann": PLAIN_ANN.encode()}
    content[spoilt] = mutate(content[spoilt], changes)
    write(folder, a_txt=content["txt"], a_ann=content["ann"])
    annotated = read_or_refused(folder / "a.txt")
    if annotated is None:
        assert changes
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
