"""Documents in DyGIE's format: a mistake is one sentence with its place."""

import json

import pytest
from dygie_lines import LABELS, LINE, changed, write

from gradual.errors import InputError
from gradual.tasks.events.data import read_documents


def without(name):
    return {key: value for key, value in LINE.items() if key != name}


def input_error(*arguments):
    """The message of the one error that a user's mistake may end in: one line, a sentence and perhaps a question."""
    with pytest.raises(InputError) as caught:
        read_documents(*arguments)
    message = str(caught.value)
    assert message.endswith((".", "?"))
    assert "\n" not in message
    return message


CROSSING = ["is in sentence 1", "from 0 to 3", "sentence 0"]
OUTSIDE = ["outside the document of 9 tokens", "from 4 to 8", "sentence 1"]
BAD_LINES = {
    "no JSON": ('{"doc_key": ', "not JSON", []),
    "two objects": (json.dumps(LINE) * 2, "not JSON", ["one JSON object per line"]),
    "the start of a list over several lines": ("[", "not JSON", ["one JSON object per line"]),
    "NaN": ('{"doc_key": "a", "sentences": [["a"]], "weight": NaN}', "not JSON", ["NaN"]),
    "infinity": ('{"doc_key": "a", "sentences": [["a"]], "_x": -Infinity}', "not JSON", ["-Infinity"]),
    "nesting without end": ('{"_x": ' + "[" * 100_000, "not JSON", []),
    "digits without end": ('{"_x": ' + "1" * 5000 + "}", "not JSON", []),
    "half a character": (r'{"doc_key": "a", "sentences": [["\ud83d"]]}', r"has the escape \ud83d", []),
    "a list": ([LINE], "found [", ["one JSON object per line"]),
    "a text": ('"a\\nb"', "found 'a\\nb'", []),
    "nothing": ("null", "found None", []),
    "no doc_key": (without("doc_key"), "doc_key: ", ["missing"]),
    "no sentences": (without("sentences"), "sentences: ", ["missing"]),
    "a number as doc_key": (LINE | {"doc_key": 7}, "doc_key: ", ["7", "text"]),
    "an empty doc_key": (LINE | {"doc_key": " "}, "doc_key: ", ["' '"]),
    "a doc_key of two lines": (LINE | {"doc_key": "a\nb"}, "doc_key: ", [r"'a\nb'", "a single line"]),
    "a doc_key of two lines for Python": (LINE | {"doc_key": "a\u2028b"}, "doc_key: ", ["a single line"]),
    "a field twice": (json.dumps(LINE)[:-1] + ', "ner": []}', "not JSON", ["'ner' comes twice"]),
    "a million characters": ("x" * 10**6, "not JSON", []),
    "a token index of a million digits": ('{"_x": ' + "9" * 10**6 + "}", "not JSON", []),
    "sentences as a text": (LINE | {"sentences": "They died ."}, "sentences: ", ["'They died .'"]),
    "an empty document": (LINE | {"sentences": []}, "sentences: ", ["[]", "at least one"]),
    "a sentence as a text": (changed("sentences", 1, "They died ."), "sentences[1]: ", ["'They died .'"]),
    "an empty sentence": (changed("sentences", 1, []), "sentences[1]: ", ["[]", "at least one"]),
    "an empty token": (changed("sentences", 1, 2, ""), "sentences[1][2]: ", ["''", "not empty"]),
    "a token of white space": (changed("sentences", 1, 2, "\u00a0\n"), "sentences[1][2]: ", ["not empty"]),
    "a number as token": (changed("sentences", 0, 0, 2003), "sentences[0][0]: ", ["2003", "text"]),
    "no weight": (LINE | {"weight": 0}, "weight: ", ["0", "positive"]),
    "a negative weight": (LINE | {"weight": -1.5}, "weight: ", ["-1.5", "positive"]),
    "a weight without end": (json.dumps(LINE)[:-1] + ', "weight": 1e999}', "weight: ", ["inf"]),
    "a weight beyond a float": (LINE | {"weight": 10**400}, "weight: ", ["positive"]),
    "a text as weight": (LINE | {"weight": "1"}, "weight: ", ["'1'"]),
    "a truth value as weight": (LINE | {"weight": True}, "weight: ", ["True"]),
    "null as weight": (LINE | {"weight": None}, "weight: ", ["None"]),
    "null as layer": (LINE | {"events": None}, "events: ", ["None", "one list per sentence"]),
    "a layer by label": (LINE | {"ner": {"PER": []}}, "ner: ", ["PER", "one list per sentence"]),
    "a layer too short": (LINE | {"relations": [[]]}, "relations: ", ["1 entries for 2 sentences"]),
    "a layer too long": (LINE | {"events": [[], [], []]}, "events: ", ["3 entries for 2 sentences"]),
    "a layer of one list": (LINE | {"ner": [0, 0]}, "ner[0]: ", ["found 0"]),
    "an entity of two": (changed("ner", 1, 0, [4, "PER"]), "ner[1][0]: ", ["[start, end, type]"]),
    "an entity with a score": (changed("ner", 1, 0, [4, 4, "PER", 0.9]), "ner[1][0]: ", ["[start, end, type]"]),
    "an entity as a text": (changed("ner", 1, 0, "4 4"), "ner[1][0]: ", ["[start, end, type]"]),
    "an entity without type": (changed("ner", 1, 0, [4, 4, ""]), "ner[1][0]: ", ["''", "text"]),
    "a number as type": (changed("ner", 1, 0, [4, 4, 3]), "ner[1][0]: ", ["found 3", "text"]),
    "a relation of four": (changed("relations", 1, 0, [4, 7, 7, "PHYS"]), "relations[1][0]: ", ["[start, end, start"]),
    "a relation across sentences": (changed("relations", 0, [[0, 0, 4, 4, "PHYS"]]), "relations[0][0]: ", CROSSING),
    "an event as an object": (changed("events", 0, 0, {"trigger": 1}), "events[0][0]: ", ["[[trigger, type]"]),
    "an empty event": (changed("events", 0, 0, []), "events[0][0]: ", ["[[trigger, type]"]),
    "an event that is a trigger": (changed("events", 0, 0, [1, "Attack"]), "events[0][0][0]: ", ["[trigger, type]"]),
    "a trigger of four": (changed("events", 0, 0, 0, [1, 1, "Attack", 1]), "events[0][0][0]: ", ["[trigger, type]"]),
    "a trigger of two tokens": (
        changed("events", 0, 0, 0, [1, 2, "Attack"]),
        "events[0][0][0]: ",
        ["a trigger of 2 tokens", "start == end"],
    ),
    "a trigger that ends before": (changed("events", 0, 0, 0, [1, 0, "A"]), "events[0][0][0]: ", ["0 before", "1"]),
    "a trigger in another sentence": (changed("events", 0, 0, 0, [4, "Attack"]), "events[0][0][0]: ", CROSSING),
    "an event without type": (changed("events", 0, 0, 0, [1, "\t"]), "events[0][0][0]: ", ["text that is not empty"]),
    "an argument of two": (changed("events", 0, 0, 1, [0, "Attacker"]), "events[0][0][1]: ", ["[start, end, role]"]),
    "an argument in another sentence": (changed("events", 0, 0, 1, [5, 5, "A"]), "events[0][0][1]: ", CROSSING),
    "an argument into the next sentence": (changed("events", 0, 0, 2, [3, 4, "A"]), "events[0][0][2]: ", CROSSING),
    "an argument that ends before": (
        changed("events", 0, 0, 2, [3, 2, "Target"]),
        "events[0][0][2]: ",
        ["the end 2 before the start 3"],
    ),
    "null as role": (changed("events", 0, 0, 2, [3, 3, None]), "events[0][0][2]: ", ["None", "text"]),
    "an index after the document": (changed("ner", 1, 1, [7, 9, "GPE"]), "ner[1][1]: ", ["index 9", *OUTSIDE]),
    "an index before the document": (changed("ner", 1, 1, [-1, 7, "GPE"]), "ner[1][1]: ", ["index -1", *OUTSIDE]),
    "an index beyond all": (changed("ner", 1, 1, [4, 10**30, "GPE"]), "ner[1][1]: ", OUTSIDE),
    "an index that counts from the sentence": (
        changed("ner", 1, 1, [3, 3, "GPE"]),
        "ner[1][1]: ",
        ["index 3, which is in sentence 0", "from 4 to 8", "from the start of the document"],
    ),
    "a float as index": (changed("ner", 0, 0, [0.0, 0, "PER"]), "ner[0][0]: ", ["index 0.0", "an integer"]),
    "a truth value as index": (changed("events", 0, 0, 0, [True, "A"]), "events[0][0][0]: ", ["True", "an integer"]),
    "a text as index": (changed("ner", 0, 0, [0, "0", "PER"]), "ner[0][0]: ", ["'0'", "an integer"]),
    "null as index": (changed("ner", 0, 0, [None, 0, "PER"]), "ner[0][0]: ", ["None", "an integer"]),
    "a doc_key that was there": (LINE | {"doc_key": "first"}, "doc_key: ", ["'first'", "line 1"]),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_named(tmp_path, kind):
    line, field, found = BAD_LINES[kind]
    path = write(tmp_path / "train.json", LINE | {"doc_key": "first"}, "", line, LINE | {"doc_key": "last"})
    message = input_error(path)
    assert message.startswith(f"{path}:3: {field}")
    assert [part for part in found if part not in message] == []
    assert len(message) < len(str(path)) + 400, "what was found is shortened"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b" \r\n\t\n"])
