"""Which parameters a stage trains: as its patterns say, from before the strategy looks until the stage has ended."""

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from slow_cases import fast_one_in
from step_counting_runs import Net, PowerCut, Stop, data, fit
from torch import nn

from gradual import InputError, OptimizerConfig, Schedule, TrainSettings
from gradual.cli.plan import print_plan

FROZEN = {"trainable_by_name": {"backbone.*": False}}
EVERYTHING = {"backbone.weight", "backbone.bias", "head.weight", "head.bias"}
HEAD = {"head.weight", "head.bias"}


class Watched(Net):
    """Notes what is trained when its optimizer is made, and its weights before each stage and at its end."""

    def __init__(self):
        super().__init__()
        self.optimized, self.weights = [], []

    def configure_optimizers(self):
        trained = {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
        self.optimized.append(set(trained))
        return torch.optim.SGD(trained.values(), lr=0.05)

    def on_train_start(self):
        self.weights.append([self.copied()])

    def on_train_end(self):
        self.weights[-1].append(self.copied())

    def copied(self):
        return {name: parameter.detach().clone() for name, parameter in self.named_parameters()}

    def moved(self):
        """The names of what each stage has changed."""
        return [{name for name in start if not torch.equal(start[name], end[name])} for start, end in self.weights]


SCHEDULE = [{"amount": 24, "optimizer": FROZEN}, 8, {"amount": 0, "optimizer": FROZEN}]


@pytest.mark.parametrize("settings", [{}, {"optimizer": {"lr": 0.05}}], ids=["the module's own", "configured"])
def test_a_stage_trains_what_it_says_with_any_optimizer_and_the_next_one_as_the_module_says(tmp_path, settings):
    _, model = fit(tmp_path, Watched(), SCHEDULE, **settings)
    assert model.moved() == [HEAD, EVERYTHING, HEAD]
    assert all(parameter.requires_grad for parameter in model.parameters())
    if not settings:
        assert model.optimized[-3:] == [HEAD, EVERYTHING, HEAD]  # after the checks of all stages


def test_a_stage_unfreezes_what_the_module_has_frozen(tmp_path):
    model = Watched()
    model.backbone.requires_grad_(False)
    later = {"optimizer": {"trainable_by_name": {"backbone.weight": True}}}
    fit(tmp_path, model, Schedule([24, 8, 0], later_stages=later), optimizer={"lr": 0.05})
    assert model.moved() == [HEAD, {*HEAD, "backbone.weight"}, {*HEAD, "backbone.weight"}]
    assert not model.backbone.weight.requires_grad


def test_the_strategy_sees_what_is_trained(tmp_path):
    """One that reduces gradients or divides parameters decides by it, before any callback's ``on_fit_start``."""
    seen = []

    class Watching(SingleDeviceStrategy):
        def setup(self, trainer):
            seen.append({name for name, parameter in self.model.named_parameters() if parameter.requires_grad})
            super().setup(trainer)

    fit(tmp_path, Watched(), [SCHEDULE[0]], strategy=Watching("cpu"), max_epochs=1)
    assert seen[0] == HEAD


def test_layers_that_are_made_late_are_frozen_from_their_first_step_and_only_in_their_stage(tmp_path):
    class Late(Watched):
        def configure_model(self):
            if not hasattr(self, "extra"):
                self.extra = nn.Linear(4, 4)

        def setup(self, stage):
            self.configure_model()  # so that Lightning calls it a second time

        def forward(self, inputs):
            return self.head(self.extra(self.backbone(inputs)))

    extra = {"extra.weight", "extra.bias"}
    first = {"amount": 24, "optimizer": {"trainable_by_name": {"extra.*": False}}}
    _, model = fit(tmp_path, Late(), [first, 0], optimizer={"lr": 0.05})
    assert model.moved() == [EVERYTHING, EVERYTHING | extra]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert "configure_model" not in vars(model)


def test_the_optimizers_of_later_stages_are_checked_as_those_stages_train(tmp_path):
    """Not as the first one freezes: a rate for what it freezes is none of its business."""
    later = {"amount": 0, "optimizer": {"lr_by_name": {"backbone.*": 0.01}}}
    model = Watched()
    fit(tmp_path / "a", model, [SCHEDULE[0], later], optimizer={"lr": 0.05})
    assert model.moved() == [HEAD, EVERYTHING]
    later["optimizer"] |= FROZEN
    with pytest.raises(InputError, match=r"'backbone\.\*' matches no trainable parameter"):
        fit(tmp_path / "b", Watched(), [24, later], optimizer={"lr": 0.05})


RATES = {"lr": 0.05, "lr_by_name": {"head.*": 0.01}}


def test_a_stage_may_match_all_that_the_experiment_s_patterns_match(tmp_path):
    """Its patterns stand before them."""
    stages = [{"amount": 24, "optimizer": {"lr_by_name": {"*": 0.0}}}, {"amount": 0, "optimizer": FROZEN}]
    _, model = fit(tmp_path, Watched(), stages, optimizer={**RATES, "trainable_by_name": {"backbone.bias": True}})
    assert model.moved() == [set(), HEAD]


@pytest.mark.parametrize("settings", [{"lr_by_name": {"*": 0.1, "head.*": 0.01}}, {"lr": 0.1}, {}])
def test_a_pattern_of_the_experiment_that_is_never_the_first_match_is_refused_before_any_step(tmp_path, settings):
    wrong = settings if "lr_by_name" in settings else {**settings, "trainable_by_name": {"*": True, "head.*": False}}
    model = Watched()
    with pytest.raises(InputError, match=r"optimizer\.\w+\['head\.\*'\] is never the first match: '\*' before it"):
        fit(tmp_path, model, [24, 0], optimizer=wrong)
    with pytest.raises(InputError, match=r"\['head\.\*'\] is never the first match"):
        print_plan(Watched(), data(), Schedule([24, 0]), TrainSettings(optimizer=OptimizerConfig(**wrong)))
    assert not model.weights


def test_a_pattern_that_matches_nothing_is_refused_before_any_step(tmp_path):
    wrong = {"amount": 0, "optimizer": {"trainable_by_name": {"bert.*": True}}}
    model = Watched()
    with pytest.raises(InputError, match=r"'bert\.\*' matches no parameter; names look like backbone\.\*, head\.\*"):
        fit(tmp_path / "a", model, [24, wrong], optimizer={"lr": 0.05})
    with pytest.raises(InputError, match=r"'bert\.\*' matches no parameter"):
        fit(tmp_path / "b", Watched(), [wrong])
    assert not model.weights


@pytest.mark.parametrize("at", fast_one_in(2, [11, 3]))  # in the second epoch of 8 batches, and in the first
def test_a_stage_that_goes_on_trains_the_same_parameters_to_the_same_weights(tmp_path, at):
    settings = {"checkpoint_every": 0, "optimizer": {"lr": 0.05}}
    _, whole = fit(tmp_path / "a", Watched(), SCHEDULE, **settings)
    with pytest.raises(PowerCut):
        fit(tmp_path / "b", Watched(), SCHEDULE, callbacks=[Stop(at)], **settings)
    _, again = fit(tmp_path / "b", Watched(), SCHEDULE, **settings)
    assert again.moved()[0] <= HEAD
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_it_is_part_of_what_a_stage_is(tmp_path):
    """Other patterns, or others first, make another stage."""
    fit(tmp_path, Watched(), [SCHEDULE[0]])
    result, model = fit(tmp_path, Watched(), [{"amount": 24, "optimizer": {"trainable_by_name": {"head.*": False}}}])
    assert result.stages[0].path == "seed-0/24-2"
    assert model.moved() == [EVERYTHING - HEAD]


def test_the_plan_lists_the_rates_of_what_is_trained(capsys):
    settings = TrainSettings(optimizer=OptimizerConfig(lr=0.5, lr_by_name={"head.*": 0.25}))
    print_plan(Watched(), data(), Schedule(SCHEDULE), settings)
    rows = [line for line in capsys.readouterr().out.splitlines() if "head.*" in line]
    assert ["other" in row for row in rows] == [False, True, False]
