"""Data modules of small files, each with a cache of its own."""

import pytest

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
