"""What a wrong command leaves: one line on standard error, and no traceback."""

import re

import pytest

from gradual.__main__ import main


def mistake(capture, given: list[str]) -> str:
    """The one line that a wrong command leaves; ``capture`` is ``capsys`` or ``capfd``."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, given)])
    error = capture.readouterr().err
    assert ended.value.code in (1, 2)
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if re.match(r"gradual[\w -]*: ", line)]
    assert len(lines) == 1, error
    assert error.rstrip().endswith(lines[0])
    assert len(lines[0]) < 1500
    return lines[0]
