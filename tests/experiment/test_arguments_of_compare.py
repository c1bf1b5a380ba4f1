"""Arguments of compare are checked where they enter, before anything is trained."""

import functools

import numpy as np
import pytest
from linear_model import make_data
from refused_calls import Net, Plain, compare, refusal
from slow_cases import fast_one_in

from gradual import MixedDomainDataModule

pytestmark = pytest.mark.usefixtures("undrawn_figures")

COMPARE = {
    "a model": ({"model": Net()}, "every stage gets a model of its own: pass Net, or a function such as lambda"),
    "a name": ({"model": "net"}, "model is 'net': it must be a class or a function that returns a LightningModule."),
    "a function that makes nothing": ({"model": lambda: None}, "What model() returns is None: it must be a Lightning"),
    "a function that makes an nn.Module": ({"model": lambda: Plain()}, "What model() returns is a Plain"),
    "a function that asks for something": ({"model": lambda seed: Net()}, "missing a required argument: 'seed'"),
    "a class of nn.Module": ({"model": Plain}, "Plain is not a LightningModule"),
    "one seed": ({"seeds": 0}, "seeds is 0: it must be a list of integers from 0 to 4294967295; write seeds=[0]."),
    "the text of seeds": ({"seeds": "[0, 1]"}, "write it without quotation marks"),
    "text": ({"seeds": ["a"]}, "it holds 'a'"),
    "real numbers": ({"seeds": [0, 1.5]}, "it holds 1.5"),
    "numbers from a generator": ({"seeds": (seed for seed in [0, -1])}, "it holds -1"),
    "True": ({"seeds": [True]}, "it holds True"),
    "no seed": ({"seeds": []}, "it is empty"),
    "None": ({"seeds": None}, "seeds is None"),
    "seeds by name": ({"seeds": {"a": 1}}, "seeds is {'a': 1}"),
    "the seed of fit": ({"seed": 3}, "A comparison takes several seeds: write seeds=[3] instead of seed."),
    "a number of strategies": ({"strategies": 4}, "strategies is 4: it must be a mapping from names to schedules"),
    "one metric": ({"metrics": "loss"}, "metrics is 'loss': it must be a list of names, or None; write ['loss']."),
    "a metric that is none": ({"metrics": [3]}, "metrics is [3]"),
    "no metric": ({"metrics": []}, "metrics is []"),
    "several baselines": ({"baseline": ["gradual"]}, "baseline is ['gradual']: it must be text or None."),
    "a class of data": ({"data": MixedDomainDataModule}, "make an instance: MixedDomainDataModule(...)"),
    "a function that makes data": ({"data": make_data}, "datamodule is the function make_data"),
    "no run_dir": ({"run_dir": None}, "run_dir is None"),
    "the text of a schedule": ({"schedule": "[4, 0]"}, "schedule is '[4, 0]'"),
    "text for a number": ({"patience": "3"}, "patience is '3'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", COMPARE)
def test_a_wrong_call_of_compare_is_one_sentence_and_trains_nothing(tmp_path, kind):
    changes, said = COMPARE[kind]
    assert said in refusal(functools.partial(compare, tmp_path, **changes))
    assert not list(tmp_path.rglob("seed-*"))


def test_a_function_that_makes_one_model_over_and_over_is_refused(tmp_path):
    """Else the second strategy would start from what the first has learnt."""
    model = Net()
    said = refusal(lambda: compare(tmp_path, model=lambda: model))
    assert said.startswith("model() returned the same Net twice")


@pytest.mark.parametrize("seeds", fast_one_in(4, [np.array([0]), ((0,),), range(1), iter([0])]))
def test_a_comparison_takes_seeds_of_any_kind_of_list(tmp_path, seeds):
    page = compare(tmp_path, seeds=seeds, strategies=["in-domain only"])
    assert (page.parents[1] / "seed-0/0/result.json").exists()
