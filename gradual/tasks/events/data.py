"""Reads documents in DyGIE's format, one JSON object per line."""

from __future__ import annotations

import reprlib
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from gradual.data.text import JSONError, is_line, parse_json, read_text
from gradual.errors import InputError, did_you_mean
from gradual.tasks.events.documents import LAYERS, Document, Event, Sentence
from gradual.tasks.events.labels import LabelSpace

_FIELDS = {"doc_key", "dataset", "sentences", "weight", "sentence_start", "clusters", "event_clusters", *LAYERS}
_KINDS = {"ner": "entity types", "relations": "relation types", "triggers": "event types", "roles": "roles"}
_Annotation = TypeVar("_Annotation")


def read_documents(path: str | Path, labels: LabelSpace | None = None) -> list[Document]:
    """Read a file of documents, one JSON object per line.

    Args:
        path: The file.
        labels: The labels that a model knows, to refuse any others; None to accept all.

    Raises:
        InputError: The file is missing, empty or not UTF-8, or a line is not JSON, lacks ``doc_key`` or ``sentences``,
            repeats a ``doc_key`` or has a line break in it, has an empty sentence or token, a malformed annotation, or
            an annotation of tokens outside its sentence. The message names file, line and field.
    """
    path = Path(path)
    documents: list[Document] = []
    line_of: dict[str, int] = {}
    for number, text in _lines(path):
        line = _Line(f"{path}:{number}", labels)
        document = line.document(text)
        first = line_of.setdefault(document.id, number)
        if first != number:
            line.refuse("doc_key", f"{reprlib.repr(document.id)} as in line {first}", "a unique key")
        documents.append(document)
    if not documents:
        raise InputError(f"{path}: the file is empty; it must hold one JSON object per line, each a document.")
    return documents


def statistics(documents: Sequence[Document]) -> dict[str, int]:
    """Count what Table 3 of the paper counts, and the annotations in other layers if there are any."""
    labels = LabelSpace.of(documents)
    sentences = [sentence for document in documents for sentence in document.sentences]
    events = [event for sentence in sentences for event in sentence.events]
    others = {
        "entity types": len(labels.ner),
        "entities": sum(len(sentence.ner) for sentence in sentences),
        "relation types": len(labels.relations),
        "relations": sum(len(sentence.relations) for sentence in sentences),
    }
    return {
        "documents": len(documents),
        "sentences": len(sentences),
        "event types": len(labels.triggers),
        "role types": len(labels.roles),
        "events": len(events),
        "arguments": sum(len(event.arguments) for event in events),
        **{row: count for row, count in others.items() if count},
    }


def oddities(documents: Sequence[Document]) -> Counter[str]:
    """Count what is valid but unusual in documents: worth a line in the log, not an error.

    The model merges duplicate annotations, and can predict only one of several labels of a span, pair or token.
    """
    counts: Counter[str] = Counter()
    for document in documents:
        counts["documents without annotations"] += not document.layers
        foreign = (name for name in document.record if name not in _FIELDS and not name.startswith(("_", "predicted_")))
        counts.update(f"documents with the unknown field {reprlib.repr(name)}" for name in foreign)
        for sentence in document.sentences:
            labelled: dict[str, list[tuple[Hashable, str]]] = {
                "entities": [(entity[:-1], entity[-1]) for entity in sentence.ner],
                "relations": [(relation[:-1], relation[-1]) for relation in sentence.relations],
                "triggers": [(event.trigger, event.type) for event in sentence.events],
                "arguments": [
                    ((event.trigger, start, end), role)
                    for event in sentence.events
                    for start, end, role in event.arguments
                ],
            }
            for what, pairs in labelled.items():
                distinct = set(pairs)
                labels_of = Counter(place for place, _ in distinct)
                counts[f"{what} annotated more than once"] += len(pairs) - len(distinct)
                counts[f"{what} with several labels"] += sum(number > 1 for number in labels_of.values())
    return +counts


