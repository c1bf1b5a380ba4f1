"""The tree of an experiment: every stage that its strategies share is one node, trained once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradual.experiment.final import LAST
from gradual.experiment.strategies import Strategy
from gradual.runs.directory import RunDirectory, StageDirectory, canonical
from gradual.schedule import Schedule, Stage
from gradual.stage.same_training import SameTraining
from gradual.stage.shared_steps import trains_alike

_OF_CONVERGENCE = ("patience", "min_delta")  # which a stage of a control does not wait for

Settings = Callable[[Stage, int], dict[str, Any]]
"""All that a stage trains with under a seed, as plain data."""


@dataclass(eq=False)
class Node:
    """One stage of the tree: it takes its parent's weights, a sample, and trains.

    Attributes:
        seed: Seed of the experiment.
        schedule: The schedule of the first strategy that the stage is part of.
        amounts: The amounts of out-of-domain data from the root to this stage, in examples or tokens.
        data: Arguments of the data module that differ from the experiment's.
        settings: All that the stage trains with, without what it copies.
        parent: The stage before; None for a first one.
        copies: The stages whose steps it takes, if it is a control's; it cannot be trained before them.
        averaged: The stages of which it is the average, if it is that and not trained; the parent is the last of them.
        strategies: Names of the strategies that the stage is part of.
        passes_on_optimizer: Whether a stage after it keeps the state of its optimizer.
    """

    seed: int
    schedule: Schedule
    amounts: tuple[int, ...]
    data: dict[str, Any]
    settings: dict[str, Any]
    parent: Node | None = None
    copies: tuple[Node, ...] = ()
    strategies: list[str] = field(default_factory=list)
    passes_on_optimizer: bool = False
    averaged: tuple[Node, ...] = ()
    _found: dict[tuple[Path, str, str], StageDirectory] = field(default_factory=dict, repr=False)

    @property
    def index(self) -> int:
        """The stage's place in its schedule, counted from 0."""
        return len(self.amounts) - 1

    @property
    def stage(self) -> Stage:
        """The stage as its schedule has it."""
        stage: Stage = self.schedule[self.index]
        return stage

    @property
    def keeps_optimizer(self) -> bool:
        """Whether the stage begins with the state of the optimizer of its parent."""
        return self.parent is not None and self.settings.get("optimizer", {}).get("state") == "keep"

    @property
    def depends_on(self) -> list[Node]:
        """The stages that must be finished before it: its parent, and those that it copies or averages."""
        return [*([self.parent] if self.parent else []), *self.copies, *self.averaged]

    @property
    def needs_weights_of(self) -> list[Node]:
        """The stages whose weights it starts from."""
        return [*([self.parent] if self.parent else []), *self.averaged]

    @property
    def begins_as(self) -> Node | None:
        """The first stage that it copies, if the two train alike as long as that one does; None if they do not."""
        if not self.copies:
            return None
        first = self.copies[0]
        same_past = (first.parent, first.amounts, first.data) == (self.parent, self.amounts, self.data)
        if not same_past or self.passes_on_optimizer > first.passes_on_optimizer:
            return None
        return first if trains_alike(self.settings, first.settings) else None

    def same_training(self, run: RunDirectory) -> SameTraining | None:
        """The training that it copies; None if it copies none, or while this is not finished."""
        return _training_in([node.directory(run) for node in self.copies])

    def settings_in(self, run: RunDirectory) -> dict[str, Any] | None:
        """All that the stage trains with; None while the steps that it takes are not known."""
        return self._settings_after([node.directory(run) for node in self.copies])

    def directory(self, run: RunDirectory) -> StageDirectory:
        """The stage's folder in a run directory.

        The folder of a control's stage is known once the stages are finished that it copies. Until then it is one that
        holds nothing. A folder that was found is looked for again only if it is gone, since a comparison asks for those
        of all of its stages whenever one of them is finished.
        """
        parent = self.parent.directory(run).path if self.parent else run.seed(self.seed)
        copied = [node.directory(run) for node in self.copies]
        settings = self._settings_after(copied)
        key = (parent, self._folder_name(copied), canonical(settings) if copied else "")
        known = self._found.pop(key, None)
        directory = known if known and known.has_begun() else run.stage(parent, key[1], settings)
        if settings is not None and directory.has_begun():
            self._found[key] = directory
        return directory

    def _folder_name(self, copied: Sequence[StageDirectory]) -> str:
        if self.averaged:
            return f"average-from-{self.averaged[0].index + 1}"
        if not copied:
            return str(self.amounts[-1])
        weighted = "-weighted" if self.stage.in_domain_weight else ""
        return f"{self.amounts[-1]}{weighted}-as-{'+'.join(directory.path.name for directory in copied)}"

    def _settings_after(self, copied: Sequence[StageDirectory]) -> dict[str, Any] | None:
        if not copied:
            return self.settings
        same = _training_in(copied)
        return None if same is None else {**self.settings, "same_training": same.to_plain()}


