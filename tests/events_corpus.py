"""A tiny corpus of events that can be known by heart, and extractors, data and runs for it."""

import torch
from events_files import document, sentence
from quiet_trainer import quiet_trainer

import gradual
from gradual.tasks.events import EventDataModule, EventExtractor
from gradual.tasks.events.batch import Pruning

SCORES = ("trig_id", "trig_c", "arg_id", "arg_c", "ner", "relation")
NAMES = {"loss", *(f"{score}_{part}" for score in SCORES for part in ("precision", "recall", "f1"))}
WORDS = ["rebels", "soldiers", "police", "shot", "killed", "arrested", "two", "men", "women", "in", "basra", "mosul"]
WORDS += ["died", "yesterday"]


def attack(who, did, whom, where, type_):
    """Who did what to whom and where: two events where it is an attack that killed."""
    arguments = [(0, 0, "Attacker"), (2, 3, "Target"), (5, 5, "Place")]
    events = [(1, type_, arguments)]
    if type_ == "Attack":
        events.append((6, "Die", [(2, 3, "Victim"), (5, 5, "Place")]))
    entities = [(0, 0, "PER"), (2, 3, "PER"), (5, 5, "GPE")]
    return sentence(f"{who} {did} two {whom} in {where} died", entities, [(2, 3, 5, 5, "PHYS")], events)


SENTENCES = [
    attack("rebels", "shot", "men", "basra", "Attack"),
    attack("police", "arrested", "women", "mosul", "Arrest"),
    attack("soldiers", "killed", "men", "mosul", "Attack"),
    sentence("two men in mosul yesterday", [(0, 1, "PER"), (3, 3, "GPE")]),
    sentence("yesterday"),
]
# Without dropout, a pruner that left something out may never try it.
WIDE = Pruning(arguments=3, relations=3)


def corpus(name):
    """The same sentences in documents of other keys: what is tested on is not trained on."""
    return [
        document(f"{name}0", *SENTENCES[:2], _source={"from": name}, dataset="demo"),
        document(f"{name}1", *SENTENCES[2:], trigger_end=True),
        document(f"{name}2", SENTENCES[4]),
    ]


POOL = [
    document("P0", sentence("police shot two women", events=[(1, "Attack", [(0, 0, "Attacker")])]), layers=["events"]),
    document("P1", sentence("men died in basra", [(0, 0, "PER")], events=[(1, "Die", [(0, 0, "Victim")])]), weight=0.5),
    *(document(f"P{n}", sentence("rebels arrested men", events=[(1, "Arrest", [])])) for n in range(2, 6)),
]


def data(folder, **changes):
    files = {
        name: str(folder / f"{file}.json")
        for name, file in [("in_domain", "train"), ("val", "dev"), ("test", "test"), ("out_of_domain", "pool")]
    }
    return EventDataModule(**{**files, "tokenizer": str(folder / "encoder"), "batch_tokens": 40, **changes})


def extractor(folder, **changes):
    return EventExtractor(str(folder / "encoder"), **{"hidden": 40, "features": 8, "dropout": 0.0, **changes})


def configured(folder, datamodule=None, **changes):
    """An extractor with its scorers, outside of a fit."""
    datamodule = datamodule or data(folder)
    datamodule.setup()
    torch.manual_seed(0)
    model = extractor(folder, **changes)
    datamodule.configure(model)
    model.configure_model()
    return model.eval()


def fit(folder, run_dir, schedule=(2, 0), pruning=None, dropout=0.0, **changes):
    torch.manual_seed(0)
    model = extractor(folder, dropout=dropout)
    settings = {"monitor": "val/loss", "patience": 60, "max_epochs": 24, "check_val_every_n_epoch": 8}
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "gradient_clip_val": 5.0}
    datamodule = data(folder, batch_tokens=200, pruning=pruning)
    return model, gradual.fit(model, datamodule, schedule, run_dir, **{**settings, **quiet, **changes})


def predicted(model, datamodule):
    return [record for batch in quiet_trainer().predict(model, datamodule) for record in batch]
