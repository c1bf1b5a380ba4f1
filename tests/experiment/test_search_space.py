"""The paths that a search chooses from, and what is left of them."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradual import InputError, Schedule, SearchConfig, TrainSettings
from gradual.experiment.search.space import Choice, Space
from gradual.experiment.search.unexplored import Unexplored, draw


class Scripted:
    """Makes the choices that it is given, as numbers from 0 to 1."""

    def __init__(self, choices):
        self.choices = iter(choices)

    def suggest_int(self, name, low, high):
        return low + round(next(self.choices) * (high - low))

    def suggest_categorical(self, name, choices):
        return choices[round(next(self.choices) * (len(choices) - 1))]


class Fixed(Scripted):
    """Makes the choices of a mapping."""

    def __init__(self, choices):
        self.choices = choices

    def suggest_int(self, name, low, high):
        assert low <= self.choices[name] <= high
        return self.choices[name]

    def suggest_categorical(self, name, choices):
        assert self.choices[name] in choices
        return self.choices[name]


def space_of(schedule: Schedule, pool: int, config: SearchConfig) -> Space:
    return Space(schedule, schedule.amounts(pool), pool, config, TrainSettings())


def path_of(space: Space, suggests) -> list[Choice]:
    path: list[Choice] = []
    while not path or path[-1].amount:
        path.append(space.choose(path, suggests))
    return path


@given(st.lists(st.floats(0, 1), min_size=40, max_size=40), st.integers(2, 6), st.integers(3, 500))
def test_paths_fall_to_0_within_their_length_and_the_pool(choices, longest, pool):
    space = space_of(Schedule([0.5, 0]), pool, SearchConfig(max_stages=longest))
    amounts = [choice.amount for choice in path_of(space, Scripted(choices))]
    assert amounts == sorted(set(amounts), reverse=True)
    assert amounts[-1] == 0
    assert 2 <= len(amounts) <= longest
    assert amounts[0] <= pool


def every_path(space: Space, path: tuple[Choice, ...] = ()) -> list[tuple[Choice, ...]]:
    """All paths of a small space, from every choice that a trial could make."""
    if path and not path[-1].amount:
        return [path]
    scripts = itertools.product([0, 0.25, 0.5, 0.75, 1], repeat=3)
    choices = {space.choose(path, Scripted(script)) for script in scripts}
    assert set(space.choices(path)) == choices
    for choice, suggested in space.choices(path).items():
        assert space.choose(path, Fixed(suggested)) == choice
    return [whole for choice in choices for whole in every_path(space, (*path, choice))]


@given(st.data(), st.integers(2, 4), st.sampled_from([[1], [1, 0.5]]))
@settings(max_examples=20)
def test_what_is_left_of_a_space_is_each_path_once(data, longest, factors):
    config = SearchConfig(multiples=[1, 0.5, 0.25], lr_scales=factors, max_stages=longest)
    space = space_of(Schedule([64, 0]), 64, config)
    left, ended = set(every_path(space)), []
    while first := Unexplored(space, ended).after([]):
        path = [draw(first, data.draw(st.integers(0, 99)))]
        while path[-1].amount and data.draw(st.integers(0, 3)):  # otherwise it is pruned
            choices = Unexplored(space, ended).after(path)
            assert choices
            path.append(draw(choices, data.draw(st.integers(0, 99))))
        ended.append(tuple(path))
        gone = {one for one in left if one[: len(path)] == tuple(path)}
        assert gone, "it was chosen before"
        left -= gone
    assert not left


@pytest.mark.parametrize("schedule", [[64, 16, 0], [0.5, 0], [64, 48, 32, 20, 4, 0]])
def test_the_given_schedule_is_one_of_the_paths(schedule):
    later = {"optimizer": {"lr_scale": 0.4}, "max_epochs": 3}
    given = Schedule(schedule, later, {"patience": 9})
    space = space_of(given, 64, SearchConfig(max_stages=2))
    path = path_of(space, Fixed(space.default()))
    assert [choice.amount for choice in path] == given.amounts(64)
    assert [one.overrides() for one in space.schedule(path)] == [one.overrides() for one in given]


@pytest.mark.parametrize("schedule", [[64, 64, 0], [64, 16], [{"amount": 64, "patience": 2}, 0]])
def test_a_schedule_that_is_none_of_the_paths_is_known(schedule):
    assert space_of(Schedule(schedule), 64, SearchConfig()).default() is None


def test_amounts_by_source_are_refused():
    with pytest.raises(InputError, match="must have no amounts by source"):
        Space(Schedule([{"a": 2, "b": 3}, 0]), [5, 0], 64, SearchConfig(), TrainSettings())


def test_factors_multiply_the_rates_of_the_configuration():
    given = Schedule([64, 16, 0], {"optimizer": {"lr_scale": 0.4}}, {"optimizer": {"lr_scale": 0.1}})
    space = space_of(given, 64, SearchConfig())
    schedule = space.schedule([Choice(64), Choice(16, 0.5), Choice(0, 0.5)])
    assert [stage.optimizer.lr_scale for stage in schedule] == [None, pytest.approx(0.2), pytest.approx(0.05)]
    unfinished = space.schedule([Choice(64), Choice(16, 0.5)])
    assert unfinished[1] == schedule[1], "a stage does not change when its path goes on"
