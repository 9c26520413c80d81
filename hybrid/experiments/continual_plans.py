"""What each profile of the continual-learning experiment runs."""

from hybrid.experiments.base import Profile
from hybrid.experiments.continual_config import Config
from hybrid.experiments.continual_methods import METHODS
from hybrid.experiments.plans import Group, Plan

_ALL = tuple(method.name for method in METHODS)
_SMOKE = Config(
    label="digits",
    dataset="digits",
    validation=2_500,
    tasks=5,
    authors_permutations=False,
    hidden=(128, 128),
    density=0.1,
    initial_scale=3.0,
    epochs=2,
    batch_size=50,
    lr_weight=2e-3,
    lr_meta=1e-3,
    fresh=True,
    fisher_samples=500,
)
_LAPTOP = Config(
    label="mnist",
    tasks=10,
    authors_permutations=False,
    initial_scale=6.0,
    epochs=2,
    lr_weight=1e-3,
    lr_meta=1e-3,
    fresh=True,
)
_AUTHORS = Config(label="mnist-authors")

PLANS: dict[Profile, Plan] = {
    "smoke": (Group(configs=(_SMOKE,), methods=_ALL, seeds=1),),
    "laptop": (Group(configs=(_LAPTOP,), methods=_ALL, seeds=3),),
    "paper": (Group(configs=(_AUTHORS,), methods=("sparse GP", "HP", "EWC"), seeds=10),),
}
