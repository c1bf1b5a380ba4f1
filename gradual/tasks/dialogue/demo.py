"""A small synthetic dialogue corpus and a tiny encoder, for a demo without downloads.

Both have the formats of real ones (one TSV row per turn and an `ontology.json`; a Hugging Face folder), so that the
demo takes the same path through the code as a real run. Dialogues of the target domain, `hostel`, are scarce; those of
the others are plentiful and never mention it.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradual.errors import InputError
from gradual.tasks.dialogue import demo_phrases as phrases
from gradual.tasks.dialogue.demo_phrases import DO_NOT_CARE, DOMAINS, NONE, TARGET, Slot

MARKER = "demo.json"
MAKER = "gradual demo-data"  # as in the folders that version 0.1 wrote
ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

MAX_TURNS = 6
MAX_WORD_PIECES = 600
MAX_POSITIONS = 64
CONTEXT_SCALE = 0.1


@dataclass(frozen=True)
class Turn:
    """A turn: what the user says, what the system said before, and the filled slots afterwards."""

    user: str
    system: str
    state: Mapping[str, str]


@dataclass(frozen=True)
class Dialogue:
    """A dialogue: its id and turns."""

    id: str
    turns: Sequence[Turn]


def write_demo_data(
    out: Path, seed: int = 0, *, train: int = 50, dev: int = 50, test: int = 100, out_of_domain: int = 600
) -> None:
    """Write the demo corpus to `out/domains/hostel` and its encoder to `out/encoder`, unless they exist already.

    Args:
        out: The folder, created if missing. Files in it that do not belong to the demo are left alone.
        seed: The same seed and sizes give the same corpus and the same encoder weights.
        train: Number of in-domain training dialogues.
        dev: Number of in-domain validation dialogues.
        test: Number of in-domain test dialogues.
        out_of_domain: Number of dialogues of other domains, mixed with the training dialogues in
            `train{out_of_domain}.tsv`.

    Raises:
        InputError: `out` cannot be written, or contains other files with the names of the demo's.
    """
    splits = _splits(random.Random(seed), train, dev, test, out_of_domain)
    texts = {"ontology.json": _ontology_json()} | {f"{name}.tsv": _tsv(rows) for name, rows in splits.items()}
    corpus = hashlib.sha256("".join(texts.values()).encode()).hexdigest()
    marker = {"made_by": MAKER, "seed": seed, "corpus": corpus}
    data, encoder = out / "domains" / TARGET, out / "encoder"
    paths = [*(data / name for name in texts), *(encoder / name for name in ENCODER_FILES)]
    try:
        if _is_complete(out, marker, paths):
            print(f"{out} already contains the demo data for seed {seed}: nothing to do.")
            return
        # Written first and last, so that an interrupted run can be repeated and is not mistaken for a complete one.
        _write_marker(out, marker | {"complete": False})
        data.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (data / name).write_text(text, encoding="utf-8", newline="\n")
        mixed = splits[f"train{out_of_domain}"]
        pieces = _write_encoder(encoder, seed, [*_sentences(mixed), *_labels()])
        _write_marker(out, marker | {"complete": True})
    except OSError as error:
        raise InputError(f"{out}: cannot write the demo data there ({error.strerror or error}).") from error
    for name, rows in splits.items():
        print(f"{data / name}.tsv: {len(rows)} dialogues, {sum(len(dialogue.turns) for dialogue in rows)} turns")
    in_domain = len(DOMAINS[TARGET].slots)
    print(f"{data / 'ontology.json'}: {len(slot_table())} slots, {in_domain} of them in the target domain {TARGET}")
    print(f"{encoder}: a randomly initialized BERT with {pieces} word pieces")


def slot_table() -> dict[str, Slot]:
    """Return all slots by their full names, in the order of the columns in the TSV files."""
    slots = {f"{domain}-{name}": slot for domain, entry in DOMAINS.items() for name, slot in entry.slots.items()}
    return dict(sorted(slots.items()))


# ---------------------------------------------------------------------------------------------------- conversations


@dataclass
class _Talk:
    """A dialogue under construction."""

    rng: random.Random
    limit: int = MAX_TURNS
    turns: list[Turn] = field(default_factory=list)
    state: dict[str, str] = field(default_factory=dict)

    @property
    def has_room(self) -> bool:
        return len(self.turns) < self.limit

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, options: Sequence[str]) -> str:
        return self.rng.choice(options)

    def say(self, system: str, user: str) -> None:
        self.turns.append(Turn(_sentence_case(user), _sentence_case(system), dict(self.state)))


@dataclass
class _Segment:
    """The part of a dialogue about one domain, and what the user has yet to say about it."""

    talk: _Talk
    name: str
    pending: dict[str, str]

    def slot(self, name: str) -> Slot:
        return DOMAINS[self.name].slots[name]

    def fill(self, name: str, value: str) -> None:
        self.talk.state[f"{self.name}-{name}"] = value

    def surface(self, name: str, value: str) -> str:
        return self.talk.pick(self.slot(name).surfaces.get(value, (value,)))

    def fragment(self, name: str, value: str) -> str:
        """Return words that express a value, and add it to the belief state."""
        self.fill(name, value)
        slot = self.slot(name)
        if value in slot.paraphrases and self.talk.chance(DOMAINS[self.name].paraphrased):
            return self.talk.pick(slot.paraphrases[value])
        return _singular(self.talk.pick(slot.fragments).format(v=self.surface(name, value)))

    def indifferent(self, name: str) -> str:
        """Return words that name a slot and say it does not matter, and add that to the belief state."""
        self.fill(name, DO_NOT_CARE)
        return self.talk.pick(self.slot(name).indifferent).format(noun=self.slot(name).noun)

    def other_value(self, name: str, *not_these: str) -> str:
        return self.talk.pick([v for v in self.slot(name).values if v not in (*not_these, DO_NOT_CARE)])

    def take_definite(self, most: int) -> list[str]:
        """Take up to `most` pending values that matter to the user, and return words that express them."""
        names = [name for name, value in self.pending.items() if value != DO_NOT_CARE][:most]
        return [self.fragment(name, self.pending.pop(name)) for name in names]


def _dialogue(rng: random.Random, domains: Sequence[str], dialogue_id: str) -> Dialogue:
    """Generate a dialogue about `domains`, one after the other."""
    talk = _Talk(rng)
    for index, name in enumerate(domains):
        talk.limit = MAX_TURNS * (index + 1) // len(domains)
        segment = _Segment(talk, name, _goal(rng, name))
        _open(segment)
        while segment.pending and talk.has_room and not (len(talk.turns) > 2 and talk.chance(0.1)):
            _exchange(segment)
        if talk.has_room and talk.chance(0.35):
            _change(segment)
        elif talk.has_room and talk.chance(0.35):
            talk.say(talk.pick(phrases.CONFIRM), talk.pick(phrases.BOOK))
    if len(talk.turns) == 1 or (talk.has_room and talk.chance(0.5)):
        talk.say(f"{talk.pick(phrases.BOOKED)} {talk.pick(phrases.MORE)}", talk.pick(phrases.THANKS))
    return Dialogue(dialogue_id, talk.turns)


def _goal(rng: random.Random, domain: str) -> dict[str, str]:
    """Choose what the user wants: some slots of a domain in random order, at least one with a definite value."""
    slots = DOMAINS[domain].slots
    fewest = 4 if domain == TARGET else 2
    names = rng.sample(sorted(slots), rng.randint(fewest, min(6, len(slots))))
    goal: dict[str, str] = {}
    for name in names:
        definite = [value for value in slots[name].values if value != DO_NOT_CARE]
        open_minded = goal and DO_NOT_CARE in slots[name].values and rng.random() < 0.15
        goal[name] = DO_NOT_CARE if open_minded else rng.choice(definite)
    return goal


def _open(segment: _Segment) -> None:
    talk = segment.talk
    most = min(talk.rng.choice((1, 2, 2, 3)), len(segment.pending) - 1)
    fragments = segment.take_definite(most)
    user = talk.pick(DOMAINS[segment.name].openers).format(f=" ".join(fragments))
    indifferent = [name for name, value in segment.pending.items() if value == DO_NOT_CARE]
    if indifferent and talk.chance(0.3):
        del segment.pending[indifferent[0]]
        user = f"{user} {segment.indifferent(indifferent[0])}"
    if not talk.turns:
        talk.say("", user)
    else:
        talk.say(f"{talk.pick(phrases.BOOKED)} {talk.pick(phrases.MORE)}", f"{talk.pick(phrases.NEXT)} {user}")


def _exchange(segment: _Segment) -> None:
    """Add a turn about the next pending slot: a proposal or a question, and the user's answer."""
    talk = segment.talk
    name, value = next(iter(segment.pending.items()))
    del segment.pending[name]
    offer = talk.pick(DOMAINS[segment.name].offers).format(n=talk.pick(("two", "three", "several", "5")))
    if segment.slot(name).propose and value != DO_NOT_CARE and talk.chance(0.5):
        _propose(segment, offer, name, value)
        return
    system = f"{offer} {talk.pick(segment.slot(name).ask)}"
    if value == DO_NOT_CARE:
        # The user may leave out the name of the slot, which then follows from the question alone.
        user = segment.indifferent(name)
        if talk.chance(0.5):
            user = talk.pick(phrases.BARE_INDIFFERENT)
    elif talk.chance(0.3):
        segment.fill(name, value)
        user = talk.pick(phrases.BARE_ANSWERS).format(v=segment.surface(name, value))
    else:
        fragments = [segment.fragment(name, value)]
        if talk.chance(0.35):
            fragments += segment.take_definite(1)
        user = talk.pick(phrases.ANSWERS).format(f=" ".join(fragments))
    talk.say(system, user)


