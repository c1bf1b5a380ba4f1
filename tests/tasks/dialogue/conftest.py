"""A few demo dialogues, and a data module of them."""

import pytest

from gradual.tasks.dialogue import DialogueDataModule
from gradual.tasks.dialogue.demo import write_demo_data


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder, train=4, dev=3, test=2, out_of_domain=4)
    return folder


@pytest.fixture(scope="module")
def datamodule(demo):
    data = DialogueDataModule(
        str(demo),
        "hostel",
        str(demo / "encoder"),
        predict_file=str(demo / "domains/hostel/dev.tsv"),
        batch_size=2,
        eval_batch_size=2,
    )
    data.setup()
    return data
