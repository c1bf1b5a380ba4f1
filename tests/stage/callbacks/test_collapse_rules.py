"""Collapse (Appendix A.1): which training losses and scores are one, and which are not."""

import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradual import CollapseConfig, InputError
from gradual.stage.callbacks.collapse import LossWatch, ScoreWatch

SPIKE = st.sampled_from([1e3, 1e30, math.inf, math.nan])


def alarm(losses, ratio=10.0, level=0.0) -> tuple[int, str] | None:
    """The step, counted from 1, and the words of the first alarm."""
    watch = LossWatch(ratio, level)
    for loss in losses:
        seen = watch.add(loss)
        if seen:
            return watch.steps, seen
    return None


@st.composite
def healthy(draw):
    """Falling losses, or rising to twice where they began; noise of a factor of 3; a spike in one step of five."""
    steps = draw(st.integers(1, 120))
    level, end = draw(st.floats(1e-6, 1e6)), draw(st.floats(0.001, 1.5))
    noise = draw(st.lists(st.floats(0.4, 2.5), min_size=steps, max_size=steps))
    losses = [level * (1 + (end - 1) * t / steps) * factor for t, factor in enumerate(noise)]
    for t in range(draw(st.integers(0, 4)), steps, 5):
        losses[t] = draw(SPIKE) if draw(st.booleans()) else losses[t]
    return losses


@given(healthy())
def test_losses_of_a_stage_that_learns_raise_no_alarm(losses):
    assert alarm(losses) is None


@given(st.lists(st.floats(1e-9, 1.0), min_size=40, max_size=100), st.floats(0.05, 1.0))
def test_a_loss_that_began_near_zero_may_rise_to_the_parent_s_validation_loss(losses, validation_loss):
    rising = [*[1e-9] * 10, *(loss * 10 * validation_loss for loss in losses)]
    assert alarm(rising, level=validation_loss) is None
    assert alarm([*[1e-9] * 10, *[11 * validation_loss] * 20], level=validation_loss)


def test_without_a_parent_only_a_loss_that_began_at_zero_may_rise_without_bounds():
    assert alarm([*[0.0] * 10, *[1e9] * 30]) is None
    assert alarm([*[1e-6] * 10, *[1e-3] * 20])


@given(st.lists(st.floats(-1e6, -1e-6), min_size=1, max_size=5), st.lists(st.floats(-1e6, 1e6), max_size=60))
def test_where_losses_are_below_zero_their_ratio_means_nothing(first, rest):
    assert alarm([*first, *rest]) is None


@given(st.lists(st.floats(0.4, 2.5), min_size=5, max_size=30), st.floats(70, 1e30))
def test_a_loss_that_explodes_is_seen_within_twenty_steps(noise, times):
    step, seen = alarm([*noise, *[times] * 20])
    assert len(noise) < step <= len(noise) + 20
    assert "rose from" in seen