def _propose(segment: _Segment, offer: str, name: str, value: str) -> None:
    """Add a turn in which the system suggests a value, and the user accepts it, asks for another or refuses."""
    talk = segment.talk
    reply = talk.rng.random()
    suggested = value if reply < 0.65 else segment.other_value(name, value)
    system = f"{offer} {talk.pick(segment.slot(name).propose).format(v=segment.surface(name, suggested))}"
    if reply < 0.65:
        segment.fill(name, value)
        user = talk.pick(DOMAINS[segment.name].accept)
        if talk.chance(0.25):
            user = " ".join([user, *(talk.pick(phrases.ANSWERS).format(f=f) for f in segment.take_definite(1))])
    elif reply < 0.85:
        user = talk.pick(phrases.COUNTER).format(f=segment.fragment(name, value))
    else:
        user = talk.pick(phrases.REFUSE)
        segment.pending[name] = value
    talk.say(system, user)


def _change(segment: _Segment) -> None:
    """Add a turn that replaces a value, because the user changes it or because the system has nothing for it."""
    talk = segment.talk
    prefix = f"{segment.name}-"
    given = {k.removeprefix(prefix): v for k, v in talk.state.items() if k.startswith(prefix) and v != DO_NOT_CARE}
    name = talk.pick(sorted(given))
    old, new = given[name], segment.other_value(name, given[name])
    old_words = segment.surface(name, old)
    if segment.slot(name).propose and talk.chance(0.5):
        suggested = new if talk.chance(0.6) else segment.other_value(name, old, new)
        system = talk.pick(phrases.TAKEN).format(old=old_words, v=segment.surface(name, suggested))
        if suggested == new:
            segment.fill(name, new)
            user = talk.pick(DOMAINS[segment.name].accept)
        else:
            user = talk.pick(phrases.COUNTER).format(f=segment.fragment(name, new))
    else:
        system = talk.pick(phrases.CONFIRM)
        user = talk.pick(phrases.CHANGE).format(f=segment.fragment(name, new), old=old_words)
    talk.say(system, user)


