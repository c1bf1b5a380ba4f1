"""A stage's model as a folder for plain ``transformers``: weights, configuration, tokenizer and model card."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradual.cli.chosen_stage import ChosenStage
from gradual.cli.class_paths import OWN_CLASSES
from gradual.cli.recorded_model import check_folder, check_tokenizer
from gradual.cli.usage import pipeline_of, usage
from gradual.data.task_files import TaskFileDataModule
from gradual.errors import InputError
from gradual.files import whole_folder
from gradual.nn.compiled import plainly_named
from gradual.nn.encoder import quiet_transformers
from gradual.report.card import ModelFacts, Training, model_card, read_training
from gradual.tasks.pretrained import PretrainedTask

_OPTION = "--pretrained"  # that names another folder


def write_folder(
    stage: ChosenStage, content: Mapping[str, Any], out: Path, merge: bool, pretrained: str | None = None
) -> list[str]:
    """Write a folder, completely or not at all.

    Args:
        stage: The stage.
        content: What is in its checkpoint.
        out: The folder, which must not exist or be empty.
        merge: Merge an adapter into the pretrained weights, instead of writing the adapter alone.
        pretrained: The folder of the pretrained model and its tokenizer; None for those that the run names.

    Returns:
        The names of the files.

    Raises:
        InputError: The model is none of ``transformers``, the folder cannot be written, there is nothing to merge, or
            the tokenizer is not the one that the run was trained with.
    """
    cls, settings = _model_class(stage, content)
    given = {name: value for name, value in content["hyper_parameters"].items() if not name.startswith("_")}
    if pretrained is not None:
        if not Path(pretrained).is_dir():
            raise InputError(f"{_OPTION} is {pretrained}: it must be a folder.")
        given["pretrained"] = pretrained
    if settings.get("trust_remote_code"):
        given["trust_remote_code"] = True
    check_folder(stage.run, given.get("pretrained", ""), _OPTION)
    task = _restored(cls, given, content)
    if merge and task.adapter is None:
        raise InputError(f"{stage.checkpoint} has no adapter: leave out --merge.")
    alone = task.adapter is not None and not merge
    data = _data(task, stage, pretrained)
    check_folder(stage.run, str(data.tokenizer), _OPTION)
    check_tokenizer(stage.run, data.fast_tokenizer, str(data.tokenizer), _OPTION)
    try:
        with whole_folder(out) as work, quiet_transformers():
            if alone:
                assert task.adapter is not None
                task.adapter.save(work)
                _name_base(work / "adapter_config.json")
            else:
                task.save_pretrained(work)
            _tokenizer(data).save_pretrained(work)
            card = model_card(_facts(task, data, out, alone), _training(stage))
            (work / "README.md").write_text(card, encoding="utf-8")
            return sorted(path.name for path in work.iterdir())
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}.") from error


def _name_base(path: Path) -> None:
    """Name the folder of an adapter's base so that it is found from other folders."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if Path(content["base_model_name_or_path"]).is_dir():
        content["base_model_name_or_path"] = str(Path(content["base_model_name_or_path"]).resolve())
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _model_class(stage: ChosenStage, content: Mapping[str, Any]) -> tuple[type[PretrainedTask], dict[str, Any]]:
    """The class of the model and the settings that its run made it with.

    A class outside of the package is only imported if the configuration of the run names it, as training did.
    """
    said = stage.configuration.get("model")
    described: dict[str, Any] = said if isinstance(said, dict) else {"class_path": said}
    path, settings = described.get("class_path"), described.get("init_args") or {}
    if path is None:
        path = content.get("hyper_parameters", {}).get("_class_path")
        path = path if path in OWN_CLASSES["model"] else None
    try:
        cls = None if path is None else pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        raise InputError(f"The model of {stage.checkpoint} is a {path}, which cannot be imported here.") from None
    if cls is None and "pretrained_config" in content:
        raise InputError(f"{stage.checkpoint} does not say its class: give it in its run directory.")
    if cls is None or not issubclass(cls, PretrainedTask):
        raise InputError(
            f"The model of {stage.checkpoint} is no model of transformers: its weights can be written to a file whose "
            "name ends in .safetensors."
        )
    return cls, settings


def _restored(cls: type[PretrainedTask], given: Mapping[str, Any], content: Mapping[str, Any]) -> PretrainedTask:
    """The model with the weights of a checkpoint, made without the data."""
    task = cls(**given)
    task.on_load_checkpoint(dict(content))
    task.load_state_dict(plainly_named(content["state_dict"]))
    return task.eval()


def _data(task: PretrainedTask, stage: ChosenStage, pretrained: str | None) -> TaskFileDataModule:
    """The data module of the run, or where there is none of a task, that of the model; it reads no files."""
    said = stage.configuration.get("data")
    described: dict[str, Any] = said if isinstance(said, dict) else {"class_path": said}
    cls = pkgutil.resolve_name(str(described["class_path"])) if said else None
    if not (isinstance(cls, type) and issubclass(cls, TaskFileDataModule)):
        cls, described = pkgutil.resolve_name(str(task.datamodule_class)), {}
    settings: dict[str, Any] = {"in_domain": "", **(described.get("init_args") or {})}
    tokenizer = pretrained or settings.get("tokenizer") or getattr(task.spec, "tokenizer", task.pretrained)
    data: TaskFileDataModule = cls(**{**settings, "tokenizer": tokenizer})
    return data


def _tokenizer(data: TaskFileDataModule) -> Any:
    """The tokenizer, with the length that texts were cut to."""
    tokenizer, longest = data.load_tokenizer(), data.longest
    if longest is not None:
        tokenizer.model_max_length = longest
    if tokenizer.pad_token is None:  # batches need one
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _facts(task: PretrainedTask, data: TaskFileDataModule, out: Path, adapter: bool) -> ModelFacts:
    config = task.model_config(task.spec)
    labels = list(config.get("id2label", {}).values())
    base, prefix = task.pretrained if adapter else None, getattr(data, "prefix", "")
    lines = usage(task.auto_class, str(out), base, config, prefix)
    name = out.resolve().name
    return ModelFacts(name, task.pretrained, type(task).__name__, labels, adapter, pipeline_of(task.auto_class), lines)


def _training(stage: ChosenStage) -> Training | None:
    if stage.run is None:
        return None
    path = stage.folder.relative_to(stage.run).as_posix()
    return read_training(stage.run, path, [directory.result() for directory in stage.path()])
