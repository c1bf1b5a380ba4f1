"""Memory after each of ten stages of a comparison in one process, and the time it takes to release a stage's memory.

    python benchmarks/stage_memory.py --encoder PATH                # generated dialogues
    python benchmarks/stage_memory.py --encoder PATH --root DIR     # events

``DIR`` contains ``fulltext.train.json``, ``fulltext.dev.json`` and ``abstracts.train.json``, whose first documents are
used. Two processes train the same stages alternately: one releases the memory of each stage as ``gradual`` does, the
other leaves it to Python's garbage collector and the C library. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from variants import Variant, clock, spread

from gradual.cli.app import make_experiment
from gradual.experiment.driver import plan_tree
from gradual.experiment.executors import in_process
from gradual.experiment.strategies import default_strategies
from gradual.nn.fast_cpu import keep_memory
from gradual.schedule import Schedule
from gradual.tasks.dialogue.demo import write_demo_data

CONFIGS = Path(__file__).parents[1] / "configs"
SEEDS = (0, 1)  # five stages each
MB = 2**20


class MallInfo(ctypes.Structure):
    """The result of glibc's ``mallinfo2``."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


class Stages:
    """The stages of a comparison, trained one by one in this process.

    Args:
        options: The script's options.
        folder: The folder for data and stages.
        releases: Whether to release the memory of each stage.
    """

    def __init__(self, options: argparse.Namespace, folder: Path, releases: bool):
        warnings.filterwarnings("ignore")
        torch.set_num_threads(options.threads)
        self.clock, self.releases = clock(options.clock), releases
        config = (_events if options.root else _dialogues)(options, folder)
        config |= {"patience": 100, "smoothing": None}
        trainer = {"max_epochs": options.epochs, "precision": options.precision, "accelerator": "cpu"}
        config["trainer"] = {**(config.get("trainer") or {}), **trainer, "enable_progress_bar": False}
        self.experiment = make_experiment(
            yaml.safe_dump(config, sort_keys=False), str(folder / f"run-{releases}"), str(folder)
        )
        logging.getLogger("gradual").setLevel(logging.ERROR)
        tree = plan_tree(self.experiment, default_strategies(Schedule([0.9, 0.4, 0])), SEEDS)
        self.nodes = tree.nodes
        for node in self.nodes:
            node.directory(self.experiment.run).reserve(node.settings)

    def amounts(self) -> list[tuple[int, ...]]:
        """For each stage, the numbers of out-of-domain examples on the path to it."""
        return [node.amounts for node in self.nodes]

    def train(self, number: int) -> dict[str, float]:
        """Train a stage, and return its time in seconds and its memory in MB."""
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
        start = self.clock()
        if self.releases:
            in_process(self.experiment)([self.nodes[number]], lambda: None, lambda node, error: None)
        else:
            keep_memory()
            self.experiment.train(self.nodes[number])
        return {"seconds": self.clock() - start} | self.memory()

    def memory(self) -> dict[str, float]:
        """Resident memory at its peak and now, and the memory that the C library has handed out, in MB."""
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        found = {name: int(status[key].split()[0]) / 2**10 for name, key in (("peak", "VmHWM"), ("now", "VmRSS"))}
        mallinfo2 = ctypes.CDLL(None).mallinfo2
        mallinfo2.restype = MallInfo
        info = mallinfo2()
        return found | {"in use": (info.uordblks + info.hblkhd) / MB}

    def after_all(self) -> list[float]:
        """Resident memory in MB: now, after a full garbage collection, and after free pages are returned."""
        found = [self.memory()["now"]]
        for release in (gc.collect, lambda: ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))):
            release()
            found.append(self.memory()["now"])
        return found


def _events(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    config = yaml.safe_load((CONFIGS / "events" / "genia.yaml").read_text(encoding="utf-8"))
    for name in ("schedule", "last_stage", "strategies"):
        del config[name]
    for name, count in (("fulltext.train", 15), ("abstracts.train", 50), ("fulltext.dev", 6)):
        with (Path(options.root) / f"{name}.json").open(encoding="utf-8") as file:
            lines = [line for line, _ in zip(file, range(count))]
        (folder / f"{name}.json").write_text("".join(lines), encoding="utf-8")
    files = {"in_domain": "fulltext.train", "out_of_domain": "abstracts.train", "val": "fulltext.dev"}
    config["data"]["init_args"] |= {part: str(folder / f"{name}.json") for part, name in files.items()}
    config["model"]["init_args"] = {"encoder": options.encoder, "encoder_layers": options.encoder_layers}
    return config


def _dialogues(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    config = yaml.safe_load((CONFIGS.parent / "gradual/cli/demo.yaml").read_text(encoding="utf-8"))
    for name in ("schedule", "later_stages", "last_stage", "strategies"):
        config.pop(name, None)
    write_demo_data(folder / "demo", train=60, dev=20, test=20, out_of_domain=200)
    encoder = {"encoder": options.encoder, "encoder_layers": options.encoder_layers}
    config["model"]["init_args"] |= encoder | {"heads": 4}
    config["data"]["init_args"] |= {"root": str(folder / "demo"), "pool": "train200.tsv"}
    return config


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        ours = Variant(Stages, options, Path(folder), True)
        amounts = ours.amounts()
        other = Variant(Stages, options, Path(folder), False)
        columns = "peak, MB | after it | in use"
        print(f"| stage | {columns} | left to Python: {columns} | time relative to left to Python |")
        print("| --- |" + " ---: |" * 7)
        found: list[list[dict[str, float]]] = [[], []]
        for number, stage in enumerate(amounts):
            pair = [(ours, found[0]), (other, found[1])]
            for variant, stages in pair if number % 2 else pair[::-1]:
                stages.append(variant.train(number))
            cells = [f"{stages[-1][name]:.0f}" for stages in found for name in ("peak", "now", "in use")]
            ratio = found[0][-1]["seconds"] / found[1][-1]["seconds"]
            print(f"| {number + 1}: {' -> '.join(map(str, stage))} | {' | '.join(cells)} | {ratio:.3f} |", flush=True)
        for name, stages, variant in zip(("released", "left to Python"), found, (ours, other)):
            last, second = stages[-1], stages[1]
            print(f"{name}: after the tenth stage {last['now'] / second['now']:.2f} times what it was after the second")
            resident = "{:.0f} MB, {:.0f} after a full collection, {:.0f} with free pages returned"
            print(f"  in the end {resident.format(*variant.after_all())}")
            print(f"  seconds of a stage {spread([stage['seconds'] for stage in stages[1:]], 2)}")
            variant.close()
        pairs = list(zip(*found))[1:]  # the first stage warms up
        ratios = [mine["seconds"] / theirs["seconds"] for mine, theirs in pairs]
        more = [mine["seconds"] - theirs["seconds"] for mine, theirs in pairs]
        print(f"a stage takes {spread(ratios, 3)} times as long if memory is released, {spread(more, 2)} s more")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--encoder", required=True, help="folder or hub name of the encoder")
    add("--encoder-layers", type=int, default=2, help="keep only this many layers, from the first (%(default)s)")
    add("--root", help="folder with the event files; default: dialogues")
    add("--epochs", type=int, default=1, help="epochs of each stage (%(default)s)")
    add("--precision", default="bf16-mixed", help="precision of the Trainer (%(default)s)")
    add("--threads", type=int, default=torch.get_num_threads(), help="number of threads (%(default)s)")
    add("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for one thread on a busy machine (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
