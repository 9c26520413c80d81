"""What each profile of the continual-learning experiment runs."""

from dataclasses import replace

from hybrid.experiments.continual.methods import METHODS
from hybrid.experiments.continual.settings import ContinualSettings, Penalty
from hybrid.experiments.core.experiment import Group, Plan, Profile
from hybrid.learning.schedule import Schedule
from hybrid.model.layers import InitialMeta
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian

# The authors' constants, but for this: they learn from all training images, here 5,000 are held
# out; and their penalties differ (EWC with a strength of 5000 and the squared gradients of batches,
# no SI), so that the strengths here are ours.
AUTHORS = ContinualSettings(
    label="mnist-authors",
    dataset="mnist",
    validation=5_000,
    tasks=50,
    authors_permutations=True,
    hidden=(1024, 1024),
    density=0.03,
    neuron=LIF(decay=0.8, v_th=0.5),
    rule=Hebbian(trace_decay=0.8),
    steps=3,
    tau=50.0,
    initial_meta=InitialMeta((0.0, 0.1), (0.0, 1e-3), (0.0, 0.0)),
    epochs=10,
    schedule=Schedule(epochs=500, batch_size=100, lr_weight=5e-4, lr_meta=5e-5),
    lr_gated=5e-4,
    fresh=False,
    penalty=Penalty(),
)
# Chosen on validation digits (seeds 101 and 102); the test digits had no part in it.
SMOKE = replace(
    AUTHORS,
    label="digits",
    dataset="digits",
    validation=3_000,
    tasks=5,
    authors_permutations=False,
    hidden=(128, 128),
    density=0.1,
    initial_scale=3.0,
    epochs=1,
    schedule=Schedule(epochs=5, batch_size=50, lr_weight=2e-3, lr_meta=1e-3),
    lr_gated=1.5e-2,
    fresh=True,
    penalty=Penalty(
        ewc=25.0, online=25.0, si=200.0, ewc_gated=5.0, si_gated=10.0, fisher_samples=500
    ),
)
# Half the authors' neurons, for time. Chosen on validation digits of five tasks, seed 101: the
# best final accuracy of two to five values each.
LAPTOP = replace(
    AUTHORS,
    label="mnist",
    tasks=10,
    authors_permutations=False,
    hidden=(512, 512),
    initial_scale=3.0,
    epochs=2,
    schedule=Schedule(epochs=20, batch_size=100, lr_weight=1e-3, lr_meta=1e-3),
    lr_gated=4e-3,
    fresh=True,
    penalty=Penalty(ewc=30.0, online=30.0, si=10.0, ewc_gated=30.0, si_gated=300.0),
)


def of_density(settings: ContinualSettings, density: float) -> ContinualSettings:
    """Return settings with masks of another density, weights scaled for as many inputs."""
    scale = settings.initial_scale * (settings.density / density) ** 0.5
    label = f"{settings.label}-density-{density:g}"
    return replace(settings, label=label, density=density, initial_scale=round(scale, 3))


# Masks tell a network its task: they fit the first of the three scenarios alone.
_SPLIT = tuple(
    replace(
        LAPTOP,
        label=f"split-{stream}",
        stream=stream,
        tasks=5,
        schedule=replace(LAPTOP.schedule, epochs=10),
    )
    for stream in ("task-incremental", "domain-incremental", "class-incremental")
)
# Weights' rates under masks of each density, for each way to learn, on validation images of half
# the tasks and of a seed that no other plan has.
DENSITIES = (0.01, 0.03, 0.1)
SEARCH = tuple(
    replace(
        of_density(LAPTOP, density),
        label=f"mnist-density-{density:g}-rate={rate:g}",
        tasks=5,
        schedule=replace(LAPTOP.schedule, epochs=10),
        lr_gated=rate,
        judged_on="validation",
    )
    for density in DENSITIES
    for rate in (1e-3, 2e-3, 4e-3, 8e-3)
)
_SEARCHED = ("longer sparse GP", "longer EWC + gating", "HP")
_ALL = tuple(method.name for method in METHODS if not method.extra_epochs)
PLANS: dict[Profile, Plan[ContinualSettings]] = {
    "smoke": (
        Group(settings=(SMOKE,), methods=_ALL, seeds=1),
        Group(settings=(of_density(SMOKE, 0.03),), methods=("sparse GP", "HP"), seeds=1),
    ),
    "laptop": (
        Group(settings=(LAPTOP,), methods=("GP", "sparse GP", "HP", "EWC", "SI"), seeds=5),
        Group(
            settings=(LAPTOP,),
            methods=("joint", "LP", "HP-own", "online EWC", "EWC + gating", "SI + gating"),
            seeds=3,
        ),
        Group(settings=_SPLIT[:1], methods=("sparse GP", "HP"), seeds=3),
        Group(settings=_SPLIT, methods=("GP", "joint", "EWC", "SI"), seeds=3),
        Group(
            settings=tuple(of_density(LAPTOP, density) for density in (0.01, 0.1)),
            methods=("sparse GP", "HP"),
            seeds=2,
        ),
    ),
    "search": (Group(settings=SEARCH, methods=_SEARCHED, seeds=1, first_seed=101),),
    "paper": (
        Group(settings=(AUTHORS,), methods=("GP", "sparse GP", "HP", "EWC", "SI"), seeds=10),
    ),
}
