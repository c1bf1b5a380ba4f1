"""Strategies, the tree that shares their stages, and what sharing saves."""

import numpy as np
import pytest
from paper_table5 import table5

from gradual import InputError, Schedule, Stage
from gradual.experiment.strategies import Strategy, default_strategies, parse_strategies
from gradual.experiment.tree import Tree
from gradual.report.remarks import same_paths
from gradual.settings import OptimizerConfig, TrainSettings

PAPER = Schedule([4000, 2000, 500, {"amount": 0, "optimizer": {"lr": 4e-5}}])


def tree(strategies: dict[str, Strategy], seeds=(0,), pool: int = 4000) -> Tree:
    return Tree(
        strategies,
        seeds,
        lambda strategy: strategy.schedule.amounts(pool),
        lambda stage, seed: TrainSettings(seed=seed).resolve(stage),
    )


def amounts(strategies: dict[str, Strategy]) -> dict[str, list]:
    return {name: [stage.amount for stage in strategy.schedule] for name, strategy in strategies.items()}


def test_the_paper_s_four_come_from_the_schedule():
    four = default_strategies(PAPER)
    assert amounts(four) == {
        "in-domain only": [0],
        "mixed": [4000],
        "one-stage": [4000, 0],
        "gradual": [4000, 2000, 500, 0],
    }
    # the last stage's learning rate is for weights that were fine-tuned before
    assert four["in-domain only"].schedule[0].optimizer == OptimizerConfig()
    assert four["one-stage"].schedule[-1].optimizer.lr == 4e-5


def test_with_two_stages_one_stage_and_gradual_are_one_row():
    schedule = Schedule([100, 0], last_stage={"optimizer": {"lr": 4e-5}})
    rows = default_strategies(schedule)
    assert amounts(rows) == {"in-domain only": [0], "mixed": [100], "gradual": [100, 0]}
    assert {name: strategy.also for name, strategy in rows.items() if strategy.also} == {"gradual": ("one-stage",)}
    assert rows["gradual"].to_plain()["also"] == ["one-stage"]
    assert all(not strategy.also for strategy in default_strategies(PAPER).values())


def test_a_path_of_the_four_can_be_selected_by_any_of_its_names():
    schedule = Schedule([100, 0])
    assert amounts(parse_strategies(["one-stage"], schedule)) == {"one-stage": [100, 0]}
    both = parse_strategies(["one-stage", "gradual"], schedule)
    assert both["one-stage"] == both["gradual"]
    assert list(parse_strategies(None, schedule)) == ["in-domain only", "mixed", "gradual"]


def test_a_schedule_of_one_stage_has_no_path_twice():
    def also(schedule):
        return {name: strategy.also for name, strategy in default_strategies(Schedule(schedule)).items()}

    assert also([0]) == {"in-domain only": ("gradual", "mixed", "one-stage")}
    assert also([4]) == {"in-domain only": (), "gradual": ("mixed", "one-stage")}
    assert amounts(parse_strategies(["one-stage"], Schedule([4]))) == {"one-stage": [4]}


def test_strategies_of_equal_paths_are_mentioned_in_a_sentence_each():
    paths = {"a": [1, 2], "b": [1, 2], "c": [1], "d": [1, 2], "unknown": [], "not yet": []}
    assert same_paths(paths, {"a": [], "c": ["mixed"]}) == [
        "With this schedule, mixed and c are the same path: the row c stands for both.",
        "a, b and d are the same path: its stages are trained once, and the scores are the same.",
    ]
    assert same_paths({"in-domain only": [1]}, {"in-domain only": ["gradual", "mixed"]}) == [
        "With this schedule, gradual, mixed and in-domain only are the same path: the row in-domain only stands for "
        "all of them."
    ]


OVERRIDES = {"max_epochs": 16, "optimizer": {"lr_by_name": {"a.*": 0.1}}}


def test_a_strategy_without_amounts_follows_the_schedule_with_its_overrides():
    schedule = Schedule([9, {"amount": 5, "max_epochs": 3}, 0], last_stage={"patience": 2})
    described = {"in-domain only": OVERRIDES, "mixed": {}, "one-stage": {"patience": 4}, "gradual": {"max_epochs": 7}}
    found = {name: strategy.schedule.to_list() for name, strategy in parse_strategies(described, schedule).items()}
    assert found == {
        "in-domain only": [{"amount": 0, **OVERRIDES}],
        "mixed": [9],
        "one-stage": [{"amount": 9, "patience": 4}, {"amount": 0, "patience": 4}],
        "gradual": [  # a strategy's overrides come before all that is said of the experiment's stages
            {"amount": 9, "max_epochs": 7},
            {"amount": 5, "max_epochs": 7},
            {"amount": 0, "max_epochs": 7, "patience": 2},
        ],
    }
    shorter = parse_strategies(described, schedule.with_stages([4, 0]))
    assert amounts(shorter) == {"in-domain only": [0], "mixed": [4], "one-stage": [4, 0], "gradual": [4, 0]}