class _Line:
    """Turns one line into a document, or refuses it, naming file, line and field."""

    def __init__(self, where: str, labels: LabelSpace | None) -> None:
        self.where = where
        self.labels = labels
        self.starts: list[int] = []  # first token of each sentence, then the number of tokens

    def refuse(self, field: str, found: str, accepted: str) -> NoReturn:
        raise InputError(f"{self.where}: {field}: found {found}, expected {accepted}.")

    def document(self, text: str) -> Document:
        record = self._record(text)
        for name in ("doc_key", "sentences"):
            if name not in record:
                raise InputError(f"{self.where}: {name}: missing; every document has doc_key and sentences.")
        tokens = self._sentences(record["sentences"])
        self.starts = list(accumulate(map(len, tokens), initial=0))
        per_sentence = {
            "ner": self._layer(record, "ner", self._entity),
            "relations": self._layer(record, "relations", self._relation),
            "events": self._layer(record, "events", self._event),
        }
        return Document(
            id=self._key(record["doc_key"]),
            sentences=[Sentence(*columns) for columns in zip(tokens, *per_sentence.values(), strict=True)],
            weight=self._weight(record.get("weight", 1.0)),
            layers=frozenset(layer for layer in LAYERS if layer in record),
            record=record,
        )

    def _record(self, text: str) -> dict[str, Any]:
        try:
            record = parse_json(text)
        except JSONError as error:
            problem = str(error)
        else:
            if isinstance(record, dict):
                return record
            problem = f"found {reprlib.repr(record)}"
        raise InputError(f"{self.where}: {problem}, expected one JSON object per line.")

    def _sentences(self, sentences: Any) -> list[list[str]]:
        if not isinstance(sentences, list) or not sentences:
            self.refuse("sentences", reprlib.repr(sentences), "a list of at least one sentence")
        for number, tokens in enumerate(sentences):
            if not isinstance(tokens, list) or not tokens:
                self.refuse(f"sentences[{number}]", reprlib.repr(tokens), "a list of at least one token")
            for position, token in enumerate(tokens):
                if not isinstance(token, str) or not token.strip():
                    self.refuse(
                        f"sentences[{number}][{position}]", reprlib.repr(token), "a token, text that is not empty"
                    )
        return sentences

    def _weight(self, weight: Any) -> float:
        if type(weight) not in (int, float) or not 0 < weight <= sys.float_info.max:
            self.refuse("weight", reprlib.repr(weight), "a positive number")
        return float(weight)

    def _layer(
        self, record: dict[str, Any], layer: str, annotation: Callable[[Any, int, str], _Annotation]
    ) -> list[list[_Annotation]]:
        """Return the annotations of each sentence."""
        count = len(self.starts) - 1
        lists = record.get(layer, [[]] * count)
        if not isinstance(lists, list):
            self.refuse(layer, reprlib.repr(lists), "a list with one list per sentence")
        if len(lists) != count:
            self.refuse(layer, f"{len(lists)} entries for {count} sentences", "a list with one list per sentence")
        for sentence, items in enumerate(lists):
            if not isinstance(items, list):
                self.refuse(f"{layer}[{sentence}]", reprlib.repr(items), "a list of annotations")
        return [
            [annotation(item, sentence, f"{layer}[{sentence}][{number}]") for number, item in enumerate(items)]
            for sentence, items in enumerate(lists)
        ]

    def _entity(self, item: Any, sentence: int, field: str) -> tuple[int, int, str]:
        start, end, type_ = self._columns(item, (3,), field, "[start, end, type]")
        return *self._span(start, end, sentence, field), self._label(type_, "ner", field)

    def _relation(self, item: Any, sentence: int, field: str) -> tuple[int, int, int, int, str]:
        start, end, other_start, other_end, type_ = self._columns(item, (5,), field, "[start, end, start, end, type]")
        return (
            *self._span(start, end, sentence, field),
            *self._span(other_start, other_end, sentence, field),
            self._label(type_, "relations", field),
        )

    def _event(self, item: Any, sentence: int, field: str) -> Event:
        if not isinstance(item, list) or not item:
            self.refuse(field, reprlib.repr(item), "[[trigger, type], [start, end, role], ...]")
        first = f"{field}[0]"
        *tokens, type_ = self._columns(item[0], (2, 3), first, "[trigger, type] or [start, end, type]")
        trigger, end = self._span(tokens[0], tokens[-1], sentence, first)
        if trigger != end:
            self.refuse(first, f"a trigger of {end - trigger + 1} tokens", "a trigger of one token, with start == end")
        type_ = self._label(type_, "triggers", first)
        return Event(trigger, type_, [self._argument(a, sentence, f"{field}[{i}]") for i, a in enumerate(item) if i])

    def _argument(self, item: Any, sentence: int, field: str) -> tuple[int, int, str]:
        start, end, role = self._columns(item, (3,), field, "[start, end, role]")
        return *self._span(start, end, sentence, field), self._label(role, "roles", field)

    def _columns(self, item: Any, lengths: tuple[int, ...], field: str, form: str) -> list[Any]:
        if not isinstance(item, list) or len(item) not in lengths:
            self.refuse(field, reprlib.repr(item), form)
        return item

    def _span(self, start: Any, end: Any, sentence: int, field: str) -> tuple[int, int]:
        """Convert indices that count from the start of the document to those that count from the sentence."""
        begin, after = self.starts[sentence : sentence + 2]
        for index in (start, end):
            if type(index) is not int:
                self.refuse(field, f"the token index {reprlib.repr(index)}", "an integer")
            if not begin <= index < after:
                total = self.starts[-1]
                other = bisect_right(self.starts, index) - 1
                place = f"in sentence {other}" if 0 <= index < total else f"outside the document of {total} tokens"
                self.refuse(
                    field,
                    f"the token index {reprlib.repr(index)}, which is {place}",
                    f"an index from {begin} to {after - 1}, the tokens of sentence {sentence} (tokens and sentences "
                    f"are counted from 0, tokens from the start of the document)",
                )
        if end < start:
            self.refuse(field, f"the end {end} before the start {start}", "a span whose end is its last token")
        return start - begin, end - begin

    def _label(self, label: Any, kind: str, field: str) -> str:
        text = self._text(label, field)
        if self.labels is not None and text not in self.labels.index(kind):
            known = self.labels.index(kind)
            found = f"{reprlib.repr(text)} is not one of the {len(known)} {_KINDS[kind]} that the model knows"
            raise InputError(f"{self.where}: {field}: {found}.{did_you_mean(text, known)}")
        return text

    def _key(self, key: Any) -> str:
        if not isinstance(key, str) or not is_line(key):
            self.refuse("doc_key", reprlib.repr(key), "a single line of text, not empty")
        return key

    def _text(self, text: Any, field: str) -> str:
        if not isinstance(text, str) or not text.strip():
            self.refuse(field, reprlib.repr(text), "text that is not empty")
        return text


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not blank."""
    for number, text in enumerate(read_text(path).split("\n"), start=1):
        if text.strip(" \t\r"):
            yield number, text
