"""The identity of an experiment, in ``experiment.json``: a run directory that holds another experiment is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_only

from gradual.digest import digest
from gradual.distributed import is_follower_rank
from gradual.errors import InputError
from gradual.files import read_json, write_atomically
from gradual.logging import note
from gradual.runs.directory import RunDirectory, StageDirectory, differences
from gradual.runs.fingerprint import (
    PARTS,
    model_fingerprint,
    same_scores,
    same_weights,
    starting_weights,
    trainer_fingerprint,
)

Identity = dict[str, Any]
"""Sections ``model``, ``starting_weights`` (by seed), ``data`` (and ``other_data`` of strategies that change it),
``settings``, ``own_callbacks``, and ``search`` if there is one. Two identities are compared in the sections that both
have."""

_MODEL = ("arguments", "hyperparameters", "modules", "objects", "parameters")
_OPTIONAL = ("amount_in", "order")  # of the data
_TOKENIZER = "tokenizer"  # the setting of which a digest is compared
_LABELS = "labels"  # those of all parts, test data included, which a model has outputs for
_STAGES = "stages"  # of a search; their overrides follow from other parts of it, as a rule
_MAX_SHOWN = 4  # differences in a message

_warn = rank_zero_only(logging.getLogger(__name__).warning)


def claim(
    run: RunDirectory,
    identity: Identity,
    text: str,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Make ``run`` the directory of an experiment, or check that it already is.

    As long as no stage has saved anything, the directory can still become that of another experiment. Different test
    data alone do not make a different experiment. Nor do other callbacks of the user's own, which may only watch: they
    are warned of. The ``config.yaml`` is that of the last claim, whose test data the results have; one that commands
    can use is not replaced by one that only describes Python code.

    Args:
        run: The run directory, held.
        identity: The experiment's identity.
        text: The ``config.yaml`` to write for it.
        arguments: The arguments with which a configuration creates ``model`` and ``data``; None for Python code.

    Raises:
        InputError: The directory holds another experiment; the message shows the difference.
    """
    for name, given in (arguments or {}).items():
        identity = identity | {name: identity[name] | {"arguments": given}}
    if is_follower_rank():  # the leading process decides, and only it has the starting weights
        identity = {name: identity[name] for name in ("data", "settings")}
    path = run.root / "experiment.json"
    started = run.has_started()
    identity = json.loads(json.dumps(identity, default=str))
    old = recorded(run)
    changes = [] if old is None else changed(old, identity)
    if started and changes:
        raise InputError(
            f"{run.root} holds another experiment ({'; '.join(changes)}): choose another run_dir, or change it back."
        )
    if is_follower_rank():  # the leading process writes, perhaps at this moment
        return
    run.remove_leftovers()
    if left_out := identity["model"].get("left_out"):
        note("These attributes of the model are not compared with other runs: %s.", ", ".join(_few(left_out)))
    if started and old is not None and "own_callbacks" in old:
        _warn_of_callbacks(run, differences(old["own_callbacks"], identity["own_callbacks"], "callbacks"))
    if not started:
        if changes:  # their collapses belong to another experiment
            run.remove_stages()
    elif old is None or "settings" not in old:
        note("%s does not record its model and data: they are assumed to be the current ones.", run.root)
        for result in run.root.glob("seed-*/**/result.json"):
            StageDirectory(result.parent).attribute_test(digest(identity["data"]["test"]))
    if not started or arguments or not _has_arguments(old):
        write_atomically(run.root / "config.yaml", text)
    if started and old is not None:
        identity = _merged(old, identity)
    if identity != old:
        write_atomically(path, json.dumps(identity, indent=2) + "\n")


def _warn_of_callbacks(run: RunDirectory, changes: list[str]) -> None:
    if changes:
        _warn(
            "%s was begun with other callbacks (%s). What is finished there stays as it is: if they change the "
            "training, choose another run_dir, or change them back.", run.root, "; ".join(_few(changes)),
        )  # fmt: skip


def _has_arguments(identity: Identity | None) -> bool:
    """Whether a configuration that commands can use made the model."""
    model = (identity or {}).get("model")
    return isinstance(model, Mapping) and ("arguments" in model or "init_args" in model)


def recorded(run: RunDirectory) -> Identity | None:
    """Read the identity in a run directory; None where there is none.

    Raises:
        InputError: It is damaged, and there are stages that depend on it.
    """
    path = run.root / "experiment.json"
    if not path.exists():
        return None
    try:
        return dict(read_json(path))
    except InputError:
        if run.has_started():
            raise
        return None


def changed(old: Identity, new: Identity) -> list[str]:
    """List what makes ``new`` a different experiment from ``old``, in words."""
    if "settings" not in old:
        return _changed_since_earlier_version(old, new)
    found = differences(old["settings"], _as_recorded(old["settings"], new["settings"]))
    model = _changed_model(old.get("model"), new.get("model"))
    found += model or _changed_weights(old.get("starting_weights", {}), new.get("starting_weights", {}))
    found += _changed_data(old["data"], new["data"])
    others = new.get("other_data", {})
    for name, data in old.get("other_data", {}).items():
        if name in others:
            found += [f"with data {name}: {line}" for line in _changed_data(data, others[name])]
    return found + _changed_search(old.get("search"), new.get("search"))


