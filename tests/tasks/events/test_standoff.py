"""`gradual convert standoff`: annotated texts of brat and the BioNLP shared tasks become documents."""

import json
import subprocess
import sys

import pytest
from standoff_files import NEWS, NEWS_ANN, NEWS_TEXT, SIZES, convert, only, report, table, write

from gradual.tasks.events.data import read_documents
from gradual.tasks.events.documents import Event, Sentence


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
