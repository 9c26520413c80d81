"""Fault tolerance on event cameras (paper Fig. 3): train on a sound camera, test on faulty ones."""

import torch
from torch import Tensor, nn

from hybrid.data.events.faults import corrupt_events
from hybrid.data.events.recordings import Recordings
from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.network import (
    Labelled,
    Trained,
    build_network,
    score,
    ways_to_answer,
)
from hybrid.experiments.core.trials import Trial
from hybrid.experiments.event_tolerance.frames import (
    event_set,
    frames_from,
    frames_of,
    recordings_for,
    recordings_to_test,
)
from hybrid.experiments.event_tolerance.settings import EventSettings
from hybrid.learning.iteration import Split
from hybrid.model.networks import FullyConnected, HybridNetwork
from hybrid.runs.seeds import numpy_stream
from hybrid.runs.store import Json

_WATCHED = 500  # test recordings in which evidence is followed from window to window


def build(trial: Trial[EventSettings, Method]) -> nn.Module:
    """Return the untrained network of a trial."""
    width, height, polarities = event_set(trial.settings.dataset).train.sensor
    image = (polarities, height, width)
    return build_network(trial.settings, trial.method, trial.seed, image)


def score_faults(trained: Trained[EventSettings, Method]) -> Json:
    """Return confusion counts and firing rates at every fault, level and protocol.

    And, under the first protocol, how evidence for the right class gathers over the windows.
    """
    trial, network, data, device = trained
    settings = trial.settings
    labels = torch.from_numpy(data.test_labels).to(device)
    # Samples of a stream are shown one by one: convolutional networks run in batches alone.
    streams = isinstance(network, FullyConnected)
    protocols = [p for p in trial.method.protocols if streams or p != "stream"]
    ways = ways_to_answer(
        network,
        protocols,
        settings.corrections,
        settings.rates,
        lambda: frames_of(settings, data.train).to(device),
    )
    tests: Json = {way: {} for way in ways}
    gathered: Json = {}
    sound = recordings_to_test(settings)
    for name, levels in settings.faults:
        sets = faulty_frames(settings, sound, name, levels, trial.seed).to(device)
        size, classes = settings.schedule.batch_size, settings.dense[-1].size
        one = ((name, levels),)
        counts = score(ways, sets, labels, one, size=size, classes=classes, each=settings.each)
        for way, found in counts.items():
            tests[way] |= found
        watched = [Split(frames[:_WATCHED], labels[:_WATCHED]) for frames in sets]
        gathered[name] = [
            evidence(network, split, settings.schedule.batch_size, adapt=protocols[0] != "frozen")
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


def faulty_frames(
    settings: EventSettings, sound: Recordings, name: str, levels: tuple[float, ...], seed: int
) -> Tensor:
    """Return frames of what a faulty camera records [levels, N, inputs], uint8.

    What is random depends on the seed, the fault and the level, not on the method: methods of one
    seed are compared on the very same events.
    """
    sets = []
    for level in levels:
        source = int(numpy_stream(seed, "sensor fault", name, f"{level:g}").integers(2**32))
        sets.append(frames_from(settings, corrupt_events(sound, name, level, source)))
    return torch.stack(sets)


TRAINING: Labelled[EventSettings, Method] = Labelled(
    test=score_faults, samples=recordings_for, inputs=frames_of
)
