"""Patterns of parameter names decide which group a parameter is in, and whether it is trained."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optimized_modules import network

from gradual.errors import InputError
from gradual.settings import OptimizerConfig
from gradual.stage.optim import check_patterns, parameter_groups, trainable_parameters

NAMES = [name for name, _ in network().named_parameters()]
PATTERNS = ["*", "encoder.*", "*.bias", "*.norm.*", "head.*", "head.weight", "encoder.first.bias"]


def settings_by_name(module, groups):
    """Each grouped parameter's name with its group."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = [(names[id(parameter)], group) for group in groups for parameter in group["params"]]
    assert len(found) == len({name for name, _ in found}), "a parameter is in one group"
    return dict(found)


def test_without_patterns_there_is_one_group():
    module = network()
    (group,) = parameter_groups(module, OptimizerConfig(lr=0.1, weight_decay=0.2))
    assert {key: value for key, value in group.items() if key != "params"} == {
        "name": "other",
        "lr": 0.1,
        "weight_decay": 0.2,
    }
    assert [id(p) for p in group["params"]] == [id(p) for p in module.parameters()]


def test_unset_options_are_left_to_the_optimizer():
    (group,) = parameter_groups(network(), OptimizerConfig())
    assert set(group) == {"name", "params"}


def test_patterns_for_rates_and_for_decays_cross():
    module = network()
    config = OptimizerConfig(
        lr=1.0, lr_by_name={"encoder.*": 0.5}, weight_decay=0.1, weight_decay_by_name={"*.bias": 0, "*.norm.*": 0}
    )
    groups = parameter_groups(module, config)
    assert {group["name"]: (group["lr"], group["weight_decay"]) for group in groups} == {
        "encoder.*": (0.5, 0.1),
        "*.bias *.norm.* encoder.*": (0.5, 0),
        "other": (1.0, 0.1),
        "*.bias": (1.0, 0),
    }
    names = {name: group["name"] for name, group in settings_by_name(module, groups).items()}
    assert names["encoder.first.weight"] == "encoder.*"
    assert names["encoder.norm.weight"] == "*.bias *.norm.* encoder.*"
    assert names["head.weight"] == "other"
    assert names["head.bias"] == "*.bias"


def test_the_first_match_wins():
    for patterns, rate in (
        ({"head.weight": 1.0, "head.*": 2.0, "*": 3.0}, 1.0),
        ({"head.*": 2.0, "head.weight": 1.0, "*": 3.0}, 2.0),
        ({"*": 3.0, "head.weight": 1.0, "head.*": 2.0}, 3.0),
    ):
        module = network()
        groups = settings_by_name(module, parameter_groups(module, OptimizerConfig(lr_by_name=patterns)))
        assert groups["head.weight"]["lr"] == rate


BY_NAME = st.none() | st.lists(
    st.tuples(st.sampled_from(PATTERNS), st.sampled_from([0.1, 0.2, 0.4])), max_size=4, unique_by=lambda item: item[0]
).map(dict)
VALUES = st.none() | st.sampled_from([0.1, 0.2, 0.8])


@given(BY_NAME, BY_NAME, st.sampled_from([0.1, 0.8]), VALUES, st.none() | st.just(0.5), st.sets(st.sampled_from(NAMES)))
def test_every_trainable_parameter_has_the_settings_of_its_first_pattern(rates, decays, lr, decay, scale, frozen):
    module = network()
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    trainable = [name for name in NAMES if name not in frozen]
    config = OptimizerConfig(lr=lr, lr_by_name=rates, lr_scale=scale, weight_decay=decay, weight_decay_by_name=decays)
    useless = [
        pattern
        for pattern in {**(rates or {}), **(decays or {})}
        if not any(fnmatchcase(n, pattern) for n in trainable)
    ]
    if useless:
        with pytest.raises(InputError, match="matches no trainable parameter"):
            parameter_groups(module, config)
        return
    groups = parameter_groups(module, config)
    assert len({group["name"] for group in groups}) == len(groups), "Lightning's monitor wants a name for each"
    found = settings_by_name(module, groups)
    assert sorted(found) == sorted(trainable)
    for name, group in found.items():
        expected_lr = next((rate for pattern, rate in (rates or {}).items() if fnmatchcase(name, pattern)), lr)
        expected_decay = next((rate for pattern, rate in (decays or {}).items() if fnmatchcase(name, pattern)), decay)
        assert group["lr"] == pytest.approx(expected_lr * (scale or 1))
        assert group.get("weight_decay") == expected_decay


def test_a_pattern_that_matches_nothing_is_named():
    for field in ("lr_by_name", "weight_decay_by_name"):
        with pytest.raises(InputError, match=r"'bert\.\*' matches no trainable parameter.*encoder\.\*, head\.\*"):
            parameter_groups(network(), OptimizerConfig(lr=0.1, **{field: {"head.*": 0.1, "bert.*": 0.2}}))


