"""Schedules, stages and how a stage's overrides are merged into the defaults."""

import json
import re
from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gradual.config_dataclasses import as_plain, from_mapping, merge
from gradual.errors import InputError
from gradual.schedule import Schedule, Stage
from gradual.settings import LRScheduleConfig, OptimizerConfig


def refusal(make, *arguments, **named):
    """The message with which something is refused: one clear sentence."""
    with pytest.raises(InputError) as caught:
        make(*arguments, **named)
    message = str(caught.value)
    assert "\n" not in message
    assert message[-1] in ".?"
    return message


# What is accepted


LATER = {"optimizer": {"lr_scale": 0.4, "lr_by_name": {"a.*": 1e-3}}, "max_epochs": 8}
LAST = {"optimizer": {"lr": 4e-5, "lr_by_name": {"b.*": 1e-4}}, "max_epochs": 5}


def test_later_and_last_stages_take_their_defaults_where_they_set_nothing():
    first, second, last = Schedule([30, {"amount": 20, "max_epochs": 3}, 0], LATER, LAST)
    assert first == Stage(30)
    assert second == Stage(20, optimizer=OptimizerConfig(lr_scale=0.4, lr_by_name={"a.*": 1e-3}), max_epochs=3)
    rates = {"b.*": 1e-4, "a.*": 1e-3}
    assert last == Stage(0, optimizer=OptimizerConfig(lr_scale=0.4, lr=4e-5, lr_by_name=rates), max_epochs=5)
    assert list(last.optimizer.lr_by_name) == ["b.*", "a.*"]  # the first match holds: the last stage's own


def test_an_only_stage_is_a_first_one():
    assert list(Schedule([0], LATER, LAST)) == [Stage(0)]


def test_the_last_of_two_stages_is_a_later_one_too():
    assert Schedule([5, 0], LATER)[1].max_epochs == 8
    assert Schedule([5, 0], None, LAST)[1] == Schedule([5, {"amount": 0, **LAST}])[1]
    assert Schedule([5, 0], LATER, LAST)[1].optimizer.lr_scale == 0.4


def test_with_stages_keeps_the_settings_of_later_and_last_stages():
    schedule = Schedule([9, 5, 0], LATER, LAST)
    assert schedule.with_stages([9, 0]) == Schedule([9, 0], LATER, LAST)
    assert schedule.with_stages(schedule) == schedule, "to follow them twice changes nothing"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"later_stages": {"pateince": 3}}, "later_stages has no setting 'pateince'.*Did you mean 'patience'"),
        ({"last_stage": {"max_epochs": 0}}, "max_epochs of a stage is 0"),
        ({"last_stage": Stage(0, patience=3)}, "last_stage is Stage"),
        ({"last_stage": {"amount": 0}}, "last_stage has no setting 'amount'"),
        ({"later_stages": 3}, "later_stages is 3: it must be a mapping of settings"),
    ],
)
def test_impossible_settings_for_later_and_last_stages_are_refused(given, says):
    assert re.search(says, refusal(Schedule, [5, 0], **given))


def test_the_short_form_is_a_list_of_amounts():
    schedule = Schedule([4000, 2000, 500, 0])
    assert [stage.amount for stage in schedule] == [4000, 2000, 500, 0]
    assert all(stage == Stage(stage.amount) for stage in schedule)
    assert all(stage.overrides() == {} for stage in schedule)


def test_a_schedule_is_a_sequence_of_stages():
    schedule = Schedule([3, 2, 1])
    assert len(schedule) == 3
    assert schedule[0] == Stage(3)
    assert schedule[-1] == Stage(1)
    assert list(reversed(schedule)) == [Stage(1), Stage(2), Stage(3)]
    assert repr(schedule) == "Schedule([3, 2, 1])"
    with pytest.raises(IndexError):
        schedule[3]


def test_any_iterable_of_amounts_is_accepted():
    assert Schedule(range(3, -1, -1)) == Schedule((3, 2, 1, 0)) == Schedule(iter([3, 2, 1, 0]))


