"""Documents in DyGIE's format: what is read is what was written, and a mistake is one sentence with its place."""

import copy
import json

import pytest
from damaged_bytes import mutate, mutations
from events_files import document, sentence, write_documents
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import write_model

from gradual.errors import InputError
from gradual.tasks.events import EventDataModule
from gradual.tasks.events.data import oddities, read_documents, statistics
from gradual.tasks.events.documents import LAYERS, Document, Event, Sentence
from gradual.tasks.events.labels import LabelSpace

# Two sentences, tokens 0 to 3 and 4 to 8 of the document.
LINE = {
    "doc_key": "AFP-1",
    "dataset": "ace05",
    "sentences": [["Rebels", "shot", "two", "men"], ["They", "died", "near", "Basra", "."]],
    "ner": [[[0, 0, "PER"], [2, 3, "PER"]], [[4, 4, "PER"], [7, 7, "GPE"]]],
    "relations": [[], [[4, 4, 7, 7, "PHYS"]]],
    "events": [
        [[[1, "Attack"], [0, 0, "Attacker"], [2, 3, "Target"]]],
        [[[5, "Die"], [4, 4, "Victim"], [7, 7, "Place"]]],
    ],
    "sentence_start": [0, 4],
    "_metadata": {"source": "afp", "confidence": 0.5},
}
READ = [
    Sentence(
        ["Rebels", "shot", "two", "men"],
        [(0, 0, "PER"), (2, 3, "PER")],
        [],
        [Event(1, "Attack", [(0, 0, "Attacker"), (2, 3, "Target")])],
    ),
    Sentence(
        ["They", "died", "near", "Basra", "."],
        [(0, 0, "PER"), (3, 3, "GPE")],
        [(0, 0, 3, 3, "PHYS")],
        [Event(1, "Die", [(0, 0, "Victim"), (3, 3, "Place")])],
    ),
]
LABELS = LabelSpace(("GPE", "PER"), ("PHYS",), ("Attack", "Die"), ("Attacker", "Place", "Target", "Victim"))


def changed(*place_and_value, line=LINE):
    """The line with a value in a place: `changed("ner", 0, 1, "PER")` sets `ner[0][1]`."""
    *place, last, value = place_and_value
    line = copy.deepcopy(line)
    parent = line
    for key in place:
        parent = parent[key]
    parent[last] = value
    return line


def without(name):
    return {key: value for key, value in LINE.items() if key != name}


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def input_error(*arguments):
    """The message of the one error that a user's mistake may end in: one line, a sentence and perhaps a question."""
    with pytest.raises(InputError) as caught:
        read_documents(*arguments)
    message = str(caught.value)
    assert message.endswith((".", "?"))
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------------------- what is read


def test_indices_of_the_document_become_indices_of_the_sentence(tmp_path):
    (read,) = read_documents(write(tmp_path / "a.json", LINE))
    assert read == Document("AFP-1", READ, 1.0, frozenset(LAYERS), LINE)


def test_both_forms_of_a_trigger_are_one(tmp_path):
    line = changed("events", 1, 0, 0, [5, 5, "Die"])
    (read,) = read_documents(write(tmp_path / "a.json", line))
    assert read.sentences == READ


def test_the_line_goes_through_as_it_was_read(tmp_path):
    line = LINE | {"unknown": [None, {"a": 1}], "_x": "ü", "weight": 2}
    (read,) = read_documents(write(tmp_path / "a.json", line))
    assert read.record == line


@pytest.mark.parametrize("layers", [(), ("events",), ("ner", "relations"), LAYERS])
def test_a_layer_may_be_absent(tmp_path, layers):
    line = {key: value for key, value in LINE.items() if key not in LAYERS or key in layers}
    (read,) = read_documents(write(tmp_path / "a.json", line))
    assert read.layers == frozenset(layers)
    for sentence_, whole in zip(read.sentences, READ, strict=True):
        for layer in LAYERS:
            assert getattr(sentence_, layer) == (getattr(whole, layer) if layer in layers else [])


