"""Kills runs with SIGKILL at random moments, and compares their results with those of a run that was never stopped.

A run is ``gradual fit`` on a small dialogue corpus: three stages of the dialogue model with a tiny encoder. It is
killed, started again with the same command, killed again, and so on until it finishes; then the weights, scores and
epochs of all stages are compared bit for bit with those of the reference. Runs are repeated until there have been
enough kills.

Each start is a process forked from this one: importing torch and Lightning takes longer than training, so most kills
would hit the imports otherwise. This way every kill hits a random moment of the command's own work.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")

import torch

import gradual.cli.app  # noqa: F401 - otherwise each child would import it
from gradual.__main__ import main as command
from gradual.tasks.dialogue.demo import write_demo_data

CONFIG = Path(__file__).parents[1] / "gradual/cli/demo.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="minimum number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--folder", type=Path, help="working folder; default: a temporary one")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        equal, kills = measure(folder.resolve(), arguments.kills, random.Random(arguments.seed))
    print(f"\n{equal} of {kills} kills were in runs that ended like the run that was never stopped.")
    sys.exit(equal != kills)


def measure(folder: Path, wanted: int, chance: random.Random) -> tuple[int, int]:
    """The number of kills in runs with equal results, and the number of all kills."""
    write_demo_data(folder / "demo-data", train=40, dev=20, test=20, out_of_domain=120)
    started = time.monotonic()
    status = wait(start(folder, "reference"))
    took = time.monotonic() - started
    if status:
        sys.exit(f"The reference ended with status {status}: {log_of(folder, 'reference')}")
    expected = outcome(folder / "reference")
    print(f"The reference took {took:.1f} s; checksum of its weights: {checksum(expected)}\n")
    print("| run | kills | where | weights, scores and epochs | checksum |\n|---|---|---|---|---|")
    equal = kills = number = 0
    while kills < wanted:
        number += 1
        name, places = f"run-{number}", Counter[str]()
        while (status := wait(start(folder, name), chance.uniform(0, took / 3))) == -signal.SIGKILL:
            places[place(folder / name)] += 1
        if status:
            sys.exit(f"{name} ended with status {status}: {log_of(folder, name)}")
        found = outcome(folder / name)
        same = found == expected
        count = sum(places.values())
        kills, equal = kills + count, equal + count * same
        where = ", ".join(f"{times} {where}" for where, times in sorted(places.items()))
        print(f"| {number} | {count} | {where} | {'equal' if same else 'DIFFERENT'} | {checksum(found)} |", flush=True)
    return equal, kills


def start(folder: Path, name: str) -> int:
    """Start the command in a forked process, and return its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        torch.set_num_threads(1)
        os.chdir(folder)
        changes = {
            "run_dir": name, "schedule": "[60, 20, 0]", "data.pool": "train120.tsv", "trainer.max_epochs": 3,
            "trainer.accelerator": "cpu", "checkpoint_every": 0.005,
        }  # fmt: skip
        command(["fit", f"--config={CONFIG}", *(f"--{option}={value}" for option, value in changes.items())])
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(process: int, seconds: float | None = None) -> int:
    """Wait for a process, killing it after ``seconds``, and return its exit status; negative for a signal."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(process, 0 if deadline is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(process, signal.SIGKILL)
            deadline = None
        time.sleep(0.01)


def place(run: Path) -> str:
    """The phase that a kill hit, as far as the files show."""
    if any(run.rglob("*.tmp")):
        return "while a file was written"
    stages = sum(1 for _ in run.rglob("sample.txt"))
    finished = sum(1 for _ in run.rglob("result.json"))
    if stages == 0:
        return "at the start"
    return f"in stage {stages}" if finished < stages else f"after stage {stages}"


def outcome(run: Path) -> dict[str, object]:
    """The results of a run except its times: weights, scores and epochs."""
    found: dict[str, object] = {}
    for path in sorted(run.rglob("best.ckpt")):
        state = torch.load(path, weights_only=True)["state_dict"]
        digest = hashlib.sha256()
        for value in state.values():
            digest.update(value.contiguous().numpy().tobytes())
        found[str(path.relative_to(run))] = digest.hexdigest()
    for path in (*sorted(run.rglob("history.jsonl")), *sorted(run.rglob("result.json"))):
        found[str(path.relative_to(run))] = [without_seconds(json.loads(line)) for line in lines(path)]
    return found


def lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def without_seconds(content: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in content.items() if name != "seconds"}


def checksum(found: dict[str, object]) -> str:
    weights = [value for name, value in found.items() if name.endswith(".ckpt")]
    return hashlib.sha256(json.dumps(weights).encode()).hexdigest()[:12]


def log_of(folder: Path, name: str) -> str:
    return (folder / f"{name}.log").read_text(encoding="utf-8")[-3000:]


if __name__ == "__main__":
    main()