def test_numpy_numbers_are_numbers():
    schedule = Schedule(np.array([20, 5, 0])).to_list() + Schedule(np.array([0.5, 0.25])).to_list()
    assert schedule == [20, 5, 0, 0.5, 0.25]
    assert [type(amount) for amount in schedule] == [int] * 3 + [float] * 2


def test_amounts_stages_and_mappings_mix():
    mapping = {"amount": 0, "patience": 9, "optimizer": {"lr": 4e-5, "lr_by_name": {"encoder.*": 1e-5}}}
    schedule = Schedule([20, Stage(10, batch_size=4), mapping])
    assert list(schedule) == [
        Stage(20),
        Stage(10, batch_size=4),
        Stage(0, patience=9, optimizer=OptimizerConfig(lr=4e-5, lr_by_name={"encoder.*": 1e-5})),
    ]


def test_schedules_of_equal_stages_are_equal():
    assert Schedule([5, 0]) == Schedule([Stage(5), {"amount": 0}])
    assert hash(Schedule([5, 0])) == hash(Schedule([Stage(5), {"amount": 0}]))
    assert Schedule([5, 0]) != Schedule([5, Stage(0, patience=1)])
    assert Schedule([5, 0]) != [5, 0]
    assert Schedule([1]) != Schedule([1.0]), "one example is not the whole pool"


@pytest.mark.parametrize(
    ("amount", "count"),
    [(0, 0), (1, 1), (1000, 1000), (1e3, 1000), (2.0, 2), (0.0, 0), (0.5, 1000), (1.0, 2000), (0.25, 500)],
)
def test_an_int_or_a_whole_float_above_one_is_a_count_and_a_float_up_to_one_a_fraction(amount, count):
    assert Schedule([amount]).amounts(2000) == [count]


@given(st.floats(0, 1), st.integers(0, 10**9))
def test_a_fraction_is_rounded_to_the_nearest_count(fraction, pool_size):
    (count,) = Schedule([fraction]).amounts(pool_size)
    assert type(count) is int
    assert 0 <= count <= pool_size
    assert abs(count - Fraction(fraction) * pool_size) <= Fraction(1, 2) + Fraction(pool_size, 2**52)


def test_fractions_and_counts_are_compared_once_the_pool_is_known():
    schedule = Schedule([1000, 0.5, 100, 0.01, 0])
    assert schedule.amounts(2000) == [1000, 1000, 100, 20, 0]
    assert "rises from 1000 to 2000" in refusal(schedule.amounts, 4000)
    assert "rises from 100 to 120" in refusal(Schedule([0.5, 100, 0.1]).amounts, 1200)


