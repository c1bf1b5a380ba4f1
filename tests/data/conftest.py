"""Data modules of small files, each with a cache of its own."""

import pytest
from tokenized_files import WORDS, save_tokenizer

import gradual.data.cache
from gradual import FileDataModule


@pytest.fixture
def module(tmp_path):
    """Makes a data module with a cache of the test's own, of files that are given as their texts."""

    def make(**parts):
        settings = {name: parts.pop(name) for name in list(parts) if name.endswith("column") or name == "columns"}
        files = {
            part: [str(path) for path in (given if isinstance(given, list) else [given])]
            for part, given in parts.items()
        }
        return FileDataModule(**files, **settings, cache_dir=str(tmp_path / "cache"), num_proc=1)

    return make


@pytest.fixture
def put(tmp_path):
    """Writes a file of text."""

    def put(name, text):
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        return tmp_path / name

    return put


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, ["[PAD]", "[UNK]", *WORDS])
    return str(folder)


@pytest.fixture
def make(tmp_path, tokenizer_folder):
    """Makes a data module with a cache of the test's own; ``tokens=True`` tokenizes."""

    def make(in_domain, *more, tokens=False, **arguments):
        if tokens:
            arguments = {"text_column": "text", "tokenizer": tokenizer_folder} | arguments
        return FileDataModule(in_domain, *more, cache_dir=str(tmp_path / "cache"), **arguments)

    return make


@pytest.fixture
def made(monkeypatch):
    """Names of the files that were converted, one entry each time."""
    files, original = [], gradual.data.cache._make

    def make(part, *rest):
        files.append(part.files[0].name)
        original(part, *rest)

    monkeypatch.setattr(gradual.data.cache, "_make", make)
    return files
