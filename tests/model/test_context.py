"""The context-gated network: what masks leave to whom."""

import pytest
import torch
from torch import Tensor

from hybrid.model.layers import InitialMeta
from hybrid.model.networks import ContextGated
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.model.window.sparse import SparseMask, random_masks

SIZES = (30, 40, 20, 5)


def network(local: bool = True, sizes: tuple[int, ...] = SIZES) -> ContextGated:
    return ContextGated(
        sizes,
        neuron=LIF(decay=0.8, v_th=0.5),
        rule=Hebbian(trace_decay=0.8) if local else None,
        steps=3,
        tau=50.0,
        initial_meta=InitialMeta((1.0, 2.0), (1.0, 2.0), (0.0, 0.1)),
        generator=torch.Generator().manual_seed(0),
        meta_generator=torch.Generator().manual_seed(1),
    )


def images() -> Tensor:
    return torch.rand(8, 30, generator=torch.Generator().manual_seed(2)) * 3.0


def masks(density: float) -> tuple[SparseMask, ...]:
    return random_masks(SIZES, density, torch.Generator().manual_seed(3))


def test_gradients_stay_within_the_masks() -> None:
    net, own = network(), masks(0.3)
    activity = net(images(), own)
    assert all(window.z.sum() > 0 for window in activity.windows), "the neurons spike"
    activity.output.square().sum().backward()
    weights = [net.layers[0].weight, net.layers[1].weight, net.readout_weight]
    for weight, mask in zip(weights, own, strict=True):
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0
        assert (weight.grad[mask.dense().mT == 0.0] == 0.0).all()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.meta_parameters())


def test_without_masks_the_global_weights_have_all_synapses() -> None:
    whole = network()(images()).output
    torch.testing.assert_close(whole, network(local=False)(images()).output)
    torch.testing.assert_close(whole, network()(images(), masks(1.0)).output)


def test_traces_act_where_masks_do_not_and_only_if_they_may_adapt() -> None:
    own, x = masks(0.3), images()
    hybrid, frozen = network()(x, own).output, network()(x, own, adapt=False).output
    torch.testing.assert_close(frozen, network(local=False)(x, own).output)
    assert not torch.allclose(hybrid, frozen)
    alone = network()(x[:1], own, pool="sample").output
    torch.testing.assert_close(alone, network()(x, own, pool="sample").output[:1])


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="2 masks for 3 layers"):
        network()(images(), masks(0.3)[:2])
    with pytest.raises(ValueError, match="the read-out's mask is"):
        network()(images(), (*masks(0.3)[:2], masks(0.3)[0]))
    with pytest.raises(ValueError, match=r"sizes = \(30, 5\)"):
        network(sizes=(30, 5))
