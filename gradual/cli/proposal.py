"""The settings that ``gradual init`` proposes, from the sizes of the data and of the model.

They are starting points. The schedule has the proportions of the paper (4000, 2000, 500 and 0 dialogues beside about
500 of the target domain); the other settings are usual for pretrained models of that size.
"""

from __future__ import annotations

from dataclasses import dataclass

MULTIPLE = 8
"""Out-of-domain examples of the first stage for each in-domain one, at most."""

_DIGITS = 2  # of amounts
_BATCHES = 8  # in an epoch of the last stage, at least, unless batches become too small
_SMALLEST_BATCH = 8
_STEPS = 150  # without improvement, before a stage has converged
_ON_PLATEAU = 4  # times as many where training begins with a plateau
_PATIENCE = (3, 20)  # validations, at least and at most
_LARGE = 1_000_000_000  # parameters; larger models get an adapter
_BY_SIZE = (  # parameters at most, learning rate, batch size
    (50_000_000, 1e-4, 32),
    (200_000_000, 5e-5, 16),
    (500_000_000, 2e-5, 16),
    (_LARGE, 1e-5, 8),
)
_WITH_ADAPTER = (2e-4, 8)  # learning rate, batch size


@dataclass(frozen=True)
class Proposal:
    """Settings to start from.

    Attributes:
        schedule: The amounts of out-of-domain examples.
        batch_size: Training examples in a batch.
        lr: The learning rate.
        warmup: Steps of linear warm-up in each stage.
        patience: Validations without improvement after which a stage has converged.
        in_domain_patience: The same for stages with in-domain data alone, whose epochs are short.
        lora: Whether to train an adapter instead of all weights.
    """

    schedule: list[int]
    batch_size: int
    lr: float
    warmup: int
    patience: int
    in_domain_patience: int
    lora: bool


def propose(in_domain: int, pool: int, parameters: int, plateau: bool = False) -> Proposal:
    """Propose settings.

    Args:
        in_domain: The number of in-domain training examples.
        pool: The number of out-of-domain examples.
        parameters: The number of the model's parameters.
        plateau: Whether the monitored score hardly changes at first, so that it takes more patience.
    """
    lora = parameters > _LARGE
    lr, largest = _WITH_ADAPTER if lora else next((lr, batch) for most, lr, batch in _BY_SIZE if parameters <= most)
    batch = largest
    while batch > _SMALLEST_BATCH and in_domain < _BATCHES * batch:
        batch //= 2
    schedule = amounts(in_domain, pool)
    shortest, longest = (
        max(1, -(-size // batch)) for size in (in_domain, in_domain + schedule[0])
    )  # steps of an epoch
    without_gain = _STEPS * (_ON_PLATEAU if plateau else 1)
    patience, long = _patience(without_gain, longest), _patience(without_gain, shortest)
    return Proposal(schedule, batch, lr, min(shortest, 100), patience, long, lora)


def _patience(without_gain: int, steps: int) -> int:
    """The patience for so many steps without improvement, where a validation comes after ``steps`` of them."""
    least, most = _PATIENCE
    return min(most, max(least, -(-without_gain // steps)))


def amounts(in_domain: int, pool: int) -> list[int]:
    """The amounts of the stages: all of the pool or 8 times the target, a half of it, an eighth of it, and none."""
    first = min(pool, rounded(MULTIPLE * in_domain))
    falling = [first, rounded(first / 2), rounded(first / 8), 0]
    return list(dict.fromkeys(falling))


def rounded(number: float) -> int:
    """A number rounded down to two digits, such as 3100 for 3187."""
    whole = int(number)
    unit = 10 ** max(0, len(str(whole)) - _DIGITS)
    return whole // unit * unit
