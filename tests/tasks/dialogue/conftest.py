"""Dialogues of the demo and of written files with their data modules, and a server to download files from."""

import threading
from collections.abc import Iterator

import pytest
from dialogue_files import write_dialogues, write_ontology
from download_server import CONTENT, TRAIN, Server, git_blob_id
from hotel_dialogues import FILES

from gradual.tasks.dialogue import DialogueDataModule, download
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


@pytest.fixture(scope="session")
def encoder(demo):
    return str(demo / "encoder")


@pytest.fixture
def folder(tmp_path):
    """The dialogue files of a domain."""
    folder = tmp_path / "domains" / "hotel"
    folder.mkdir(parents=True)
    write_ontology(folder / "ontology.json")
    for name, dialogues in FILES.items():
        write_dialogues(folder / f"{name}.tsv", dialogues)
    return folder


@pytest.fixture
def make(folder, encoder):
    """Makes a data module of the files; arguments as given."""

    def make(**arguments):
        root = folder.parents[1]
        return DialogueDataModule(**{"root": str(root), "domain": "hotel", "tokenizer": encoder, **arguments})

    return make


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with one hotel file and the whole training set, which the checksum table is made to expect."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "RETRY_DELAYS", (0.0, 0.0))
    whole = {"train.tsv": b"all\n", "ontology.json": b"{}"}
    table = {"hotel": {"train.tsv": CONTENT}, "all": whole}
    blobs = {domain: {name: git_blob_id(data) for name, data in files.items()} for domain, files in table.items()}
    monkeypatch.setattr(download, "CHECKSUMS", blobs)
    with Server() as server:
        server.files = {TRAIN: CONTENT} | {f"/data/multiwoz/{name}": data for name, data in whole.items()}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()
