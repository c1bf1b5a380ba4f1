"""What the stages of a tree train with, and the training of one of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule, seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng

from gradual.data.module import MixedDomainDataModule
from gradual.errors import InputError
from gradual.experiment.final import LAST, Final
from gradual.experiment.strategies import Strategy
from gradual.experiment.tree import Node
from gradual.nn.compiled import lightning_module
from gradual.runs.directory import RunDirectory, canonical
from gradual.runs.fingerprint import model_fingerprint, starting_weights
from gradual.runs.identity import Identity, identity_of_model, remember
from gradual.runs.recovery import resume_point
from gradual.runs.result import StageResult
from gradual.schedule import Schedule, Stage
from gradual.score_names import without_split
from gradual.settings import TrainSettings
from gradual.stage.average import average_of
from gradual.stage.callbacks.reported_scores import ReportedScores, names_in
from gradual.stage.callbacks.weights import load_weights
from gradual.stage.kept_optimizer import check_saved_state
from gradual.stage.layers import make_layers
from gradual.stage.preflight import check_stages
from gradual.stage.retest import lacks_test, tested_again
from gradual.stage.train import StageTraining
from gradual.stage.trainer import MakeTrainerArguments


@dataclass
class Experiment:
    """What the stages of a tree train with; each of them trains a new model.

    Attributes:
        model: Makes an untrained model; called after the seed is set.
        datamodule: Makes the data module, with the given arguments replaced.
        run: The run directory.
        defaults: The settings of stages that do not override them.
        trainer_arguments: Makes a Trainer's arguments.
        metrics: Scores to report; None for all but the loss, or the loss alone.
        final: What the result of a path is, unless its strategy says otherwise.
    """

    model: Callable[[], LightningModule]
    datamodule: Callable[[Mapping[str, Any]], MixedDomainDataModule]
    run: RunDirectory
    defaults: TrainSettings
    trainer_arguments: MakeTrainerArguments
    metrics: Iterable[str] | None = None
    final: Final = LAST
    _data: dict[str, MixedDomainDataModule] = field(default_factory=dict)

    hands_out_weights: ClassVar[bool] = False
    """Whether the caller gets the weights of every stage, so that all of them must be undamaged."""

    def __post_init__(self) -> None:
        if self.metrics is not None:
            self.metrics = [without_split(name) for name in self.metrics]

    def data(self, changes: Mapping[str, Any]) -> MixedDomainDataModule:
        """The data module with ``changes``, made and loaded once in each process."""
        key = json.dumps(changes, sort_keys=True)
        if key not in self._data:
            self._data[key] = self.datamodule(changes)
            self._data[key].prepare_data()
            self._data[key].setup("fit")
        return self._data[key]

    def settings_of(self, stage: Stage, seed: int) -> dict[str, Any]:
        """All that a stage trains with under a seed, as plain data."""
        return replace(self.defaults, seed=seed).resolve(stage)

    def samples_of(self, strategy: Strategy, seed: int) -> list[dict[str, int]]:
        """The number of out-of-domain examples of each named source in a strategy's stages; empty without names."""
        return self.data(strategy.data).compositions(strategy.schedule, seed)

    def make_model(self, seed: int) -> LightningModule:
        """The untrained model of a seed."""
        seed_everything(seed, verbose=False)
        model: LightningModule = lightning_module(self.model())
        return model

    def describe_models(self, seeds: Iterable[int]) -> tuple[type[LightningModule], Identity]:
        """The class of the models, and the sections ``model`` and ``starting_weights`` of the experiment's identity."""
        weights = {}
        with isolate_rng(include_cuda=torch.cuda.is_initialized()):
            for seed in seeds:
                model = self.make_model(seed)
                weights[f"seed-{seed}"] = starting_weights(model)
        return type(model), {"model": model_fingerprint(model), "starting_weights": weights}

    def check(self, nodes: Sequence[Node]) -> None:
        """Check stages before any of them trains; a stage that several seeds have is checked once.

        Raises:
            InputError: One of them could not be trained; the message names it.
        """
        models: dict[str, tuple[LightningModule, bool | None]] = {}
        seen = set()
        for node in nodes:
            before = node.parent.stage if node.parent else None
            if node.keeps_optimizer and node.parent and node.parent.directory(self.run).is_finished():
                check_saved_state(node.parent.directory(self.run).best)
            kept_from = node.parent.settings["optimizer"] if node.keeps_optimizer and node.parent else None
            key = canonical([node.settings | {"seed": None, "sources": None}, node.amounts[-1], node.data, kept_from])
            if key in seen:
                continue
            seen.add(key)
            data, variant = self.data(node.data), canonical(node.data)
            data.seed, data.schedule = node.seed, node.schedule
            if variant not in models:
                models[variant] = self._model_to_check(node, data)
            model, has_layers = models[variant]
            defaults, k = replace(self.defaults, seed=node.seed), node.index
            titles = {k: self._title(node)}
            check_stages(model, data, {k: node.stage}, defaults, self.trainer_arguments, titles, has_layers, before)

    def lacks_test(self, node: Node) -> bool:
        """Whether a stage is finished, but was not tested on the test data of now."""
        result = node.directory(self.run).result()
        return result is not None and lacks_test(result, self.data(node.data))

    def train(self, node: Node) -> StageResult:
        """Train a stage of the tree, or average several; what is finished is tested again at most."""
        directory = node.directory(self.run)
        done = directory.result()
        if done is not None and not lacks_test(done, self.data(node.data)):
            return done
        model, data = self.make_model(node.seed), self.data(node.data)
        data.seed, data.schedule = node.seed, node.schedule
        data.set_stage(node.index)
        training = StageTraining(
            model,
            data,
            node.stage,
            directory,
            node.parent.directory(self.run).best if node.parent else None,
            replace(self.defaults, seed=node.seed),
            self.trainer_arguments,
            node.settings_in(self.run) or {},
            self._label(node),
            self._strategy(node),
            self._copied(node),
            node.begins_as.directory(self.run) if node.begins_as else None,
            self._reported(model, data),
            later=node.schedule[node.index + 1 :],
            same_training=node.same_training(self.run),
            passes_on_optimizer=node.passes_on_optimizer,
        )
        if done is not None:
            return tested_again(training, done)
        if node.averaged:
            return average_of(training, [stage.directory(self.run) for stage in node.averaged])
        return training.run()

    def _model_to_check(self, node: Node, data: MixedDomainDataModule) -> tuple[LightningModule, bool | None]:
        """A model for ``check_stages``, and whether it has all of its layers."""
        model = self.make_model(node.seed)
        make_layers(model, data)
        return model, True

    def _title(self, node: Node) -> str:
        number, amount = node.index + 1, node.amounts[-1]
        return f"Stage {number} of the strategy '{node.strategies[0]}' ({amount} out-of-domain)"

    def _strategy(self, node: Node) -> str:
        return node.strategies[0]

    def _copied(self, node: Node) -> str:
        """The stage of which a control's has the learning rates: the first that it copies."""
        if not node.copies:
            return ""
        first = node.copies[0]
        return f"stage {first.index + 1} ({first.amounts[-1]} out-of-domain) of '{first.strategies[0]}'"

    def _label(self, node: Node) -> str:
        return f"seed {node.seed}, "

    def _reported(self, model: LightningModule, data: MixedDomainDataModule) -> ReportedScores | None:
        """Checks that ``metrics`` are logged, unless other stages have logged all of them."""
        if not self.metrics or names_in(self.run.results()).issuperset(self.metrics):
            return None
        tested = data.domains.test is not None and is_overridden("test_step", model)
        return ReportedScores(list(self.metrics), tested, lambda: names_in(self.run.results()))


