"""Each private name of Lightning and torchmetrics that is used: a test per name, which fails when a release moves it.

The names are read from the sources of the two files that may use them, so that these tests run even where the files
cannot be imported.
"""

import ast
import importlib
import inspect
from functools import cache
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser, DefaultHelpFormatter
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torchmetrics import MeanMetric, Metric

import gradual

PACKAGE = Path(gradual.__file__).parent
FILES = [PACKAGE / "stage/resume/lightning_internals.py", PACKAGE / "cli/lightning_cli_internals.py"]
LIBRARIES = ("lightning", "torchmetrics", "jsonargparse")
OF_OTHER_LIBRARIES = {
    "model._orig_mod",  # of torch.compile
    "encoder.config._attn_implementation",  # of transformers
    "model.config._attn_implementation",
    "cls._model_mapping",
    "transformers.AutoModelForMaskedLM._model_mapping",
    "event._replace",  # of named tuples
}


def is_private(name):
    last = name.rpartition(".")[2]
    return last.startswith("_") and not last.startswith("__")


@cache
def nodes(path):
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports(path):
    """The private names, and those of private modules, that a file imports from the libraries."""
    froms = [node for node in nodes(path) if isinstance(node, ast.ImportFrom) and node.module]
    names = [f"{node.module}.{alias.name}" for node in froms for alias in node.names]
    return [name for name in names if name.split(".")[0] in LIBRARIES and any(map(is_private, name.split(".")))]


def attributes(path, named=lambda name: True):
    """The attributes that a file uses, as ``trainer.fit_loop._data_fetcher``, or some by their last names."""
    return {ast.unparse(node) for node in nodes(path) if isinstance(node, ast.Attribute) and named(node.attr)}


def methods(path):
    """The private methods of a file's classes, which override those of the class they derive from."""
    classes = [node for node in nodes(path) if isinstance(node, ast.ClassDef)]
    return [
        (ast.unparse(cls.bases[0]), part.name)
        for cls in classes
        for part in cls.body
        if is_private(getattr(part, "name", ""))
    ]


def calls(path):
    """The calls of private functions, but not those of the file's own."""
    own = {node.name for node in nodes(path) if isinstance(node, ast.FunctionDef)}
    found = [node for node in nodes(path) if isinstance(node, ast.Call)]
    return [call for call in found if is_private(ast.unparse(call.func)) and ast.unparse(call.func) not in own]


IMPORTS = [name for path in FILES for name in imports(path)]
ATTRIBUTES = sorted(
    name for path in FILES for name in attributes(path) if name.startswith("trainer.") or is_private(name)
)


def symbol(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def arguments():
    """What the functions in the files are called with, by the names of their arguments."""
    result = importlib.import_module("lightning.pytorch.trainer.connectors.logger_connector.result")
    metadata = result._Metadata("training_step", "loss")
    metadata.sync = result._Sync()
    return {
        "trainer": Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False),
        "result": result._ResultMetric(metadata, True),
        "metric": MeanMetric(),
        "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], fused=True),
        "cli": object.__new__(LightningCLI),
        "parser": ArgumentParser(),
        "formatter": DefaultHelpFormatter("gradual"),
    }


def follow(name):
    """The value of an attribute of one of the arguments; each attribute on the way must exist."""
    root, *rest = name.split(".")
    value = arguments()[root]
    for step in rest:
        assert hasattr(value, step), f"{type(value).__name__} has no {step}, in {name}"
        value = getattr(value, step)
    return value


@pytest.mark.parametrize("name", IMPORTS)
def test_a_private_name_can_be_imported(name):
    symbol(name)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_internal_attribute_exists(name):
    follow(name)


@pytest.mark.parametrize("call", [call for path in FILES for call in calls(path)], ids=ast.unparse)
def test_a_private_function_accepts_its_arguments(call):
    name = ast.unparse(call.func)
    qualified = next((imported for imported in IMPORTS if imported.endswith(f".{name}")), None)
    signature = inspect.signature(symbol(qualified) if qualified else follow(name))
    named = {keyword.arg: None for keyword in call.keywords if keyword.arg}
    bind = signature.bind if len(named) == len(call.keywords) else signature.bind_partial  # where ** may give the rest
    bind(*call.args, **named)


