"""Controls: strategies with the training of another one, but with other amounts of out-of-domain data.

A strategy of several stages trains longer than one of fewer stages, and begins anew more often. A gain may come from
that, and not from its amounts. A control takes as many optimizer steps as the strategy it belongs to, stage by stage or
several stages in one, and each stage carries its best weights forward as everywhere. A stage has the batch size and the
learning rates of the stage that it copies, and one that stands for several has those of the first. What a control does
not share is the amounts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gradual.checks import did_you_mean, found
from gradual.errors import InputError
from gradual.experiment.strategies import Control, Strategy
from gradual.schedule import Amount, Schedule, Stage

SAME_STEPS = "same training, one stage"
SAME_RESTARTS = "same training, same restarts"
DROP_AT_ONCE = "same training, drop at once"
MIXED_AS_LONG = "mixed, same training"
WEIGHTED = "in-domain weighted"
REPLAY = "ends with replay"

CONTROLS = (SAME_STEPS, SAME_RESTARTS, DROP_AT_ONCE, MIXED_AS_LONG)
"""The controls of ``controls=True``."""

ON_REQUEST = (WEIGHTED, REPLAY)
"""Those that are trained if they are named."""

REPLAY_SHARE = 0.1
"""The share of the first amount that the last stage of ``REPLAY`` keeps, if the stage before it has as much."""

_EXPLANATIONS = {
    SAME_STEPS: "the first stage takes the steps of all stages but the last; the last is as there",
    SAME_RESTARTS: "as many stages of as many steps, with the first amount in all of them but the last",
    DROP_AT_ONCE: "as many stages of as many steps, without out-of-domain data in all of them but the first",
    MIXED_AS_LONG: "the first stage takes the steps of all stages, and is the only one",
    WEIGHTED: "as many stages of as many steps; instead of out-of-domain examples being taken away, in-domain examples "
    "are repeated, so that their share of each stage is the same",
    REPLAY: "all stages but the last are the same; the last takes as many steps with an amount of {kept}, {share:.3g}% "
    "of the first amount",
}


def check_controls(given: bool | Sequence[str]) -> tuple[str, ...]:
    """The names of the controls to train.

    Args:
        given: True for ``CONTROLS``, False for none, or names.

    Raises:
        InputError: There is no control of that name.
    """
    if isinstance(given, bool):
        return CONTROLS if given else ()
    names = [*CONTROLS, *ON_REQUEST]
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"controls is {found(given)}: it must be true, false or a list of names.")
    for name in given:
        if name not in names:
            listed, hint = ", ".join(f"'{one}'" for one in names), did_you_mean(str(name), names)
            raise InputError(f"There is no control {name!r}; the controls are {listed}.{hint}")
    return tuple(dict.fromkeys(given))


def controls_of(name: str, strategy: Strategy, amounts: Sequence[int], kinds: Iterable[str]) -> dict[str, Strategy]:
    """The controls of one strategy, by name, without those that are the strategy itself or another of its controls.

    A stage that has the amount, the steps and the past of a stage of the strategy is that stage, and shared with it.

    Args:
        name: The strategy's name.
        strategy: The strategy; one of a single stage has no controls.
        amounts: The out-of-domain examples of its stages.
        kinds: The names of the controls.
    """
    controls: dict[str, Strategy] = {}
    seen = {_path(strategy, [()] * len(amounts))}
    for kind in kinds if len(amounts) > 1 else ():
        stages, copies = _stages(kind, list(strategy.schedule), amounts)
        stages, copies = _shared(stages, copies, list(strategy.schedule))
        control = Control(name, kind, tuple(copies), _explanation(kind, amounts))
        derived = Strategy(Schedule(stages), strategy.data, control=control, final=strategy.final)
        if _path(derived, copies) not in seen:
            seen.add(_path(derived, copies))
            controls[f"{name}: {kind}"] = derived
    return controls


def with_controls(
    strategies: Mapping[str, Strategy], amounts: Mapping[str, Sequence[int]], kinds: Sequence[str]
) -> dict[str, Strategy]:
    """The strategies and then their controls.

    Args:
        strategies: The strategies by name.
        amounts: The out-of-domain examples of their stages.
        kinds: The names of the controls.

    Raises:
        InputError: A strategy has the name of a control.
    """
    every = dict(strategies)
    for name, strategy in strategies.items():
        for derived, control in controls_of(name, strategy, amounts[name], kinds).items():
            if derived in every:
                raise InputError(f"There is a strategy called '{derived}', which is the name of a control: rename it.")
            every[derived] = control
    return every


_Copies = tuple[int, ...]


def _stages(kind: str, stages: list[Stage], amounts: Sequence[int]) -> tuple[list[Stage], list[_Copies]]:
    """The stages of a control, and which stages of the strategy each of them copies."""
    first, *middle, last = stages
    every, largest = [(k,) for k in range(len(stages))], amounts[0]
    if kind == SAME_STEPS:
        return [first, last], [tuple(range(len(stages) - 1)), every[-1]]
    if kind == SAME_RESTARTS:
        return [first, *(_with(first.amount, largest, *pair) for pair in zip(middle, amounts[1:])), last], list(every)
    if kind == DROP_AT_ONCE:
        return [first, *(_with(0, 0, *pair) for pair in zip((*middle, last), amounts[1:]))], list(every)
    if kind == MIXED_AS_LONG:
        return [first], [tuple(range(len(stages)))]
    if kind == WEIGHTED:
        weighted = [_weighted(stage, first, largest, amount) for stage, amount in zip(middle, amounts[1:])]
        return [first, *weighted, last], list(every)
    kept = _kept_by_replay(amounts)
    if kept == amounts[-1]:
        return [first, *middle, last], list(every)
    return [first, *middle, replace(last, amount=_part_of(stages[-2].amount, kept, amounts[-2]))], list(every)


def _kept_by_replay(amounts: Sequence[int]) -> int:
    """The amount of the last stage of ``REPLAY``, which is not above that of the stage before."""
    return min(amounts[-2], max(amounts[-1], round(REPLAY_SHARE * amounts[0])))


def _explanation(kind: str, amounts: Sequence[int]) -> str:
    kept = _kept_by_replay(amounts)
    return _EXPLANATIONS[kind].format(kept=kept, share=100 * kept / (amounts[0] or 1))


def _with(wanted: Amount, count: int, stage: Stage, amount: int) -> Stage:
    """A stage with the amount ``wanted``, which is ``count``; the stage itself if its own amount is as many."""
    return stage if amount == count else replace(stage, amount=wanted)


def _part_of(amount: Amount, kept: int, whole: int) -> Amount:
    """Reduce an amount, whose value is ``whole``, to ``kept``; where it names sources, each by the same factor."""
    if not isinstance(amount, dict):
        return kept
    factor = kept / whole
    return {name: part * factor if isinstance(part, float) else int(part * factor) for name, part in amount.items()}


def _weighted(stage: Stage, first: Stage, largest: int, amount: int) -> Stage:
    """A stage with the first amount and the in-domain share that it has with its own amount."""
    if amount in (0, largest):
        return stage
    weight = (stage.in_domain_weight or 1.0) * largest / amount
    return replace(stage, amount=first.amount, in_domain_weight=weight)


def _shared(stages: list[Stage], copies: list[_Copies], own: list[Stage]) -> tuple[list[Stage], list[_Copies]]:
    """Mark the stages that are the strategy's own: those copy nothing, and the others have no limits of their own."""
    found, kept, shares = [], [], True
    for k, (stage, copied) in enumerate(zip(stages, copies)):
        shares = shares and copied == (k,) and stage is own[k]
        found.append(stage if shares else replace(stage, max_epochs=None, max_steps=None, patience=None))
        kept.append(() if shares else copied)
    return found, kept


def _path(strategy: Strategy, copies: Sequence[_Copies]) -> str:
    return str([strategy.schedule.to_list(), list(copies)])
