"""Fingerprints of a model, its starting weights, the data and the settings: plain data to compare with a later run.

They are cheap to compute: a fixed sample of the weights and of the examples is read, and all bytes of files.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import os
import random
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Dataset

from gradual.data.features import plain_tokenizer
from gradual.data.module import MixedDomainDataModule
from gradual.data.sources import Pool, part_of
from gradual.data.subsets import entries_at
from gradual.digest import Undigestible, class_name, digest, entries, sample_positions
from gradual.logging import note
from gradual.nn.compiled import plain_name
from gradual.runs.callbacks import callbacks_fingerprint
from gradual.runs.described import UNUSABLE, is_configuration, plain, with_objects
from gradual.settings import TrainSettings

PARTS = ("in_domain", "out_of_domain", "val", "test")
TOLERANCE = 1e-5
"""Largest relative difference of equal weights: random initialization differs in the last bits across processors."""
SCORES_TOLERANCE = 0.05
"""Largest difference of the scores of the same order, in their standard deviations."""
_WEIGHTS = 1024  # entries of a weight that are compared
_EXAMPLES = 100  # examples of a part that are compared
_IDS = 1_000_000  # ids of a part that are compared
_ENTRIES = 100_000  # of an array of which all entries are compared, at a time
_NOT_HYPERPARAMETERS = {"training", "gradient_checkpointing", *vars(LightningModule())}
# how a run is displayed, where it is written, and what each stage sets itself
_NOT_IDENTITY_OF_TRAINER = (
    *("logger", "callbacks", "enable_progress_bar", "enable_model_summary", "log_every_n_steps"),
    *("default_root_dir", "enable_checkpointing", "use_distributed_sampler", "profiler", "detect_anomaly"),
)


def model_fingerprint(model: LightningModule) -> dict[str, Any]:
    """The class, hyperparameters, attributes of all modules, and names, types and shapes of parameters and buffers.

    ``modules`` has the attributes that are plain data, tensors, arrays, functions or configurations; ``objects`` has
    those that are, or contain, objects that ``with_objects`` describes, which earlier versions did not record. Other
    attributes are listed in ``left_out``, except paths. Those that begin with an underscore are left out as well.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "class": class_name(type(model)),
        "hyperparameters": _hyperparameters(model),
        **_modules(model),
        "parameters": {plain_name(name): _shape(tensor) for name, tensor in tensors.items()},
    }


def _hyperparameters(model: LightningModule) -> Any:
    found = {}
    for name, value in model.hparams.items():
        if name[:1] != "_":
            with suppress(*UNUSABLE):
                found[name] = plain(value)
    return plain(found)  # a digest, if they are many


def starting_weights(model: LightningModule) -> dict[str, list[float]]:
    """Two numbers per parameter and buffer: a weighted sum of a fixed sample of its entries, and the sample's norm."""
    found, unknown = {}, []
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor) or tensor.is_meta or not tensor.numel():
            continue
        try:
            found[plain_name(name)] = _summed_up(entries(tensor, _WEIGHTS))
        except (RuntimeError, NotImplementedError, TypeError):  # an unusual layout
            unknown.append(name)
    if unknown:
        note("These weights are not compared with those of other runs: %s.", ", ".join(unknown[:3]))
    return found


def same_weights(old: list[float], new: list[float]) -> bool:
    """Whether two summaries describe the same weights, up to the last bits of their entries."""
    least = TOLERANCE * max(abs(old[1]), abs(new[1]))
    return all(abs(before - now) <= least for before, now in zip(old, new))


def same_scores(old: Any, new: Any) -> bool:
    """Whether two records of the scores of a pool stand for the same order, up to examples that nearly tie.

    Scores that are computed differ in their last digits across machines and versions of libraries.
    """
    if isinstance(old, str) or isinstance(new, str):  # numbers of a column
        return bool(old == new)
    before, now = np.asarray(old), np.asarray(new)
    if before.shape != now.shape:
        return False
    least = SCORES_TOLERANCE * np.std(before) + TOLERANCE * np.abs(before).max(initial=0)
    return bool(np.sqrt(np.mean(np.square(before - now))) <= least)


