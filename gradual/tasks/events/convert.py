"""``gradual convert standoff``: annotated texts from brat or the BioNLP shared tasks to documents in DyGIE's format.

Tokens and sentences come from a spaCy tokenizer that needs no model. What the format cannot represent is counted, and
the counts are printed at the end.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gradual.errors import InputError
from gradual.files import write_atomically
from gradual.tasks.events.documents import LAYERS
from gradual.tasks.events.standoff import AnnotatedText, TextBound, in_use, read_standoff, text_files

_LINE_END = re.compile(r"\r\n|\r|\n")
_Item = TypeVar("_Item", bound=tuple[Any, ...])


class Tokens(NamedTuple):
    """The tokens of a text.

    Attributes:
        spans: First character of each token and the one after its last, in order and without overlap.
        first: Index of the first token in each sentence.
    """

    spans: list[tuple[int, int]]
    first: list[int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``gradual convert``.

    Args:
        parser: The parser of this subcommand.
    """
    parser.add_argument("format", choices=["standoff"], help=".txt files with .ann (brat), or .a1 and .a2 (BioNLP)")
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of annotated texts")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="JSON lines file to write")
    parser.add_argument(
        "--language",
        metavar="CODE",
        default="en",
        help="language of the texts: en, ar, de, ..., or xx for any (default: en)",
    )
    parser.add_argument("--wrapped", action="store_true", help="line breaks do not end sentences, only empty lines do")
    parser.add_argument("--skip", metavar="TYPE", nargs="+", default=[], help="entity and trigger types to leave out")


def run(arguments: argparse.Namespace) -> None:
    """Convert a folder, and print a summary to stderr.

    Args:
        arguments: The parsed options that ``add_arguments`` declares.

    Raises:
        InputError: The folder has no texts or an invalid one, the language is unknown, spaCy is not installed, or the
            file cannot be written.
    """
    paths, skip, out = text_files(arguments.folder), frozenset(arguments.skip), arguments.out
    layers, roles = in_use(read_standoff(path, skip) for path in paths)
    tokenize = tokenizer(arguments.language, arguments.wrapped)
    counts: Counter[str] = Counter()
    changes: Counter[str] = Counter()

    def lines() -> Iterator[str]:
        for path in paths:
            annotated = read_standoff(path, skip).with_roles_of(roles)
            record = document(annotated, tokenize(annotated.text), layers, changes)
            if record is not None:
                counts.update(_sizes(record))
                yield json.dumps(record, ensure_ascii=False) + "\n"

    text = "".join(lines())
    if not text:
        raise InputError(f"{arguments.folder}: all its .txt files are empty.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, text)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror}.") from None
    written = ", ".join(layer for layer in LAYERS if layer in layers) or "no layers"
    print(f"{out}, with {written}:", file=sys.stderr)
    for what, count in [*counts.items(), *sorted((+changes).items())]:
        print(f"{count:8}  {what}", file=sys.stderr)


def tokenizer(language: str, wrapped: bool = False) -> Callable[[str], Tokens]:
    """Return a function that finds the tokens and sentences of a text; white space is not a token.

    Sentences end where spaCy's sentencizer says, and at line breaks.

    Args:
        language: A language code from spaCy; ``xx`` stands for any language.
        wrapped: Whether only empty lines end sentences, rather than all line breaks.

    Raises:
        InputError: spaCy does not support the language, or is not installed.
    """
    try:
        import spacy
    except ModuleNotFoundError as error:
        if error.name != "spacy":
            raise
        raise InputError("convert needs spaCy, which is not installed: pip install 'gradual[convert]'.") from None
    try:
        pipeline = spacy.blank(language)
    except ImportError as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"--language {language}: spaCy has no tokenizer for it here ({reason}).") from None
    pipeline.add_pipe("sentencizer")
    pipeline.max_length = sys.maxsize  # the limit is meant for parsers, which need much memory
    line_ends = 2 if wrapped else 1

    def tokenize(text: str) -> Tokens:
        tokens = Tokens([], [])
        begins = True
        before = 0
        for token in pipeline(text):
            begins = begins or bool(token.is_sent_start)  # if white space starts a sentence, the token after it does
            if token.is_space:
                continue
            if begins or len(_LINE_END.findall(text, before, token.idx)) >= line_ends:
                tokens.first.append(len(tokens.spans))
            before = token.idx + len(token)
            tokens.spans.append((token.idx, before))
            begins = False
        return tokens

    return tokenize