def _singular(text: str) -> str:
    """Correct plurals after the number one."""
    text = re.sub(r"\b(1|one) (night|backpacker|time)s\b", r"\1 \2", text)
    return re.sub(r"\b(1|one) people\b", r"\1 person", text)


def _sentence_case(text: str) -> str:
    return re.sub(r"(^|[.?!] )([a-z])", lambda match: match[1] + match[2].upper(), text.strip())


# ------------------------------------------------------------------------------------------------------------ files


def _splits(rng: random.Random, train: int, dev: int, test: int, out_of_domain: int) -> dict[str, list[Dialogue]]:
    """Generate all dialogues, by the name of their file."""
    ids = iter(range(1, train + dev + test + 1))
    splits = {
        name: [_dialogue(rng, (TARGET,), f"{TARGET.upper()}{next(ids):04d}") for _ in range(size)]
        for name, size in (("train", train), ("dev", dev), ("test", test))
    }
    others = sorted(set(DOMAINS) - {TARGET})
    pool = [
        _dialogue(rng, rng.sample(others, 2 if rng.random() < 0.3 else 1), f"POOL{index:04d}")
        for index in range(1, out_of_domain + 1)
    ]
    mixed = [*splits["train"], *pool]
    rng.shuffle(mixed)
    return splits | {f"train{out_of_domain}": mixed}