@pytest.mark.parametrize("weight", [1, 0.25, 3.0, 1e-9])
def test_the_weight_is_read(tmp_path, weight):
    (read,) = read_documents(write(tmp_path / "a.json", LINE | {"weight": weight}))
    assert read.weight == weight
    assert isinstance(read.weight, float)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n \r\n\t\n"], ids=["LF", "CRLF", "blank lines"])
@pytest.mark.parametrize("end", [True, False], ids=["newline at the end", "none"])
def test_a_file_is_read_whatever_its_line_ends(tmp_path, mark, newline, end):
    lines = [LINE, LINE | {"doc_key": "AFP-2"}]
    text = newline.join(map(json.dumps, lines)) + newline * end
    (tmp_path / "a.json").write_bytes(mark + text.encode())
    assert [d.record for d in read_documents(tmp_path / "a.json")] == lines


def test_text_may_be_written_as_it_is_or_escaped(tmp_path):
    """Other line separators do not end a line, and a pair of surrogate escapes is one character."""
    line = {"doc_key": "é", "sentences": [["a\u2028b\x85", "😀", "\\ud83d"]]}
    for ascii_only in (True, False):
        (read,) = read_documents(write(tmp_path / "a.json", json.dumps(line, ensure_ascii=ascii_only)))
        assert read.record == line


def test_what_an_event_may_do_is_kept_as_it_stands(tmp_path):
    """Triggers that come twice, arguments that are triggers, that contain their trigger, that events share."""
    events = [
        (1, "Attack", [(0, 2, "Attacker"), (0, 2, "Attacker"), (1, 1, "Target")]),
        (1, "Attack", []),
        (1, "Die", [(0, 2, "Victim")]),
        (0, "Die", [(0, 2, "Victim")]),
    ]
    written = document("a", sentence("a b c", events=events))
    write_documents(tmp_path / "a.json", [written])
    assert read_documents(tmp_path / "a.json")[0].sentences[0].events == [Event(*event) for event in events]


# --------------------------------------------------------------------------------------------------- what is refused

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


@pytest.mark.parametrize("key", ["../../etc/passwd", "a/b", "con", "C:\\x", "a\0", "-rf", "a b", "é"])
def test_a_key_is_text_whatever_it_looks_like(tmp_path, key):
    assert [d.id for d in read_documents(write(tmp_path / "x.json", LINE | {"doc_key": key}))] == [key]


def test_known_labels_are_read(tmp_path):
    (read,) = read_documents(write(tmp_path / "a.json", LINE), LABELS)
    assert read.sentences == READ


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


# ------------------------------------------------------------------------------------------------------ what is counted


def test_statistics_are_those_of_table_3(tmp_path):
    documents = read_documents(write(tmp_path / "a.json", LINE, {"doc_key": "b", "sentences": [["a"]]}))
    assert statistics(documents) == {
        "documents": 2,
        "sentences": 3,
        "event types": 2,
        "role types": 4,
        "events": 2,
        "arguments": 4,
        "entity types": 2,
        "entities": 4,
        "relation types": 1,
        "relations": 1,
    }


def test_statistics_leave_out_entities_and_relations_where_there_are_none():
    events = [(0, "Die", [(0, 0, "Victim"), (1, 1, "Victim")]), (0, "Die", [])]
    rows = statistics([document("a", sentence("a b", events=events))])
    expected = {"documents": 1, "sentences": 1, "event types": 1, "role types": 1, "events": 2, "arguments": 2}
    assert rows == expected


