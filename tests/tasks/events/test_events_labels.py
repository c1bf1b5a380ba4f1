"""The label space: the labels of documents, each with one position wherever and in whatever order they were read."""

import json
import random

import pytest
from events_files import document, sentence

from gradual.tasks.events.labels import LabelSpace

ENGLISH = [
    document(
        "en-1",
        sentence("She shot him", ner=[(0, 0, "PER")], events=[(1, "Attack", [(0, 0, "Attacker"), (2, 2, "Target")])]),
        sentence("Yes"),
    ),
    document("en-2", sentence("He died", events=[(1, "Die", [(0, 0, "Victim")])])),
]
ARABIC = [
    document(
        "ar-1",
        sentence("a b c", relations=[(0, 0, 2, 2, "PART-WHOLE")], events=[(1, "Attack", [(2, 2, "Place")])]),
        sentence("d", ner=[(0, 0, "GPE")], events=[(0, "Arrest", [])]),
    )
]
BOTH = LabelSpace(
    ner=("GPE", "PER"),
    relations=("PART-WHOLE",),
    triggers=("Arrest", "Attack", "Die"),
    roles=("Attacker", "Place", "Target", "Victim"),
)


def test_the_label_space_is_the_union_of_the_labels_of_all_documents():
    assert LabelSpace.of(ENGLISH, ARABIC) == BOTH
    assert LabelSpace.of(ENGLISH) == LabelSpace(("PER",), (), ("Attack", "Die"), ("Attacker", "Target", "Victim"))


def test_no_documents_have_no_labels():
    assert LabelSpace.of() == LabelSpace.of([], []) == LabelSpace.of([document("a", "b")]) == LabelSpace()


def test_labels_are_sorted_and_count_once_in_whatever_order_they_come():
    assert LabelSpace.of(ARABIC, ENGLISH[::-1], ARABIC) == BOTH
    labels = [*BOTH.roles, *BOTH.roles]
    random.Random(0).shuffle(labels)
    assert LabelSpace(roles=tuple(labels)).roles == BOTH.roles


@pytest.mark.parametrize("kind", ["ner", "relations", "triggers", "roles"])
def test_the_index_has_the_position_of_each_label(kind):
    labels = getattr(BOTH, kind)
    assert BOTH.index(kind) == {label: labels.index(label) for label in labels}


def test_the_index_is_made_once():
    assert BOTH.index("roles") is BOTH.index("roles")


def test_plain_data_brings_it_back():
    plain = BOTH.to_dict()
    assert plain["triggers"] == ["Arrest", "Attack", "Die"]
    assert LabelSpace.from_dict(json.loads(json.dumps(plain))) == BOTH
    assert LabelSpace.from_dict(LabelSpace().to_dict()) == LabelSpace()


def test_the_difference_is_what_only_the_other_has():
    english, arabic = LabelSpace.of(ENGLISH), LabelSpace.of(ARABIC)
    expected = {"ner": ["GPE"], "relations": ["PART-WHOLE"], "triggers": ["Arrest"], "roles": ["Place"]}
    assert english.difference(arabic) == expected
    assert arabic.difference(english) == {
        "ner": ["PER"],
        "triggers": ["Die"],
        "roles": ["Attacker", "Target", "Victim"],
    }
    assert BOTH.difference(english) == {}
