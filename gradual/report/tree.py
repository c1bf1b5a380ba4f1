"""The tree of a comparison's stages, and its drawing for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree as Drawing

from gradual.report.comparison import Comparison, StageRecord, Strategy

_TO_DO = {"finished": "done", "collapsed": "collapsed", "started": "to continue", "not started": "to do"}


@dataclass
class TreeStage:
    """A stage of the tree, for all seeds and all strategies that pass through it.

    Attributes:
        amount: Amount of out-of-domain data.
        unit: What the amount counts: ``examples`` or ``tokens``.
        overrides: The settings it overrides, as ``name: value``.
        records: The stage of each seed.
        copies: What it takes the steps of, in words; empty unless it is a control's.
        ends: Numbers of the strategies that end here.
        children: The stages trained from it.
    """

    amount: int
    unit: str
    overrides: list[str]
    records: dict[int, StageRecord] = field(default_factory=dict)
    copies: str = ""
    ends: list[int] = field(default_factory=list)
    children: dict[str, TreeStage] = field(default_factory=dict)

    @property
    def strategies(self) -> list[int]:
        """Numbers of the strategies that pass through or end here."""
        return sorted({*self.ends, *(number for child in self.children.values() for number in child.strategies)})

    @property
    def out_of_domain(self) -> str:
        """The amount in words, with that of each named source, from the lowest to the highest of the seeds."""
        amount = f"{self.amount} out-of-domain" + (" tokens" if self.unit == "tokens" else "")
        by_source: dict[str, list[int]] = {}
        for record in self.records.values():
            for name, count in record.sources.items():
                by_source.setdefault(name, []).append(count)
        found = ", ".join(f"{_range(counts)} {name}" for name, counts in by_source.items() if any(counts))
        return f"{amount} ({found})" if found else amount

    @property
    def examples(self) -> int:
        """Number of out-of-domain examples; 0 for an amount in tokens until a seed has finished the stage."""
        if self.unit != "tokens":
            return self.amount
        return next((record.result.out_of_domain for record in self.records.values() if record.result), 0)

    @property
    def in_domain(self) -> int | None:
        """Number of in-domain training examples; None until a seed has finished the stage."""
        return next((record.result.in_domain for record in self.records.values() if record.result), None)


def stage_tree(comparison: Comparison) -> dict[str, TreeStage]:
    """The first stages by folder name, with the stages below them; a shared stage is there once."""
    root: dict[str, TreeStage] = {}
    amounts = {strategy.name: strategy.amounts for strategy in comparison.strategies}
    for number, strategy in enumerate(comparison.strategies):
        level = root
        some_path = next((path for path in strategy.stages.values() if path), [])
        for k, (record, amount) in enumerate(zip(some_path, strategy.amounts)):
            folder = Path(record.path).name
            if folder not in level:
                overrides = [f"{name}: {value}" for name, value in flatten(strategy.overrides[k])]
                level[folder] = TreeStage(amount, comparison.amount_in, overrides, copies=_copied(strategy, k, amounts))
            stage = level[folder]
            stage.records |= {seed: path[k] for seed, path in strategy.stages.items() if k < len(path)}
            stage.ends += [number] if k == len(strategy.amounts) - 1 else []
            level = stage.children
    return root


def drawing(comparison: Comparison) -> Drawing:
    """Draw the tree: what is done and to do of each stage, and which strategies it is part of."""
    names = [strategy.name for strategy in comparison.strategies]
    root = Drawing(_seeds(comparison.seeds))

    def draw(stages: Mapping[str, TreeStage], parent: Drawing) -> None:
        for stage in stages.values():
            passing = [names[number] for number in stage.strategies]
            shared = f", shared by {len(passing)}" if len(passing) > 1 else ""
            after = f", {stage.copies}" if stage.copies else ""
            text = f"{stage.out_of_domain}{after}: {_progress(stage)}{shared} ({', '.join(passing)})"
            draw(stage.children, parent.add(Text(text)))

    draw(stage_tree(comparison), root)
    return root


def walk(level: Mapping[str, TreeStage]) -> Iterator[TreeStage]:
    """All stages of a level and those below, parents before children."""
    for stage in level.values():
        yield stage
        yield from walk(stage.children)


def flatten(content: Any, separator: str = ".", name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings with their dotted names."""
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from flatten(value, separator, f"{name}{separator}{key}" if name else str(key))
    elif name and content != {}:
        yield name, content


def _copied(strategy: Strategy, stage: int, amounts: Mapping[str, list[int]]) -> str:
    """Which stages a stage of a control takes the steps of, and is therefore trained after; empty for another one."""
    if strategy.control is None or not strategy.control.copies[stage]:
        return ""
    others = [str(amounts[strategy.control.of][copied]) for copied in strategy.control.copies[stage]]
    return f"for the steps of {' + '.join(others)} in {strategy.control.of}"


def _progress(stage: TreeStage) -> str:
    """The state of a stage, by seed where the seeds differ."""
    by_state: dict[str, list[int]] = {}
    for seed, record in stage.records.items():
        by_state.setdefault(_TO_DO[record.state], []).append(seed)
    if len(by_state) == 1:
        return next(iter(by_state))
    return ", ".join(f"{state} ({_seeds(seeds)})" for state, seeds in by_state.items())


def _range(counts: list[int]) -> str:
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
