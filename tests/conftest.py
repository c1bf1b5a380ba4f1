import functools
import importlib.metadata
import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here may ask a hub
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # tests fork processes, in which its threads would be missing

import pytest
from hypothesis import HealthCheck, settings

# Lightning asks for entry points whenever it makes a Trainer, which reads the metadata of all packages
importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)

patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}  # other work may slow the machine down
settings.register_profile("fast", max_examples=15, **patient)
settings.register_profile("thorough", max_examples=300, **patient)
settings.load_profile("fast")


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """Tests kill processes, and cut the power of no machine: what is written is there without waiting for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def undrawn_figures():
    """Reports have empty figures, for tests of everything else in a comparison."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradual.report.figures._save", lambda figure, kind, **_: b"<svg ></svg>")
        yield


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory):
    """A few demo dialogues and the tiny encoder, as `gradual init --demo` writes them."""
    from gradual.tasks.dialogue.demo import write_demo_data  # here: pytest-xdist's first process needs no torch

    root = tmp_path_factory.mktemp("demo")
    write_demo_data(root, train=12, dev=8, test=10, out_of_domain=30)
    return root


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Gives the outcome of a run that was never stopped, with the given settings."""
    from interrupted_runs import fit, in_a_process, outcome

    known = {}

    def of(**changes):
        key = json.dumps(changes, sort_keys=True)
        if key not in known:
            root = tmp_path_factory.mktemp("undisturbed")
            assert in_a_process(lambda: fit(root, **changes)) == 0
            known[key] = outcome(root)
        return known[key]

    return of
