"""The simulated chip: 784-512-10 in whole numbers, samples together and one after the other.

Beside it SANA-FE, which simulates chips core by core and message by message: a network of the same
sizes under as many input spikes, with its description of Loihi.
"""

import random
from collections.abc import Callable
from itertools import pairwise

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
_STEPS, _CALLS = 100, 20  # of SANA-FE, for which inputs are drawn
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


def sana_fe() -> tuple[Callable[[], object], float]:
    """Return what is timed of SANA-FE, 100 steps each time, and its synaptic events then.

    Neurons have their own leak, and weights are drawn; spikes go on from call to call.
    """
    import sanafe

    source = random.Random(0)
    network, cores = sanafe.Network(), (chip := sanafe.load_loihi()).cores()
    options = {
        "model_attributes": {"threshold": 50.0, "leak_decay": 0.4},
        "soma_hw_name": "loihi_lif",
    }
    sizes = 784, 512, 10
    groups = [
        network.create_neuron_group(str(size), size, **(options if number else {}))
        for number, size in enumerate(sizes)
    ]
    for i, neuron in enumerate(groups[0].neurons):
        spikes = [int(source.random() < DENSITY) for _ in range(_STEPS * _CALLS)]
        soma = f"loihi_inputs[{i % 256}]"
        neuron.set_attributes(soma_hw_name=soma, model_attributes={"spikes": spikes})
    for before, after in pairwise(groups):
        count = len(before) * len(after)
        weights = [source.randint(-PEAK, PEAK) for _ in range(count)]
        before.connect_neurons_dense(after, {"weight": weights})
    for number, group in enumerate(groups):
        for i, neuron in enumerate(group.neurons):
            neuron.map_to_core(cores[4 * number + i // 256])
    mapped = sanafe.SpikingChip(chip)
    mapped.load(network)

    def call() -> float:
        done = mapped.sim(_STEPS, timing_model="simple", processing_threads=2)
        return float(done["spikes"])

    count = call()
    assert count > 0.9 * _STEPS * DENSITY * 784 * 512
    return call, count


def events(outcome: Outcome) -> float:
    """Return how many spikes met a synapse, in both layers."""
    first, second = outcome.layers.values()
    return float(first.active_in.sum() * 512 + second.active_in.sum() * 10)