def test_a_file_without_documents_is_an_input_error(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert input_error(tmp_path / "a.json").startswith(f"{tmp_path / 'a.json'}: the file is empty")


def test_a_file_that_is_not_utf_8_is_an_input_error(tmp_path):
    text = json.dumps(LINE) + "\n" + json.dumps({"doc_key": "b", "sentences": [["café"]]}, ensure_ascii=False)
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    message = input_error(tmp_path / "a.json")
    assert message.startswith(f"{tmp_path / 'a.json'}:2: not UTF-8")
    assert "0xe9" in message


def test_a_missing_file_is_an_input_error(tmp_path):
    for path in (tmp_path / "nowhere.json", tmp_path):
        assert input_error(path).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("line", "field", "found"),
    [
        (changed("ner", 0, 1, [2, 3, "PRE"]), "ner[0][1]", ["'PRE'", "2 entity types", "Did you mean 'PER'?"]),
        (changed("relations", 1, 0, 4, "PHIS"), "relations[1][0]", ["'PHIS'", "1 relation types", "'PHYS'"]),
        (changed("events", 1, 0, 0, 1, "Arrest"), "events[1][0][0]", ["'Arrest'", "2 event types"]),
        (changed("events", 1, 0, 2, 2, "Attack"), "events[1][0][2]", ["'Attack'", "4 roles", "'Attacker'"]),
    ],
)
def test_a_label_that_the_model_does_not_know_is_an_input_error(tmp_path, line, field, found):
    path = write(tmp_path / "a.json", line)
    assert read_documents(path), "fine where no labels are given"
    message = input_error(path, LABELS)
    assert message.startswith(f"{path}:1: {field}: ")
    assert [part for part in found if part not in message] == []
