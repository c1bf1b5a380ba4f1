"""The growth of the tree: paths that Optuna chooses, each stage trained once, until the budget is spent."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from itertools import takewhile

from gradual.data.order import derive_seed
from gradual.experiment.driver import give_out_folders
from gradual.experiment.executors import Submit
from gradual.experiment.experiment import Experiment
from gradual.experiment.results import Results, RunResult
from gradual.experiment.search.settings import BudgetUnit
from gradual.experiment.search.space import Choice, Space
from gradual.experiment.search.study import UNFINISHED, Study, Trial
from gradual.experiment.search.unexplored import Unexplored, draw
from gradual.experiment.strategies import Strategy
from gradual.experiment.tree import Node, Tree
from gradual.runs.directory import StageDirectory
from gradual.runs.recovery import load_result_or_reopen
from gradual.runs.result import StageResult
from gradual.score_names import without_split
from gradual.stage.callbacks.collapse import CollapsedError
from gradual.stage.memory import stage_memory

log = logging.getLogger(__name__)

SEARCH = "search"
"""The strategy of a path, in trees of one."""


class Growth:
    """Trains the paths of a search.

    Args:
        experiment: What the stages train with; it has no test data.
        space: The paths to choose from.
        study: The trials.
        seed: The seed of the stages.
        budget: The most to train, in ``unit``; no stage begins once it is spent.
        unit: ``examples`` or ``steps``.
        save: Writes down how far the search is; called after each stage and each path.

    Attributes:
        trials: All paths, in order.
    """

    def __init__(
        self,
        experiment: Experiment,
        space: Space,
        study: Study,
        seed: int,
        budget: float,
        unit: BudgetUnit,
        save: Callable[[Growth], None],
    ):
        self.experiment, self.space, self.study, self.seed = experiment, space, study, seed
        self.budget, self.unit, self._save = budget, unit, save
        self.trials = study.trials()
        self._trees: dict[tuple[Choice, ...], Tree] = {}
        self._costs: dict[str, int] = {}
        self._keeps_optimizer = False
        longest = self._made([Choice(amount) for amount in [*space.amounts[:2], 0]])
        self._keeps_optimizer = any(node.keeps_optimizer for node in longest.nodes)

    def run(self, submit: Submit, jobs: int) -> None:
        """Grow the tree until the budget is spent, or until no path is left.

        Args:
            submit: Trains a stage, perhaps in another process.
            jobs: How many stages to train at once.
        """
        ready = deque(trial for trial in self.trials if trial.state == UNFINISHED)
        running: dict[Future[object], str] = {}
        waiting: dict[str, list[Trial]] = {}
        while True:
            while len(running) < jobs:
                if not ready and (self._is_over() or sum(map(len, waiting.values())) >= jobs):
                    break
                trial = ready.popleft() if ready else self._begin()
                node = self._advance(trial)
                if node is None:
                    self._save(self)
                    continue
                folder = self.experiment.run.relative(node.directory(self.experiment.run).path)
                if folder not in waiting:
                    if self.spent >= self.budget and not node.averaged:
                        continue  # a larger budget goes on with it
                    self._prepare(node)
                    trial.pay(folder)
                    running[submit(node)] = folder
                waiting.setdefault(folder, []).append(trial)
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                folder = running.pop(future)
                self._check_end(future, running)
                ready.extendleft(reversed(waiting.pop(folder)))
            self._save(self)

    @property
    def spent(self) -> int:
        """What the stages cost that were trained for the search."""
        folders = dict.fromkeys(folder for trial in self.trials for folder in trial.paid)
        return sum(self._cost_in(folder) for folder in folders)

    def _cost_in(self, folder: str) -> int:
        """What the stage in a folder cost; 0 while it is not finished."""
        if folder not in self._costs:
            result = StageDirectory(self.experiment.run.root / folder).result()
            if result is None:
                return 0
            self._costs[folder] = self.cost(result)
        return self._costs[folder]

    def cost(self, result: StageResult) -> int:
        """What it took to train a stage, in the unit of the budget."""
        return (result.examples_seen if self.unit == "examples" else result.steps) or 0

    def tree(self, choices: Sequence[Choice]) -> Tree:
        """The tree of one path, with its end."""
        key = tuple(choices)
        if key not in self._trees:
            self._trees[key] = self._made(key)
        return self._trees[key]

    def _made(self, choices: Sequence[Choice]) -> Tree:
        strategy = Strategy(self.space.schedule(choices), final=self.experiment.final)
        amounts = self.experiment.data({}).amounts_of(strategy.schedule)
        settings, samples = self.experiment.settings_of, self.experiment.samples_of
        tree = Tree({SEARCH: strategy}, [self.seed], lambda _: amounts, settings, samples)
        for node in tree.nodes[:-1]:  # a stage may be followed by another one
            node.passes_on_optimizer = node.passes_on_optimizer or self._keeps_optimizer
        return tree

    def result_of(self, trial: Trial) -> RunResult:
        """The results of a path, as far as it is trained."""
        result = Results("", self.experiment, self.tree(trial.choices)).of(SEARCH, self.seed)
        return replace(result, stages=result.stages[: len(trial.choices)])

    def score(self, result: StageResult | None) -> float:
        """The monitored validation score of a stage; NaN where there is none."""
        monitor = without_split(self.experiment.defaults.monitor)
        return math.nan if result is None else result.val.get(monitor, math.nan)

    def _begin(self) -> Trial:
        self.trials.append(self.study.begin())
        return self.trials[-1]

    def _is_over(self) -> bool:
        """Whether no new path is to begin."""
        return self.spent >= self.budget or not self._unexplored().after([])

    def _unexplored(self) -> Unexplored:
        return Unexplored(self.space, [tuple(trial.choices) for trial in self.trials if trial.state != UNFINISHED])

    def _advance(self, trial: Trial) -> Node | None:
        """Choose stages of a path, up to one that is to be trained, which is returned; None if the path has ended."""
        if trial.state != UNFINISHED:
            return None
        while True:
            choices, run = trial.choices, self.experiment.run
            tree = self.tree(choices)
            nodes = tree.nodes[: len(choices)]
            results = list(takewhile(bool, (load_result_or_reopen(n.directory(run), weights=False) for n in nodes)))
            k = len(results)
            if k and math.isfinite(score := self.score(results[-1])):
                trial.report(self.space.step(choices[k - 1].amount), score)
            if k < len(nodes):
                if self._has_collapsed(nodes[k].directory(run)):
                    trial.fail()
                    return None
                return self._first_to_train(nodes[: k + 1])
            if choices and not choices[-1].amount:
                return self._end(trial, tree)
            if k and trial.should_be_pruned():
                trial.prune()
                return None
            trial.choose(self._choose(trial, choices))

    def _choose(self, trial: Trial, path: Sequence[Choice]) -> Choice:
        """Choose the stage after ``path``: from what is left where the path before this one cost nothing."""
        k, fixed = len(path) + 1, None
        if trial.number and not self.trials[trial.number - 1].paid:
            left = self._unexplored().after(path)
            if left:
                drawn = draw(left, derive_seed(self.seed, "search", trial.number, k))
                fixed = self.space.choices(path)[drawn]
        return self.space.choose(path, trial.suggests(k, fixed))

    def _end(self, trial: Trial, tree: Tree) -> Node | None:
        """End a trial whose stages are finished; before that, an average of their weights may have to be made."""
        average = tree.averages.get((SEARCH, self.seed))
        if average and load_result_or_reopen(average.directory(self.experiment.run)) is None:
            return average
        trial.finish(self.score(self.result_of(trial).final_stage))
        return None

    def _first_to_train(self, nodes: Sequence[Node]) -> Node:
        """The last of the stages of a path, unless the weights that it starts from are damaged."""
        *before, node = nodes
        if before and load_result_or_reopen(before[-1].directory(self.experiment.run)) is None:
            return self._first_to_train(before)
        return node

    def _prepare(self, node: Node) -> None:
        """Check a stage, and give it its folder: stages that run at the same time must not choose."""
        if not node.averaged:
            with stage_memory():
                self.experiment.check([node])
        give_out_folders(self.experiment, [node])

    def _check_end(self, future: Future[object], running: Mapping[Future[object], str]) -> None:
        """Pass on what went wrong in a stage; a collapse ends its paths alone."""
        try:
            future.result()
        except CollapsedError as error:
            log.warning("%s", error.original)
        except BaseException:
            for other in running:
                other.cancel()
            raise

    def _has_collapsed(self, directory: StageDirectory) -> bool:
        """Whether a stage has collapsed in every attempt."""
        attempts = self.experiment.defaults.collapse.attempts
        return directory.has_collapsed(attempts)