def data_fingerprint(datamodule: MixedDomainDataModule, draws: bool = True) -> dict[str, Any]:
    """The class and settings of a data module, which must be set up, and the size, ids and content of each part.

    A part that does not exist is None. Parts whose examples cannot be compared with a later run are logged.

    Args:
        datamodule: The data module.
        draws: Whether a stage is still to draw from the pool, so that scores are computed that its order needs.
    """
    unknown: dict[str, str] = {}
    found: dict[str, Any] = {
        "class": class_name(type(datamodule)),
        "batch_size": datamodule.batch_size,
        "batch_tokens": datamodule.batch_tokens,
    }
    if datamodule.amount_in != "examples":
        found["amount_in"] = datamodule.amount_in
    if not datamodule.order.is_uniform:
        found["order"] = datamodule.order.to_plain()
    if (draws or datamodule.order.by == "column") and not datamodule.order.is_uniform and datamodule.pool_size:
        found["order_scores"] = _order_scores(datamodule)
    if settings := datamodule.example_settings():
        found["example_settings"] = plain({name: without_tokenizer(value) for name, value in settings.items()})
    for name in PARTS:
        found[name] = _part(datamodule, name, unknown)
    if unknown:
        parts = "; ".join(f"{name} ({why})" for name, why in unknown.items())
        note("Only the number and the ids of these examples are compared with those of other runs: %s.", parts)
    _tests[datamodule] = digest(found["test"])
    return found


def without_tokenizer(value: Any) -> Any:
    """Return a setting of a data module; of a tokenizer, a digest of all that its results depend on."""
    found = plain_tokenizer(value)
    return value if found is value else digest(json.dumps(found, sort_keys=True))


def digest_of_test_data(datamodule: MixedDomainDataModule) -> str:
    """A digest of the test data, as of the last call of ``data_fingerprint``; empty if there is no test data."""
    if datamodule.domains.test is None:
        return ""
    if datamodule not in _tests:
        _tests[datamodule] = digest(_part(datamodule, "test", {}))
    return _tests[datamodule]


_tests: WeakKeyDictionary[MixedDomainDataModule, str] = WeakKeyDictionary()


def settings_fingerprint(
    defaults: TrainSettings, trainer: Mapping[str, Any], callbacks: Iterable[Callback] = ()
) -> dict[str, Any]:
    """The settings of all stages, the Trainer's arguments that differ from its defaults, and Lightning's callbacks."""
    settings = {name: value for name, value in defaults.to_plain().items() if name != "seed"}
    return settings | {"trainer": trainer_fingerprint(trainer), "callbacks": callbacks_fingerprint(callbacks)}


def trainer_fingerprint(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The Trainer's arguments that differ from its defaults; objects are represented by their class."""
    found = {}
    for name, value in trainer.items():
        if name not in _NOT_IDENTITY_OF_TRAINER and value != _trainer_defaults().get(name):
            found[name] = [_argument(part) for part in value] if isinstance(value, list | tuple) else _argument(value)
    return found


def _argument(value: Any) -> Any:
    try:
        return plain(value)
    except UNUSABLE:
        return class_name(type(value))


@functools.cache
def _trainer_defaults() -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(Trainer.__init__).parameters.items()}


# Models


def _modules(model: nn.Module) -> dict[str, Any]:
    """The sections ``modules``, by the names of modules, ``objects``, by those of attributes, and ``left_out``."""
    modules: dict[str, dict[str, Any]] = {}
    objects: dict[str, Any] = {}
    left_out: list[str] = []
    seen: set[int] = set()  # configurations, which are shared by the modules of a model
    for name, module in model.named_modules():
        own = modules[plain_name(name)] = {"class": class_name(type(module))}
        for attribute, value in vars(module).items():
            if attribute.startswith("_") or attribute in _NOT_HYPERPARAMETERS or id(value) in seen:
                continue
            if callable(getattr(type(module), attribute, None)):  # a method, patched or compiled
                continue
            if is_configuration(value):
                seen.add(id(value))
            with suppress(*UNUSABLE):
                own[attribute] = plain(value)
            path = plain_name(f"{name}.{attribute}" if name else attribute)
            try:
                described = with_objects(value)
                if described != own.get(attribute):
                    objects[path] = described
            except UNUSABLE:
                if not isinstance(value, os.PathLike):
                    left_out.append(f"{path} ({class_name(type(value))})")
    return {"modules": modules, "objects": objects, "left_out": left_out}


