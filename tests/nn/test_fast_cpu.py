import copy
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from dialogue_files import tiny_bert
from slow_cases import fast_one_in
from torch import nn

from gradual.nn import fast_cpu as layers
from gradual.nn.fast_cpu import QuickDropout, QuickLinear, change_classes, quicken
from gradual.nn.packing import attend


@pytest.mark.parametrize("p", [0.1, 0.4, 0.5, 0.9])
def test_the_given_share_is_dropped_and_the_rest_scaled(p):
    torch.manual_seed(0)
    x = torch.rand(301, 333) + 0.5  # no multiple of four, and no zero of its own
    y = QuickDropout(p)(x)
    dropped = y == 0
    assert dropped.float().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)
    torch.testing.assert_close(y[~dropped], x[~dropped] / (1 - p), rtol=1e-3, atol=0)
    for shift in (1, 2, 3, 4):  # neighbours, which share random numbers, are dropped independently
        both = (dropped.flatten()[shift:] & dropped.flatten()[:-shift]).float().mean().item()
        assert both == pytest.approx(p * p, abs=0.01)


def test_the_gradient_goes_where_the_values_went():
    x = torch.ones(50, 40, requires_grad=True)
    y = QuickDropout(0.3)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_masks_differ_and_follow_the_seed():
    layer, x = QuickDropout(0.5), torch.ones(100)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)


