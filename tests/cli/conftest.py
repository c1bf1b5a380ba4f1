"""Commands run as from a shell, whatever the tests were started with."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gradual"])