def test_oddities_are_counted():
    twice = sentence(
        "a b c",
        ner=[(0, 1, "X"), (0, 1, "X"), (0, 1, "Y"), (0, 0, "X"), (0, 1, "X")],
        relations=[(0, 0, 1, 1, "R"), (1, 1, 0, 0, "R"), (0, 0, 1, 1, "S")],
        events=[
            (1, "Die", [(0, 0, "Victim"), (0, 0, "Victim"), (0, 0, "Agent")]),
            (1, "Die", [(0, 0, "Victim"), (2, 2, "Victim")]),
            (1, "Attack", []),
            (2, "Die", [(0, 0, "Victim")]),
        ],
    )
    documents = [
        document("odd", twice, twice, event=[], _user=1, predicted_events=[], weight=2.0, dataset="d"),
        document("bare", "a b c", layers=()),
    ]
    assert oddities(documents) == {
        "documents with the unknown field 'event'": 1,
        "documents without annotations": 1,
        "entities annotated more than once": 4,
        "entities with several labels": 2,
        "relations with several labels": 2,
        "triggers annotated more than once": 2,
        "triggers with several labels": 2,
        "arguments annotated more than once": 4,
        "arguments with several labels": 2,
    }


def test_regular_documents_have_no_oddities(tmp_path):
    assert oddities(read_documents(write(tmp_path / "a.json", LINE))) == {}


# --------------------------------------------------------------------------------------------------------- properties

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5).filter(str.strip)
labels = st.one_of(st.sampled_from(["A", "B"]), texts)


@st.composite
def sentences(draw):
    tokens = draw(st.lists(texts, min_size=1, max_size=6))
    index = st.integers(0, len(tokens) - 1)
    span = st.tuples(index, index).map(sorted)
    spans = st.tuples(span, labels).map(lambda s: (*s[0], s[1]))
    pairs = st.tuples(span, span, labels).map(lambda p: (*p[0], *p[1], p[2]))
    events = st.tuples(index, labels, st.lists(spans, max_size=3))
    return sentence(
        tokens, draw(st.lists(spans, max_size=3)), draw(st.lists(pairs, max_size=3)), draw(st.lists(events, max_size=3))
    )


