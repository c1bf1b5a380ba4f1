"""Does gradual fine-tuning help, against the same training? Runs the comparisons of docs/results.md, with controls.

    python benchmarks/evidence.py DATA ENCODER [--layers N] [--only NAME ...] [--seeds 0 1 2] [--out runs/evidence]

Runs what ``DATA`` has the files of, in the order of what they tell per hour, each in a run directory of its own; the
same command goes on where it was stopped. Classification and tagging are configured by ``gradual init`` from the files,
the paper's two tasks by ``configs/evidence``. Validation sets are cut to 200 examples: who has 100 examples to train on
has no more. Afterwards ``OUT/scores.csv`` has the monitored score of every strategy and seed, and ``gradual report
OUT/NAME ...`` makes one page of the data sets that are named. Other data, another encoder or other layers need an
``OUT`` of their own.

With ``--search`` it searches for a schedule instead, for twenty times the steps of the comparison's gradual path (or
``--search TIMES``), and compares what it finds with the default schedule and with controls under fresh seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gradual.experiment.controls import DROP_AT_ONCE, SAME_RESTARTS, SAME_STEPS
from gradual.files import whole_file
from gradual.score_names import without_split

CONFIGS = Path(__file__).resolve().parent.parent / "configs/evidence"
VALIDATION = 200  # examples at most, where files are examples
LEARNING_RATE = 3.0e-4  # that small an encoder learns at a higher rate than init proposes for its size
VARIANTS = {
    "constant": (),
    "decay": ("--lr_schedule.name=cosine", "--trainer.max_epochs=20"),
    "averaged": ("--weight_averaging=0.99",),
}


@dataclass(frozen=True)
class Comparison:
    """One data set.

    Attributes:
        files: The files of each part, or the folder of the dialogues, below ``DATA``.
        options: Further options of ``gradual compare``.
        config: Name of the configuration; None to let ``gradual init`` write it.
        columns: Columns with unusual names, for ``gradual init``.
        first: Number of in-domain examples to take from the start of the training file; None for all.
        sources: Whether each file of the pool is a source with a name, its own.
        controls: The controls.
    """

    files: dict[str, list[str]]
    options: tuple[str, ...] = ()
    config: str | None = None
    columns: tuple[str, ...] = ()
    first: int | None = None
    sources: bool = False
    controls: str = "true"

    def given(self, data: Path, out: Path) -> dict[str, list[str]] | None:
        """The files of each part; None where one is missing."""
        files = {part: [data / path for path in paths] for part, paths in self.files.items()}
        if not all(path.exists() for paths in files.values() for path in paths):
            return None
        for part, most in (("in_domain", self.first), ("val", VALIDATION)):
            if self.config is None and most is not None:
                files[part] = [_head(file, most, out) for file in files[part]]
        return {part: [str(path) for path in paths] for part, paths in files.items()}


def _head(file: Path, most: int, out: Path) -> Path:
    """A file with the first examples: lines, or sentences parted by empty ones."""
    target = out / "files" / f"{file.parent.name}-{file.stem}-{most}{file.suffix}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        end = "\n" if file.suffix == ".jsonl" else "\n\n"
        examples = file.read_text(encoding="utf-8").strip().split(end)
        target.write_text(end.join(examples[:most]) + "\n", encoding="utf-8")
    return target


def _crossner(domain: str) -> dict[str, list[str]]:
    return _parts(f"crossner/{domain}", "txt", ["crossner/conll2003/train.txt"])


def _parts(folder: str, suffix: str, pool: list[str]) -> dict[str, list[str]]:
    own = {
        part: [f"{folder}/{name}.{suffix}"] for part, name in (("in_domain", "train"), ("val", "dev"), ("test", "test"))
    }
    return {**own, "out_of_domain": pool}


_SOURCES = [f"reviews/kitchen/pool-{source}.jsonl" for source in ("books", "dvd", "electronics")]
_REVIEWS = _parts("reviews/kitchen", "jsonl", _SOURCES)
_INTENTS = _parts("intents", "jsonl", ["intents/pool.jsonl"])
_TWEETS = _parts("tweebank", "jsonl", ["tweebank/pool.jsonl"])
# mixed training as long costs most, and has rarely been the best control
_NOT_MIXED = json.dumps([SAME_STEPS, SAME_RESTARTS, DROP_AT_ONCE])
# with 4 steps an epoch, dropping at once takes longer than all others, and with 2,000 sentences it equals the restarts
_TWO = json.dumps([SAME_STEPS, SAME_RESTARTS])
_GENIA = {
    "in_domain": ["genia/fulltext.train.json"],
    "out_of_domain": ["genia/abstracts.train.json"],
    "val": ["genia/fulltext.dev.json"],
    "test": ["genia/fulltext.test.json"],
}
_2000 = ("--schedule=[2000, 1000, 250, 0]",)
_14041 = [14041, 3500, 440, 0]
# four times the batch while there is a pool of 14,041 sentences; 100 sentences alone are 4 steps an epoch then
_ALL = (f"--schedule={_14041}", "--data.batch_size=32", "--last_stage.batch_size=8")
_UNIFORM = [1600, 800, 200, 0]  # what init proposes for 200 reviews
_BY_SOURCE = [  # the totals of the uniform schedule; the source that is most like the target stays longest
    {"books": 533, "dvd": 533, "electronics": 534},
    {"books": 133, "dvd": 133, "electronics": 534},
    {"electronics": 200},
    0,
]
_ORDERS = {
    "in-domain only": {"patience": 12},
    "mixed": {},
    "one-stage": {},
    "gradual": {},
    "by embedding": {"schedule": _UNIFORM, "data": {"order": "embedding"}},
    "by classifier": {"schedule": _UNIFORM, "data": {"order": "classifier"}},
    "by source": {"schedule": _BY_SOURCE},
}
_RELEVANCE = {"gradual": {}, "by relevance": {"schedule": _14041, "data": {"order": "relevance"}}}
COMPARISONS = {
    "ai": Comparison(_crossner("ai"), _2000),
    "intents": Comparison(_INTENTS, columns=("label=intents",)),
    "tweets-100": Comparison(_TWEETS, first=100),
    "music": Comparison(_crossner("music"), _2000),
    "literature": Comparison(_crossner("literature"), _2000),
    "tweets-50": Comparison(_TWEETS, first=50),
    "reviews": Comparison(_REVIEWS, ("--data.max_length=128", f"--strategies={json.dumps(_ORDERS)}"), sources=True),
    "tweets-400": Comparison(_TWEETS, first=400),
    "genia": Comparison(_GENIA, config="events", controls=_NOT_MIXED),
    "restaurant": Comparison({"root": ["multiwoz"]}, ("--data.domain=restaurant",), "dialogue", controls=_NOT_MIXED),
    "hotel": Comparison({"root": ["multiwoz"]}, ("--data.domain=hotel",), "dialogue", controls=_NOT_MIXED),
    "music-all": Comparison(_crossner("music"), (*_ALL, f"--strategies={json.dumps(_RELEVANCE)}"), controls=_TWO),
}


def _configured(
    name: str, comparison: Comparison, files: dict[str, list[str]], arguments: argparse.Namespace
) -> list[str]:
    """The options that configure a comparison; ``gradual init`` writes its file once."""
    options = [*comparison.options, f"--trainer.precision={arguments.precision}", *VARIANTS[arguments.variant]]
    if comparison.config is not None:
        options += [f"--data.{part}={_one_or_list(paths)}" for part, paths in files.items()]
        return [f"--config={CONFIGS / comparison.config}.yaml", f"--model.encoder={arguments.encoder}", *options]
    config = arguments.out / "configs" / f"{name}.yaml"
    if not config.exists():
        parts = [option for part, paths in files.items() for option in (f"--{part}", *paths)]
        columns = ["--columns", *comparison.columns] if comparison.columns else []
        _gradual("init", *parts, *columns, f"--pretrained={arguments.encoder}", f"--out={config}")
    if comparison.sources:
        sources = {Path(path).stem.removeprefix("pool-"): path for path in files["out_of_domain"]}
        options.append(f"--data.out_of_domain={json.dumps(sources)}")
    return [f"--config={config}", f"--optimizer.lr={LEARNING_RATE}", *options]


def _one_or_list(paths: list[str]) -> str:
    return paths[0] if len(paths) == 1 else json.dumps(paths)


def _gradual(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "gradual", *arguments], check=True)


def run(name: str, comparison: Comparison, arguments: argparse.Namespace) -> bool:
    """Train what is not finished of one comparison, or search; whether its files are there."""
    files = comparison.given(arguments.data, arguments.out)
    if files is None:
        print(f"{name}: no files, left out", flush=True)
        return False
    print(name, flush=True)
    directory = arguments.out / name
    configured = _configured(name, comparison, files, arguments)
    if arguments.search:
        compared = json.loads((directory / "compare.json").read_text())
        path = next(iter(compared["strategies"]["gradual"]["seeds"].values()))
        budget = round(arguments.search * sum(stage["steps"] for stage in path["stages"]))
        command = ["search", *configured, f"--budget={budget}", "--budget_in=steps"]
        directory = arguments.out / f"{name}-search"
    else:
        command = [
            "compare",
            *configured,
            f"--controls={comparison.controls}",
            f"--seeds={json.dumps(arguments.seeds)}",
        ]
    _gradual(*command, f"--jobs={arguments.jobs}", f"--run_dir={directory}")
    return True


def first_layers(encoder: Path, layers: int, out: Path) -> Path:
    """The folder of an encoder with its first layers alone."""
    from transformers import AutoModel, AutoTokenizer

    folder = out / f"{layers}-layers"
    if not folder.exists():
        AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
        AutoModel.from_pretrained(encoder, num_hidden_layers=layers).save_pretrained(folder)
    return folder


def scores(out: Path) -> list[dict[str, object]]:
    """The monitored score of every strategy and seed of the comparisons in ``out``, as far as they are finished."""
    rows: list[dict[str, object]] = []
    for file in sorted(out.glob("*/compare.json")):
        compared = json.loads(file.read_text())
        score = without_split(compared["monitor"])
        for strategy, found in compared["strategies"].items():
            for seed, path in found["seeds"].items():
                stages = path["stages"]
                if len(stages) < len(path["paths"]):
                    continue
                rows.append(
                    {
                        "data": file.parent.name,
                        "strategy": strategy,
                        "seed": seed,
                        "schedule": " ".join(str(stage["out_of_domain"]) for stage in stages),
                        "epochs": " ".join(str(stage["epochs"]) for stage in stages),
                        "steps": " ".join(str(stage["steps"]) for stage in stages),
                        "converged": all(stage["converged"] for stage in stages),
                        "score": score,
                        **{split: round(stages[-1][split][score], 6) for split in ("val", "test")},
                    }
                )
    return rows


def main() -> None:
    """Run the comparisons and write the table of scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("encoder", type=Path, help="folder of the pretrained encoder")
    parser.add_argument("--layers", type=int, help="train with the encoder's first layers alone")
    parser.add_argument(
        "--variant", choices=list(VARIANTS), default="constant", help="of rates within a stage, or weights"
    )
    parser.add_argument("--only", nargs="+", choices=list(COMPARISONS), default=list(COMPARISONS))
    parser.add_argument(
        "--search",
        metavar="TIMES",
        nargs="?",
        type=float,
        const=20,
        help="search for a schedule, for this many times the steps of a path; the comparison must have one",
    )
    parser.add_argument("--precision", default="bf16-mixed", help="the Trainer's precision")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="stages to train at once")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    arguments = parser.parse_args()
    arguments.data, arguments.out = arguments.data.resolve(), arguments.out.resolve()
    arguments.encoder = arguments.encoder.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    given = {name: str(getattr(arguments, name)) for name in ("data", "encoder", "layers")}
    record = arguments.out / "made-with.json"
    if record.exists() and (before := json.loads(record.read_text(encoding="utf-8"))) != given:
        parser.error(f"{arguments.out} was made with {before}, not with {given}: give another --out")
    record.write_text(json.dumps(given), encoding="utf-8")
    if arguments.layers:
        arguments.encoder = first_layers(arguments.encoder, arguments.layers, arguments.out)
    for name in arguments.only:
        if run(name, COMPARISONS[name], arguments):
            rows = scores(arguments.out)
            with whole_file(arguments.out / "scores.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
