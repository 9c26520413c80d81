"""What each profile of the event-tolerance experiment runs."""

from dataclasses import replace

from hybrid.experiments.base import Profile
from hybrid.experiments.event_config import Config
from hybrid.experiments.plans import Group, Plan

_MAIN = ("LP", "GP", "HP")
_SMOKE = Config(
    label="digits",
    recordings=1_200,
    tested=300,
    validation=200,
    hidden=256,
    batch_size=50,
    epochs=4,
    faults=(
        ("centre", (0.0, 3.0, 6.0)),
        ("occlusion", (0.2, 0.4)),
        ("dropped", (0.5, 0.9)),
        ("noise", (5.0, 20.0)),
        ("jitter", (25.0, 100.0)),
    ),
)
_SMALL = Config(label="nmnist-small", dataset="nmnist_small")
_SIMULATED = Config(label="mnist", dataset="event_mnist", validation=5_000, epochs=10)
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
            configs=(replace(_SIMULATED, label="nmnist", dataset="nmnist", epochs=100),),
            methods=_MAIN,
            seeds=10,
        ),
    ),
}