@given(
    st.none()
    | st.lists(st.tuples(st.sampled_from(PATTERNS), st.booleans()), max_size=4, unique_by=lambda item: item[0]).map(
        dict
    ),
    st.sets(st.sampled_from(NAMES)),
)
def test_the_first_pattern_says_what_is_trained_and_else_the_module(by_name, frozen):
    module = network()
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    expected = {
        name: next(
            (value for pattern, value in (by_name or {}).items() if fnmatchcase(name, pattern)), name not in frozen
        )
        for name in NAMES
    }
    assert trainable_parameters(module, by_name) == expected
    groups = parameter_groups(module, OptimizerConfig(lr=0.1, trainable_by_name=by_name))
    assert sorted(settings_by_name(module, groups)) == sorted(name for name in NAMES if expected[name])
    assert {name for name in NAMES if not module.get_parameter(name).requires_grad} == frozen, "it only looks"


def test_a_pattern_of_what_is_trained_that_matches_nothing_is_named():
    config = OptimizerConfig(lr=0.1, trainable_by_name={"head.*": False, "bert.*": True})
    with pytest.raises(InputError, match=r"'bert\.\*' matches no parameter; names look like encoder\.\*, head\.\*"):
        parameter_groups(network(), config)


def test_a_pattern_for_parameters_that_the_stage_freezes_matches_nothing():
    with pytest.raises(InputError, match=r"'head\.\*' matches no trainable parameter"):
        parameter_groups(
            network(), OptimizerConfig(lr=0.1, lr_by_name={"head.*": 1.0}, trainable_by_name={"head.*": False})
        )


def test_a_pattern_for_frozen_parameters_alone_matches_nothing():
    module = network()
    module["head"].requires_grad_(False)
    with pytest.raises(InputError, match=r"'head\.\*' matches no trainable parameter"):
        parameter_groups(module, OptimizerConfig(lr=0.1, lr_by_name={"head.*": 0.2}))


def test_a_parameter_without_a_rate_is_named():
    with pytest.raises(InputError, match=r"no pattern that matches the parameter 'head\.weight'"):
        parameter_groups(network(), OptimizerConfig(lr_by_name={"encoder.*": 0.1}))


@pytest.mark.parametrize(
    ("patterns", "before"),
    [
        ({"encoder.*": 0.1, "encoder.norm.*": 0.2}, r"'encoder\.\*'"),
        ({"*.weight": 0.1, "*.bias": 0.3, "head.*": 0.2}, r"'\*\.weight' or '\*\.bias'"),
        ({"*.weight": 0.2, "*.bias": 0.3, "head.*": 0.2}, r"'\*\.weight' or '\*\.bias'"),
    ],
)
@pytest.mark.parametrize("setting", ["lr_by_name", "weight_decay_by_name"])
def test_a_pattern_that_is_never_the_first_match_is_named(setting, patterns, before):
    last = list(patterns)[-1].replace(".", r"\.").replace("*", r"\*")
    config = OptimizerConfig(lr=0.1, **{setting: patterns})
    with pytest.raises(
        InputError, match=rf"optimizer\.{setting}\['{last}'\] is never the first match: {before} before"
    ):
        check_patterns(network(), config)
    turned = OptimizerConfig(lr=0.1, **{setting: dict(reversed(patterns.items()))})
    check_patterns(network(), turned)


def test_what_is_trained_has_patterns_that_are_checked_alike():
    with pytest.raises(InputError, match=r"optimizer\.trainable_by_name\['head\.\*'\] is never the first match: '\*'"):
        check_patterns(network(), OptimizerConfig(trainable_by_name={"*": False, "head.*": True}))


def test_a_pattern_that_would_change_nothing_if_it_were_first_may_be_last():
    check_patterns(network(), OptimizerConfig(weight_decay_by_name={"*.norm.*": 0, "encoder.norm.weight": 0.0}))
    check_patterns(network(), OptimizerConfig(weight_decay_by_name={"*.bias": 0, "*.norm.*": 0}))


@given(BY_NAME)
def test_every_pattern_that_passes_decides_for_a_parameter_or_changes_none(by_name):
    """Without it, or with it first: what is refused would have made a difference there and makes none where it is."""
    by_name = by_name or {}

    def chosen(patterns):
        return [next((v for p, v in patterns.items() if fnmatchcase(name, p)), None) for name in NAMES]

    without = [{p: v for p, v in by_name.items() if p != pattern} for pattern in by_name]
    useless = [
        all(any(fnmatchcase(name, p) for p in list(by_name)[:at]) for name in NAMES if fnmatchcase(name, pattern))
        and chosen({pattern: by_name[pattern], **rest}) != chosen(by_name)
        for at, (pattern, rest) in enumerate(zip(by_name, without))
    ]
    if any(useless):
        with pytest.raises(InputError, match="is never the first match"):
            check_patterns(network(), OptimizerConfig(lr_by_name=by_name))
    else:
        check_patterns(network(), OptimizerConfig(lr_by_name=by_name))