@pytest.mark.parametrize(("base", "name"), [method for path in FILES for method in methods(path)])
def test_a_private_method_overrides_one(base, name):
    assert callable(getattr({"LightningCLI": LightningCLI}[base], name))


def test_results_are_described_by_the_fields_that_make_them():
    from gradual.stage.resume import lightning_internals

    result = arguments()["result"]
    result.update(torch.tensor(3.0), 2)
    described = lightning_internals._described(result)
    restored = lightning_internals._restored(described, arguments()["trainer"], {})
    assert float(restored.compute()) == 3.0
    assert lightning_internals._described(restored).keys() == described.keys()


def test_the_state_of_a_validation_has_the_form_that_is_written():
    from gradual.stage.resume.lightning_internals import mark_validation_as_pending

    checkpoint = {"loops": {"fit_loop": arguments()["trainer"].fit_loop.state_dict()}}
    before = dict(checkpoint["loops"]["fit_loop"])
    mark_validation_as_pending(checkpoint)
    after = checkpoint["loops"]["fit_loop"]
    assert after.keys() == before.keys()
    changed = [key for key in after if after[key] != before[key]]
    assert changed == ["epoch_loop.val_loop.batch_progress"]
    assert {key: type(value) for key, value in after[changed[0]].items()} == {
        key: type(value) for key, value in before[changed[0]].items()
    }
    assert after[changed[0]]["current"].keys() == before[changed[0]]["current"].keys()


def test_a_metric_moves_its_states_by_a_method_that_can_leave_some_out():
    """The tasks' scores override it, to keep their sums in double."""
    assert "exclude_state" in inspect.signature(Metric._apply).parameters
    assert set(MeanMetric()._defaults) == {"mean_value", "weight"}


def test_the_mark_of_fused_optimizers_is_the_one_that_lightning_asks_for():
    from gradual.stage.resume.lightning_internals import allow_clipping

    asks = importlib.import_module("lightning.fabric.plugins.precision.amp")._optimizer_handles_unscaling
    optimizer = arguments()["optimizer"]
    assert asks(optimizer)
    allow_clipping(optimizer)
    assert not asks(optimizer)


def kept_by(kind):
    """The attributes that a logger's constructors set."""
    constructors = [vars(cls)["__init__"] for cls in kind.__mro__ if inspect.isfunction(vars(cls).get("__init__"))]
    return {name for constructor in constructors for name in constructor.__code__.co_names}


def keeps(kind, name):
    return f"_{name}" in kept_by(kind) or name in kept_by(kind) or isinstance(getattr(kind, name, None), property)


FROM_ELSEWHERE = {WandbLogger: {"version", "dir", "anonymous", "kwargs"}, MLFlowLogger: {"synchronous"}}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in (TensorBoardLogger, CSVLogger, WandbLogger, MLFlowLogger)
        for name in list(inspect.signature(kind.__init__).parameters)[1:]
        if name not in FROM_ELSEWHERE.get(kind, ())
    ],
)
def test_a_logger_keeps_each_argument(kind, name):
    assert keeps(kind, name)


@pytest.mark.parametrize(("kind", "name"), [(WandbLogger, "_wandb_init"), (MLFlowLogger, "_log_batch_kwargs")])
def test_a_logger_keeps_the_arguments_of_its_client(kind, name):
    assert name in kept_by(kind)


def own_names():
    """The names that the rest of the package defines itself."""
    found = [node for path in PACKAGE.rglob("*.py") if path not in FILES for node in nodes(path)]
    named = {node.name for node in found if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    stored = [node for node in found if isinstance(getattr(node, "ctx", None), ast.Store)]
    return named | {getattr(node, "attr", None) or getattr(node, "id", None) for node in stored}


def test_the_rest_of_the_package_uses_no_private_names_of_these_libraries():
    own, others = own_names(), ("torch.", "nn.", "os.")
    for path in sorted(PACKAGE.rglob("*.py")):
        used = {name for name in attributes(path, is_private) if name.rpartition(".")[2] not in own}
        used = {name for name in used if not name.startswith(others) and name not in OF_OTHER_LIBRARIES}
        assert path in FILES or not {*imports(path), *used}, path
