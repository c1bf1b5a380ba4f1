"""Random documents come back as they were written; files with random damage are refused, or read in full."""

import json

import pytest
from damaged_bytes import mutate, mutations
from dygie_lines import LINE, changed, write
from events_files import document, sentence, write_documents
from hypothesis import example, given
from hypothesis import strategies as st

from gradual.errors import InputError
from gradual.tasks.events.data import oddities, read_documents, statistics
from gradual.tasks.events.documents import LAYERS
from gradual.tasks.events.labels import LabelSpace

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
@example(changes=[])
def test_a_file_with_damaged_bytes_is_read_or_refused(folder, changes):
    content = "\n".join(map(json.dumps, LINES)).encode()
    (folder / "damaged.json").write_bytes(mutate(content, changes))
    read = read_or_refused(folder / "damaged.json")
    assert read is not None or changes
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
@example(changes=[])
def test_a_line_with_wrong_values_is_read_or_refused(folder, changes):
    line = LINE
    for place, value in sorted(changes, key=lambda change: -len(change[0])):  # inner places first: all are there
        line = changed(*place, value, line=line)
    write(folder / "wrong.json", LINES[1], line)
    read = read_or_refused(folder / "wrong.json")
    assert read is not None or changes
    if read is not None:
        check_what_was_read(read)
