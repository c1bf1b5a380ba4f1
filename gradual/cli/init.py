"""Write a configuration for your files and a pretrained model, to start from; with --demo, that of the demo."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradual.cli.demo import CONFIGURATION, DATA, write_demo
from gradual.cli.proposal import MULTIPLE, Proposal, propose
from gradual.cli.source_names import sources_in
from gradual.errors import InputError
from gradual.files import refuse_existing, write_atomically

if TYPE_CHECKING:
    from gradual.cli.task_choice import ChosenTask

_FILES = {
    "in_domain": "training examples of the target domain",
    "out_of_domain": "the pool: out-of-domain examples",
    "val": "validation examples of the target domain",
    "test": "optional: test examples of the target domain",
}
_NEEDED = ("--in_domain", "--out_of_domain", "--val", "--pretrained", "--out")
_USAGE = """%(prog)s --in_domain FILE ... --out_of_domain FILE ...
                    --val FILE ... --pretrained PATH --out FILE
                    [--test FILE ...] [--task NAME] [--columns NAME=COLUMN ...]
                    [--target WHAT]
       %(prog)s --demo"""
_COMMENTS_AT = 42  # the column of comments
_NO_DECAY = ("*bias*", "*[Nn]orm*", "*.ln_*")  # biases and norms; the latter are ln_1, ln_2 and ln_f in GPT-2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gradual init``."""
    parser.usage = _USAGE
    for name, text in _FILES.items():
        more = "; several become named sources" if name == "out_of_domain" else ""
        parser.add_argument(f"--{name}", metavar="FILE", nargs="+", help=f"{text}; files or patterns{more}")
    add = parser.add_argument
    add("--pretrained", metavar="PATH", help="a pretrained model: a folder, or a name on the hub")
    add("--out", metavar="FILE", type=Path, help="the configuration to write, such as mine.yaml; must not exist")
    add("--task", metavar="NAME", help="the task, such as TextClassifier; default: the one that the columns suit")
    add(
        "--columns", metavar="NAME=COLUMN", nargs="+", default=[],
        help="columns with unusual names, such as label=sentiment text=review",
    )  # fmt: skip
    add(
        "--target", metavar="WHAT",
        help="what TextClassifier predicts: label, labels or number; default: what the label column holds",
    )  # fmt: skip
    add(
        "--demo", action="store_true",
        help=f"write the demo's files to the current folder instead: {CONFIGURATION} and {DATA}; takes no other option",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Look at the files, and write the configuration; or write the demo's.

    Raises:
        InputError: An option is missing, no task suits the files or the model, or the configuration exists or cannot
            be written.
    """
    given = [f"--{name}" for name, value in vars(arguments).items() if value and name not in ("demo", "run")]
    if arguments.demo:
        if given:
            raise InputError(f"--demo takes no other option: leave out {', '.join(given)}.")
        write_demo(Path())
        print(f"Next: gradual compare --config {CONFIGURATION}")
        return
    if missing := [option for option in _NEEDED if option not in given]:
        raise InputError(f"gradual init needs {', '.join(missing)} (or --demo alone).")
    out: Path = arguments.out
    refuse_existing("--out", out)
    settings = _columns(arguments.columns)
    if arguments.target:
        settings["target"] = arguments.target
    files = {name: given for name in _FILES if (given := getattr(arguments, name))}
    files = {name: given[0] if len(given) == 1 else given for name, given in files.items()}
    files["out_of_domain"] = sources_in(files["out_of_domain"])

    from gradual.cli.class_paths import find_modules_in
    from gradual.cli.task_choice import choose_task
    from gradual.logging import to_standard_error

    to_standard_error()
    find_modules_in(Path.cwd())
    chosen = choose_task(files, arguments.pretrained, settings, arguments.task)
    if not chosen.data.pool_size:
        raise InputError("--out_of_domain has no examples that are not among those of validation or test.")
    sizes = (chosen.data.in_domain_size, chosen.data.pool_size, chosen.architecture.parameters)
    proposal = propose(*sizes, plateau=chosen.plateau)
    text = configuration(chosen, proposal, files, arguments.pretrained, settings, out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, text)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}.") from error
    print(f"{out}: {_summary(chosen, proposal)}.\nNext: gradual plan --config {shlex.quote(str(out))}")


def configuration(
    chosen: ChosenTask,
    proposal: Proposal,
    files: Mapping[str, Any],
    pretrained: str,
    settings: Mapping[str, str],
    out: Path,
) -> str:
    """Write the text of a configuration.

    Args:
        chosen: The task and its data.
        proposal: The settings.
        files: The files of each part.
        pretrained: The pretrained model.
        settings: Settings of the data module: columns that have unusual names, and what is predicted if it was given.
        out: The file that will hold the text; the run directory has its name.
    """
    from gradual.data.module import source_row

    data, architecture = chosen.data, chosen.architecture
    sources = {source_row(name): name for name in data.sources}
    rows = data.statistics()["examples"]
    sizes = dict(zip(_FILES, (size for row, size in rows.items() if row not in sources)))
    of_sources = {name: rows[row] for row, name in sources.items()}
    found = ", ".join(
        f"{role} {column!r}" for role, column in data.column_of.items() if f"{role}_column" not in settings
    )
    main, *others = (f"val/{name}" for name in chosen.scores)
    patience, long = proposal.patience, proposal.in_domain_patience
    later = [
        _line("later_stages: {optimizer: {lr_scale: 0.4}}", "the factor of the paper's last stage (Appendix A.2)"),
        _line(f"last_stage: {{patience: {long}}}", "its epochs are short"),
    ]
    lacking, path = data.labels_without_pool, shlex.quote(str(out))
    lines = [
        "# Written by gradual init, to start from:",
        f"#   gradual plan --config {path}       (what each stage trains on)",
        f"#   gradual compare --config {path}    (all strategies, with a report)",
        f"#   gradual fit --config {path}        (gradual fine-tuning alone)",
        _line(f"schedule: {proposal.schedule}", f"out-of-domain examples: {_share(proposal.schedule, sizes)}"),
        *later,
        "",
        _line("strategies:", "what compare trains"),
        _line(f"  in-domain only: {{patience: {long}}}", "without the pool an epoch is short: it needs more of them"),
        "  mixed: {}",
        "  one-stage: {}",
        "  gradual: {}",
        "seeds: [0, 1, 2]",
        "",
        _line("model:", f"{architecture.kind}, {architecture.parameters / 1e6:.1f} million parameters"),
        _line(f"  class_path: {chosen.name}", f"predicts {chosen.predicted}" if chosen.predicted else ""),
        "  init_args:",
        f"    pretrained: {_yaml(pretrained)}",
        *(["    lora: {r: 16, alpha: 32}"] if proposal.lora else []),
        "",
        _line("data:", f"columns: {found}" if found else ""),
        *(line for name, given in files.items() for line in _part(name, given, sizes[name], of_sources)),
        *(f"  {name}: {_yaml(value)}" for name, value in settings.items()),
        f"  batch_size: {proposal.batch_size}",
        _line("  out_of_domain_labels: own", f"the pool has no {_some(lacking)}; all, if its labels cover them")
        if lacking
        else None,
        "",
        _line(f"monitor: {main}", f"or {', '.join(others)}" if others else ""),
        _line(f"patience: {patience}", "validations without improvement, after which a stage has converged"),
        "",
        "optimizer:",
        f"  lr: {_rate(proposal.lr)}",
        "  weight_decay: 0.01",
        None if proposal.lora else _no_decay(architecture.names),
        _line(f"lr_schedule: {{name: constant_with_warmup, warmup: {proposal.warmup}}}", "steps"),
        "",
        "trainer:",
        "  gradient_clip_val: 1.0",
        _line("  # precision: bf16-mixed", "on a GPU"),
        f"run_dir: {_yaml(str(Path('runs') / out.stem))}",
    ]
    return "\n".join(line for line in lines if line is not None) + "\n"


def _no_decay(names: Sequence[str]) -> str | None:
    """The line that exempts biases and the weights of norms from weight decay, under the names that a model has."""
    patterns = [pattern for pattern in _NO_DECAY if any(fnmatchcase(name, pattern) for name in names)]
    entries = ", ".join(f'"{pattern}": 0' for pattern in patterns)
    return f"  weight_decay_by_name: {{{entries}}}" if patterns else None


def _columns(given: Sequence[str]) -> dict[str, str]:
    """The settings that name columns, from ``NAME=COLUMN``."""
    found = {}
    for text in given:
        name, equals, column = text.partition("=")
        if not (name and equals and column):
            raise InputError(f"--columns has '{text}': it must be NAME=COLUMN, such as label=sentiment.")
        found[f"{name}_column"] = column
    return found


def _part(name: str, given: Any, size: int, of_sources: Mapping[str, int]) -> list[str]:
    """The lines of a part of the data, or of a pool with named sources."""
    if not isinstance(given, Mapping):
        return [_line(f"  {name}: {_yaml(given)}", f"{size} examples")]
    sources = (_line(f"    {one}: {_yaml(file)}", f"{of_sources[one]} examples") for one, file in given.items())
    return [_line(f"  {name}:", f"{size} examples; an amount may also be by source"), *sources]


def _share(schedule: Sequence[int], sizes: Mapping[str, int]) -> str:
    target = sizes["in_domain"]
    first = (
        "the whole pool" if schedule[0] == sizes["out_of_domain"] else f"{MULTIPLE} times the {target} of the target"
    )
    return ", ".join([first, "half of it", "an eighth", "none"]) if len(schedule) == 4 else f"{first} at first"


def _summary(chosen: ChosenTask, proposal: Proposal) -> str:
    others = f" ({' or '.join(chosen.others)} with --task)" if chosen.others else ""
    predicted = f", which predicts {chosen.predicted}" if chosen.predicted else ""
    return f"{chosen.name}{others}{predicted}, schedule {proposal.schedule}"


def _line(text: str, comment: str) -> str:
    return f"{text:<{_COMMENTS_AT}} # {comment}" if comment else text


def _rate(lr: float) -> str:
    mantissa, _, exponent = f"{lr:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _some(labels: Sequence[str]) -> str:
    """The first labels, on one line."""
    named = ", ".join(" ".join(label.split())[:30] for label in labels[:3])
    return f"{named} and {len(labels) - 3} more" if len(labels) > 3 else named


def _yaml(value: Any) -> str:
    """A value in a line of YAML."""
    import yaml

    text = str(yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf")))
    return text.removesuffix("\n").removesuffix("\n...")
