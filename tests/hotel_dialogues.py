"""Dialogues of the hotel domain and of others, files that mix them, and what a data module has of them."""

from dialogue_files import CANDIDATES, SLOTS

from gradual.tasks.dialogue.features import MISSING


def dialogue(id_, turns=2, **state):
    """A dialogue whose last turn fills the slots of `state` (`_` for `-`)."""
    filled = {slot.replace("_", "-"): value for slot, value in state.items()}
    empty = [("i need a bed", "" if turn == 0 else "which day?", {}) for turn in range(turns - 1)]
    return id_, [*empty, ("that is all", "" if turns == 1 else "anything else?", filled)]


IN = [
    dialogue("IN0", hotel_area="north", bus_people="2"),
    dialogue("IN1", 1),
    dialogue("IN2", 3, hotel_name="dontcare"),
]
OUT = [
    dialogue("OUT0", bus_day="monday"),
    dialogue("OUT1", 4, bus_people="1"),
    dialogue("OUT2", 1, hotel_area="south"),
    dialogue("OUT3", 2),
    dialogue("OUT4", 2, bus_day="dontcare"),
]
DEV = [dialogue("DEV0", 1), dialogue("DEV1", 3), dialogue("DEV2", 2)]
TEST = [dialogue("TEST0", 2), dialogue("TEST1", 2)]
FILES = {
    "train": IN,
    "train2": [OUT[0], *IN, OUT[1]],
    "train9": [*IN, *OUT[:3]],
    "train10": [OUT[4], IN[1], OUT[0], OUT[2], IN[0], OUT[3], OUT[1], IN[2]],
    "dev": DEV,
    "test": TEST,
}


def ids(dialogues):
    return [id_ for id_, _ in dialogues]


def ids_in(loader):
    """Ids of the dialogues of each batch."""
    return [batch.ids for batch in loader]


def labels_of(dataset):
    """Labels by dialogue id, as text or None, turn by turn and slot by slot."""
    return {
        example.id: [
            {slot: None if label == MISSING else CANDIDATES[slot][label] for slot, label in zip(SLOTS, turn)}
            for turn in example.labels.tolist()
        ]
        for example in (dataset[index] for index in range(len(dataset)))
    }


def written_labels(dialogues, missing=()):
    def value(slot, state):
        return None if slot in missing else {"dontcare": "do not care"}.get(state.get(slot), state.get(slot, "none"))

    return {id_: [{slot: value(slot, state) for slot in SLOTS} for *_, state in turns] for id_, turns in dialogues}
