"""A line of DyGIE's format, what is read of it, and lines with one value changed."""

import copy
import json

from gradual.tasks.events.documents import Event, Sentence
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


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path
