"""Commands on the demo's small data."""

from pathlib import Path

DEMO = Path(__file__).parents[1] / "gradual/cli/demo.yaml"
FAST = ["--trainer.max_epochs=2", "--trainer.accelerator=cpu"]


def arguments(command: str, root: Path, run_dir: Path, *more: str) -> list[str]:
    data = [f"--data.root={root}", "--data.pool=train30.tsv", f"--model.encoder={root}/encoder"]
    return [command, f"--config={DEMO}", *data, f"--run_dir={run_dir}", *FAST, *more]
