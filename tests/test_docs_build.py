"""The handbook is built without a broken link or reference, and has every command and every setting."""

import subprocess
import sys

import pytest
from document_blocks import ROOT

from gradual.__main__ import _parser
from gradual.cli.commands import LIGHTNING_COMMANDS
from gradual.cli.help import shown_settings
from gradual.cli.lightning_cli_internals import actions_of
from gradual.cli.parsers import command_parser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder of the pages, built as ``make docs`` does."""
    folder = tmp_path_factory.mktemp("handbook")
    built = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(ROOT / "docs"), str(folder)]
    done = subprocess.run(built, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_command_has_its_help(pages):
    text = (pages / "reference/commands.html").read_text()
    commands = next(action.choices for action in actions_of(_parser()) if isinstance(action.choices, dict))
    assert {*LIGHTNING_COMMANDS} < {*commands}
    for name in commands:
        assert f'<section id="{name}">' in text
        assert f"usage: gradual {name} " in text


@pytest.mark.slow
def test_every_setting_has_an_entry(pages):
    text = (pages / "reference/settings.html").read_text()
    for command in LIGHTNING_COMMANDS:
        shown = [one for _, some in shown_settings(command, actions_of(command_parser(command))) for one in some]
        missing = [one.dest for one in shown if f'id="confval-{one.dest}"' not in text and "help" not in one.dest]
        assert missing == []


@pytest.mark.slow
def test_a_link_to_nowhere_fails(tmp_path):
    (tmp_path / "conf.py").write_text(
        (ROOT / "docs/conf.py").read_text().replace("Path(__file__).parent", f"Path({str(ROOT / 'docs')!r})")
    )
    (tmp_path / "_static").mkdir()
    (tmp_path / "index.md").write_text("# Page\n\nSee [this](nothing.md).\n")
    built = [sys.executable, "-m", "sphinx", "-W", "-q", str(tmp_path), str(tmp_path / "html")]
    done = subprocess.run(built, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0
    assert "nothing.md" in done.stderr
