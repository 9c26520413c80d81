"""What networks may be shown: shapes and kinds, empty batches, sequences of a DataLoader."""

from typing import Any

import pytest
import torch

from hybrid.learning.evaluation import evaluate
from hybrid.model.coding import InParts, LastMembrane, Poisson, Rate, ReadOut
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.drive import direct
from hybrid.model.layers import HybridLinear, InitialMeta
from hybrid.model.networks import ContextGated, FullyConnected, HybridNetwork
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian, LayerState, Synapse, plastic_step
from hybrid.model.streams import run_stream
from hybrid.model.window.sparse import random_masks


def small(readout: ReadOut, steps: int) -> FullyConnected:
    return FullyConnected(
        (6, 8, 3),
        neuron=LIF(decay=0.4, v_th=0.1),
        rule=Hebbian(trace_decay=0.9),
        readout=readout,
        steps=steps,
        generator=torch.Generator().manual_seed(0),
    )


def test_inputs_of_another_shape_or_kind_are_named() -> None:
    """Whatever is wrong, the message says what was given and what is wanted."""
    neuron, generator = LIF(decay=0.4, v_th=0.35), torch.Generator().manual_seed(0)
    shared: dict[str, Any] = {"neuron": neuron, "rule": None, "generator": generator}
    one = HybridLinear(784, 6, **shared)
    network = FullyConnected((784, 6, 3), readout=LastMembrane(), steps=4, **shared)
    images = torch.rand(5, 1, 28, 28)
    for given, shown in (
        (images, r"\[5, 1, 28, 28\]"),
        (images[0].flatten(), r"\[784\]"),
        (images.flatten(1).numpy(), "ndarray"),
        (images.flatten(1)[:, :700], r"\[5, 700\]"),
        ([images[0]] * 4, r"4 of \[1, 28, 28\]"),
        ("images", "str"),
        (network(images.flatten(1)), "Activity"),
        ([images.flatten(1)[:, :5]], r"1 of \[5, 5\]"),
    ):
        message = rf"{shown} cannot be shown: give .*T inputs \[N, 784\].*flatten"
        with pytest.raises(ValueError, match=message):
            network(given)
        with pytest.raises(ValueError, match=message):
            one(given)
    with pytest.raises(ValueError, match=r"\[5, 784\] cannot be shown: .*hybrid\.direct"):
        one(images.flatten(1))
    assert one(direct(images.flatten(1), 4)).z.shape == (4, 5, 6)
    steps = [images.flatten(1)] * 4
    for several in (steps, iter(steps), torch.nn.ParameterList(steps)):
        assert network(several).output.shape == (5, 3)
    with pytest.raises(
        ValueError, match=r"shape \[5, 784\]: give S sets \[N, 784\].*x\[None\].*flatten"
    ):
        evaluate(network, images.flatten(1), torch.zeros(5).long(), "frozen", 5)


RULES = [None, Hebbian(trace_decay=0.9, trace_clip=4.0)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["batch", "sample", "convolutional"])
def test_an_empty_batch_has_no_answer_and_leaves_no_mark(rule: Hebbian | None, kind: str) -> None:
    """As the last batch of a filtered data set may be."""
    shared: dict[str, Any] = {
        "neuron": LIF(decay=0.4, v_th=0.1),
        "rule": rule,
        "readout": LastMembrane(),
        "steps": 4,
        "generator": torch.Generator().manual_seed(0),
    }
    network: HybridNetwork
    if kind == "convolutional":
        dense = [Dense(size=8, plastic=rule is not None), Dense(size=3, plastic=rule is not None)]
        network = Convolutional((1, 6, 6), [Convolution(channels=2, pooled=True)], dense, **shared)
    else:
        alone = {"pool": "sample", "lifetime": "call"} if kind == "sample" else {}
        network = FullyConnected((36, 8, 3), **shared, **alone)
    network(torch.rand(5, 36))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    activity = network(torch.rand(0, 36))
    assert activity.output.shape == (0, 3)
    assert activity.windows[-2].z.shape[1:] == (0, 8)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_batch_of_a_task_has_no_answer(rule: Hebbian | None) -> None:
    generator = torch.Generator().manual_seed(0)
    network = ContextGated(
        (20, 16, 12, 5),
        neuron=LIF(decay=0.4, v_th=0.35),
        rule=rule,
        steps=3,
        tau=None,
        initial_meta=InitialMeta.up_to(0.1),
        generator=generator,
        meta_generator=generator,
    )
    assert Poisson()(torch.rand(0, 20), 3, generator).shape == (3, 0, 20)
    state = plastic_step(
        torch.rand(0, 20),
        LayerState(),
        Synapse(torch.rand(4, 20), None),
        network.layers[0].neuron,
        rule,
    )
    assert state.neuron is not None
    assert state.trace is None
    for masks in (None, random_masks((20, 16, 12, 5), 0.2, generator)):
        assert network(torch.rand(0, 20), masks).output.shape == (0, 5)
    stream = small(Rate(), 3)
    for shape in ((2, 0, 6), (0, 2, 6)):
        with pytest.raises(ValueError, match="none of them 0"):
            run_stream(stream, torch.rand(shape))


def test_sequences_of_a_data_loader_are_batch_first() -> None:
    """With as many samples as steps, shapes do not tell the axes apart: the caller does."""
    network = small(Rate(), 5).eval()
    shown = torch.rand(5, 5, 6, generator=torch.Generator().manual_seed(1))
    found = network(shown, batch_first=True)
    assert torch.equal(found.output, network(shown.transpose(0, 1)).output)
    assert not torch.equal(found.windows[0].z, network(shown).windows[0].z)
    one = network.layers[0](shown[:3], batch_first=True)
    assert torch.equal(one.z, network.layers[0](shown[:3].transpose(0, 1)).z)
    with pytest.raises(ValueError, match=r"has 3 steps, the network 5.*batch_first=True"):
        network(shown[:3])
    network.encode = InParts()  # what training and tests can show
    assert torch.equal(found.output, network(shown.flatten(1)).output)
    with pytest.raises(ValueError, match="a network that encodes its inputs makes the steps"):
        network(shown, batch_first=True)
    network.encode = None
    with pytest.raises(ValueError, match=r"batch_first = True is for one tensor \[N, T, in\]"):
        network(shown[0], batch_first=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.uint8])
def test_inputs_of_another_precision_are_named(dtype: torch.dtype) -> None:
    network = small(Rate(), 5)
    with pytest.raises(ValueError, match=f"inputs of {dtype} for weights of torch.float32"):
        network(torch.ones(4, 6, dtype=dtype))