@given(healthy(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_two_losses_that_are_not_finite_are_seen_at_once(losses, value):
    losses = [loss if math.isfinite(loss) else 1.0 for loss in losses]
    assert alarm([*losses, value, 1.0, value]) is None
    step, seen = alarm([*losses, value, math.nan, 1.0])
    assert step == len(losses) + 2
    assert "nan" in seen


@given(st.lists(st.floats(0, 100), min_size=1, max_size=80), st.floats(1.5, 20), st.floats(0, 2))
def test_the_median_is_compared_with_the_first_five_naively(losses, ratio, level):
    expected = None
    for t in range(20, len(losses) + 1):
        began = max(*losses[:5], level)
        if began > 0 and median(losses[t - 20 : t]) > ratio * began:
            expected = t
            break
    found = alarm(losses, ratio, level)
    assert (found[0] if found else None) == expected


def test_after_the_start_only_what_is_not_finite_counts():
    watch = LossWatch(10.0)
    watch.settled = True
    assert not any(watch.add(loss) for loss in [1.0] * 10 + [1e9] * 30)
    assert watch.add(math.nan) is None
    assert watch.add(math.nan)


PARENT = {"accuracy": 0.9, "loss": 0.2, "rare_f1": 0.05, "time": 5.0, "accuracy/hotel": 0.9}


def watch(monitor="val/loss", mode="min", parent=PARENT, examples=100, **config) -> ScoreWatch:
    return ScoreWatch(CollapseConfig(**config), monitor, mode, parent, examples)


@pytest.mark.parametrize(
    ("given", "metrics", "seen"),
    [
        ({}, {"val/accuracy": 0.08}, "val/accuracy fell from 0.9 to 0.08"),
        ({}, {"val/accuracy": 0.1}, None),
        ({"ratio": 2.0}, {"val/accuracy": 0.4}, "val/accuracy fell"),
        ({"examples": 11}, {"val/accuracy": 0.0}, None),  # not ten examples right
        ({}, {"val/rare_f1": 0.0}, None),  # it was low already
        ({}, {"val/time": 0.1}, None),  # not a score that is better when higher
        ({}, {"val/accuracy/hotel": 0.0}, None),  # of one class
        ({}, {"train/accuracy": 0.0}, None),
        ({}, {"val/new_accuracy": 0.0}, None),  # the parent had none
        ({"parent": {}}, {"val/accuracy": 0.0, "val/loss": 1e9}, None),
        ({"monitor": "val/time", "mode": "max"}, {"val/time": 0.1}, "val/time fell"),
        ({"monitor": "val/accuracy", "mode": "min"}, {"val/accuracy": 0.0}, None),  # the user says lower is better
        ({"scores": ["val/time"]}, {"val/time": 0.1}, "val/time fell"),
        ({"scores": ["val/time"]}, {"val/time": 5.0, "val/accuracy": 0.0}, None),
        ({}, {"val/loss": math.nan}, "val/loss is nan"),
        ({"monitor": "val/accuracy", "mode": "max"}, {"val/accuracy": math.inf}, "val/accuracy is inf"),
    ],
)
def test_collapses_that_one_validation_shows(given, metrics, seen):
    found = watch(**given).validated(metrics)
    assert (found is None) if seen is None else found.startswith(seen)


@pytest.mark.parametrize("monitor", ["val/loss", "val/accuracy"])
@pytest.mark.parametrize(
    ("validations", "collapsed"),  # of a loss that was 0.2 and an accuracy that was 0.9
    [
        ([(3.0, 0.3)], False),
        ([(3.0, 0.3), (2.9, 0.3)], True),
        ([(3.0, 0.3), (1.9, 0.3), (3.0, 0.3)], False),  # not in a row
        ([(9.0, 0.3), (4.0, 0.3), (2.1, 0.3)], True),
        ([(9.0, 0.3), (4.0, 0.3)], False),  # it recovers
        ([(9.0, 0.5), (9.0, 0.5), (9.0, 0.5)], False),  # what counts is hardly the worse
    ],
)
def test_collapses_that_validation_losses_show(monitor, validations, collapsed):
    watched = watch(monitor, "max" if monitor == "val/accuracy" else "min")
    *before, last = [watched.validated({"val/loss": loss, "val/accuracy": score}) for loss, score in validations]
    assert before == [None] * len(before)
    assert (last == f"val/loss rose from 0.2 to {validations[-1][0]:g}") if collapsed else (last is None)


def test_a_loss_without_scores_speaks_for_itself():
    watched = watch(parent={"loss": 0.2})
    assert watched.validated({"val/loss": 3.0}) is None
    assert watched.validated({"val/loss": 3.0})


def test_an_epoch_with_a_good_validation_ends_the_start():
    watched = watch()
    watched.validated({"val/loss": 3.0})
    watched.trained({})
    assert not watched.settled
    watched.validated({"val/loss": 0.3, "val/accuracy": 0.8})
    watched.trained({})
    assert watched.settled
    assert watched.validated({"val/loss": 9.0, "val/accuracy": 0.0}) is None
    assert watched.validated({"val/loss": math.inf})


def test_a_training_score_is_watched_where_it_is_named():
    watched = watch(scores=["train/accuracy"])
    watched.validated({"val/accuracy": 0.0})
    assert watched.trained({"train/accuracy": 0.05}) == "train/accuracy fell from 0.9 to 0.05"
    with pytest.raises(InputError, match=r"'train/accuracy', which is not logged; the names logged are val/loss"):
        watched.trained({"val/loss": 1.0})


@pytest.mark.parametrize(
    "state", [{"attempts": -1}, {"factor": 0.0}, {"factor": 1.0}, {"ratio": 1.0}, {"scores": ["accuracy"]}]
)
def test_settings_that_mean_nothing_are_refused(state):
    with pytest.raises(InputError, match=f"collapse.{next(iter(state))} "):
        CollapseConfig(**state)