def document(
    annotated: AnnotatedText, tokens: Tokens, layers: Set[str], changes: Counter[str]
) -> dict[str, Any] | None:
    """Convert a text and its annotations to a document in DyGIE's format; None for a text without tokens.

    Annotations are widened to whole tokens, and gaps in discontinuous ones are filled. A trigger is reduced to its last
    token. An argument that is an event becomes the trigger of that event. Events with the same trigger and type are
    merged. Sentences are joined if an entity crosses their boundary; arguments and relations that cross one are left
    out.

    Args:
        annotated: The text and its annotations.
        tokens: The tokens of the text.
        layers: The layers to write, if the text has them.
        changes: Counts what differs from the annotation; updated.
    """
    changes.update(annotated.changes)
    if not tokens.spans:
        changes["left out: texts without a token"] += 1
        return None
    spans = {id_: _aligned(bound, annotated.text, tokens, changes) for id_, bound in annotated.bounds.items()}
    for id_ in {event.trigger for event in annotated.events.values()}:
        first, last = spans[id_]
        changes["changed: triggers of several tokens, now the last one"] += first < last
        spans[id_] = last, last
    spans |= {id_: spans[event.trigger] for id_, event in annotated.events.items()}
    entities = _once(((*spans[id_], bound.type) for id_, bound in annotated.entities.items()), "entities", changes)
    starts = _joined(tokens.first, entities, changes)
    by_place: dict[str, list[tuple[int, list[Any]]]] = {
        "ner": [(entity[0], list(entity)) for entity in entities],
        "relations": [(relation[0], list(relation)) for relation in _relations(annotated, spans, starts, changes)],
        "events": [(event[0][0], event) for event in _events(annotated, spans, starts, changes)],
    }
    words = [annotated.text[start:end] for start, end in tokens.spans]
    record: dict[str, Any] = {
        "doc_key": annotated.id,
        "sentences": [words[start:end] for start, end in zip(starts, [*starts[1:], None])],
    }
    for layer, items in by_place.items():
        if layer in layers & annotated.layers:
            record[layer] = [[] for _ in starts]
            for place, item in items:
                record[layer][_sentence(starts, place)].append(item)
    return record


def _aligned(bound: TextBound, text: str, tokens: Tokens, changes: Counter[str]) -> tuple[int, int]:
    """Return the first and the last token of an annotation, which must not be white space only."""
    (start, end), *others = bound.fragments
    holes = False
    for next_start, next_end in others:
        holes = holes or bool(text[end:next_start].strip())  # brat also ends a fragment at each line break
        end = next_end
    first = bisect_right(tokens.spans, start, key=lambda span: span[1])
    last = bisect_left(tokens.spans, end, key=lambda span: span[0]) - 1
    changes["changed: discontinuous entities and triggers, now with the text in between"] += holes
    changes["changed: entities and triggers widened to whole tokens"] += (
        tokens.spans[first][0] < start or end < tokens.spans[last][1]
    )
    return first, last


def _joined(starts: list[int], entities: Iterable[tuple[int, int, str]], changes: Counter[str]) -> list[int]:
    """Remove sentence boundaries inside entities, where sentencizers are often wrong."""
    inside: set[int] = set()
    for first, last, _ in entities:
        inside.update(starts[bisect_right(starts, first) : bisect_right(starts, last)])
    changes["changed: sentences joined with the one before, as an entity spans both"] += len(inside)
    return [start for start in starts if start not in inside]


def _relations(
    annotated: AnnotatedText, spans: dict[str, tuple[int, int]], starts: list[int], changes: Counter[str]
) -> list[tuple[int, int, int, int, str]]:
    kept = []
    for relation in annotated.relations:
        first, second = spans[relation.first], spans[relation.second]
        if _sentence(starts, first[0]) == _sentence(starts, second[0]):
            kept.append((*first, *second, relation.type))
        else:
            changes["left out: relations between two sentences"] += 1
    return _once(kept, "relations", changes)


def _events(
    annotated: AnnotatedText, spans: dict[str, tuple[int, int]], starts: list[int], changes: Counter[str]
) -> list[list[list[Any]]]:
    merged: dict[tuple[int, str], list[tuple[int, int, str]]] = {}
    for event in annotated.events.values():
        trigger = spans[event.trigger][0]
        kept = merged.setdefault((trigger, event.type), [])
        for role, id_ in event.arguments:
            if _sentence(starts, spans[id_][0]) == _sentence(starts, trigger):
                kept.append((*spans[id_], role))
                changes["changed: arguments that are events, now the event's trigger"] += id_ in annotated.events
            else:
                changes["left out: arguments in another sentence than their event"] += 1
    changes["merged: events with the trigger and type of another"] += len(annotated.events) - len(merged)
    return [
        [[trigger, type_], *map(list, _once(arguments, "arguments", changes))]
        for (trigger, type_), arguments in sorted(merged.items())
    ]


def _once(items: Iterable[_Item], what: str, changes: Counter[str]) -> list[_Item]:
    """Return the items sorted, without duplicates."""
    items = list(items)
    distinct = sorted(set(items))
    changes[f"merged: {what} equal to another"] += len(items) - len(distinct)
    return distinct


def _sentence(starts: list[int], token: int) -> int:
    return bisect_right(starts, token) - 1


def _sizes(record: dict[str, Any]) -> dict[str, int]:
    """Count the contents of a document, for the summary."""
    items = {layer: list(chain(*record.get(layer, []))) for layer in LAYERS}
    return {
        "documents": 1,
        "sentences": len(record["sentences"]),
        "tokens": sum(map(len, record["sentences"])),
        "entities": len(items["ner"]),
        "relations": len(items["relations"]),
        "events": len(items["events"]),
        "arguments": sum(len(event) - 1 for event in items["events"]),
    }
