"""What each profile of the event-tolerance experiment runs."""

from dataclasses import replace

from hybrid.experiments.base import Profile
from hybrid.experiments.event_config import LEVELS, Config
from hybrid.experiments.plans import Group, Plan

_MAIN = ("LP", "GP", "HP")
# Few recordings, so small batches; neurons remember longer than those that see a still image, and
# need more to spike. Chosen on validation recordings of a sound camera, seed 101.
_EVENTS = Config(
    label="events",
    span=310_000,  # of N-MNIST's three saccades
    v_th=0.5,
    decay=0.8,
    batch_size=20,
    lr_weight=5e-4,
    epochs=20,
)
_SMOKE = replace(
    _EVENTS,
    label="digits",
    recordings=1_200,
    tested=100,
    validation=200,
    hidden=128,
    lr_weight=1e-3,
    epochs=4,
    faults=(
        ("centre", (0.0, 3.0, 6.0)),
        ("occlusion", (0.2, 0.4)),
        ("dropped", (0.5, 0.9)),
        ("noise", (5.0, 20.0)),
        ("jitter", (25.0, 100.0)),
    ),
)
_SMALL = replace(_EVENTS, label="nmnist-small", dataset="nmnist_small")
# 70,000 recordings: of each fault a middle level and the highest are enough to test.
_SIMULATED = replace(
    _EVENTS,
    label="mnist",
    dataset="event_mnist",
    validation=5_000,
    batch_size=100,
    epochs=10,
    faults=(
        ("centre", (0.0, 4.0, 8.0)),
        ("occlusion", (0.2, 0.4)),
        ("dead", (0.2, 0.6)),
        ("hot", (0.02, 0.1)),
        ("dropped", (0.5, 0.9)),
        ("gap", (0.4, 0.8)),
        ("noise", (5.0, 20.0)),
        ("flipped", (0.2, 0.4)),
        ("jitter", (25.0, 100.0)),
        ("slow", (5.0, 20.0)),
    ),
)
_CONVOLUTIONAL = ((8, True), (16, True))

PLANS: dict[Profile, Plan] = {
    "smoke": (Group(configs=(_SMOKE,), methods=_MAIN, seeds=1),),
    "laptop": (
        Group(
            configs=(
                _SMALL,
                replace(_SMALL, label="nmnist-small-conv", convolutions=_CONVOLUTIONAL),
            ),
            methods=_MAIN,
            seeds=5,
        ),
        Group(configs=(_SIMULATED,), methods=_MAIN, seeds=3),
    ),
    "paper": (
        Group(
            configs=(
                replace(_SIMULATED, label="nmnist", dataset="nmnist", epochs=100, faults=LEVELS),
            ),
            methods=_MAIN,
            seeds=10,
        ),
    ),
}
