"""Fault tolerance on event cameras (paper Fig. 3): train on a sound camera, test on faulty ones."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybrid.data.recordings import Recordings
from hybrid.data.sensor_faults import corrupt_events
from hybrid.experiments.base import GP, HP, LP, Method
from hybrid.experiments.event_config import Config
from hybrid.experiments.event_plans import PLANS
from hybrid.experiments.event_results import Result
from hybrid.experiments.event_sets import (
    event_set,
    frames_from,
    frames_of,
    hash_of_events,
    recordings_for,
    test_recordings,
)
from hybrid.experiments.image_trials import ImageExperiment, Trained
from hybrid.experiments.plans import Schemes
from hybrid.learning.evaluation import evaluate
from hybrid.learning.training import Split
from hybrid.model.coding import LastMembrane, Rate, counts_in_parts
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import FullyConnected, HybridNetwork
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.runs.seeds import numpy_stream, torch_stream
from hybrid.runs.store import Json

METHODS: tuple[Method, ...] = (LP, GP, HP)
_WATCHED = 500  # test recordings in which evidence is followed from window to window


def build(config: Config, method: Method, seed: int) -> HybridNetwork:
    """Return the untrained network of a trial."""
    data = event_set(config.dataset)
    (width, height, polarities), classes = data.train.sensor, len(data.classes)
    rule = Hebbian(
        trace_decay=config.trace_decay,
        trace_clip=config.trace_clip,
        nominal_batch=config.batch_size,
    )
    shared: dict[str, Any] = {
        "neuron": LIF(decay=config.decay, v_th=config.v_th),
        "rule": rule if method.local else None,
        "readout": Rate() if config.answer == "rate" else LastMembrane(config.output_ceiling),
        "steps": config.steps,
        "tau": config.tau,
        "pool": method.pool,
        "initial_meta": InitialMeta.up_to(config.initial_meta),
        "generator": torch_stream(seed, "initial values"),
        "meta_generator": torch_stream(seed, "initial meta-local values"),
        "encode": partial(counts_in_parts, steps=config.steps, ceiling=config.ceiling),
    }
    network: HybridNetwork
    if config.convolutions:
        network = Convolutional(
            (polarities, height, width),
            [Convolution(channels=c, pooled=pooled) for c, pooled in config.convolutions],
            [Dense(size=config.hidden, plastic=True), Dense(size=classes, plastic=True)],
            **shared,
        )
    else:
        sizes = (polarities * height * width, config.hidden, classes)
        network = FullyConnected(sizes, **shared)
    if not method.hidden_trained:
        network.requires_grad_(False)
        network.layers[-1].requires_grad_(True)
    return network


def test_faults(trained: Trained) -> Json:
    """Return confusion counts and firing rates at every fault, level and protocol.

    And, under the first protocol, how evidence for the right class gathers over the windows.
    """
    trial, network, data, device = trained
    config = trial.config
    assert isinstance(config, Config)
    labels = torch.from_numpy(data.test_labels).to(device)
    # Samples of a stream are shown one by one: convolutional networks run in batches alone.
    streams = isinstance(network, FullyConnected)
    protocols = [p for p in trial.method.protocols if streams or p != "stream"]
    tests: Json = {protocol: {} for protocol in protocols}
    gathered: Json = {}
    sound = test_recordings(config)
    for name, levels in config.faults:
        sets = test_sets(config, sound, name, levels, trial.seed).to(device)
        for protocol in protocols:
            outcome = evaluate(network, sets, labels, protocol, config.batch_size)
            rates = [[round(rate, 6) for rate in row] for row in outcome.rates.tolist()]
            tests[protocol][name] = {"confusion": outcome.confusion.tolist(), "rates": rates}
        watched = [Split(frames[:_WATCHED], labels[:_WATCHED]) for frames in sets]
        gathered[name] = [
            evidence(network, split, config.batch_size, adapt=protocols[0] != "frozen")
            for split in watched
        ]
    return {"tests": tests, "evidence": gathered}


@torch.no_grad()
def evidence(network: HybridNetwork, shown: Split, batch_size: int, *, adapt: bool) -> list[float]:
    """Return, after each window, spikes of the right output minus the mean of the others [T]."""
    network.eval()
    total = torch.zeros(network.steps, device=shown.inputs.device)
    for inputs, labels in zip(
        shown.inputs.split(batch_size), shown.labels.split(batch_size), strict=True
    ):
        spikes = network(inputs, adapt=adapt).windows[-1].z.cumsum(0)  # [T, N, classes]
        right = spikes.gather(2, labels.expand(len(spikes), -1).unsqueeze(2)).squeeze(2)
        others = (spikes.sum(2) - right) / (spikes.shape[2] - 1)
        total += (right - others).sum(1)
    return [round(value, 4) for value in (total / len(shown.labels)).tolist()]


def test_sets(
    config: Config, sound: Recordings, name: str, levels: tuple[float, ...], seed: int
) -> Tensor:
    """Return frames of what a faulty camera records [levels, N, inputs], uint8.

    What is random depends on the seed, the fault and the level, not on the method: methods of one
    seed are compared on the very same events.
    """
    sets = []
    for level in levels:
        source = int(numpy_stream(seed, "sensor fault", name, f"{level:g}").integers(2**32))
        sets.append(frames_from(config, corrupt_events(sound, name, level, source)))
    return torch.stack(sets)


EXPERIMENT = ImageExperiment(
    name="event_tolerance",
    network=build,
    test=test_faults,
    inputs=frames_of,
    data=recordings_for,
    digest=hash_of_events,
)
SCHEMES = Schemes(experiment=EXPERIMENT, methods=METHODS, plans=PLANS)


def run(profile: str, **options: Any) -> Result:
    """Run a profile, or what is left of it, and return its result; see `Schemes.run`."""
    return Result(*SCHEMES.run(profile, **options))


def load(profile: str, *, folder: Path | None = None) -> Result:
    """Return the result of a profile's committed records; see `Schemes.load`."""
    return Result(*SCHEMES.load(profile, folder=folder))