def test_without_overrides_all_strategies_are_the_paper_s():
    described = {name: {} for name in ["in-domain only", "mixed", "one-stage", "gradual"]}
    assert parse_strategies(described, PAPER) == default_strategies(PAPER)


def test_a_strategy_may_have_overrides_beside_stages_and_data_of_its_own():
    schedule = Schedule([9, 0], {"patience": 3, "max_epochs": 2})
    stages = [7, {"amount": 5, "max_epochs": 4}, 0]
    described = {"own": {"schedule": stages, "max_epochs": 8, "data": {"pool": "x"}}, "mixed": {"data": {"pool": "y"}}}
    found = parse_strategies(described, schedule)
    assert found["own"].schedule.to_list() == [
        {"amount": 7, "max_epochs": 8},
        {"amount": 5, "max_epochs": 4, "patience": 3},
        {"amount": 0, "max_epochs": 8, "patience": 3},
    ]
    assert (found["own"].data, found["mixed"].data) == ({"pool": "x"}, {"pool": "y"})
    assert amounts(found)["mixed"] == [9]


def test_the_strategy_s_pattern_comes_before_the_experiment_s():
    schedule = Schedule([9, 0], last_stage={"optimizer": {"lr_by_name": {"b.*": 0.2, "a.*": 0.3}}})
    one_stage = parse_strategies({"one-stage": OVERRIDES}, schedule)["one-stage"]
    assert list(one_stage.schedule[1].optimizer.lr_by_name.items()) == [("a.*", 0.1), ("b.*", 0.2)]


def test_later_stages_apply_to_lists_and_not_to_schedules():
    schedule = Schedule([9, 5, 0], {"patience": 3}, {"max_epochs": 2})
    own = Schedule([9, 0], {"patience": 4})
    found = parse_strategies({"list": [9, 0], "own": own, "strategy": Strategy(own)}, schedule)
    assert found["list"].schedule.to_list() == [9, {"amount": 0, "patience": 3, "max_epochs": 2}]
    assert found["own"].schedule == found["strategy"].schedule == own
    assert default_strategies(schedule)["one-stage"].schedule == found["list"].schedule


def test_table_5_costs_12_stages_and_not_14():
    rows = {name: strategy for name, strategy in table5().items() if name not in ("all domains", "mixed")}
    assert sorted(map(tuple, amounts(rows).values())) == sorted(
        [(0,), (500, 0), (2000, 0), (4000, 0), (2000, 500, 0), (4000, 2000, 500, 0)]
    )
    shared = tree(rows)
    assert (len(shared.nodes), shared.stages_without_sharing) == (12, 14)
    assert sum(node.amounts == (4000,) for node in shared.nodes) == 1
    with_mixed = tree(rows | {"mixed": Strategy(Schedule([4000]))})
    assert len(with_mixed.nodes) == 12


def test_table_5_s_later_stages_train_the_vectors_and_the_last_ones_have_the_paper_s_rate():
    for name, strategy in table5().items():
        first, *later = strategy.schedule
        assert first.overrides() == {}, name
        vectors = {"trainable_by_name": {"model.*_vectors": True}}
        assert [stage.overrides() for stage in later[:-1]] == [{"optimizer": vectors}] * (len(later) - 1), name
        assert [stage.overrides() for stage in later[-1:]] == [{"optimizer": {"lr": 4e-5, **vectors}}] * bool(later), (
            name
        )


def test_table_5_has_the_all_domain_row_on_the_whole_training_set():
    everything = table5()["all domains"]
    assert everything.data == {"pool": "../../train.tsv"}
    assert [stage.amount for stage in everything.schedule] == [1.0]
    assert len(tree(table5()).nodes) == 13


def test_every_path_is_a_chain_of_parents():
    built = tree(default_strategies(PAPER), seeds=(0, 1, 1))
    assert built.seeds == [0, 1]
    for path in built.paths.values():
        assert [node.parent for node in path] == [None, *path[:-1]]
        assert [len(node.amounts) for node in path] == list(range(1, len(path) + 1))
    order = {id(node): place for place, node in enumerate(built.nodes)}
    assert all(order[id(node.parent)] < order[id(node)] for node in built.nodes if node.parent)
    # seeds share nothing
    assert len(built.nodes) == 2 * len(tree(default_strategies(PAPER)).nodes)


def test_stages_that_differ_only_in_what_they_override_are_different():
    same = Strategy(Schedule([100, 0]))
    other = Strategy(Schedule([100, Stage(0, patience=9)]))
    elsewhere = Strategy(Schedule([100, 0]), {"pool": "other.tsv"})
    assert len(tree({"a": same, "b": same}).nodes) == 2
    assert len(tree({"a": same, "b": other}).nodes) == 3
    assert len(tree({"a": same, "c": elsewhere}).nodes) == 4


