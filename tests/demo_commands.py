"""Commands on the demo's small data, and the line that a wrong one leaves."""

from pathlib import Path

import pytest

from gradual.__main__ import main

DEMO = Path(__file__).parents[1] / "gradual/cli/demo.yaml"
FAST = ["--trainer.max_epochs=2", "--trainer.accelerator=cpu"]


def arguments(command: str, root: Path, run_dir: Path, *more: str) -> list[str]:
    data = [f"--data.root={root}", "--data.pool=train30.tsv", f"--model.encoder={root}/encoder"]
    return [command, f"--config={DEMO}", *data, f"--run_dir={run_dir}", *FAST, *more]


def mistake(capfd, given: list[str]) -> str:
    """The one line that a wrong command leaves on standard error."""
    with pytest.raises(SystemExit) as ended:
        main(given)
    error = capfd.readouterr().err
    assert ended.value.code in (1, 2)
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("gradual:")]
    assert len(lines) == 1, error
    assert error.rstrip().endswith(lines[0])
    return lines[0]
