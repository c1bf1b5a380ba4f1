"""The phrases of the demo corpus: its domains, their slots and values, and what user and system say about them.

In templates, `{v}` is a value, `{f}` a fragment that contains one ("on Friday"), `{old}` a value to be replaced,
`{noun}` what the slot is called in conversation, and `{n}` a number without meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TARGET = "hostel"
DO_NOT_CARE = "do not care"
NONE = "none"


@dataclass(frozen=True)
class Slot:
    """A slot: its values, and how user and system talk about it.

    Attributes:
        values: The candidate values, as in the ontology.
        noun: What user and system call the slot.
        fragments: How the user states a value, with `{v}`.
        ask: How the system asks for a value.
        surfaces: Other spellings of values, used in place of `{v}`; values not listed are used as written.
        paraphrases: Fragments that state a value without naming it.
        propose: How the system suggests a value; empty if it never does.
        indifferent: How the user says, naming the slot, that any value will do.
    """

    values: tuple[str, ...]
    noun: str
    fragments: tuple[str, ...]
    ask: tuple[str, ...]
    surfaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    paraphrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    propose: tuple[str, ...] = ()
    indifferent: tuple[str, ...] = ("Any {noun} is fine.", "The {noun} does not matter.")


@dataclass(frozen=True)
class Domain:
    """A domain: its slots, and how user and system talk about it.

    Attributes:
        slots: The slots by name, without the prefix of the domain.
        openers: How the user starts, with the first fragments at `{f}`.
        paraphrased: Probability of paraphrasing a value that has paraphrases.
        offers: What the system says before it asks or proposes.
        accept: How the user accepts a proposal.
    """

    slots: Mapping[str, Slot]
    openers: tuple[str, ...]
    paraphrased: float
    offers: tuple[str, ...]
    accept: tuple[str, ...]


ACCEPT = (
    "Yes, that one is fine.",
    "Yes, that sounds good, please book it.",
    "That works for me, thank you.",
    "Perfect, I will take it.",
)
# A refusal changes nothing: the proposed value must not enter the belief state.
REFUSE = (
    "No, not that one. What else is there?",
    "I do not like that one, is there something else?",
    "No, please try another one.",
)
COUNTER = ("No, I would rather have it {f}.", "Not that one. I want it {f}, please.", "No thanks, make it {f} please.")
CHANGE = (
    "Actually, please make it {f}.",
    "Sorry, can we have it {f} instead?",
    "Wait, I changed my mind. I want it {f}.",
    "Sorry, not {old}. I meant {f}.",
)
ANSWERS = ("It should be {f}, please.", "I would like it {f}.", "Let us say {f}.", "Ideally {f}, if you can.")
# Only the system's question says which slot these fill.
BARE_ANSWERS = ("I think {v}, please.", "{v} would be good.", "Let me see, {v} please.")
BARE_INDIFFERENT = ("I do not mind at all.", "Anything is fine with me.", "That does not matter to me.")
CONFIRM = ("Shall I book that for you?", "Would you like me to book it?", "Is there anything you want to change?")
BOOK = ("Yes, please book it for me.", "Please go ahead and book it.", "Can I have the reference number too?")
BOOKED = ("Your booking is done.", "It is booked, the reference number is on its way.", "All done, enjoy it.")
MORE = ("Can I help with anything else?", "Is there anything else you need?")
NEXT = ("Yes, one more thing.", "There is something else.", "Next,")
THANKS = (
    "No, that is all, thank you.",
    "Thank you, that is everything I need.",
    "That is all for today, goodbye.",
)
TAKEN = ("Sorry, {old} is not free. Would {v} work?", "There is no space left for {old}. How about {v}?")

_WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_NAMES = {day: (day.capitalize(),) for day in _WEEK}
_DIGITS = {"1": "one", "2": "two", "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven", "8": "eight"}
_NUMBERS = {digit: (digit, digit, word) for digit, word in _DIGITS.items()}
_DAY_ASK = ("Which day would you like?", "What day suits you?", "On which day?")
_DAY_PROPOSE = ("There is space on {v}, does that work?", "I can offer {v}. Is that good for you?")
_AREA_ASK = ("Which area do you prefer?", "What part of town would you like?")
_NAME_PROPOSE = (
    "How about {v}?",
    "I recommend {v}. Would you like that one?",
    "{v} is a good choice. Shall I book it?",
)

_OFFERS = ("I found several options.", "There are {n} options.", "Sure, I can help.", "OK.", "")

DOMAINS: Mapping[str, Domain] = {
    "ferry": Domain(
        openers=(
            "I need a ferry {f}.",
            "Can you find me a ferry {f}?",
            "I want to take the ferry {f}.",
            "Is there a boat {f}?",
        ),
        paraphrased=0.15,
        offers=(*_OFFERS, "There are {n} boats that day."),
        accept=ACCEPT,
        slots={
            "day": Slot(
                values=_WEEK[:6],
                noun="day",
                fragments=("on {v}", "leaving {v}", "this {v}"),
                ask=(*_DAY_ASK, "When do you want to leave?"),
                surfaces=_DAY_NAMES,
                propose=_DAY_PROPOSE,
            ),
            "destination": Slot(
                values=(
                    "gull island",
                    "seal rock",
                    "heron bay",
                    "pine island",
                    "moss point",
                    "amber cove",
                    "coral bay",
                    "fox island",
                ),
                noun="destination",
                fragments=("to {v}", "going to {v}", "over to {v}"),
                ask=("Where would you like to go?", "What is your destination?"),
                propose=("There is a boat to {v}. Would you like that one?", "How about {v}?"),
            ),
        },
    ),
    "cinema": Domain(
        openers=(
            "I want to see a film {f}.",
            "Can you find me a cinema {f}?",
            "I am looking for a film {f}.",
            "We would like to go to the cinema {f}.",
        ),
        paraphrased=0.15,
        offers=(*_OFFERS, "There are {n} films that day."),
        accept=ACCEPT,
        slots={
            "area": Slot(
                values=("centre", "north", "south", "harbour", DO_NOT_CARE),
                noun="area",
                fragments=("in the {v}", "in the {v} of town", "near the {v}"),
                ask=_AREA_ASK,
                paraphrases={"centre": ("right in the middle of town",), "harbour": ("by the water",)},
            ),
            "day": Slot(
                values=_WEEK,
                noun="day",
                fragments=("on {v}", "this {v}", "for {v} night"),
                ask=_DAY_ASK,
                surfaces=_DAY_NAMES,
                propose=_DAY_PROPOSE,
            ),
            "film": Slot(
                values=(
                    "silver moon",
                    "the last train",
                    "blue river",
                    "paper kings",
                    "night market",
                    "lost summer",
                    "the red door",
                    "iron garden",
                ),
                noun="film",
                fragments=("called {v}", "showing {v}", "with the title {v}"),
                ask=("Which film do you want to see?", "Do you have a film in mind?"),
                propose=_NAME_PROPOSE,
            ),
        },
    ),
    "cafe": Domain(
        openers=(
            "I need a cafe {f}.",
            "I am looking for a cafe {f}.",
            "Can you find me a place to eat {f}?",
            "Is there a nice cafe {f}?",
        ),
        paraphrased=0.2,
        offers=(*_OFFERS, "There are {n} places like that."),
        accept=ACCEPT,
        slots={
            "area": Slot(
                values=("centre", "north", "east", "west", "old town", DO_NOT_CARE),
                noun="area",
                fragments=("in the {v}", "near the {v}", "somewhere in the {v}"),
                ask=_AREA_ASK,
                paraphrases={"centre": ("right in the middle of town",), "old town": ("by the castle",)},
            ),
            "food": Slot(
                values=("soup", "cake", "pizza", "salad", "noodles", "waffles", DO_NOT_CARE),
                noun="food",
                fragments=("serving {v}", "that has {v}", "with good {v}"),
                ask=("What would you like to eat?", "What food do you want?"),
                paraphrases={"cake": ("for something sweet",), "pizza": ("with Italian food",)},
            ),
            "name": Slot(
                values=(
                    "green cup",
                    "corner oven",
                    "little spoon",
                    "copper pot",
                    "olive tree",
                    "sweet bean",
                    "the blue door",
                    "honey jar",
                ),
                noun="place",
                fragments=("called {v}", "with the name {v}"),
                ask=("Do you have a place in mind?", "Which cafe would you like?"),
                propose=_NAME_PROPOSE,
            ),
            "price range": Slot(
                values=("cheap", "moderate", "expensive", DO_NOT_CARE),
                noun="price",
                fragments=("with {v} prices", "in the {v} price range", "that is {v}"),
                ask=("What price range do you want?", "How much would you like to spend?"),
                paraphrases={
                    "cheap": ("that is not too pricey",),
                    "expensive": ("that is really fancy",),
                    "moderate": ("with average prices",),
                },
            ),
        },
    ),
    "tour": Domain(
        openers=(
            "Can you book a walking tour {f}?",
            "I want to join a tour {f}.",
            "We are looking for a guided tour {f}.",
            "I would like a city tour {f}.",
        ),
        paraphrased=0.15,
        offers=(*_OFFERS, "There are {n} guides."),
        accept=ACCEPT,
        slots={
            "people": Slot(
                values=("2", "3", "4", "5", "6", "7", "8"),
                noun="group",
                fragments=("for {v} people", "for a group of {v}", "with {v} of us"),
                ask=("How many people are in your group?", "How many people will come?"),
                surfaces=_NUMBERS,
                paraphrases={"2": ("for my friend and me",), "3": ("for me and my parents",)},
            ),
            "theme": Slot(
                values=("history", "food", "street art", "ghosts", "boats", "gardens", DO_NOT_CARE),
                noun="theme",
                fragments=("about {v}", "on the theme of {v}", "to learn about {v}"),
                ask=("What should the tour be about?", "Which theme do you like?"),
                paraphrases={"history": ("about old times",), "ghosts": ("about something scary",)},
                propose=("We have one about {v}, would you like that?", "How about {v}?"),
            ),
        },
    ),
    # The scarce domain: the days, numbers, prices and most areas are known from the others, the rest and half of the
    # wording are not.
    TARGET: Domain(
        openers=(
            "I need a place to sleep {f}.",
            "We are backpackers, find us a hostel {f}.",
            "Can we stay at a hostel {f}?",
            "I am travelling and want a bed {f}.",
        ),
        paraphrased=0.35,
        offers=(*_OFFERS, "There are {n} hostels with free beds.", "I can check us a hostel."),
        accept=(*ACCEPT, "Brilliant, we will stay there.", "Lovely, reserve that one then."),
        slots={
            "area": Slot(
                values=("north", "south", "east", "harbour", "old town", "university", DO_NOT_CARE),
                noun="area",
                fragments=("in the {v}", "close to the {v}", "around the {v}"),
                ask=(*_AREA_ASK, "Where do you want to stay?"),
                paraphrases={
                    "harbour": ("by the water", "where the ships are"),
                    "old town": ("by the castle",),
                    "university": ("where the students live", "on the campus"),
                },
                indifferent=("Any {noun} is fine.", "We can stay wherever."),
            ),
            "bed type": Slot(
                values=("dorm bed", "bunk bed", "private room", "family room", DO_NOT_CARE),
                noun="bed",
                fragments=("with a {v}", "in a {v}", "that has a {v}"),
                ask=("What kind of bed do you want?", "Do you want a room or a bed?"),
                paraphrases={
                    "dorm bed": ("in a shared room",),
                    "private room": ("with a door I can lock",),
                    "family room": ("with space for the kids",),
                },
                indifferent=("Any {noun} is fine.", "I can sleep on anything."),
            ),
            "day": Slot(
                values=_WEEK,
                noun="day",
                fragments=("from {v}", "starting {v}", "arriving on {v}"),
                ask=("Which day will you arrive?", "What day suits you?", "When do you check in?"),
                surfaces=_DAY_NAMES,
                propose=_DAY_PROPOSE,
            ),
            "name": Slot(
                values=(
                    "blue anchor",
                    "copper kettle",
                    "lazy fox",
                    "night owl",
                    "red lantern",
                    "happy camper",
                    "stone bridge",
                    "green parrot",
                    "north star",
                    "wooden shoe",
                    "garden gate",
                    "old mill",
                ),
                noun="hostel",
                fragments=("at the {v}", "called {v}", "at {v}"),
                ask=("Which hostel would you like?", "Do you have a hostel in mind?"),
                propose=(*_NAME_PROPOSE, "Backpackers love {v}. Shall I reserve a bed there?"),
            ),
            "nights": Slot(
                values=("1", "2", "3", "4", "5", "6", "7"),
                noun="stay",
                fragments=("for {v} nights", "staying {v} nights", "to sleep {v} times"),
                ask=("How many nights will you stay?", "How long is your stay?"),
                surfaces=_NUMBERS,
                paraphrases={
                    "1": ("for a single night", "and leave the next morning"),
                    "2": ("for a couple of nights",),
                    "7": ("for a whole week", "for a full week"),
                },
            ),
            "people": Slot(
                values=("1", "2", "3", "4", "5", "6"),
                noun="group",
                fragments=("for {v} people", "for {v} backpackers", "with {v} of us"),
                ask=("How many people will stay?", "How many guests are you?"),
                surfaces=_NUMBERS,
                paraphrases={
                    "1": ("just for me", "for me alone"),
                    "2": ("for my friend and me", "for a couple"),
                    "3": ("for me and my parents",),
                },
            ),
            "price range": Slot(
                values=("cheap", "moderate", DO_NOT_CARE),
                noun="price",
                fragments=("with {v} prices", "at a {v} rate", "that is {v}"),
                ask=("What price range do you want?", "What is your budget a night?"),
                paraphrases={
                    "cheap": ("that is not too pricey", "that students can pay", "on a tight budget"),
                    "moderate": ("with average prices", "that is not the cheapest"),
                },
                indifferent=("Any {noun} is fine.", "Money does not matter."),
            ),
        },
    ),
}