def _shape(tensor: Tensor) -> str:
    if is_lazy(tensor):
        return "not made yet"
    frozen = ", frozen" if isinstance(tensor, nn.Parameter) and not tensor.requires_grad else ""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}{frozen}"


def _summed_up(sample: Tensor) -> list[float]:
    values = torch.view_as_real(sample) if sample.is_complex() else sample
    numbers = np.nan_to_num(values.to(torch.float64).numpy().reshape(-1), posinf=1e39, neginf=-1e39)
    factors = 1 + np.modf(np.arange(1, len(numbers) + 1) * math.sqrt(2))[0]  # all different
    weighted = numbers * factors
    return [float(f"{weighted.sum():.9g}"), float(f"{np.sqrt(np.square(weighted).sum()):.9g}")]


# Data


def _order_scores(datamodule: MixedDomainDataModule) -> str | list[float]:
    """What the pool is ordered by: a digest of a column of numbers, or some of the scores that are computed."""
    scores = datamodule.relevance()
    if datamodule.order.by == "column":
        return _digest_in_full(scores)
    return [float(f"{score:.6g}") for score in scores[_spread(len(scores))].tolist()]


def _spread(size: int) -> list[int]:
    """Positions of a fixed sample of examples, with the first and the last."""
    return [*range(0, size - 1, -(-size // _EXAMPLES)), size - 1]


def _digest_in_full(array: npt.NDArray[Any]) -> str:
    """A digest of all entries of an array, of whatever size."""
    return digest([array[start : start + _ENTRIES] for start in range(0, len(array), _ENTRIES)])


def _part(datamodule: MixedDomainDataModule, name: str, unknown: dict[str, str]) -> dict[str, Any] | None:
    dataset = getattr(datamodule.domains, name)
    if dataset is None:
        return None
    left_out = datamodule.left_out(name)
    found: dict[str, Any] = {
        "examples": len(dataset) - len(left_out),
        "left_out": f"{len(left_out)} of them {digest(left_out)}" if len(left_out) else None,
    }
    if not isinstance(dataset, Pool):
        return found | _examples_of(datamodule, name, dataset, unknown)
    sources: dict[str, dict[str, Any]] = {}
    for source, size, part in zip(dataset.names, datamodule.source_sizes.values(), dataset.datasets):
        sources[source] = {"examples": size, **_examples_of(datamodule, part_of(source), part, unknown)}
    if dataset.weights is not None:
        for source, weight in zip(dataset.names, dataset.weights):
            sources[source]["weight"] = weight
    return found | {"ids": None, "content": None, "sources": sources}


def _examples_of(
    datamodule: MixedDomainDataModule, part: str, dataset: Any, unknown: dict[str, str]
) -> dict[str, str | None]:
    """The ids and the content of a part or of a source, and where the content is that of files, a sample of examples.

    The sample shows examples that are made of the same files in another way. It is left out of test data, which is
    made as the others are.
    """
    content, sample = datamodule.content_of(part), None
    if len(dataset) and (content is None or part != "test"):
        try:
            sample = _content(dataset)
        except Undigestible as error:
            if content is None:
                unknown[part] = str(error)
    if content is not None:  # it includes the ids
        return {"ids": None, "content": content, **({} if sample is None else {"sample": sample})}
    return {"ids": None if datamodule.id_of else _ids(getattr(dataset, "ids", None)), "content": sample}


def _ids(ids: Any) -> str | None:
    if ids is None:
        return None
    if len(ids) > _IDS:
        ids = entries_at(ids, sample_positions(len(ids), _IDS // 10, 1))
    return digest("\n".join(map(str, ids)))


def _content(dataset: Dataset[Any]) -> str:
    """A digest of a fixed sample of examples, which are read twice with the same random numbers.

    Raises:
        Undigestible: The two readings differ, or an example contains something that has no digest.
    """
    size: int = len(dataset)  # type: ignore[arg-type]
    positions = _spread(size)
    with isolate_rng(include_cuda=False):
        first, second = (_examples(dataset, positions) for _ in range(2))
    if first != second:
        raise Undigestible("two readings of an example differ")
    return digest(first)


def _examples(dataset: Dataset[Any], positions: Iterable[int]) -> list[str]:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - a dataset may draw from it
    torch.default_generator.manual_seed(0)
    return [digest(dataset[position]) for position in positions]