# What is refused


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ([2000, 500, 1000], "rises from 500 to 1000"),
        ([0.1, 0.5], "rises from 0.1 to 0.5"),
        ([0, 0.5, 1], "rises from 0 to 1"),
        ([np.float64(0.1), np.float64(0.9)], "rises from 0.1 to 0.9"),
        ([5, Stage(0), {"amount": 3}], "rises from 0 to 3"),
        ([-1], "holds -1"),
        ([-0.5], "holds -0.5"),
        ([], "empty"),
        ([[500]], "holds [500]: an amount must be a number"),
        ([True], "holds True: an amount must be a number"),
        ([None], "holds None: an amount must be a number"),
        (["500"], "holds '500': an amount must be a number"),
        ([500, "none"], "holds 'none': an amount must be a number"),
        ([1j], "holds 1j: an amount must be a number"),
        ([float("nan")], "holds nan"),
        ([float("inf")], "holds inf"),
        ([2.5], "holds 2.5: an amount above 1 must be a whole number"),
        ("4000,0", "'4000,0': it must be a list of amounts"),
        (b"40", "it must be a list of amounts"),
        ({"amount": 5}, "it must be a list of amounts"),
        (500, "500: it must be a list of amounts"),
        (None, "None: it must be a list of amounts"),
        ([5, {"patience": 3}], "Stage 2 of the schedule has no 'amount'"),
        ([{"amount": None}], "Stage 1 of the schedule: amount is None: it must be a number"),
        ([{"amount": "many"}], "'many': it must be a number"),
        ([{"amount": 5, "patiense": 3}], "no setting 'patiense'"),
        ([{"amount": 5, 7: 3}], "no setting '7'"),
        ([{"amount": 5, "patience": -1}], "patience of a stage is -1"),
        ([{"amount": 5, "patience": 2.0}], "patience is 2.0: it must be an integer"),
        ([{"amount": 5, "patience": True}], "patience is True: it must be an integer"),
        ([{"amount": 5, "batch_size": 0}], "batch_size of a stage is 0: it must be an integer of at least 1"),
        ([{"amount": 5, "batch_size": "8"}], "batch_size is '8'"),
        ([{"amount": 5, "max_epochs": 0}], "max_epochs of a stage is 0"),
        ([{"amount": 5, "max_epochs": 1.5}], "max_epochs is 1.5"),
        ([{"amount": 5, "gradient_clip_val": -1}], "gradient_clip_val of a stage is -1"),
        ([{"amount": 5, "gradient_clip_val": float("inf")}], "gradient_clip_val of a stage is inf"),
        ([{"amount": 5, "optimizer": "AdamW"}], "optimizer is 'AdamW'"),
        ([{"amount": 5, "optimizer": {"lr": -1e-5}}], "optimizer.lr is -1e-05"),
        ([{"amount": 5, "optimizer": {"lr": "fast"}}], "lr is 'fast': it must be a number"),
        ([{"amount": 5, "optimizer": {"lr": True}}], "lr is True"),
        ([{"amount": 5, "optimizer": {"lr": float("nan")}}], "Stage 1 of the schedule, optimizer: lr is nan"),
        ([{"amount": 5, "optimizer": {"lr_by_name": [1e-5]}}], "lr_by_name is [1e-05]"),
        ([{"amount": 5, "optimizer": {"lr_by_name": {"a.*": -1}}}], "optimizer.lr_by_name['a.*'] is -1"),
        ([{"amount": 5, "optimizer": {"lr_by_name": {"a.*": "fast"}}}], "'fast'"),
        ([{"amount": 5, "optimizer": {"weight_decay_by_name": {"a.*": None}}}], "weight_decay_by_name['a.*'] is None"),
        ([{"amount": 5, "optimizer": {"class_path": 3}}], "class_path is 3: it must be text"),
        ([{"amount": 5, "optimizer": {"learning_rate": 1}}], "Stage 1 of the schedule, optimizer has no setting"),
        ([{"amount": 5, "lr_schedule": {"warmup": -1}}], "lr_schedule.warmup is -1"),
        ([{"amount": 5, "lr_schedule": {"warmup": True}}], "warmup is True"),
        ([{"amount": 5, "lr_schedule": {"warmup": 2.5}}], "lr_schedule.warmup is 2.5: it must be a whole number"),
        ([{"amount": 5, "lr_schedule": {"name": 5}}], "name is 5: it must be text"),
        (
            [{"amount": 5, "lr_schedule": {"power": 0}}],
            "lr_schedule.power is 0.0: it must be a number above 0, or None",
        ),
        ([{"amount": 5, "optimizer": {"trainable_by_name": ["a.*"]}}], "trainable_by_name is ['a.*']: it must be"),
        (
            [{"amount": 5, "optimizer": {"trainable_by_name": {"a.*": 1}}}],
            "trainable_by_name['a.*'] is 1: it must be True",
        ),
    ],
)
def test_a_value_that_is_no_schedule_is_refused_in_one_sentence(stages, says):
    assert says in refusal(Schedule, stages)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_epochs": 0}, "max_epochs of a stage is 0"),
        ({"max_epochs": 2.5}, "max_epochs of a stage is 2.5"),
        ({"max_epochs": "3"}, "max_epochs of a stage is '3'"),
        ({"patience": -1}, "patience of a stage is -1"),
        ({"batch_size": 0}, "batch_size of a stage is 0"),
        ({"gradient_clip_val": "1"}, "gradient_clip_val of a stage is '1'"),
    ],
)
def test_a_stage_made_in_python_is_checked_as_well(settings, says):
    assert says in refusal(Stage, 5, **settings)
    Stage(5, max_epochs=1, patience=0, batch_size=1, gradient_clip_val=0)  # the least of each