def test_the_ends_and_evaluation_are_torchs():
    x = torch.randn(10)
    assert torch.equal(QuickDropout(0.0)(x), x)
    assert not QuickDropout(1.0)(x).any()
    assert not QuickDropout(1 - 1e-6)(x).any()
    assert torch.equal(QuickDropout(0.5).eval()(x), x)
    assert QuickDropout(0.5)(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("value", ["0", "false"])
def test_the_switch_turns_dropout_into_torchs_own(monkeypatch, value):
    x = torch.ones(100)
    monkeypatch.setenv("GRADUAL_FAST_CPU", value)
    torch.manual_seed(0)
    off = QuickDropout(0.5)(x)
    torch.manual_seed(0)
    assert torch.equal(off, nn.functional.dropout(x, 0.5))
    monkeypatch.setenv("GRADUAL_FAST_CPU", "1")
    torch.manual_seed(0)
    assert not torch.equal(QuickDropout(0.5)(x), off)


def test_the_switch_turns_attention_with_dropout_into_torchs_own(monkeypatch):
    monkeypatch.setenv("GRADUAL_FAST_CPU", "0")
    query, key, value = torch.randn(3, 2, 3, 5, 4).unbind()
    mask = torch.tensor([True, True, False, True, True]).expand(3, 5)
    torch.manual_seed(0)
    found = attend(query, key, value, mask, 0.5)
    torch.manual_seed(0)
    expected = nn.functional.scaled_dot_product_attention(query, key, value, mask[None, :, None], 0.5)
    assert torch.equal(found, expected)


@pytest.fixture
def products(monkeypatch):
    """The products that oneDNN computed, which it does whatever the processor and however small."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch is built without oneDNN")
    done, product = [], layers.onednn_product

    def counted(*matrices):
        done.append(matrices)
        return product(*matrices)

    monkeypatch.setattr(layers, "onednn_product", counted)
    monkeypatch.setattr(layers, "_WIDE", True)
    monkeypatch.setattr(layers, "_MIN_PRODUCTS", 1)
    return done


def in_double(layer, x, gradient):
    """Outputs and gradients as torch computes them in double precision."""
    x, gradient, layer = x.detach().double().requires_grad_(), gradient.double(), copy.deepcopy(layer).double()
    outputs = nn.functional.linear(x, layer.weight, layer.bias)
    outputs.backward(gradient)
    return [outputs, x.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(70, 33), (1, 33), (33,), (2, 5, 7, 33)])
def test_a_linear_layer_and_its_gradients_are_torchs(products, shape, bias):
    torch.manual_seed(0)
    layer, x = QuickLinear(33, 18, bias=bias), torch.randn(shape, requires_grad=True)
    gradient = torch.randn(*shape[:-1], 18)
    outputs = layer(x)
    outputs.backward(gradient)
    found = [outputs, x.grad, *(p.grad for p in layer.parameters())]
    for mine, torchs in zip(found, in_double(layer, x, gradient), strict=True):
        torch.testing.assert_close(mine, torchs.float(), rtol=1e-5, atol=1e-5)
    assert len(products) == 3


def test_inputs_and_gradients_may_lie_in_memory_as_they_like(products):
    torch.manual_seed(0)
    layer, whole = QuickLinear(20, 12), torch.randn(20, 3, 40)
    inputs = [whole[:, 0].t(), whole[:, :, ::4].permute(1, 2, 0), torch.randn(1, 20).expand(9, 20)]
    for x in inputs:
        x = x.detach().requires_grad_()
        outputs = layer(x)
        layer.zero_grad()
        outputs.sum(0).sum().backward()  # the gradient is one number, expanded
        found = [outputs, x.grad, *(p.grad for p in layer.parameters())]
        for mine, torchs in zip(found, in_double(layer, x, torch.ones_like(outputs)), strict=True):
            torch.testing.assert_close(mine, torchs.float(), rtol=1e-5, atol=1e-5)


def test_only_the_gradients_that_are_wanted_are_computed(products):
    layer, x = QuickLinear(20, 12), torch.randn(5, 20)
    layer(x).sum().backward()
    assert len(products) == 2  # none for the inputs
    layer.weight.requires_grad_(False)
    layer.zero_grad()
    layer(x).sum().backward()
    assert len(products) == 3
    assert torch.equal(layer.bias.grad, torch.full((12,), 5.0))
    with torch.no_grad():
        assert not layer(x).requires_grad


def test_where_the_quick_product_does_not_apply_it_is_torchs_own(products, monkeypatch):
    torch.manual_seed(0)
    layer, x = QuickLinear(20, 12), torch.randn(5, 20)
    torchs = nn.functional.linear(x, layer.weight, layer.bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    layer.float()
    assert layer(x[:0]).shape == (0, 12)
    assert torch.equal(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), torchs)
    assert torch.equal(torch.jit.trace(layer, x, check_trace=False)(x), torchs)
    monkeypatch.setattr(layers, "_MIN_PRODUCTS", 5 * 20 * 12 + 1)
    assert torch.equal(layer(x), torchs)
    monkeypatch.setattr(layers, "_MIN_PRODUCTS", 1)
    monkeypatch.setattr(layers, "_WIDE", False)
    assert torch.equal(layer(x), torchs)
    monkeypatch.setattr(layers, "_WIDE", True)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "enabled", False)
        assert torch.equal(layer(x), torchs)
    monkeypatch.setenv("GRADUAL_FAST_CPU", "0")
    assert torch.equal(layer(x), torchs)
    assert not products
    monkeypatch.delenv("GRADUAL_FAST_CPU")
    layer(x)
    assert products


def has_changed(*arguments):
    raise RuntimeError("mkldnn::_linear_pointwise() expected at most 5 argument(s) but received 6 argument(s).")


@pytest.mark.parametrize(
    "operators",
    [SimpleNamespace(), SimpleNamespace(_linear_pointwise=has_changed)],
    ids=["missing", "other arguments"],
)
def test_where_torch_has_moved_its_private_operator_the_layer_is_torchs_own(products, monkeypatch, operators):
    monkeypatch.setattr(torch.ops, "mkldnn", operators)
    layers._linear_operator.cache_clear()
    try:
        torch.manual_seed(0)
        layer, x = QuickLinear(20, 12), torch.randn(5, 20, requires_grad=True)
        outputs = layer(x)
        assert torch.equal(outputs, nn.functional.linear(x, layer.weight, layer.bias))
        outputs.sum().backward()
        assert not products
    finally:
        layers._linear_operator.cache_clear()


def test_where_torch_cannot_tell_of_transforms_the_layer_is_torchs_own(products, monkeypatch):
    monkeypatch.delattr(torch._C, "_are_functorch_transforms_active")
    QuickLinear(20, 12)(torch.randn(5, 20))
    assert not products


class Wrapped(torch.Tensor):
    """A weight of a class of its own, as quantised ones are."""


def test_weights_of_other_classes_other_widths_and_transforms_are_torchs(products):
    torch.manual_seed(0)
    layer, x = QuickLinear(20, 12), torch.randn(5, 20)
    gradient = torch.func.grad(lambda x: layer(x).square().sum())(x)
    torch.testing.assert_close(gradient, 2 * layer(x).detach() @ layer.weight.detach())
    del products[:]
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        layer(torch.randn(5, 19))
    layer.weight = nn.Parameter(layer.weight.detach().as_subclass(Wrapped))
    layer(x)
    assert not products


def test_gradients_have_gradients(products):
    torch.manual_seed(0)
    layer, x = QuickLinear(20, 12), torch.randn(5, 20, requires_grad=True)
    plain = nn.Linear(20, 12)
    plain.load_state_dict(layer.state_dict())
    found = []
    for one in (layer, plain):
        (first,) = torch.autograd.grad(one(x).pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), (x, one.weight)))
    assert products
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_an_encoder_gets_quick_layers_everywhere_with_its_own_parameters():
    encoder = tiny_bert(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3)
    before = {name: m.p for name, m in encoder.named_modules() if isinstance(m, nn.Dropout)}
    state, linear = encoder.state_dict(), sum(type(m) is nn.Linear for m in encoder.modules())
    quicken(encoder)
    after = {name: m for name, m in encoder.named_modules() if isinstance(m, nn.Dropout)}
    assert {name: m.p for name, m in after.items()} == before
    assert all(type(m) is QuickDropout and not m.training for m in after.values())
    assert sum(type(m) is QuickLinear for m in encoder.modules()) == linear > 0
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    change_classes(encoder, {QuickDropout: nn.Dropout, QuickLinear: nn.Linear})
    assert not any(type(m) in (QuickDropout, QuickLinear) for m in encoder.modules())


def test_an_encoder_has_the_same_gradients_with_quick_layers(products):
    torch.manual_seed(0)
    encoder = tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    quick = copy.deepcopy(encoder)
    quicken(quick)
    ids = torch.randint(5, 20, (3, 7))
    for one in (encoder, quick):
        (one(ids).last_hidden_state ** 2).sum().backward()
    assert products
    for mine, torchs in zip(quick.parameters(), encoder.parameters(), strict=True):
        if torchs.grad is not None:
            torch.testing.assert_close(mine.grad, torchs.grad, rtol=1e-4, atol=1e-5)


GROWTH = """
import random, resource, sys
import torch
from gradual.nn import fast_cpu as layers

def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

layers._WIDE, layers._MIN_PRODUCTS = torch.backends.mkldnn.is_available(), 1
rows, layer = torch.randn(3000, 32), torch.nn.Linear(32, 32)
layers.quicken(layer)
lengths = random.Random(0).sample(range(10, 3000), 400)
with torch.autocast("cpu", torch.bfloat16, enabled=sys.argv[1] == "bfloat16"):
    for number, length in enumerate(lengths):
        layer(rows[:length]).sum().backward()
        if number == 100:
            before = memory()
print(memory() - before)
"""


def printed(code: str, *arguments: str, **variables: str) -> str:
    """What a new process prints, in an environment in which nobody has limited the caches yet."""
    others = {name: value for name, value in os.environ.items() if not name.endswith("_CACHE_CAPACITY")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=others | variables, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("precision", fast_one_in(2, ["bfloat16", "float32"]))
def test_kernels_prepared_for_shapes_that_do_not_recur_are_not_kept(precision):
    assert int(printed(GROWTH, precision)) < 50_000, "kilobytes; several hundred thousand where it is kept"


ENVIRONMENT = """
import os
import torch
before = dict(os.environ)
import gradual.nn.encoder, gradual.nn.packing
from gradual.nn.fast_cpu import quicken
assert dict(os.environ) == before
quicken(torch.nn.Linear(2, 2))
print(sorted(name + "=" + value for name, value in os.environ.items() if before.get(name) != value))
"""


@pytest.mark.parametrize(
    ("variables", "made"),
    fast_one_in(
        3,
        [
            ({}, ["LRU_CACHE_CAPACITY=64", "ONEDNN_PRIMITIVE_CACHE_CAPACITY=64"]),
            ({"LRU_CACHE_CAPACITY": "8"}, ["ONEDNN_PRIMITIVE_CACHE_CAPACITY=64"]),
            ({"GRADUAL_FAST_CPU": "0"}, []),
        ],
    ),
)
@pytest.mark.slow
def test_the_environment_changes_when_a_model_is_made_ready_not_by_importing(variables, made):
    assert printed(ENVIRONMENT, **variables) == f"{made}\n"


AVX512 = {"avx512_bw": True, "avx512_vl": True, "avx512_dq": True}


@pytest.mark.parametrize(
    ("capabilities", "slow"),
    [
        ({"architecture": "x86_64", "avx2": True}, True),
        ({"architecture": "x86_64", **AVX512, "avx512_vl": False}, True),
        ({"architecture": "x86_64", **AVX512}, False),
        ({"architecture": "x86_64", "avx_ne_convert": True}, False),
        ({"architecture": "aarch64"}, False),
        ({}, False),
    ],
)
def test_cpus_without_instructions_for_bfloat16_are_known(monkeypatch, capabilities, slow):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert layers.has_slow_bfloat16() == slow
