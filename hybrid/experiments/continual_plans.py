"""What each profile of the continual-learning experiment runs."""

from dataclasses import replace

from hybrid.experiments.base import Profile
from hybrid.experiments.continual_config import Config
from hybrid.experiments.continual_methods import METHODS
from hybrid.experiments.plans import Group, Plan

_ALL = tuple(method.name for method in METHODS)
# Chosen on validation digits (seeds 101 and 102); the test digits had no part in it.
_SMOKE = Config(
    label="digits",
    dataset="digits",
    validation=3_000,
    tasks=5,
    authors_permutations=False,
    hidden=(128, 128),
    density=0.1,
    initial_scale=3.0,
    epochs=1,
    batch_size=50,
    lr_weight=2e-3,
    lr_gated=1.5e-2,
    lr_meta=1e-3,
    fresh=True,
    strength_ewc=25.0,
    strength_online=25.0,
    strength_si=200.0,
    strength_ewc_gated=5.0,
    strength_si_gated=10.0,
    fisher_samples=500,
)
# Half the authors' neurons, for time. Chosen on validation digits of five tasks, seed 101: the
# best final accuracy of two to five values each.
_LAPTOP = Config(
    label="mnist",
    tasks=10,
    authors_permutations=False,
    hidden=(512, 512),
    initial_scale=3.0,
    epochs=2,
    lr_weight=1e-3,
    lr_gated=4e-3,
    lr_meta=1e-3,
    fresh=True,
    strength_ewc=30.0,
    strength_online=30.0,
    strength_si=10.0,
    strength_ewc_gated=30.0,
    strength_si_gated=300.0,
)
_AUTHORS = Config(label="mnist-authors")


def of_density(config: Config, density: float) -> Config:
    """Return the config with masks of another density, weights scaled for as many inputs."""
    scale = config.initial_scale * (config.density / density) ** 0.5
    label = f"{config.label}-density-{density:g}"
    return replace(config, label=label, density=density, initial_scale=round(scale, 3))


# Masks tell a network its task: they fit the first of the three scenarios alone.
_SPLIT = tuple(
    replace(_LAPTOP, label=f"split-{stream}", stream=stream, tasks=5)
    for stream in ("task-incremental", "domain-incremental", "class-incremental")
)
PLANS: dict[Profile, Plan] = {
    "smoke": (
        Group(configs=(_SMOKE,), methods=_ALL, seeds=1),
        Group(configs=(of_density(_SMOKE, 0.03),), methods=("sparse GP", "HP"), seeds=1),
    ),
    "laptop": (
        Group(configs=(_LAPTOP,), methods=("GP", "sparse GP", "HP", "EWC", "SI"), seeds=5),
        Group(
            configs=(_LAPTOP,),
            methods=("joint", "LP", "HP-own", "online EWC", "EWC + gating", "SI + gating"),
            seeds=3,
        ),
        Group(configs=_SPLIT[:1], methods=("sparse GP", "HP"), seeds=3),
        Group(configs=_SPLIT, methods=("GP", "joint", "EWC", "SI"), seeds=3),
        Group(
            configs=tuple(of_density(_LAPTOP, density) for density in (0.01, 0.1)),
            methods=("sparse GP", "HP"),
            seeds=2,
        ),
    ),
    "paper": (
        Group(configs=(_AUTHORS,), methods=("GP", "sparse GP", "HP", "EWC", "SI"), seeds=10),
    ),
}