def _changed_search(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    if old is None or new is None:
        return []
    before, now = ({name: part for name, part in one.items() if name != _STAGES} for one in (old, new))
    return differences(before, now) or differences(old[_STAGES], new[_STAGES], "schedule")


def _as_recorded(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings without the callbacks where an earlier version did not record them."""
    return {name: value for name, value in new.items() if name != "callbacks" or name in old}


def _changed_model(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """Only the first part that differs is described, since the others follow from it."""
    if old is None or new is None:
        return []
    if old["class"] != new["class"]:
        return [f"model: {old['class']}, now {new['class']}"]
    for part in _MODEL:
        if part in old and part in new and (lines := differences(old[part], new[part])):
            return _few([f"model: {line.replace(':', '', 1)}" for line in lines])
    return []


def _changed_weights(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    for seed in old.keys() & new.keys():
        before, now = old[seed], new[seed]
        names = [name for name in before.keys() & now.keys() if not same_weights(before[name], now[name])]
        if names:
            listed = ", ".join(_few(sorted(names)))
            hint = "if they are random, set the seed before the model is created"
            return [f"starting weights: changed in {listed}; {hint}"]
    return []


def _changed_data(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    ours = [name for name in ("class", "batch_size", "batch_tokens", "arguments") if name in old and name in new]
    optional = [name for name in _OPTIONAL if name in old or name in new]  # left out where it is the default
    before, now = ({name: data.get(name) for name in [*ours, *optional]} for data in (old, new))
    lines = differences(before, now)
    found = [f"data.{line.removeprefix('arguments.')}" for line in lines]
    found += _changed_settings(old, new)
    for name in PARTS:
        if name != "test":
            found += _changed_part(name, old[name], new[name])
    return found or _changed_silently(old, new)


def _changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List the differences in how examples are made, besides those that a command's arguments show."""
    before, now = (data.get("example_settings", {}) for data in (old, new))
    given, given_now = (data.get("arguments", {}) for data in (old, new))
    shown = {name for name in given.keys() & given_now.keys() if given[name] != given_now[name]}
    found = []
    for name in sorted(before.keys() & now.keys() - shown - {_LABELS}):
        lines = differences(before[name], now[name], f"data.{name}")
        found += ["data.tokenizer: different content"] if lines and name == _TOKENIZER else lines
    labels, labels_now = before.get(_LABELS), now.get(_LABELS)
    if not (found or shown or None in (labels, labels_now) or labels == labels_now):  # else they follow from that
        found = [_changed_labels(labels, labels_now)]
    return found


def _changed_labels(old: Any, new: Any) -> str:
    """Say which labels are new or gone; of very many, a digest was recorded, which tells only that they differ."""
    if not (isinstance(old, list) and isinstance(new, list)):
        return "labels: different ones"
    lists = {"new": [label for label in new if label not in old], "gone": [label for label in old if label not in new]}
    parts = [
        f"{which} {', '.join(_few([repr(label) for label in labels]))}" for which, labels in lists.items() if labels
    ]
    return f"labels: {'; '.join(parts) or 'in another order'}"


def _changed_silently(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Find examples that are ordered, or made of the same files, in another way, where nothing else tells."""
    scores, scores_now = (data.get("order_scores") for data in (old, new))
    if None not in (scores, scores_now) and not same_scores(scores, scores_now):
        order = new["order"]
        if order["by"] == "column":
            return [f"data.order: different values of '{order['column']}'"]
        return [f"data.order: different scores by {order['by']} (another encoder in its folder, or another library)"]
    before, now = _samples(old), _samples(new)
    names = [name for name in before if name in now and before[name] != now[name]]
    return [f"{', '.join(names)}: different examples from the same files"] if names else []


def _samples(data: Mapping[str, Any]) -> dict[str, str]:
    """The digest of a sample of examples, by part or source, where there is one."""
    parts = {name: data[name] for name in PARTS if data[name] is not None}
    for name in [name for name, part in parts.items() if "sources" in part]:
        parts |= {f"{name}.{source}": own for source, own in parts.pop(name)["sources"].items()}
    return {name: part["sample"] for name, part in parts.items() if "sample" in part}


def _changed_part(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    if old is not None and new is not None and ("sources" in old or "sources" in new):
        before, now = old.get("sources"), new.get("sources")
        if before is None or now is None or before.keys() != now.keys():
            return [f"{name}: {_named(before)}, now {_named(now)}"]
        lines = [line for source in before for line in _changed_source(f"{name}.{source}", before[source], now[source])]
        if lines:
            return lines
    if old is None or new is None or old["examples"] != new["examples"]:
        before, now = ("none" if part is None else f"{part['examples']} examples" for part in (old, new))
        if before == now:
            return []
        less = f" ({new['left_out'].split()[0]} are in the validation or test data)" if new and new["left_out"] else ""
        return [f"{name}: {before}, now {now.removesuffix(' examples') if old else now}{less}"]
    if old["left_out"] != new["left_out"]:
        return [f"{name}: different examples are left out because they are in the validation or test data"]
    for part in ("ids", "content"):
        if None not in (old[part], new[part]) and old[part] != new[part]:
            return [f"{name}: different {part}"]
    return []


def _changed_source(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    if old.get("weight") != new.get("weight"):
        return differences({"weight": old.get("weight")}, {"weight": new.get("weight")}, name)
    return _changed_part(name, {"left_out": None, **old}, {"left_out": None, **new})


def _named(sources: Iterable[str] | None) -> str:
    return "no named sources" if sources is None else f"the sources {', '.join(sources)}"


def _changed_since_earlier_version(old: Identity, new: Identity) -> list[str]:
    """Compare the little that earlier versions recorded."""
    found = []
    for name in ("model", "data"):
        section, before = new.get(name), old.get(name)
        if section is None or before is None:
            continue
        before = {"class_path": before} if isinstance(before, str) else before
        was, is_now = before["class_path"].rpartition(".")[2], section["class"].rpartition(".")[2]
        found += differences(was, is_now, name)
        found += _common_differences(before.get("init_args") or {}, section | section.get("arguments", {}), name)
    settings = {name: value for name, value in old.items() if name not in ("model", "data")}
    settings["trainer"] = trainer_fingerprint(settings.get("trainer") or {})
    return found + _common_differences(settings, {**new["settings"], **new["data"]})


def _common_differences(old: Mapping[str, Any], new: Mapping[str, Any], name: str = "") -> list[str]:
    """List the differences in what both have."""
    found = []
    for key in old.keys() & new.keys():
        before, now, where = old[key], new[key], f"{name}.{key}" if name else str(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += _common_differences(before, now, where)
        elif before is not None:
            found += differences(before, now, where)
    return sorted(found)


def _few(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _MAX_SHOWN else [*lines[:_MAX_SHOWN], f"and {len(lines) - _MAX_SHOWN} more"]


def _merged(old: Identity, new: Identity) -> Identity:
    """Add to ``new`` what only ``old`` has: other seeds, the data of other strategies, a command's arguments."""
    if "settings" not in old:
        return new
    merged = old | new
    for name in ("starting_weights", "other_data"):
        if name in old or name in new:
            merged[name] = old.get(name, {}) | new.get(name, {})
    for name in ("model", "data"):
        merged[name] = old[name] | new[name]
    if "own_callbacks" in old:
        merged["own_callbacks"] = old["own_callbacks"]  # those of the first stages, to be warned of each time
    return merged


# Models that a call of fit has trained


@dataclass
class _Trained:
    """A model before and after runs of this process trained it: its attributes, and its weights by run directory."""

    before: Any
    after: Any
    weights: dict[Path, tuple[Any, Any]] = field(default_factory=dict)


_trained: WeakKeyDictionary[LightningModule, _Trained] = WeakKeyDictionary()


def identity_of_model(run: RunDirectory, model: LightningModule) -> tuple[Identity, bool]:
    """Return the sections ``model`` and ``starting_weights`` (without a seed), and whether the model is untrained.

    A model object that is passed again as the last run in this directory left it counts as the one that the run began
    with. What its modules have counted and collected during training is ignored.
    """
    now = _sections(model)
    known = _trained.get(model)
    if known is None:
        return now, True
    now["model"] = _as_before(known.before, known.after, now["model"])
    own, weights = run.root.resolve(), now["starting_weights"]
    before, after = known.weights.get(own, (None, None))
    for other, (untrained, trained) in known.weights.items():
        if other != own and _same(trained, weights) and not _same(untrained, weights):
            _warn(
                "This model has the weights that the run in %s left in it, and the run in %s starts from them: make a "
                "new model for each run, unless that is meant.", other, run.root,
            )  # fmt: skip
            break
    untouched = before is None or _same(before, weights) or not _same(after, weights)
    if not untouched:
        now["starting_weights"] = before
    return now, untouched


def remember(run: RunDirectory, model: LightningModule, before: Identity) -> None:
    """Record the state in which a run leaves a model."""
    after = _sections(model)
    known = _trained.setdefault(model, _Trained(None, None))
    known.before, known.after = before["model"], after["model"]
    known.weights[run.root.resolve()] = before["starting_weights"], after["starting_weights"]


def _sections(model: LightningModule) -> Identity:
    sections = {"model": model_fingerprint(model), "starting_weights": starting_weights(model)}
    return dict(json.loads(json.dumps(sections, default=str)))


def _as_before(before: Any, after: Any, now: Any) -> Any:
    """Return ``now`` with everything that equals ``after`` put back to its value in ``before``."""
    if now == after:
        return before
    if not (isinstance(before, Mapping) and isinstance(after, Mapping) and isinstance(now, Mapping)):
        return now
    names = [*now, *(name for name in before if name not in now)]
    found = {name: _as_before(before.get(name), after.get(name), now.get(name)) for name in names}
    return {name: value for name, value in found.items() if value is not None or name in before}


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return old.keys() == new.keys() and not _changed_weights({"": old}, {"": new})