def test_more_than_the_pool_is_refused():
    message = refusal(Schedule([5, 0]).amounts, 4)
    assert "Stage 1" in message
    assert "asks for 5" in message
    assert "holds 4" in message
    assert Schedule([5, 0]).amounts(5) == [5, 0]


@pytest.mark.parametrize(
    ("wrong", "right"), [("patiense", "patience"), ("batchsize", "batch_size"), ("optimiser", "optimizer")]
)
def test_the_closest_setting_is_suggested(wrong, right):
    assert f"Did you mean '{right}'?" in refusal(Schedule, [{"amount": 5, wrong: 3}])
    assert "Did you mean" not in refusal(Schedule, [{"amount": 5, "zzz": 3}])


# YAML


def test_numbers_that_yaml_reads_as_text_are_numbers():
    text = """
    - amount: 1e3
      gradient_clip_val: 1e0
      lr_schedule: {warmup: 1e-1}
      optimizer: {lr: 1e-4, lr_by_name: {"encoder.*": 1e-5}, weight_decay_by_name: {"*.bias": 0e0}}
    """
    mapping = yaml.safe_load(text)
    assert mapping[0]["optimizer"]["lr"] == "1e-4"
    (stage,) = Schedule(mapping)
    assert stage.amount == 1000
    assert type(stage.amount) is int
    assert stage.gradient_clip_val == 1.0
    assert stage.lr_schedule.warmup == 0.1
    assert stage.optimizer == OptimizerConfig(
        lr=1e-4, lr_by_name={"encoder.*": 1e-5}, weight_decay_by_name={"*.bias": 0.0}
    )


def test_text_of_a_whole_number_is_a_count():
    (stage,) = Schedule([{"amount": "1"}])
    assert type(stage.amount) is int
    assert stage.amount == 1


def test_a_setting_that_is_left_empty_is_not_set():
    text = "[{amount: 5, optimizer: , lr_schedule: null, patience: , gradient_clip_val: }]"
    (stage,) = Schedule(yaml.safe_load(text))
    assert stage == Stage(5)
    assert merge(OptimizerConfig(lr=1.0), stage.optimizer) == OptimizerConfig(lr=1.0)


RATES = st.floats(0, 10, allow_nan=False)
BY_NAME = st.dictionaries(st.sampled_from(["*", "*.bias", "encoder.*", "head.weight"]), RATES, min_size=1)
OPTIMIZERS = st.fixed_dictionaries(
    {},
    optional={
        "class_path": st.sampled_from(["torch.optim.SGD", "gradual.BertAdam"]),
        "lr": RATES,
        "lr_by_name": BY_NAME,
        "lr_scale": RATES,
        "weight_decay": RATES,
        "weight_decay_by_name": BY_NAME,
        "trainable_by_name": st.dictionaries(st.sampled_from(["*", "encoder.*"]), st.booleans(), min_size=1),
        "init_args": st.dictionaries(
            st.sampled_from(["eps", "momentum", "nesterov"]),
            st.booleans() | st.integers() | st.floats(0, 1),
            min_size=1,
        ),
    },
)
LR_SCHEDULES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["constant", "linear"]),
        "warmup": st.integers(0, 1000) | st.floats(0, 1),
        "power": st.floats(0.5, 4),
    },
)
OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "optimizer": OPTIMIZERS,
        "lr_schedule": LR_SCHEDULES,
        "max_epochs": st.integers(1, 99),
        "patience": st.integers(0, 99),
        "batch_size": st.integers(1, 99),
        "gradient_clip_val": RATES,
    },
)
AMOUNTS = [st.lists(amount, min_size=1, max_size=4) for amount in (st.integers(0, 10**9), st.floats(0, 1))]


