"""Commands run as from a shell, for the tests that ask for it."""

import pytest


@pytest.fixture
def _command_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["gradual"])