@st.composite
def corpora(draw):
    def one(id_):
        layers = draw(st.sets(st.sampled_from(LAYERS)))
        parts = [
            sentence(s.tokens, **{layer: getattr(s, layer) for layer in layers})
            for s in draw(st.lists(sentences(), min_size=1, max_size=4))
        ]
        weight = draw(st.floats(min_value=1e-300, allow_infinity=False))
        return document(id_, *parts, layers=layers, trigger_end=draw(st.booleans()), weight=weight)

    keys = texts.filter(lambda text: text.splitlines() == [text])
    return [one(id_) for id_ in draw(st.lists(keys, min_size=1, max_size=3, unique=True))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("documents")


@given(documents=corpora())
def test_any_documents_come_back(folder, documents):
    write_documents(folder / "any.json", documents)
    assert read_documents(folder / "any.json") == documents
    assert read_documents(folder / "any.json", LabelSpace.of(documents)) == documents


def read_or_refused(path):
    """What was read, or None for the one error that names file and line."""
    try:
        return read_documents(path)
    except InputError as error:
        message = str(error)
    assert message.startswith(f"{path}:")
    line = int(message.removeprefix(f"{path}:").split(":")[0])
    assert 1 <= line <= path.read_bytes().count(b"\n") + 1
    assert "\n" not in message
    return None


def shortened(value):
    """A field of a line with `[token, token, label]` as `[token, label]`, as triggers may be written."""
    if isinstance(value, list):
        short = len(value) == 3 and isinstance(value[2], str) and value[0] == value[1]
        return [value[0], value[2]] if short else [shortened(part) for part in value]
    return value


def check_what_was_read(documents):
    """Every document that passes keeps what the rest of the program relies on."""
    assert len({d.id for d in documents}) == len(documents) >= 1
    for d in documents:
        assert d.weight > 0
        assert d.sentences
        for s in d.sentences:
            spans = [e[:2] for e in s.ner] + [r[:2] for r in s.relations] + [r[2:4] for r in s.relations]
            spans += [(e.trigger, e.trigger) for e in s.events] + [a[:2] for e in s.events for a in e.arguments]
            assert all(0 <= start <= end < len(s.tokens) for start, end in spans)
            assert all(token.strip() for token in s.tokens)
        assert d.layers <= set(LAYERS)
        for field, value in document(d.id, *d.sentences, layers=d.layers).record.items():
            assert shortened(d.record.get(field)) == shortened(value)
    LabelSpace.of(documents)
    statistics(documents)
    oddities(documents)


LINES = [LINE, changed("events", 0, 0, 0, [1, 1, "Attack"]) | {"doc_key": "AFP-2", "weight": 0.5}]
damage = mutations(b"\n", b"\r", b"9", b"-", b"[", b"{}", b'"', b"\\ud8", b"\0")


@given(changes=damage)
def test_a_file_with_damaged_bytes_is_read_or_refused(folder, changes):
    content = "\n".join(map(json.dumps, LINES)).encode()
    (folder / "damaged.json").write_bytes(mutate(content, changes))
    read = read_or_refused(folder / "damaged.json")
    if read is not None:
        check_what_was_read(read)


def places(value, place=()):
    """Every place in a line, as a path of keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place] * bool(place) + [inner for key, part in items for inner in places(part, (*place, key))]


numbers = st.one_of(st.integers(-3, 12), st.integers(), st.floats(allow_nan=True))
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=3), st.just("\ud83d"), st.just("PER"))
values = st.recursive(scalars, lambda v: st.one_of(st.lists(v, max_size=4), st.dictionaries(st.text(max_size=3), v)))


@given(changes=st.lists(st.tuples(st.sampled_from(places(LINE)), values), min_size=1, max_size=3))
def test_a_line_with_wrong_values_is_read_or_refused(folder, changes):
    line = LINE
    for place, value in sorted(changes, key=lambda change: -len(change[0])):  # inner places first: all are there
        line = changed(*place, value, line=line)
    write(folder / "wrong.json", LINES[1], line)
    read = read_or_refused(folder / "wrong.json")
    if read is not None:
        check_what_was_read(read)


# Named sources


def test_documents_of_named_sources_and_their_order(tmp_path):
    encoder = write_model(tmp_path / "bert", "bert", ["died", "met", "they", "he", "there", "zebra"])
    die, meet = ([(0, kind, [])] for kind in ("Die", "Meet"))
    texts = {
        "in": [document(f"in{at}", sentence("died there", events=die), "he died") for at in range(3)],
        "val": [document("val0", sentence("met there", events=meet))],
        "news": [
            document(f"n{at}", sentence(text, events=meet)) for at, text in enumerate(["met zebra", "met he died"])
        ],
        "wire": [document(f"w{at}", sentence("died they", events=die)) for at in range(4)],
    }
    for name, documents in texts.items():
        (tmp_path / f"{name}.json").write_text("".join(json.dumps(each.record) + "\n" for each in documents))
    data = EventDataModule(
        str(tmp_path / "in.json"), str(tmp_path / "val.json"), tokenizer=encoder, out_of_domain_labels="own",
        out_of_domain={name: str(tmp_path / f"{name}.json") for name in ("wire", "news")},
        order={"by": "ngrams"},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        data.schedule = [{"news": 2, "wire": 3}, {"news": 1}]
        data.setup()
        assert data.composition == {"news": 2, "wire": 3}
        assert [data.domains.out_of_domain[at].schema for at in range(6)] == [1, 1, 2, 2, 2, 2]
        assert data.spec().allowed["triggers"] == [[True, True], [False, True], [True, False]]
        data.set_stage(1)
        assert data.sample_ids() == ["news/n1"], "the one with the words of the target"
        assert data.statistics()["pool, wire"]["documents"] == 4
        assert data.rows("out_of_domain.wire")[0] == texts["wire"][0].record
        assert data.domains.in_domain.token_ids(0, 2).lengths.tolist() == data.domains.in_domain.lengths[:2].tolist()