class PathExperiment(Experiment):
    """What the stages of one path train with: one model object, which holds the weights of the result in the end.

    Args:
        model: The model.
        datamodule: The data module.
        schedule: The stages.
        run: The run directory, held.
        defaults: The settings of stages that do not override them.
        trainer_arguments: Makes a Trainer's arguments.
        final: What the result of the path is, whose weights the model has in the end.
    """

    hands_out_weights = True

    def __init__(
        self,
        model: LightningModule,
        datamodule: MixedDomainDataModule,
        schedule: Schedule,
        run: RunDirectory,
        defaults: TrainSettings,
        trainer_arguments: MakeTrainerArguments,
        final: Final = LAST,
    ):
        super().__init__(lambda: model, lambda _: datamodule, run, defaults, trainer_arguments, final=final)
        self.schedule = schedule
        self._given = model
        self._identity, self._is_untouched = identity_of_model(run, model)

    def data(self, changes: Mapping[str, Any]) -> MixedDomainDataModule:
        """The data module, which is set up with the schedule."""
        if not self._data:
            datamodule = self.datamodule(changes)
            datamodule.seed, datamodule.schedule = self.defaults.seed, self.schedule
        return super().data(changes)

    def make_model(self, seed: int) -> LightningModule:
        """The model as it is now."""
        return self._given

    def describe_models(self, seeds: Iterable[int]) -> tuple[type[LightningModule], Identity]:
        """The class of the model, and the sections ``model`` and ``starting_weights`` of the experiment's identity."""
        (seed,) = seeds
        weights = {f"seed-{seed}": self._identity["starting_weights"]}
        return type(self._given), {**self._identity, "starting_weights": weights}

    def check(self, nodes: Sequence[Node]) -> None:
        """Check stages before any of them trains.

        Raises:
            InputError: One of them could not be trained, or the model has been trained already.
        """
        first = nodes[0]
        if not self._is_untouched and first.parent is None and resume_point(first.directory(self.run)) is None:
            raise InputError(
                "The model holds the weights that an earlier call of gradual.fit left in it, and stage 1 starts from "
                "those that it had before: make the model anew."
            )
        super().check(nodes)

    def load_weights(self, node: Node) -> None:
        """Load the weights of a finished stage into the model."""
        load_weights(self._given, node.directory(self.run).best, self.data({}))

    def remember(self) -> None:
        """Note what the run has left in the model, for a later call with the same object."""
        remember(self.run, self._given, self._identity)

    def _model_to_check(self, node: Node, data: MixedDomainDataModule) -> tuple[LightningModule, bool | None]:
        return self._given, None

    def _title(self, node: Node) -> str:
        return ""

    def _strategy(self, node: Node) -> str:
        return ""

    def _label(self, node: Node) -> str:
        return ""
