"""Does gradual fine-tuning help, against the same training? Runs the comparisons of docs/results.md, with controls.

    python benchmarks/evidence.py DATA ENCODER [--only NAME ...] [--seeds 0 1 2] [--out runs/evidence]

Runs what ``DATA`` has the files of, in the order of what they tell per hour, each in a run directory of its own; the
same command goes on where it was stopped. Afterwards ``OUT/scores.csv`` has the test and validation score of every
strategy and seed, and ``gradual report OUT/*`` makes one page of all data sets.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CONFIGS = Path(__file__).resolve().parent.parent / "configs/evidence"
CONTROLS = ("same training, one stage", "same training, same restarts", "same training, drop at once")
PARTS = ("in_domain", "out_of_domain", "val", "test")


@dataclass(frozen=True)
class Comparison:
    """One data set.

    Attributes:
        config: Name of the configuration.
        files: The files of each part, or the folder of the dialogues, below ``DATA``.
        options: Further options of ``gradual compare``.
        first: Number of in-domain lines to take from the start of the training file; None for all.
    """

    config: str
    files: dict[str, str | list[str]]
    options: tuple[str, ...] = ()
    first: int | None = None

    def given(self, data: Path, out: Path) -> list[str] | None:
        """The options that name the files; None where one is missing."""
        listed = [path for paths in self.files.values() for path in ([paths] if isinstance(paths, str) else paths)]
        if not all((data / path).exists() for path in listed):
            return None
        given = []
        for part, paths in self.files.items():
            absolute = [str(data / path) for path in ([paths] if isinstance(paths, str) else paths)]
            if part == "in_domain" and self.first is not None:
                absolute = [str(self._head(Path(absolute[0]), out))]
            given.append(f"--data.{part}={absolute[0] if len(absolute) == 1 else json.dumps(absolute)}")
        return given

    def _head(self, file: Path, out: Path) -> Path:
        target = out / f"{file.parent.name}-{file.stem}-{self.first}{file.suffix}"
        if not target.exists():
            with file.open(encoding="utf-8") as lines:
                target.write_text("".join(itertools.islice(lines, self.first)), encoding="utf-8")
        return target


def _crossner(domain: str) -> dict[str, str | list[str]]:
    own = {
        part: f"crossner/{domain}/{name}.txt"
        for part, name in (("in_domain", "train"), ("val", "dev"), ("test", "test"))
    }
    return {**own, "out_of_domain": "crossner/conll2003/train.txt"}


def _jsonl(folder: str, pool: str | list[str]) -> dict[str, str | list[str]]:
    own = {part: f"{folder}/{name}.jsonl" for part, name in (("in_domain", "train"), ("val", "dev"), ("test", "test"))}
    return {**own, "out_of_domain": pool}


_REVIEWS = _jsonl(
    "reviews/kitchen", [f"reviews/kitchen/pool-{source}.jsonl" for source in ("books", "dvd", "electronics")]
)
_TWEETS = _jsonl("tweebank", "tweebank/pool.jsonl")
_TAGS = ("--monitor=val/accuracy", "--metrics=[accuracy]", "--schedule=[4000, 2000, 500, 0]")
_GENIA = {
    "in_domain": "genia/fulltext.train.json",
    "out_of_domain": "genia/abstracts.train.json",
    "val": "genia/fulltext.dev.json",
    "test": "genia/fulltext.test.json",
}
_ALL = ("--schedule=[14041, 7000, 1750, 0]",)
COMPARISONS = {
    "intents": Comparison(
        "classification",
        _jsonl("intents", "intents/pool.jsonl"),
        # with 62 labels, F1 stays 0 for twenty epochs while the loss already falls
        ("--data.label_column=intents", "--monitor=val/loss", "--mode=min", "--optimizer.lr=3.0e-4"),
    ),
    "ai": Comparison("tagging", _crossner("ai")),
    "music": Comparison("tagging", _crossner("music")),
    "literature": Comparison("tagging", _crossner("literature")),
    "tweets-50": Comparison("tagging", _TWEETS, _TAGS, 50),
    "tweets-100": Comparison("tagging", _TWEETS, _TAGS, 100),
    "tweets-400": Comparison("tagging", _TWEETS, _TAGS, 400),
    "reviews": Comparison("classification", _REVIEWS, ("--schedule=[1600, 800, 200, 0]", "--data.max_length=128")),
    "genia": Comparison("events", _GENIA),
    "ai-all": Comparison("tagging", _crossner("ai"), _ALL),
    "music-all": Comparison("tagging", _crossner("music"), _ALL),
    "literature-all": Comparison("tagging", _crossner("literature"), _ALL),
    "restaurant": Comparison("dialogue", {"root": "multiwoz"}, ("--data.domain=restaurant",)),
    "hotel": Comparison("dialogue", {"root": "multiwoz"}, ("--data.domain=hotel",)),
}


def run(name: str, comparison: Comparison, arguments: argparse.Namespace) -> bool:
    """Train what is not finished of one comparison; whether its files are there."""
    given = comparison.given(arguments.data, arguments.out)
    if given is None:
        print(f"{name}: no files, left out", flush=True)
        return False
    encoder = "pretrained" if comparison.config in ("tagging", "classification") else "encoder"
    command = [
        *(sys.executable, "-m", "gradual", "compare", "--config", str(CONFIGS / f"{comparison.config}.yaml")),
        *given,
        *comparison.options,
        f"--model.{encoder}={arguments.encoder}",
        f"--controls={json.dumps(CONTROLS)}",
        f"--seeds={json.dumps(arguments.seeds)}",
        f"--jobs={arguments.jobs}",
        f"--run_dir={arguments.out / name}",
    ]
    print(name, flush=True)
    subprocess.run(command, check=True)
    return True


def scores(out: Path) -> list[dict[str, object]]:
    """The scores of every strategy and seed of the comparisons in ``out``, as far as they are finished."""
    rows: list[dict[str, object]] = []
    for file in sorted(out.glob("*/compare.json")):
        for strategy, found in json.loads(file.read_text())["strategies"].items():
            for seed, path in found["seeds"].items():
                stages = path["stages"]
                if len(stages) < len(path["paths"]):
                    continue
                for split in ("val", "test"):
                    for score, value in stages[-1][split].items():
                        rows.append(
                            {
                                "data": file.parent.name,
                                "strategy": strategy,
                                "schedule": " ".join(str(stage["out_of_domain"]) for stage in stages),
                                "epochs": " ".join(str(stage["epochs"]) for stage in stages),
                                "converged": all(stage["converged"] for stage in stages),
                                "seed": seed,
                                "split": split,
                                "score": score,
                                "value": round(value, 6),
                            }
                        )
    return rows


def main() -> None:
    """Run the comparisons and write the table of scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("encoder", type=Path, help="folder of the pretrained encoder")
    parser.add_argument("--only", nargs="+", choices=list(COMPARISONS), default=list(COMPARISONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="stages to train at once")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    arguments = parser.parse_args()
    arguments.data, arguments.out = arguments.data.resolve(), arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        if run(name, COMPARISONS[name], arguments):
            rows = scores(arguments.out)
            with (arguments.out / "scores.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
