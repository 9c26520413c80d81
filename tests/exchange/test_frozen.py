"""Frozen networks as plain modules: the same answers, exported for batches of any size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hybrid
from hybrid.model.coding import InParts, LastMembrane, Rank, Rate
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import FullyConnected, HybridNetwork
from hybrid.model.neurons import LIF, AdaptiveLIF
from hybrid.model.plasticity import Hebbian
from tests.exchange.peers import peer

STEPS = 6
RULE = Hebbian(trace_decay=0.9, trace_clip=0.5)
# torch's own, of the pytrees that it exports
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


def fully(**options: Any) -> FullyConnected:
    options = {
        "neuron": LIF(decay=0.6, v_th=0.3),
        "rule": RULE,
        "readout": LastMembrane(),
        "steps": STEPS,
        "tau": 5.0,
        "initial_meta": InitialMeta.up_to(0.5),
        "generator": torch.Generator().manual_seed(0),
        **options,
    }
    return FullyConnected((12, 20, 15, 5), **options)


def convolutional() -> Convolutional:
    return Convolutional(
        (2, 7, 8),
        [Convolution(channels=6, pooled=True), Convolution(channels=5, dropout=0.3)],
        [Dense(size=30, plastic=True, faded=False), Dense(size=4)],
        neuron=LIF(decay=0.5, v_th=0.15),
        rule=RULE,
        readout=Rank(),
        steps=STEPS,
        tau=4.0,
        initial_meta=InitialMeta.up_to(0.5),
        generator=torch.Generator().manual_seed(0),
    )


RESET = LIF(decay=0.5, v_th=0.2)
TRAINED = AdaptiveLIF(decay=nn.Parameter(torch.tensor(0.7)), v_th=torch.full((15,), 0.3))
NETWORKS: dict[str, Callable[[], HybridNetwork]] = {
    "carried": fully,
    "rate": lambda: fully(readout=Rate()),
    "trained read-out": lambda: fully(
        neuron=[RESET, RESET, LIF(decay=0.5, v_th=nn.Parameter(torch.tensor(0.3)))]
    ),
    "each its own": lambda: fully(
        rule=[None, RULE, None],
        neuron=[LIF(decay=0.5, v_th=0.2), TRAINED, LIF(decay=0.9, v_th=0.2, reset="zero")],
        readout=Rank(),
    ),
    "convolutional": convolutional,
}


def trained(name: str) -> tuple[HybridNetwork, Tensor]:
    """Return a network whose traces have moved, and images."""
    network = NETWORKS[name]()
    size = (2, 7, 8) if isinstance(network, Convolutional) else (12,)
    x = 2 * torch.rand(9, *size, generator=torch.Generator().manual_seed(1))
    network(x)
    return network.eval(), x


@pytest.mark.parametrize("name", NETWORKS)
def test_frozen_networks_answer_alike(name: str) -> None:
    network, x = trained(name)
    expected = network(x, adapt=False)
    assert all(window.z.mean() > 0.02 for window in expected.windows)
    drawn = torch.get_rng_state()
    frozen = hybrid.Frozen(network)
    assert torch.equal(torch.get_rng_state(), drawn), "nothing is drawn"
    assert not any(p.requires_grad for p in frozen.parameters())
    assert torch.allclose(frozen(x), expected.output, atol=1e-5)
    assert torch.equal(frozen(x.expand(STEPS, *x.shape)), frozen(x))
    before = frozen(x)
    for parameter in network.parameters():
        parameter.data.zero_()
    assert torch.equal(frozen(x), before), "later changes have no effect"


def test_traces_are_part_of_what_is_frozen() -> None:
    network, x = trained("carried")
    before = hybrid.Frozen(network)(x)
    network.reset()
    assert not torch.allclose(hybrid.Frozen(network)(x), before, atol=1e-3)


def test_inputs_of_their_own_at_each_step() -> None:
    network, _ = trained("carried")
    x = 2 * torch.rand(STEPS, 9, 12, generator=torch.Generator().manual_seed(2))
    expected = network(x, adapt=False).output
    assert torch.allclose(hybrid.Frozen(network)(x), expected, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_exports_them_for_any_batch(name: str, tmp_path: Path) -> None:
    network, x = trained(name)
    frozen = hybrid.Frozen(network)
    batch = ({0: torch.export.Dim("N")},)
    exported = torch.export.export(frozen, (x,), dynamic_shapes=batch).module()
    for samples in (9, 4, 1):
        assert torch.allclose(exported(x[:samples]), frozen(x[:samples]), atol=1e-6)


@pytest.mark.parametrize("name", ["each its own", "convolutional"])
def test_onnx_answers_alike(name: str, tmp_path: Path) -> None:
    """As another runtime computes it."""
    peer("onnxscript")
    runtime = peer("onnxruntime")
    network, x = trained(name)
    frozen, path = hybrid.Frozen(network), str(tmp_path / "it.onnx")
    batch = ({0: torch.export.Dim("N")},)
    torch.onnx.export(frozen, (x,), path, dynamic_shapes=batch, verbose=False)
    session = runtime.InferenceSession(path)
    (entry,) = session.get_inputs()
    for samples in (9, 4, 1):
        (found,) = session.run(None, {entry.name: x[:samples].numpy()})
        assert torch.allclose(torch.from_numpy(found), frozen(x[:samples]), atol=1e-5)


def test_what_cannot_be_frozen_is_refused() -> None:
    for options, words in (
        ({"encode": InParts()}, r"FullyConnected\.encode = InParts\(\)"),
        ({"rule": None, "normalise": True}, r"layers\.0: a batch normalisation"),
    ):
        with pytest.raises(ValueError, match=words):
            hybrid.Frozen(fully(**options))
    frozen = hybrid.Frozen(fully())
    with pytest.raises(ValueError, match="4 dimensions: give inputs of 2, or T before them"):
        frozen(torch.zeros(1, 1, 3, 4))
    with pytest.raises(ValueError, match="5 inputs for 6 steps"):
        frozen(torch.zeros(5, 2, 12))
