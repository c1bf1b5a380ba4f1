"""Generated texts: the settings of their generation, and how well they agree with those of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.text import rouge_score
from transformers import GenerationConfig

from gradual.checks import integer
from gradual.errors import InputError, did_you_mean

TEXT_SCORES = ("exact_match", "rouge1", "rouge2", "rougeL")
"""``exact_match`` compares texts without white space around them; ROUGE scores are F1, of lower-case words."""

_FIXED = ("max_length", "num_return_sequences", "return_dict_in_generate")


def generation_config(settings: Mapping[str, Any]) -> GenerationConfig:
    """Turn settings into a configuration: 64 new tokens at most, the most probable ones, unless they say otherwise.

    Args:
        settings: Fields of ``transformers.GenerationConfig``, such as ``max_new_tokens`` and ``num_beams``.

    Raises:
        InputError: There is no such setting, its value is not accepted, or it changes what generation returns.
    """
    known = [
        name for name in GenerationConfig().to_dict() if name not in _FIXED and not name.startswith(("_", "output_"))
    ]
    for name in settings:
        if name not in known:
            raise InputError(
                f"generate has no setting '{name}': it takes those of transformers.GenerationConfig that do not change "
                f"what is returned, such as max_new_tokens.{did_you_mean(name, known)}"
            )
    for name in ("max_new_tokens", "num_beams"):
        integer(1).check(f"generate.{name}", settings.get(name, 1))
    try:
        config = GenerationConfig(**{"do_sample": False, "max_new_tokens": 64, **settings})
        config.validate(strict=True)
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"generate cannot be used ({reason}).") from error
    return config


def text_scores(generated: Sequence[str], answers: Sequence[str], names: Sequence[str] = TEXT_SCORES) -> Tensor:
    """Compare generated texts with those of the data.

    Args:
        generated: The texts.
        answers: What they should be.
        names: The scores to compute, of ``TEXT_SCORES``.

    Returns:
        The scores in the order of ``names``, from 0 to 1; shape ``(n, scores)``.
    """
    rows = [_scores(text, answer, names) for text, answer in zip(generated, answers, strict=True)]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, len(names))


def _scores(text: str, answer: str, names: Sequence[str]) -> list[float]:
    found = {"exact_match": float(text.strip() == answer.strip())}
    rouge = tuple(name for name in names if name.startswith("rouge"))
    if rouge:
        scores = rouge_score(text, answer, rouge_keys=rouge)
        found |= {name: float(scores[f"{name}_fmeasure"]) for name in rouge}
    return [found[name] for name in names]