def test_the_order_of_patterns_is_part_of_a_stage_and_no_other_order():
    def strategy(**optimizer):
        return Strategy(Schedule([{"amount": 0, "optimizer": {"lr": 0.1, **optimizer}}]))

    patterns, arguments = {"a": 0.1, "*": 0.2}, {"eps": 0.1, "betas": [0.9, 0.9]}
    turned = [dict(reversed(given.items())) for given in (patterns, arguments)]
    assert len(tree({"a": strategy(lr_by_name=patterns), "b": strategy(lr_by_name=turned[0])}).nodes) == 2
    assert len(tree({"a": strategy(init_args=arguments), "b": strategy(init_args=turned[1])}).nodes) == 1


def test_seeds_may_be_numpy_s():
    assert tree(table5(), seeds=np.arange(2)).seeds == [0, 1]


def test_a_fraction_and_its_count_are_one_stage():
    built = tree({"a": Strategy(Schedule([0.5, 0])), "b": Strategy(Schedule([2000, 0]))})
    assert [node.amounts for node in built.nodes] == [(2000,), (2000, 0)]


def test_strategies_that_merge_adapters_share_their_first_stage_with_others():
    schedule = Schedule([2000, 500, 0])
    built = tree(parse_strategies({"gradual": {}, "merged": {"schedule": schedule, "adapter": "merge"}}, schedule))
    assert [(node.amounts, node.settings.get("adapter")) for node in built.nodes] == [
        ((2000,), None),
        ((2000, 500), None),
        ((2000, 500, 0), None),
        ((2000, 500), "merge"),
        ((2000, 500, 0), "merge"),
    ]


def test_sharing_saves_what_a_naive_count_says():
    strategies = default_strategies(PAPER)
    with_sharing, without = tree(strategies).examples(in_domain=523)
    assert without == sum(523 + amount for path in amounts(strategies).values() for amount in path)
    assert with_sharing == sum(523 + amount for amount in (0, 4000, 0, 2000, 500, 0))


def test_names_select_from_what_is_defined():
    assert list(parse_strategies(["gradual", "mixed"], PAPER)) == ["gradual", "mixed"]
    defined = {"long": [100, 50, 0], "short": {"schedule": [100, 0]}}
    assert amounts(parse_strategies(["short"], PAPER, defined)) == {"short": [100, 0]}
    assert parse_strategies(None, PAPER) == default_strategies(PAPER)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "is empty"),
        ([], "strategies is .*: it must be a mapping by name, or a list of names"),
        (
            ["graduall"],
            "no strategy 'graduall'; the strategies are in-domain only, mixed, one-stage, gradual. "
            "Did you mean 'gradual'?",
        ),
        ({"a": [1, 2]}, "'a': The schedule rises"),
        ({"a": {"schedule": [1], "daata": {}}}, "'a' has no setting 'daata'; .*Did you mean 'data'?"),
        ({"mixed": {"max_epoch": 3}}, "'mixed' has no setting 'max_epoch'; .*Did you mean 'max_epochs'?"),
        (
            {"mixed": {"amount": 3}},
            "'mixed' has no setting 'amount'; its settings are schedule, data, final, optimizer",
        ),
        ({"mixed": {"optimizer": {"lrr": 3}}}, "'mixed', optimizer has no setting 'lrr'.*Did you mean 'lr'?"),
        ({"mixed": {"max_epochs": 0}}, "'mixed': max_epochs of a stage is 0: it must be an integer of at least 1"),
        ({"mixed": {"max_epochs": "3"}}, "'mixed': max_epochs is '3'"),
        ({"mixed": {"data": "pool.tsv"}}, "'mixed': data is 'pool.tsv': it must be a mapping"),
        ({"mixed": None}, "'mixed' is empty: write {} to follow"),
        ({"a": {"data": {}}}, "'a' has no schedule, and its name is not one that follows the experiment's: in-domain"),
        ({"in-domian only": {}}, "Did you mean 'in-domain only'?"),
        ({"mixed": {"schedule": None}}, "'mixed': The schedule is None"),
        ({"a": 7}, "'a': The schedule is 7"),
    ],
)
def test_mistakes_name_the_strategy(given, said):
    with pytest.raises(InputError, match=said.replace("?", "[?]").replace("{}", "[{}]+")):
        parse_strategies(given, PAPER)


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a\nb", "a\0b", "a\x1b[2J"])
def test_a_name_that_can_name_no_folder_is_refused(name):
    with pytest.raises(InputError, match="a name must be printable"):
        parse_strategies({name: [0]}, Schedule([10, 0]))