def _tsv(dialogues: Iterable[Dialogue]) -> str:
    slots = list(slot_table())
    # In the real files, the header ends with an empty column, but rows do not.
    lines = ["\t".join(["# Dialogue ID", "Turn Index", "User Utterance", "System Response", *slots, ""])]
    for dialogue in dialogues:
        for index, turn in enumerate(dialogue.turns):
            values = (turn.state.get(slot, NONE) for slot in slots)
            lines.append("\t".join([dialogue.id, str(index), turn.user, turn.system, *values]))
    return "\n".join(lines) + "\n"


def _ontology_json() -> str:
    return json.dumps({name: slot.values for name, slot in slot_table().items()}, indent=4) + "\n"


def _sentences(dialogues: Iterable[Dialogue]) -> list[str]:
    return [text for dialogue in dialogues for turn in dialogue.turns for text in (turn.user, turn.system)]


def _labels() -> list[str]:
    """Return the names of slots and values, which the encoder reads as well."""
    return [text for name, slot in slot_table().items() for text in (name, *slot.values, NONE)]


def _is_complete(out: Path, marker: Mapping[str, object], paths: Iterable[Path]) -> bool:
    """Return whether `out` contains exactly this demo; raise an InputError if it has other files of these names."""
    present = [path for path in paths if path.exists()]
    try:
        found = json.loads((out / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = None
    except ValueError:
        found = {}
    if found is not None and not (isinstance(found, dict) and found.get("made_by") == marker["made_by"]):
        raise InputError(f"{out / MARKER} is not from the demo: choose another folder.")
    if found is None and present:
        raise InputError(f"{present[0]} exists and is not from the demo: choose another folder.")
    return found == {**marker, "complete": True} and all(path.exists() for path in paths)


def _write_marker(out: Path, marker: Mapping[str, object]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8", newline="\n")


# ---------------------------------------------------------------------------------------------------------- encoder


def _write_encoder(folder: Path, seed: int, texts: Sequence[str]) -> int:
    """Save a tokenizer for `texts` and a random BERT, and return the number of word pieces."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast
    from transformers.utils import logging

    tokenizer = BertTokenizerFast(vocab=_vocabulary(texts), do_lower_case=True, model_max_length=MAX_POSITIONS)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=0.05,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        model = BertModel(config)
    # At equal scale, positions and segments would dominate words: the slot attention would take far longer to learn.
    with torch.no_grad():
        model.embeddings.position_embeddings.weight.mul_(CONTEXT_SCALE)
        model.embeddings.token_type_embeddings.weight.mul_(CONTEXT_SCALE)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if shows_progress:
            logging.enable_progress_bar()
    return len(tokenizer)


def _vocabulary(texts: Iterable[str]) -> dict[str, int]:
    """Collect the word pieces of `texts`: all characters, so that no word is unknown, and the most frequent words."""
    # The WordPiece trainer of the tokenizers library is not deterministic.
    words = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower()))
    characters = sorted({character for word in words for character in word})
    pieces = [*SPECIAL_TOKENS, *characters, *(f"##{c}" for c in characters if c.isalnum())]
    whole = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    return {piece: index for index, piece in enumerate([*pieces, *whole][:MAX_WORD_PIECES])}
