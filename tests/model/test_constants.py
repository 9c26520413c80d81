"""Constants of neurons that are tensors: trained, or one for each neuron."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hybrid.model.coding import Rate
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.few_shot import FewShotReadOut
from hybrid.model.layers import meta_parameters, weight_parameters
from hybrid.model.neurons import IF, LIF, AdaptiveLIF, Neuron
from hybrid.model.plasticity import STDP, Hebbian, LocalRule
from hybrid.tianjic.quantize import quantize
from tests.model.small import NEURON, RULE, layer, network, sequences


@pytest.mark.parametrize("kind", [LIF, AdaptiveLIF])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("rule", [None, RULE, STDP(trace_decay=0.9)])
def test_constants_may_be_tensors(kind: type[LIF], reset: Any, rule: LocalRule | None) -> None:
    """One entry or one for each neuron: the spikes of numbers, and gradients for parameters."""
    numbers = layer(rule=rule, neuron=kind(decay=0.6, v_th=0.3, reset=reset)).double()
    x = sequences(inputs=6)
    expected = numbers(x)
    for shape in ((), (1,), (4,)):
        constants = {
            "decay": nn.Parameter(torch.full(shape, 0.6, dtype=torch.float64)),
            "v_th": nn.Parameter(torch.full(shape, 0.3, dtype=torch.float64)),
        }
        given = kind(**constants, reset=reset)  # type: ignore[arg-type]
        made = layer(rule=rule, neuron=given).double()
        window = made(x)
        assert torch.equal(window.z, expected.z)
        assert torch.allclose(window.v, expected.v, atol=1e-12)
        (window.v.sum() + window.z.sum()).backward()
        trained = made.constants
        for name, value in constants.items():
            own = trained.get_parameter(name)
            assert own is not value  # a copy of the layer's own
            assert own.grad is not None
            assert own.grad.shape == shape
        assert trained.get_parameter("decay").grad.abs().max() > 0.01  # type: ignore[union-attr]
        assert trained.get_parameter("decay") in {*weight_parameters(made)}
        assert trained.get_parameter("decay") not in {*meta_parameters(made)}


def test_gradients_of_constants_agree_with_differences() -> None:
    """Without spikes v is smooth in the decay and, through the post signal, in the threshold."""

    def run(decay: float, v_th: float) -> tuple[Tensor, Any]:
        neuron = LIF(
            decay=nn.Parameter(torch.tensor(decay, dtype=torch.float64)),
            v_th=nn.Parameter(torch.tensor(v_th, dtype=torch.float64)),
        )
        made = layer(neuron=neuron).double()
        window = made(0.2 * sequences(inputs=6))
        assert not window.z.any()
        return window.v.square().sum(), made.constants

    value, constants = run(0.6, 3.0)
    value.backward()
    for name, (high, low) in {
        "decay": (run(0.6 + 1e-6, 3.0)[0], run(0.6 - 1e-6, 3.0)[0]),
        "v_th": (run(0.6, 3.0 + 1e-6)[0], run(0.6, 3.0 - 1e-6)[0]),
    }.items():
        slope = ((high - low) / 2e-6).item()
        assert abs(slope) > 1e-6
        assert constants.get_parameter(name).grad.item() == pytest.approx(slope, rel=1e-4), name


def test_neurons_of_a_layer_may_differ() -> None:
    """One neuron with its own constants behaves as a layer of such neurons."""
    decays = torch.tensor([0.1, 0.4, 0.7, 1.0], dtype=torch.float64)
    x = sequences(inputs=6)
    mixed = layer(rule=None, neuron=LIF(decay=decays, v_th=0.3)).double()(x)
    for i, decay in enumerate(decays.tolist()):
        alone = layer(rule=None, neuron=LIF(decay=decay, v_th=0.3)).double()(x)
        assert torch.equal(mixed.z[..., i], alone.z[..., i])
    assert "constants.decay" in layer(neuron=LIF(decay=decays, v_th=0.3)).state_dict()


def test_trained_constants_stay_within_bounds_and_survive_copies() -> None:
    neuron = LIF(decay=nn.Parameter(torch.tensor(0.9)), v_th=nn.Parameter(torch.tensor(0.3)))
    made = layer(neuron=neuron)
    with torch.no_grad():
        made.constants.get_parameter("decay").fill_(1.7)
        made.constants.get_parameter("v_th").fill_(-1.0)
    assert made.neuron.decay.item() == 1.0  # type: ignore[attr-defined]
    assert made.neuron.v_th.item() > 0.0
    made.neuron.decay.backward()  # type: ignore[attr-defined]
    assert made.constants.get_parameter("decay").grad.item() == 1.0  # it can come back
    copied = copy.deepcopy(made)
    with torch.no_grad():
        copied.constants.get_parameter("decay").fill_(0.2)
    assert copied.neuron.decay.item() == pytest.approx(0.2)  # type: ignore[attr-defined]
    assert made.neuron.decay.item() == 1.0  # type: ignore[attr-defined]


def test_constants_that_make_no_sense_are_named() -> None:
    for make, message in (
        (lambda: LIF(decay=torch.tensor([0.1, float("nan")]), v_th=0.3), r"LIF\.decay = tensor"),
        (lambda: LIF(decay=0.1, v_th=torch.tensor([0.1, 0.0])), r"LIF\.v_th = tensor"),
        (lambda: IF(v_th=torch.tensor(-1.0)), r"IF\.v_th"),
        (lambda: layer(neuron=LIF(decay=torch.full((3,), 0.4), v_th=0.3)), "each of its 4 neurons"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_what_takes_numbers_alone_says_so() -> None:
    neuron: Neuron = LIF(decay=nn.Parameter(torch.tensor(0.4)), v_th=0.3)
    with pytest.raises(ValueError, match="Convolutional takes numbers"):
        Convolutional(
            (1, 6, 6),
            [Convolution(channels=2)],
            [Dense(size=3)],
            neuron=neuron,
            rule=None,
            readout=Rate(),
            steps=2,
        )
    assert isinstance(neuron, LIF)
    with pytest.raises(ValueError, match="FewShotReadOut takes numbers"):
        FewShotReadOut(4, 3, neuron=neuron, rule=None)
    with pytest.raises(ValueError, match="all neurons of a layer share their constants"):
        quantize(network(neuron=[LIF(decay=torch.full((8,), 0.4), v_th=0.3), NEURON]))
    shared = quantize(network(neuron=neuron))  # one for the layer is a number to the chip
    assert (
        shared.layers[0].soma.leak
        == quantize(network(neuron=LIF(decay=0.4, v_th=0.3))).layers[0].soma.leak
    )


def test_bounds_hold_whatever_may_learn() -> None:
    """Training pushed a decay beyond 1: held, called with plain tensors or under vmap, 1 acts."""
    neuron = LIF(decay=nn.Parameter(torch.tensor(0.9)), v_th=0.5, reset="none")
    made = layer(neuron=neuron, lifetime="call").double().eval()
    with torch.no_grad():
        made.constants.get_parameter("decay").fill_(1.7)
    x = sequences(inputs=6)
    expected = made(x).v
    plain = {name: value.detach() for name, value in made.named_parameters()}
    assert torch.equal(functional_call(made, plain, (x,)).v, expected)
    several = {name: torch.stack([value, value]) for name, value in plain.items()}
    found = vmap(lambda own: functional_call(made, own, (x,)).v)(several)
    assert torch.allclose(found[1], expected)
    assert torch.equal(made.requires_grad_(False)(x).v, expected)
    one = layer(neuron=LIF(decay=1.0, v_th=0.5, reset="none"), lifetime="call").double().eval()
    assert torch.equal(one(x).v, expected)


def test_constants_have_the_precision_of_the_weights() -> None:
    """numpy's numbers are of double precision."""
    given = torch.rand(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    single = layer(neuron=LIF(decay=given, v_th=0.2))
    assert single(sequences(inputs=6).float()).v.dtype == torch.float32
    assert torch.equal(single.double().neuron.decay, given)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), torch.tensor([0.2, float("inf")])])
def test_thresholds_and_clips_are_finite(value: Any) -> None:
    with pytest.raises(ValueError, match="v_th"):
        LIF(decay=0.5, v_th=value)
    with pytest.raises(ValueError, match="trace_clip"):
        Hebbian(trace_decay=0.9, trace_clip=value)
    with pytest.raises(
        ValueError, match=r"(?s)trace_decay.*a number: of a rule nothing is trained"
    ):
        Hebbian(trace_decay=nn.Parameter(torch.tensor(0.9)))  # type: ignore[arg-type]
