"""The simulated chip: 784-512-10 in whole numbers, samples together and one after the other."""

from collections.abc import Callable

import torch

from hybrid.model.coding import LastMembrane
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.tianjic.cores import Local, Outcome, run
from hybrid.tianjic.fixed import PEAK
from hybrid.tianjic.layer import Options
from hybrid.tianjic.quantize import quantize

SAMPLES = 500
ALONE = 20
DENSITY = 0.2
FORMS: tuple[Local, ...] = ("off", "history")


def work() -> dict[str, tuple[Callable[[], object], float]]:
    """Return what is timed by name, and the synaptic events of each call.

    An event is one spike that meets one synapse. Inputs spike at random, one in five at each step,
    as numbers of full size; the same spikes are run together and one after the other, and must give
    the same potentials.
    """
    generator = torch.Generator().manual_seed(0)
    network = FullyConnected(
        (784, 512, 10),
        neuron=LIF(decay=0.4, v_th=0.35),
        rule=Hebbian(trace_decay=0.95),
        readout=LastMembrane(ceiling=1.1),
        steps=10,
        tau=None,
        generator=generator,
        initial_meta=InitialMeta.up_to(0.01),
    ).requires_grad_(False)
    chip = quantize(network, Options(carried="none"))
    draws = torch.rand(10, SAMPLES, 784, generator=generator)
    spikes = list((PEAK * (draws < DENSITY)).long().unbind(0))
    few = [x[:ALONE] for x in spikes]
    found: dict[str, tuple[Callable[[], object], float]] = {}
    potentials: list[torch.Tensor] = []
    for local in FORMS:

        def together(local: Local = local) -> Outcome:
            return run(chip.layers, spikes, local=local)

        def alone(local: Local = local) -> torch.Tensor:
            parts = [[x[i : i + 1] for x in few] for i in range(ALONE)]
            return torch.cat([run(chip.layers, part, local=local).potentials for part in parts])

        whole = together()
        assert all(layer.active_out.sum() > 0 for layer in whole.layers.values())
        assert torch.equal(whole.potentials[:ALONE], alone())
        potentials.append(whole.potentials)
        name = "no local module" if local == "off" else "history of 9 lags"
        found[f"{name}, {SAMPLES} samples together"] = together, events(whole)
        small = run(chip.layers, few, local=local)
        found[f"{name}, one after the other"] = alone, events(small)
    assert not torch.equal(*potentials), "the history has an effect"
    return found


def events(outcome: Outcome) -> float:
    """Return how many spikes met a synapse, in both layers."""
    first, second = outcome.layers.values()
    return float(first.active_in.sum() * 512 + second.active_in.sum() * 10)
