"""Completion in bash: the script is given to a shell, which is asked what TAB would show."""

import shutil
import subprocess
import sys

import pytest

from gradual.__main__ import main
from gradual.cli.commands import LIGHTNING_COMMANDS

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_gradual 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """A file with the script that ``gradual --print_completion bash`` prints."""
    with pytest.MonkeyPatch.context() as patch, (tmp_path_factory.mktemp("shell") / "gradual.bash").open("w") as file:
        patch.setattr(sys, "argv", ["gradual"])
        patch.setattr(sys, "stdout", file)
        with pytest.raises(SystemExit) as ended:
            main(["--print_completion", "bash"])
    assert not ended.value.code
    return file.name


def completed(script, *words, folder=None):
    """What TAB offers after the words, the last of which has just been begun."""
    given = ["bash", "-c", ASK, "bash", script, "gradual", *words]
    shown = subprocess.run(given, capture_output=True, text=True, check=True, cwd=folder).stdout
    return shown.split()


pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def test_commands_are_completed(script):
    assert completed(script, "f") == ["fit"]
    assert {*LIGHTNING_COMMANDS, "init", "report", "export", "convert"} <= {*completed(script, "")}


@pytest.mark.parametrize(
    ("begun", "full"),
    [
        ("--sched", "--schedule"),
        ("--optimizer.lr_s", "--optimizer.lr_scale"),
        ("--last_stage.patie", "--last_stage.patience"),
        ("--model.thres", "--model.threshold"),
        ("--data.in_", "--data.in_domain"),
        ("--trainer.prec", "--trainer.precision"),
    ],
)
def test_options_of_the_run_of_stages_of_classes_and_of_the_trainer_are_completed(script, begun, full):
    assert completed(script, "fit", begun) == [full]


def test_options_that_a_command_would_ignore_are_not_offered(script):
    assert completed(script, "fit", "--seeds") == []
    assert completed(script, "compare", "--seeds") == ["--seeds"]


def test_values_are_completed(script):
    assert completed(script, "fit", "--model", "Text") == ["TextClassifier"]
    assert completed(script, "fit", "--data.loss_on", "") == ["answer", "all"]
    assert completed(script, "fit", "--last_stage.adapter", "m") == ["merge"]
    assert completed(script, "fit", "--model.per_label_scores", "t") == ["true"]


def test_files_are_completed(script, tmp_path):
    (tmp_path / "mine.yaml").touch()
    assert completed(script, "fit", "--config", "mi", folder=tmp_path) == ["mine.yaml"]
    assert completed(script, "init", "--in_domain", "mi", folder=tmp_path) == ["mine.yaml"]
    assert completed(script, "export", "mi", folder=tmp_path) == ["mine.yaml"]


def test_without_shtab_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as ended:
        main(["--print_completion", "bash"])
    assert ended.value.code == 2
    assert "pip install 'gradual[completion]'" in capsys.readouterr().err
