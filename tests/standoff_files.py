"""Annotated texts in standoff files, what `gradual convert` makes of a folder of them, and what it says."""

import json
import re

import pytest

from gradual.__main__ import main

# characters:  0   4    9      16  20  24   29   34  36     43     50  54     61 64    70
NEWS_TEXT = "The bomb killed two men near Hilla.\nPolice blamed the attack on rebels.\n"
# tokens:      0   1    2      3   4   5    6    7   8      9      10  11     12 13    14
NEWS_ANN = """\
T1	Weapon 4 8	bomb
T2	Die 9 15	killed
T3	Person 16 23	two men
T4	Place 29 34	Hilla
E1	Die:T2 Victim:T3 Place:T4 Instrument:T1
R1	Located Arg1:T3 Arg2:T4
T5	Attack 50 60	the attack
T6	Person 64 70	rebels
E2	Attack:T5 Attacker:T6 Place2:T4 Cause:E1
T7	Blame 43 49	blamed
E3	Blame:T7 Topic:E2
R2	Foe Arg1:T6 Arg2:T3
*	Equiv T1 T4
A1	Negation E2
M1	Speculation E2
N1	Reference T4 Wikipedia:1	Hilla
#1	AnnotatorNotes T1	sure?
"""
SIZES = {"documents": 1, "sentences": 2, "tokens": 15, "entities": 4, "relations": 1, "events": 3, "arguments": 5}
NEWS = {
    "doc_key": "news",
    "sentences": [
        ["The", "bomb", "killed", "two", "men", "near", "Hilla", "."],
        ["Police", "blamed", "the", "attack", "on", "rebels", "."],
    ],
    "ner": [[[1, 1, "Weapon"], [3, 4, "Person"], [6, 6, "Place"]], [[13, 13, "Person"]]],
    "relations": [[[3, 4, 6, 6, "Located"]], []],
    "events": [
        [[[2, "Die"], [1, 1, "Instrument"], [3, 4, "Victim"], [6, 6, "Place"]]],
        [[[9, "Blame"], [11, 11, "Topic"]], [[11, "Attack"], [13, 13, "Attacker"]]],
    ],
}


def write(folder, **files):
    """Files by their names, the dot written as an underscore: `x_ann`."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        content = content if isinstance(content, bytes) else content.encode()
        (folder / ".".join(name.rsplit("_", 1))).write_bytes(content)
    return folder


def convert(folder, *options):
    out = folder.parent / "out" / "converted.json"
    main(["convert", "standoff", str(folder), "--out", str(out), *options])
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def only(folder, *options):
    (record,) = convert(folder, *options)
    return record


def report(capsys):
    """What stderr says was changed, and how often."""
    return {change: count for change, count in table(capsys.readouterr().err).items() if change not in SIZES}


def table(text):
    return {what: int(count) for count, what in re.findall(r"^ +(\d+)  (.+)$", text, re.M)}


def refusal(folder, capsys, *options):
    with pytest.raises(SystemExit) as stopped:
        convert(folder, *options)
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert not (folder.parent / "out" / "converted.json").exists()
    return lines[0]