@given(st.one_of(AMOUNTS), st.lists(OVERRIDES, min_size=4, max_size=4))
def test_a_schedule_survives_its_short_form_in_json_and_in_yaml(amounts, overrides):
    stages = [{"amount": amount, **override} for amount, override in zip(sorted(amounts, reverse=True), overrides)]
    schedule = Schedule(stages)
    plain = schedule.to_list()
    for copy in (plain, json.loads(json.dumps(plain)), yaml.safe_load(yaml.safe_dump(plain, sort_keys=False))):
        again = Schedule(copy)
        assert again == schedule
        assert hash(again) == hash(schedule)
        assert [type(stage.amount) for stage in again] == [type(stage.amount) for stage in schedule]
    for element, stage in zip(plain, schedule):
        assert isinstance(element, dict) == bool(stage.overrides())


def test_the_short_form_leaves_out_what_is_not_set():
    schedule = Schedule([20, Stage(10, optimizer=OptimizerConfig(lr=0.0), patience=0), Stage(0)])
    assert schedule.to_list() == [20, {"amount": 10, "optimizer": {"lr": 0.0}, "patience": 0}, 0]
    assert as_plain(OptimizerConfig(init_args={})) == {}


@pytest.mark.parametrize("config", [OptimizerConfig, LRScheduleConfig, Stage])
def test_each_setting_can_be_given_by_its_name(config):
    values = {
        "amount": 5, "optimizer": {"lr": 1}, "lr_schedule": {"warmup": 3}, "max_epochs": 2, "patience": 1,
        "batch_size": 7, "gradient_clip_val": 0.5, "max_steps": 9, "in_domain_weight": 2.0,
        "class_path": "a.B", "lr": 0.1, "lr_by_name": {"a": 1.0},
        "lr_scale": 2.0, "weight_decay": 0.2, "weight_decay_by_name": {"b": 3.0}, "init_args": {"c": "d"},
        "trainable_by_name": {"c": False}, "name": "linear", "warmup": 10, "adapter": "merge", "power": 2.0,
        "state": "keep",
    }  # fmt: skip
    names = {config_field.name for config_field in fields(config)}
    settings = {name: value for name, value in values.items() if name in names}
    assert set(settings) == names
    assert as_plain(from_mapping(config, settings, "here")) == settings


# Merging


@given(OPTIMIZERS, OPTIMIZERS)
def test_an_override_is_merged_field_by_field_and_pattern_by_pattern(default, override):
    merged = merge(OptimizerConfig(**default), OptimizerConfig(**override))
    for config_field in fields(OptimizerConfig):
        name = config_field.name
        value = getattr(merged, name)
        if name not in override:
            assert value == default.get(name)
        elif not isinstance(override[name], dict):
            assert value == override[name]
        else:
            old, new = default.get(name, {}), override[name]
            assert value == old | new
            assert list(value) == list(new) + [key for key in old if key not in new], "the first match holds"


@given(LR_SCHEDULES, LR_SCHEDULES)
def test_a_learning_rate_schedule_is_merged_likewise(default, override):
    merged = merge(LRScheduleConfig(**default), LRScheduleConfig(**override))
    assert as_plain(merged) == default | override


def test_merging_changes_neither_side():
    default, override = OptimizerConfig(lr_by_name={"a": 1.0}), OptimizerConfig(lr_by_name={"b": 2.0})
    merged = merge(default, override)
    merged.lr_by_name["c"] = 3.0
    assert default.lr_by_name == {"a": 1.0}
    assert override.lr_by_name == {"b": 2.0}


def test_a_zero_overrides_and_none_does_not():
    assert merge(OptimizerConfig(lr=1.0, weight_decay=1.0), OptimizerConfig(lr=0.0)) == OptimizerConfig(
        lr=0.0, weight_decay=1.0
    )
