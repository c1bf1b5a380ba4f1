"""Dialogue files and the ontology: what is read is what was written, and a mistake is one sentence with its place."""

import json
from collections import Counter

import pytest
from damaged_bytes import mutate, mutations
from dialogue_files import CANDIDATES, HEADER, ONTOLOGY, SLOTS, as_written, row, rows, write_dialogues, write_ontology
from hypothesis import assume, given
from hypothesis import strategies as st

from gradual.errors import InputError
from gradual.tasks.dialogue.data import Dialogue, Ontology, Turn, belief_state, oddities, read_dialogues

DIALOGUES = [
    (
        "MUL1",
        [
            ("i need a hotel", "", {}),
            ("in the north", "where?", {"hotel-area": "north"}),
            ('any "name" will do', "a name?", {"hotel-area": "north", "hotel-name": "do not care"}),
        ],
    ),
    ("SNG2", [("a bus on tuesday for 2", "", {"bus-day": "tuesday", "bus-people": "2"})]),
    ("SNG3", [("hello", "", {}), ("worth house", "é ü ß", {"hotel-name": "worth house"})]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("dialogues")
    write_ontology(path / "ontology.json")
    return path


@pytest.fixture(scope="module")
def ontology(folder):
    return Ontology.read(folder / "ontology.json")


def input_error(call, *arguments):
    """The message of the one error that a user's mistake may end in: one line, a sentence and perhaps a question."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert message.endswith((".", "?"))
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 500
    return message


# ---------------------------------------------------------------------------------------------------------- ontology


def test_slots_are_sorted_and_values_count_once_with_none_last(ontology):
    assert list(ontology.slots) == SLOTS
    assert dict(zip(ontology.slots, map(list, ontology.values), strict=True)) == CANDIDATES


def test_the_slots_of_a_domain_begin_with_its_name(ontology):
    assert ontology.slots_of("bus") == [0, 1]
    assert ontology.slots_of("hotel") == [2, 3]
    longer = Ontology.from_mapping({"bus-day": [], "business-day": [], "bus-book day": []})
    assert [longer.slots[index] for index in longer.slots_of("bus")] == ["bus-book day", "bus-day"]


def test_an_unknown_domain_is_answered_with_those_there_are(folder, ontology):
    message = input_error(ontology.slots_of, "hot")
    assert message.startswith(f"{folder / 'ontology.json'}: ")
    assert "'hot'" in message
    assert "bus or hotel" in message


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        (b'{\n"bus-day": ["monday",]\n}', 2, "not JSON"),
        (b"", 1, "not JSON"),
        (b"[" * 100_000, None, "not JSON"),  # deeper than the parser goes
        (b'{"bus-day": [' + b"1" * 5000 + b"]}", None, "not JSON"),  # more digits than Python converts
        (b'["bus-day"]', None, "found ['bus-day']"),
        (b"null", None, "mapping"),
        (b"{}", None, "mapping"),
        (b'{"bus-day": "monday"}', None, "slot 'bus-day'"),
        (b'{"bus-day": ["monday", 7]}', None, "slot 'bus-day'"),
        (b'{"bus-day": ["monday", " "]}', None, "slot 'bus-day'"),
        (b'{"bus-day":\n["caf\xe9"]}', 2, "not UTF-8"),
        (b'{"bus-day": ["monday"], "bus-day": ["friday"]}', None, "the field 'bus-day' comes twice"),
        (b'{"bus-day": ["\\ud83d"]}', None, "has the escape \\ud83d alone"),
        (b'{"bus-day": [NaN]}', None, "NaN is not a JSON number"),
        (b'{" ": ["monday"]}', None, "found the slot ' '"),
        (b'{"' + b"s" * 10**6 + b'": 1}', None, "slot 'sss"),
    ],
)
def test_a_file_that_is_no_ontology_is_an_input_error(tmp_path, content, line, found):
    path = tmp_path / "ontology.json"
    path.write_bytes(content)
    message = input_error(Ontology.read, path)
    assert message.startswith(f"{path}:{line}: " if line else f"{path}:")
    assert found in message


def test_an_ontology_with_a_byte_order_mark_is_read(tmp_path, ontology):
    (tmp_path / "ontology.json").write_text(json.dumps(ONTOLOGY), encoding="utf-8-sig")
    assert Ontology.read(tmp_path / "ontology.json").values == ontology.values


# --------------------------------------------------------------------------------------------------------- dialogues


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("empty_column", ["", "\t"], ids=["", "empty last column"])
@pytest.mark.parametrize("header", [[], [HEADER], [HEADER.rstrip("\t")], ["# anything"]])
@pytest.mark.parametrize("end", [True, False], ids=["newline at the end", "none"])
def test_a_file_is_read_as_it_was_written(tmp_path, ontology, mark, newline, empty_column, header, end):
    lines = [*header, *(line + empty_column for line in rows(DIALOGUES))]
    (tmp_path / "train.tsv").write_bytes(mark + (newline.join(lines) + newline * end).encode())
    assert as_written(read_dialogues(tmp_path / "train.tsv", ontology)) == DIALOGUES


def test_dontcare_is_the_ontologys_do_not_care(tmp_path, ontology):
    write_dialogues(tmp_path / "train.tsv", [("A", [("hi", "", {"bus-day": "dontcare", "hotel-area": "do not care"})])])
    read = as_written(read_dialogues(tmp_path / "train.tsv", ontology))
    assert read == [("A", [("hi", "", {"bus-day": "do not care", "hotel-area": "do not care"})])]


def test_empty_lines_do_not_count_but_are_counted(tmp_path, ontology):
    """They hold no turn, and an error after them still names the line that an editor shows."""
    lines = [HEADER, "", *rows(DIALOGUES), "", ""]
    (tmp_path / "train.tsv").write_text("\n".join(lines))
    assert as_written(read_dialogues(tmp_path / "train.tsv", ontology)) == DIALOGUES
    (tmp_path / "train.tsv").write_text("\n".join([*lines, "too short"]))
    assert f"train.tsv:{len(lines) + 1}: " in input_error(read_dialogues, tmp_path / "train.tsv", ontology)


def test_the_belief_state_leaves_none_out(tmp_path, ontology):
    write_dialogues(tmp_path / "train.tsv", DIALOGUES)
    read = read_dialogues(tmp_path / "train.tsv", ontology)
    states = [[belief_state(turn.values, ontology) for turn in dialogue.turns] for dialogue in read]
    assert states == [[state for *_, state in turns] for _, turns in DIALOGUES]


TOO_FEW = "\t".join(row("D", 0, "hi", "", {}).split("\t")[:-1])
BAD_LINES = {
    "too few columns": ([TOO_FEW], 1, ["7 columns", "expected 8"]),
    "too many columns": ([row("D", 0, "hi", "", {}) + "\tnone"], 1, ["9 columns", "expected 8"]),
    "two empty last columns": ([row("D", 0, "hi", "", {}) + "\t\t"], 1, ["10 columns", "expected 8"]),
    "a second header": ([HEADER], 1, ["turn"]),
    "does not start at 0": ([row("D", 1, "hi", "", {})], 1, ["'1'", "'D'", "turn 0"]),
    "a gap": ([row("D", 0, "hi", "", {}), row("D", 2, "hi", "", {})], 2, ["'2'", "'D'", "turn 1"]),
    "a turn twice": ([row("D", 0, "hi", "", {}), row("D", 0, "hi", "", {})], 2, ["'0'", "'D'", "turn 1"]),
    "no number": ([row("D", "first", "hi", "", {})], 1, ["'first'", "'D'", "turn 0"]),
    "comes back": ([row("MUL1", 0, "hi", "", {})], 1, ["'MUL1'", "again"]),
    "comes back with its next turn": ([row("MUL1", 3, "hi", "", {})], 1, ["'MUL1'", "again"]),
    "a value with a close one": (
        [row("D", 0, "hi", "", {"hotel-area": "sotuh"})],
        1,
        ["'hotel-area'", "'sotuh'", "not in the ontology", "Did you mean 'south'?"],
    ),
    "a value of another slot": ([row("D", 0, "hi", "", {"bus-day": "north"})], 1, ["'bus-day'", "'north'"]),
    "an empty value": ([row("D", 0, "hi", "", {"bus-day": ""})], 1, ["'bus-day'", "''"]),
    "an empty id": ([row("", 0, "hi", "", {})], 1, ["id ''", "a single line"]),
    "an id of several lines": ([row("D\rE", 0, "hi", "", {})], 1, ["'D\\rE'", "a single line"]),
    "an id of several lines for Python": ([row("D\u2028E", 0, "hi", "", {})], 1, ["a single line"]),
    "a line of a million characters": (["x" * 10**6], 1, ["1 columns", "expected 8"]),
    "a value of a million characters": ([row("D", 0, "hi", "", {"bus-day": "m" * 10**6})], 1, ["'mmm", "mmm'"]),
    "an id of a million characters": ([row("D" * 10**6, 1, "hi", "", {})], 1, ["'DDD", "turn 0"]),
    "100,000 columns": (["\t" * 100_000], 1, ["100001 columns", "expected 8"]),
    "a number of a thousand digits": ([row("D", "1" * 1000, "hi", "", {})], 1, ["'111", "turn 0"]),
    "a turn in other digits": ([row("D", "\u0660", "hi", "", {})], 1, ["turn 0"]),
    "NUL bytes": ([row("D", 0, "hi", "", {"bus-day": "mon\0day"})], 1, [r"'mon\x00day'"]),
    "carriage returns alone": (["\r".join(rows(DIALOGUES)).replace("MUL", "M")], 1, ["contains carriage returns"]),
    "dontcare where it is no value": ([row("D", 0, "hi", "", {"bus-people": "dontcare"})], 1, ["'dontcare'"]),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_named(tmp_path, ontology, kind):
    added, offset, found = BAD_LINES[kind]
    path = tmp_path / "train.tsv"
    good = [HEADER, *rows(DIALOGUES)]
    path.write_text("\n".join([*good, *added]) + "\n", encoding="utf-8")
    message = input_error(read_dialogues, path, ontology)
    assert message.startswith(f"{path}:{len(good) + offset}: ")
    assert [part for part in found if part not in message] == []


def test_a_value_far_from_all_others_gets_no_guess(tmp_path, ontology):
    write_dialogues(tmp_path / "train.tsv", [("D", [("hi", "", {"hotel-area": "zzzzz"})])])
    assert "Did you mean" not in input_error(read_dialogues, tmp_path / "train.tsv", ontology)


def test_old_line_ends_are_named(tmp_path, ontology):
    """Carriage returns alone: the whole file is one line, and its header goes on into the first row."""
    path = tmp_path / "train.tsv"
    path.write_bytes("\r".join([HEADER, *rows(DIALOGUES)]).encode())
    message = input_error(read_dialogues, path, ontology)
    assert message.startswith(f"{path}:1: ")
    assert "contains carriage returns" in message


@pytest.mark.parametrize("id_", ["../../etc/passwd", "a/b", "con", "C:\\x", "D\0", "-rf", "~", "#D", "a b", "é"])
def test_an_id_is_text_whatever_it_looks_like(tmp_path, ontology, id_):
    write_dialogues(tmp_path / "train.tsv", [(id_, [("hi", "", {})])])
    assert [dialogue.id for dialogue in read_dialogues(tmp_path / "train.tsv", ontology)] == [id_]


def test_a_long_utterance_is_read_whole(tmp_path, ontology):
    dialogues = [("D", [("x" * 10**6, "\0\r\u2028", {"bus-day": "monday"})])]
    write_dialogues(tmp_path / "train.tsv", dialogues)
    assert as_written(read_dialogues(tmp_path / "train.tsv", ontology)) == dialogues


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "shift-jis"])
def test_no_other_encoding_is_taken_for_utf_8(tmp_path, ontology, encoding):
    path = tmp_path / "train.tsv"
    text = "\n".join([HEADER, row("D", 0, "a " + ("café" if encoding != "shift-jis" else "カフェ"), "", {})])
    path.write_bytes(text.encode(encoding))
    assert input_error(read_dialogues, path, ontology).startswith(f"{path}:")


@pytest.mark.parametrize(
    ("slots", "foreign"),
    [
        (SLOTS[:-1], "'hotel-name'"),
        ([*SLOTS, "taxi-leave"], "'taxi-leave'"),
        (["bus-date", *SLOTS[1:]], "'bus-da"),
        ([*SLOTS[2:], *SLOTS[:2]], "order"),
        ([*SLOTS, SLOTS[0]], "the slots in the header"),
    ],
    ids=["one less", "one more", "another one", "another order", "one twice"],
)
def test_a_header_with_other_slots_is_an_input_error(tmp_path, ontology, slots, foreign):
    path = tmp_path / "train.tsv"
    header = "\t".join([*HEADER.split("\t")[:4], *slots, ""])
    path.write_text("\n".join([header, *rows(DIALOGUES)]), encoding="utf-8")
    message = input_error(read_dialogues, path, ontology)
    assert message.startswith(f"{path}:1: ")
    assert foreign in message


@pytest.mark.parametrize("content", ["", "\n", "\ufeff", " \r\n\t\n", HEADER, HEADER + "\n", HEADER + "\r\n\r\n"])
def test_a_file_without_dialogues_is_an_input_error(tmp_path, ontology, content):
    path = tmp_path / "train.tsv"
    path.write_text(content, encoding="utf-8", newline="")
    message = input_error(read_dialogues, path, ontology)
    assert message.startswith(f"{path}: ")
    assert ("is empty" in message) == (content.strip("\ufeff\r\n\t ") == "")


def test_a_file_that_is_not_utf_8_is_an_input_error(tmp_path, ontology):
    path = tmp_path / "train.tsv"
    lines = [HEADER, *rows(DIALOGUES[:1]), row("D", 0, "a café", "", {})]
    path.write_text("\n".join(lines), encoding="latin-1")
    message = input_error(read_dialogues, path, ontology)
    assert message.startswith(f"{path}:{len(lines)}: not UTF-8")
    assert "0xe9" in message


@pytest.mark.parametrize("read", [lambda path, _: Ontology.read(path), read_dialogues], ids=["ontology", "dialogues"])
def test_a_missing_file_is_an_input_error(tmp_path, ontology, read):
    for path in (tmp_path / "nowhere.tsv", tmp_path):
        assert input_error(read, path, ontology).startswith(f"{path}: ")


# -------------------------------------------------------------------------------------------------------- properties

plain_text = st.text(st.characters(exclude_characters="\t\n", exclude_categories=["Cs"]), max_size=8)
states = st.fixed_dictionaries({}, optional={slot: st.sampled_from(values[:-1]) for slot, values in CANDIDATES.items()})
turn_lists = st.lists(st.tuples(plain_text, plain_text, states), min_size=1, max_size=4)
ids = plain_text.filter(lambda text: text.strip() and text.splitlines() == [text])
corpora = st.lists(st.tuples(ids, turn_lists), min_size=1, max_size=4, unique_by=lambda dialogue: dialogue[0])


@given(dialogues=corpora, header=st.booleans())
def test_any_plain_text_comes_back(folder, ontology, dialogues, header):
    """Also other line separators, quotation marks, and byte order marks inside."""
    assume(header or not dialogues[0][0].startswith(("#", "\ufeff")))
    path = folder / "any.tsv"
    path.write_text("\n".join([*[HEADER] * header, *rows(dialogues)]), encoding="utf-8", newline="")
    assert as_written(read_dialogues(path, ontology)) == dialogues


damage = mutations(b"\t", b"\n", b"\r", b"#", b"\0")


def read_or_refused(read, path, *arguments):
    """What was read, or None for the one error that names the file."""
    try:
        return read(path, *arguments)
    except InputError as error:
        message = str(error)
    assert message.startswith(f"{path}:")
    assert message.isprintable()
    assert len(message) < 500
    return None


def rows_of(content):
    """The rows of a file as an editor shows them, without what may be in it or not."""
    lines = [line.removesuffix("\r") for line in content.decode("utf-8-sig").split("\n")]
    found = [line for number, line in enumerate(lines) if line and not (number == 0 and line.startswith("#"))]
    columns = [line.split("\t")[: 4 + len(SLOTS)] for line in found]
    return [[*row[:4], *("do not care" if value == "dontcare" else value for value in row[4:])] for row in columns]


@given(changes=damage, newline=st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_damaged_dialogue_file_is_refused_or_read_as_it_stands(folder, ontology, changes, newline):
    """What is read, written out again, is what the file has, row by row."""
    path = folder / "damaged.tsv"
    path.write_bytes(mutate(newline.join([HEADER, *rows(DIALOGUES)]).encode(), changes))
    read = read_or_refused(read_dialogues, path, ontology)
    if read is not None:
        assert [line.split("\t") for line in rows(as_written(read))] == rows_of(path.read_bytes())
        assert len({dialogue.id for dialogue in read}) == len(read)


@given(changes=damage)
def test_a_damaged_ontology_is_read_or_refused(folder, changes):
    path = folder / "damaged.json"
    path.write_bytes(mutate(json.dumps(ONTOLOGY, indent=1).encode(), changes))
    read = read_or_refused(Ontology.read, path)
    if read is not None:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        assert list(read.slots) == sorted(content)
        for slot, values in zip(read.slots, read.values, strict=True):
            assert list(values) == [*dict.fromkeys(value for value in content[slot] if value != "none"), "none"]


odd_texts = st.sampled_from(["", " ", "hello"])
odd_dialogues = st.lists(st.lists(st.tuples(odd_texts, odd_texts), min_size=1, max_size=5), max_size=5)


@given(texts=odd_dialogues, max_turns=st.integers(1, 5))
def test_oddities_are_counted(texts, max_turns):
    expected = Counter()
    for turns in texts:
        if len(turns) > max_turns:
            expected[f"dialogues cut to {max_turns} turns"] += 1
        for number, (user, system) in enumerate(turns):
            if user != "hello":
                expected["turns without a user utterance"] += 1
            if system != "hello" and number >= 1:
                expected["later turns without a system response"] += 1
            if system == "hello" and number == 0:
                expected["first turns with a system response"] += 1
    dialogues = [Dialogue(str(i), [Turn(*pair, ()) for pair in turns]) for i, turns in enumerate(texts)]
    found = oddities(dialogues, max_turns)
    assert dict(found) == dict(expected), "and nothing is listed that did not occur"
