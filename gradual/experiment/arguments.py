"""Checks of the arguments of ``gradual.fit`` and ``gradual.compare``, with advice on what to write instead."""

from __future__ import annotations

import importlib.util
import inspect
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer, loggers
from torch import nn
from torch.utils.data import DataLoader

from gradual.checks import Accepted, check, found, integer, is_listed, number, of_hint, type_hints
from gradual.data.module import MixedDomainDataModule
from gradual.errors import InputError
from gradual.experiment.final import Final
from gradual.schedule import SCHEDULE
from gradual.settings import SEED

_OTHER_PACKAGE = "import it from lightning.pytorch: pytorch_lightning is another package"


def _wrong_model(value: Any) -> str | None:
    if isinstance(getattr(value, "_orig_mod", value), LightningModule):  # compiled or not
        return None
    if isinstance(value, type):
        return f"make an instance: {value.__name__}(...)"
    if _is_named(value, "LightningModule"):
        return _OTHER_PACKAGE
    if isinstance(value, nn.Module):
        return "wrap it in a lightning.pytorch.LightningModule with a training_step and a validation_step"
    if isinstance(value, MixedDomainDataModule):
        return "the model comes first, then the data module"
    return "call it, and pass the model that it returns" if inspect.isroutine(value) else ""


def _wrong_factory(value: Any) -> str | None:
    if isinstance(value, nn.Module):
        name = type(value).__name__
        return f"every stage gets a model of its own: pass {name}, or a function such as lambda: {name}(...)"
    if not callable(value):
        return ""
    if isinstance(value, type) and not issubclass(value, LightningModule):
        return _OTHER_PACKAGE if _is_named(value, "LightningModule") else f"{value.__name__} is not a LightningModule"
    try:
        inspect.signature(value).bind()
    except TypeError as error:
        return f"it is called without arguments ({error}): bind them with functools.partial or in a lambda"
    except ValueError:  # a function written in C may have no signature
        return None
    return None


def _wrong_data(value: Any) -> str | None:
    if isinstance(value, MixedDomainDataModule):
        if "_left_out" in vars(value):
            return None
        return f"{type(value).__name__}.__init__ must call super().__init__()"
    if isinstance(value, type):
        return f"make an instance: {value.__name__}(...)"
    if isinstance(value, LightningModule):
        return "the model comes first, then the data module"
    if isinstance(value, str | os.PathLike):
        return "files are read by gradual.FileDataModule(in_domain=..., out_of_domain=..., val=...)"
    what = "the datasets of loaders" if isinstance(value, DataLoader) else "datasets"
    return f"put {what} into gradual.MixedDomainDataModule(in_domain=..., out_of_domain=..., val=...)"


def _wrong_folder(value: Any) -> str | None:
    return None if isinstance(value, str | os.PathLike) and os.fspath(value) else ""


def _wrong_seeds(value: Any) -> str | None:
    if SEED.wrong(value) is None:
        return f"write seeds=[{value}]"
    if isinstance(value, str) and value.strip().startswith("["):
        return "write it without quotation marks"
    if not is_listed(value):
        return ""
    if isinstance(value, Iterator):  # checked when it is read
        return None
    wrong = [seed for seed in value if SEED.wrong(seed) is not None]
    if wrong:
        return f"it holds {found(wrong[0])}"
    return None if len(list(value)) else "it is empty"


def _read_seeds(value: Any) -> list[int]:
    return SEEDS.check("seeds", list(value)) if isinstance(value, Iterator) else [int(seed) for seed in value]


def _wrong_names(value: Any) -> str | None:
    if isinstance(value, str):
        return f"write [{value!r}]"
    listed = is_listed(value) and not isinstance(value, Iterator)
    return None if listed and len(value) and all(isinstance(name, str) for name in value) else ""


def _wrong_final(value: Any) -> str | None:
    try:
        Final.read(value)
    except InputError:
        return ""
    return None


def _wrong_strategies(value: Any) -> str | None:
    return None if isinstance(value, str | Mapping | Sequence) else ""


MODEL = Accepted("a LightningModule", _wrong_model)
FACTORY = Accepted("a class or a function that returns a LightningModule", _wrong_factory)
DATA = Accepted("a gradual.MixedDomainDataModule", _wrong_data)
FOLDER = Accepted("the path of a folder", _wrong_folder)
SEEDS = Accepted(f"a list of integers from 0 to {2**32 - 1}", _wrong_seeds, _read_seeds)
NAMES = Accepted("a list of names", _wrong_names, list)
STRATEGIES = Accepted("a mapping from names to schedules or overrides, or a list of names", _wrong_strategies)
FINAL = Accepted(
    "'last', 'best', 'average', or {'average': 2} for the average from stage 2 on", _wrong_final, Final.read
)
EXPERIMENT = {"datamodule": DATA, "schedule": SCHEDULE, "run_dir": FOLDER}


def made_by(factory: Callable[[], Any]) -> Callable[[], LightningModule]:
    """Wrap ``factory`` to check on each call that it returns a LightningModule, and a new one."""
    before: list[weakref.ref[Any]] = []

    def make() -> LightningModule:
        model = MODEL.check("What model() returns", factory())
        if before and before[0]() is model:
            raise InputError(
                f"model() returned the same {type(model).__name__} twice: it must return a new one on each call, since "
                "every stage gets a model of its own."
            )
        before[:] = [weakref.ref(model)]
        return model

    return make


def check_trainer(arguments: Mapping[str, Any], pattern: str = "{}") -> dict[str, Any]:
    """Check the arguments of a stage's Trainer by Lightning's type hints and by their ranges.

    Args:
        arguments: The arguments by name.
        pattern: How messages write the name of an argument, e.g. ``trainer.{}``.
    """
    hints = type_hints(Trainer.__init__)
    return {
        name: check(pattern.format(name), value, hints[name], _trainer_argument(name, hints[name]))
        for name, value in arguments.items()
    }


def _trainer_argument(name: str, hint: Any) -> Accepted | None:
    if name in ("max_epochs", "max_steps"):
        least = integer(1)
        words = f"{least.words}, or -1 for no limit"
        return Accepted(words, lambda value: None if integer(-1, -1).wrong(value) is None else least.wrong(value), int)
    if name in ("accumulate_grad_batches", "check_val_every_n_epoch", "log_every_n_steps"):
        return integer(0 if name.startswith("log") else 1)
    if name in ("num_sanity_val_steps", "min_epochs", "min_steps"):
        return integer(-1)
    if name == "gradient_clip_val":
        return number(0)
    if name == "logger":
        kinds = of_hint(loggers.Logger | Iterable[loggers.Logger] | bool)
        return kinds.advised(lambda value: _of_logger(value) or kinds.wrong(value) or "")
    return None


def _of_logger(value: Any) -> str:
    """Say what to write instead of the name of a logger."""
    names = {name.lower().removesuffix("logger"): name for name in loggers.__all__ if name != "Logger"}
    name = names.get(str(value).lower().removesuffix("logger")) if isinstance(value, str) else None
    if name is None:
        return ""
    package = {"wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml"}.get(name.lower().removesuffix("logger"))
    missing = package is not None and importlib.util.find_spec(package) is None
    needs = f" (it needs the package {package}, which is not installed)" if missing else ""
    return f"make an instance: lightning.pytorch.loggers.{name}(...){needs}"


def _is_named(value: Any, name: str) -> bool:
    """Whether ``value``, an object or a class, is derived from the class of that name in ``pytorch_lightning``."""
    cls = value if isinstance(value, type) else type(value)
    return any(base.__name__ == name and base.__module__.startswith("pytorch_lightning") for base in cls.__mro__)
