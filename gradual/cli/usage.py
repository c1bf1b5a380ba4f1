"""Lines of Python that use an exported model, for its model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_ARGUMENTS = {  # of pipelines
    "text-classification": ", truncation=True",
    "token-classification": ', aggregation_strategy="first"',
}
_TEXT = "Write your text here."


def pipeline_of(auto_class: str) -> str | None:
    """The first pipeline of ``transformers`` for models of a class; None where there is none."""
    from transformers.pipelines import SUPPORTED_TASKS

    classes = {name: [cls.__name__ for cls in task["pt"]] for name, task in SUPPORTED_TASKS.items()}
    return next((name for name, found in classes.items() if auto_class in found), None)


def usage(
    auto_class: str, folder: str, base: str | None = None, config: Mapping[str, Any] | None = None, prefix: str = ""
) -> str:
    """Write lines that load a model and apply it to a text.

    Args:
        auto_class: The class of ``transformers`` that loads it.
        folder: Its folder.
        base: Where the folder holds an adapter alone, the pretrained model that it belongs to; otherwise None.
        config: For an adapter, what differs from the configuration of the base.
        prefix: What the model reads before each text.
    """
    text = json.dumps(f"{prefix}{_TEXT}", ensure_ascii=False)
    pipeline = pipeline_of(auto_class)
    names = ["pipeline"] if pipeline else []
    if base is not None or pipeline is None:
        names = sorted([auto_class, "AutoTokenizer", *names])
    lines = [f"from transformers import {', '.join(names)}", ""]
    if base is not None:  # load_adapter of transformers loses weights in some of its versions
        lines.insert(0, "from peft import PeftModel")
    if base is None and pipeline is not None:
        lines.append(f'model = pipeline("{pipeline}", "{folder}"{_ARGUMENTS.get(pipeline, "")})')
        return "\n".join([*lines, f"print(model({text}))"])
    lines.append(f'tokenizer = AutoTokenizer.from_pretrained("{folder}")')
    changes = "".join(f", {name}={value!r}" for name, value in (config or {}).items() if name != "label2id")
    lines.append(f'model = {auto_class}.from_pretrained("{base or folder}"{changes if base else ""})')
    if base is not None:
        lines.append(f'model = PeftModel.from_pretrained(model, "{folder}")')
    if pipeline is not None:
        lines.append(f'use = pipeline("{pipeline}", model=model, tokenizer=tokenizer{_ARGUMENTS.get(pipeline, "")})')
        return "\n".join([*lines, f"print(use({text}))"])
    lines.append(f'made = model.generate(**tokenizer({text}, return_tensors="pt"))')
    return "\n".join([*lines, "print(tokenizer.batch_decode(made, skip_special_tokens=True)[0])"])