def _training_in(copied: Sequence[StageDirectory]) -> SameTraining | None:
    """The training of these stages; None where there are none, or one of them is not finished."""
    results = [result for directory in copied if (result := directory.result()) and result.steps is not None]
    return SameTraining.of(results) if results and len(results) == len(copied) else None


class Tree:
    """The stages of several strategies under several seeds.

    Args:
        strategies: The strategies by name, each control after the strategy that it copies.
        seeds: Each seed has a tree of its own.
        amounts: Returns a strategy's amounts of out-of-domain data, in examples or tokens.
        settings: Returns what a stage trains with; stages that differ in it are different.
        samples: Returns for each stage of a strategy the number of examples of each named source, under a seed; empty
            where the pool has no named sources. Stages that differ in it are different.
    """

    def __init__(
        self,
        strategies: Mapping[str, Strategy],
        seeds: Iterable[int],
        amounts: Callable[[Strategy], Sequence[int]],
        settings: Settings,
        samples: Callable[[Strategy, int], Sequence[Mapping[str, int]]] = lambda strategy, _: (
            [{}] * len(strategy.schedule)
        ),
    ):
        self.strategies, self.seeds = dict(strategies), list(dict.fromkeys(map(operator.index, seeds)))
        self.amounts = {name: list(amounts(strategy)) for name, strategy in self.strategies.items()}
        self.paths: dict[tuple[str, int], list[Node]] = {}
        self.averages: dict[tuple[str, int], Node] = {}
        """By strategy and seed, the average that is the result of a path; only where it is one."""
        nodes: dict[str, Node] = {}
        for seed in self.seeds:
            for name, strategy in self.strategies.items():
                path: list[Node] = []
                control = strategy.control
                key = canonical([seed, strategy.data])
                for k, (stage, sources) in enumerate(zip(strategy.schedule, samples(strategy, seed))):
                    own = settings(stage, seed) | ({"data": strategy.data} if strategy.data else {})
                    own |= {"sources": dict(sources)} if sources else {}
                    copies: tuple[Node, ...] = ()
                    if control and control.copies[k]:
                        copies = tuple(self.paths[control.of, seed][copied] for copied in control.copies[k])
                        own = {setting: value for setting, value in own.items() if setting not in _OF_CONVERGENCE}
                    amounts_so_far = tuple(self.amounts[name][: k + 1])
                    key += canonical(own) + canonical(amounts_so_far[-1])
                    key += canonical([list(nodes.values()).index(node) for node in copies])
                    if key not in nodes:
                        parent = path[-1] if path else None
                        nodes[key] = Node(seed, strategy.schedule, amounts_so_far, strategy.data, own, parent, copies)
                        if parent is not None and nodes[key].keeps_optimizer:
                            parent.passes_on_optimizer = True
                    nodes[key].strategies.append(name)
                    path.append(nodes[key])
                self.paths[name, seed] = path
        self.nodes = list(nodes.values())
        """All stages, each after those that it depends on."""
        averages: dict[tuple[Node, int], Node] = {}
        for (name, seed), path in self.paths.items():
            final = self.strategies[name].final or LAST
            final.check(self.strategies[name].schedule)
            if final.averages(path):
                last, own = path[-1], {"average_from": final.first}
                if (last, final.first) not in averages:
                    averages[last, final.first] = Node(
                        seed, last.schedule, last.amounts, last.data, own, last, averaged=tuple(path[final.first - 1 :])
                    )
                averages[last, final.first].strategies.append(name)
                self.averages[name, seed] = averages[last, final.first]
        self.nodes_with_averages = [*self.nodes, *averages.values()]
        """All stages and averages, each after those that it depends on."""

    def users(self, node: Node) -> list[Node]:
        """The stages and averages that start from the weights of a stage."""
        return [other for other in self.nodes_with_averages if node in other.needs_weights_of]

    @property
    def stages_without_sharing(self) -> int:
        """How many stages would be trained if every strategy trained its own."""
        return sum(len(path) for path in self.paths.values())

    def examples(self, in_domain: int) -> tuple[int, int]:
        """Training examples in one epoch of every stage: of the tree, and without sharing."""
        shared = sum(in_domain + node.amounts[-1] for node in self.nodes)
        return shared, sum(in_domain + node.amounts[-1] for path in self.paths.values() for node in path)
