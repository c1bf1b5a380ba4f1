"""Which controls there are: of a strategy, on request, by name; and the amounts and weights of their stages."""

import functools
import math
from collections import Counter

import linear_model
import pytest
from controlled_runs import GRADUAL, Counting, compare, counted

import gradual
from gradual import InputError, Schedule, Strategy
from gradual.experiment.controls import CONTROLS, ON_REQUEST, REPLAY, check_controls, controls_of

pytestmark = pytest.mark.usefixtures("undrawn_figures")


@pytest.mark.parametrize(("amount", "weight"), [(12, 2.0), (4, 6.0), (9, 24 / 9)])
def test_repeated_in_domain_examples_have_the_share_of_the_smaller_stage(amount, weight):
    data = linear_model.make_data({"batch_size": 4})
    data.schedule = [24, {"amount": 24, "in_domain_weight": weight}]
    data.setup("fit")
    data.set_stage(1)
    loader = data.train_dataloader()
    epoch = [tuple(inputs.tolist()) for batch in loader for inputs in batch[0]]
    in_domain = Counter(tuple(inputs.tolist()) for inputs, _ in data.domains.in_domain)
    found = Counter(example for example in epoch if example in in_domain)
    assert len(epoch) - found.total() == 24
    assert found.keys() == in_domain.keys()
    assert found.total() / 24 == pytest.approx(8 / amount, abs=0.5 / 24)
    assert set(found.values()) <= {math.floor(weight), math.ceil(weight)}
    assert len(epoch) == data.examples_per_epoch


def test_what_a_control_would_share_entirely_is_no_control():
    def names(amounts):
        return list(controls_of("x", Strategy(Schedule(amounts)), amounts, [*CONTROLS, *ON_REQUEST]))

    assert names([24, 12, 0]) == [f"x: {kind}" for kind in (*CONTROLS, *ON_REQUEST)]
    assert names([24, 0]) == ["x: mixed, same training", "x: ends with replay"]
    assert names([24, 24, 0]) == [
        "x: same training, one stage", "x: same training, drop at once", "x: mixed, same training",
        "x: ends with replay",
    ]  # fmt: skip
    assert names([24]) == []


@pytest.mark.parametrize(
    ("schedule", "amounts"),
    [
        ([24, 0.0], [24, 0]),
        ([1.0, 0.0], [24, 0]),
        ([1.0, {"books": 0}], [24, 0]),
        ([{"books": 24}, {"books": 0}], [24, 0]),
        ([1.0, 24, 0], [24, 24, 0]),
        ([1.0, {"books": 24}, 0.0], [24, 24, 0]),
        ([1.0, 12, 0.0], [24, 12, 0]),
        ([1.0, 0.5, {"books": 0}], [24, 12, 0]),
        ([{"books": 24}, {"books": 0}, {"books": 0}], [24, 0, 0]),
    ],
)
def test_controls_are_told_apart_by_the_amounts_that_the_pool_gives(schedule, amounts):
    kinds = [kind for kind in (*CONTROLS, *ON_REQUEST) if kind != REPLAY]  # which has an amount of its own
    found, plain = (controls_of("x", Strategy(Schedule(one)), amounts, kinds) for one in (schedule, amounts))
    assert list(found) == list(plain)
    for name, control in plain.items():
        assert found[name].control.copies == control.control.copies, name


def test_one_example_is_not_the_whole_pool():
    kinds = ["same training, same restarts"]
    (control,) = controls_of("x", Strategy(Schedule([1.0, 1, 0])), [24, 1, 0], kinds).values()
    assert control.schedule.to_list() == [1.0, 1.0, 0]
    assert control.control.copies == ((), (1,), (2,))


def test_what_is_asked_for_must_be_a_control():
    assert check_controls(True) == CONTROLS
    assert check_controls(False) == check_controls([]) == ()
    assert check_controls([REPLAY, REPLAY]) == (REPLAY,)
    with pytest.raises(InputError, match=r"no control 'drop at once'; .*Did you mean 'same training, drop at once'"):
        check_controls(["drop at once"])
    with pytest.raises(InputError, match=r"controls is 'mixed': it must be true, false or a list of names"):
        check_controls("mixed")


def test_a_strategy_must_not_have_the_name_of_a_control(tmp_path):
    strategies = {**GRADUAL, "gradual: mixed, same training": Strategy(Schedule([20]))}
    with pytest.raises(InputError, match="rename it"):
        compare(tmp_path, strategies)


def test_python_takes_controls_too(tmp_path):
    arguments = {"seeds": [0], "max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    data = linear_model.make_data({"batch_size": 4})
    model = functools.partial(Counting, tmp_path / "trained.txt")
    optimizer = {"lr": 0.05}
    controls = ["same training, one stage"]
    gradual.compare(model, data, [24, 4, 0], tmp_path / "run", controls=controls, optimizer=optimizer, **arguments)
    steps, _ = counted(tmp_path)
    assert steps["24-as-24+4"] == 2 * 3, "beside the 2 * 8 of the first stage, which it shares"
    with pytest.raises(InputError, match="controls is 3"):
        gradual.compare(model, data, [24, 0], tmp_path / "run", controls=3, optimizer=optimizer, **arguments)


def test_a_replay_keeps_a_part_of_each_source():
    strategy = Strategy(Schedule([{"books": 400, "dvd": 0.5}, {"books": 100, "dvd": 0.25}, 0]))
    (control,) = controls_of("gradual", strategy, [500, 150, 0], [REPLAY]).values()
    assert control.schedule[2].amount == {"books": 33, "dvd": pytest.approx(0.25 * 50 / 150)}


@pytest.mark.parametrize(
    ("amounts", "kept", "said"),
    [([2000, 500, 0], 200, "200, 10% of the first amount"), ([2000, 100, 0], 100, "100, 5% of the first amount")],
)
def test_a_replay_says_what_it_keeps(amounts, kept, said):
    (control,) = controls_of("gradual", Strategy(Schedule(amounts)), amounts, [REPLAY]).values()
    assert control.schedule[2].amount == kept
    assert control.control.explanation.endswith(f"the last takes as many steps with an amount of {said}")
