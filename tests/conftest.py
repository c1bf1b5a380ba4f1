import os

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here may ask a hub

import pytest
from interrupted import undisturbed  # noqa: F401 - a fixture of several folders

from gradual.tasks.dialogue.demo import write_demo_data


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory):
    """A few demo dialogues and the tiny encoder, as `gradual demo-data` writes them."""
    root = tmp_path_factory.mktemp("demo")
    write_demo_data(root, train=12, dev=8, test=10, out_of_domain=30)
    return root
