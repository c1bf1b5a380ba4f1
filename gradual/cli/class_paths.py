"""Class paths such as ``my_module.MyModel``: where classes are found, and what is wrong with a path."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gradual.errors import nearest

OWN_CLASSES = {
    "model": {
        "gradual.tasks.dialogue.DialogueStateTracker": "dialogue state tracking: SUMBT",
        "gradual.tasks.events.EventExtractor": "event extraction: DyGIE++",
        "gradual.tasks.CausalLM": "texts, completions of prompts or conversations: a causal language model",
        "gradual.tasks.Seq2Seq": "sources with targets, such as translations: an encoder-decoder model",
        "gradual.tasks.TextClassifier": "texts with a label, with several labels or with a number",
        "gradual.tasks.TokenClassifier": "words with tags, such as named entities or parts of speech",
    },
    "data": {
        "gradual.FileDataModule": "examples in JSON lines, CSV, TSV, Parquet or CoNLL files, or saved by datasets",
        "gradual.tasks.dialogue.DialogueDataModule": "dialogues in MultiWOZ 2.0's layout",
        "gradual.tasks.events.EventDataModule": "documents in DyGIE's format",
        "gradual.tasks.CausalLMData": "texts, prompts or conversations in these files, for CausalLM",
        "gradual.tasks.Seq2SeqData": "sources and targets in these files, for Seq2Seq",
        "gradual.tasks.TextClassificationData": "texts in these files, for TextClassifier",
        "gradual.tasks.TokenClassificationData": "sentences in these files, for TokenClassifier",
    },
}
"""The models and data modules of the package, and what each is for; listed without importing them."""

GROUPS_OF_SETTINGS = {
    "gradual.tasks.adapters.LoRA": ("model.lora", "{r: 16}"),
    "gradual.data.relevance.settings.Order": ("data.order", "{by: ngrams}"),
}
"""The dataclasses that hold settings of a model or of data: the setting that has them as a mapping, and an example."""

_BASES = {"model": "a LightningModule", "data": "a gradual.MixedDomainDataModule"}


def find_modules_in(folder: str | Path) -> None:
    """Put ``folder`` first in the search path of imports, as ``python -m`` does with the current folder."""
    if not sys.flags.safe_path and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def public_path(cls: Any) -> str:
    """The shortest path by which a class can be imported."""
    name = str(cls.__name__)
    parts = cls.__module__.split(".")
    for end in range(1, len(parts)):
        module = sys.modules.get(".".join(parts[:end]))
        if module is not None and getattr(module, name, None) is cls:
            return ".".join([*parts[:end], name])
    return f"{cls.__module__}.{cls.__qualname__}"


def what_is_wrong(name: str, path: str, bases: tuple[type, ...] = ()) -> str:
    """Explain in one sentence, with the nearest name, why a class path is refused.

    Args:
        name: The setting.
        path: The path.
        bases: The base classes, one of which the class must have.
    """
    asked = f"{name} is {path!r}"
    kind = _BASES.get(name) or "a " + " or ".join(base.__name__ for base in bases)
    if not all(part.isidentifier() for part in path.split(".")):
        return f"{asked}: it must be the path of {kind} class, such as {_example(name, bases)}."
    module_name, _, class_name = path.rpartition(".")
    if not module_name:
        hint = _hint(path, _paths_of_classes(name, bases))
        example = "" if hint else f", such as {_example(name, bases)}"
        return f"{asked}, which has no module: it must be the path of {kind} class{example}.{hint}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            hint = _hint(path, [*_paths_of_classes(name, bases), *_modules_beside(error.name, class_name)])
            where = "neither in the current folder nor installed" if "." not in error.name else "not in that package"
            return f"{asked}: there is no module {error.name!r} ({where}).{hint}"
        return f"{asked}: importing {module_name} failed ({_reason(error)})."
    except Exception as error:  # whatever a user's module raises
        return f"{asked}: importing {module_name} failed ({_reason(error)})."
    found = getattr(module, class_name, None)
    if found is None:
        hint = _hint(path, [*_paths_of_classes(name, bases), *_classes_in(module, bases)])
        return f"{asked}: the module {module_name} has no {class_name!r}.{hint}"
    if inspect.isclass(found) and bases and issubclass(found, bases) and inspect.isabstract(found):
        return f"{asked}, which is abstract: it must be a class derived from it."
    return f"{asked}, which is not {kind}.{_hint(path, _classes_in(module, bases))}"


def _example(name: str, bases: tuple[type, ...]) -> str:
    if name in OWN_CLASSES:
        return f"{next(iter(OWN_CLASSES[name]))} or my_module.{'MyModel' if name == 'model' else 'MyData'}"
    return next((path for path in _paths_of_classes(name, bases) if path.startswith("lightning.")), "my_module.MyClass")


def _paths_of_classes(name: str, bases: Iterable[type]) -> list[str]:
    """The class paths that a setting accepts, as far as they are known without importing anything."""
    return [*OWN_CLASSES.get(name, ()), *(public_path(cls) for base in bases for cls in _derived(base))]


def _derived(base: type) -> Iterator[type]:
    classes: list[type] = base.__subclasses__()
    for cls in classes:
        hidden = cls.__name__.startswith(("_", "Dummy")) or cls.__module__.startswith("gradual.")
        if not hidden and not inspect.isabstract(cls):
            yield cls
        yield from _derived(cls)


def _classes_in(module: object, bases: tuple[type, ...]) -> list[str]:
    classes = [value for value in vars(module).values() if inspect.isclass(value)]
    own = [cls for cls in classes if cls not in bases and (not bases or issubclass(cls, bases))]
    return [f"{module.__name__}.{cls.__name__}" for cls in own]  # type: ignore[attr-defined]


def _modules_beside(missing: str, class_name: str) -> list[str]:
    """The path of the class in each module that may have been meant instead of the missing one."""
    package, _, _ = missing.rpartition(".")
    if package:
        spec = importlib.util.find_spec(package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
    else:
        folders = [str(Path.cwd())]
    names = [module.name for module in pkgutil.iter_modules(folders)]
    return [f"{package}.{name}.{class_name}".lstrip(".") for name in names]


def _hint(path: str, known: Iterable[str]) -> str:
    nearest = _nearest(path, known)
    return f" Did you mean '{nearest}'?" if nearest else ""


def _nearest(path: str, known: Iterable[str]) -> str | None:
    """The known path that is closest to ``path``; the name of the class counts first, then the module."""
    unique = list(dict.fromkeys(known))
    last = path.rpartition(".")[2].lower()
    same = [other for other in unique if other.rpartition(".")[2].lower() == last]
    if same:
        return nearest(path, same, cutoff=0)
    begins = [other for other in unique if other.rpartition(".")[2].lower().startswith(last)]
    if begins and len(last) > 3:
        return begins[0]
    by_name = {other.rpartition(".")[2].lower(): other for other in unique}
    near = nearest(last, by_name, cutoff=0.75)
    return by_name[near] if near is not None else None


def _reason(error: BaseException) -> str:
    """An exception from a user's module, with the line that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    if isinstance(error, SyntaxError):
        place = f", {error.filename}, line {error.lineno}"
    else:
        place = f", {frames[-1].filename}, line {frames[-1].lineno}" if len(frames) > 1 else ""
    message = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{type(error).__name__}: {message}{place}"
