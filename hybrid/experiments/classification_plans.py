"""What each profile of the classification experiment runs."""

from dataclasses import replace
from typing import Any

from hybrid.experiments import base
from hybrid.experiments.base import Method, Profile
from hybrid.experiments.classification_config import (
    CIFAR10_NETWORK,
    FASHION_NETWORK,
    MNIST_NETWORK,
    Config,
)
from hybrid.experiments.plans import Group, Plan

# "batch" is the authors' protocol: traces go on moving while a test batch is shown.
LP = replace(base.LP, protocols=("batch", "frozen"))
GP = base.GP
HP = replace(base.HP, protocols=("batch", "frozen"))
METHODS: tuple[Method, ...] = (LP, GP, HP)


# One thing changed at a time, under the label's suffix. Neurons are compared under the rate code:
# a membrane that does not leak has no use for the other answers.
CODES_AND_NEURONS: dict[str, dict[str, Any]] = {
    "rate": {"answer": "rate"},
    "rank": {"answer": "rank"},
    "poisson": {"code": "poisson"},
    "IF": {"neuron": "IF", "answer": "rate"},
    "adaptive": {"neuron": "adaptive", "answer": "rate"},
}
# Of the local module alone: GP would be the same network in all of them.
RULES_AND_ABLATIONS: dict[str, dict[str, Any]] = {
    "STDP": {"rule": "stdp"},
    "fixed-theta": {"theta": "fixed"},
    "unit-gain": {"theta": "unit-gain"},
    "hidden-only": {"plastic": (True, False)},
    "readout-only": {"plastic": (False, True)},
}


def variants(config: Config, changes: dict[str, dict[str, Any]]) -> tuple[Config, ...]:
    """Return the config with each of the changes, labelled by its name."""
    return tuple(
        replace(config, label=f"{config.label}-{name}", **change)
        for name, change in changes.items()
    )


def by_rows(config: Config, label: str) -> Config:
    """Return the config for images shown row by row: longer memories, and a rate code.

    Chosen on validation digits (seed 101): a membrane read at the end has forgotten the first
    rows, and stays at chance.
    """
    longer: dict[str, Any] = {
        "view": "rows",
        "steps": 28,
        "decay": 0.8,
        "tau": None,
        "answer": "rate",
    }
    return replace(config, label=label, **longer)


# Small and short; θ learns faster than in longer runs. Chosen on validation digits (seeds 101 to
# 105); the test digits had no part in it.
_SMOKE = Config(
    label="digits",
    validation=500,
    hidden=(128,),
    batch_size=50,
    steps=6,
    epochs=2,
    lr_weight=2e-3,
    lr_meta=5e-3,
)
_SHORT = replace(_SMOKE, label="digits-short", hidden=(64,), epochs=1)
_SMOKE_ROWS = replace(
    by_rows(_SMOKE, "digits-rows"), epochs=2, hidden=(64,), batch_size=100, lr_weight=8e-3
)
_DENSE = tuple(Config(label=name, dataset=name, epochs=10) for name in ("mnist", "fashion_mnist"))
# About an eighth of the authors' width. What differs from theirs was chosen on validation images.
_REDUCED = (
    replace(
        MNIST_NETWORK,
        label="mnist-reduced",
        convolutions=((16, True, 0.0), (32, True, 0.0), (64, True, 0.0)),
        hidden=(128,),
        epochs=12,
        lr_weight=1e-3,
        lr_decay="steps",
        milestones=(8,),
    ),
    replace(
        FASHION_NETWORK,
        label="fashion_mnist-reduced",
        convolutions=((24, True, 0.0), (48, True, 0.0), (96, True, 0.0)),
        hidden=(256,),
        steps=6,
        epochs=10,
        lr_weight=1e-3,
        lr_decay="cosine",
        milestones=(),
    ),
)

_ALL = ("LP", "GP", "HP")
PLANS: dict[Profile, Plan] = {
    "smoke": (
        Group(configs=(_SMOKE,), methods=_ALL, seeds=3),
        Group(configs=(_SMOKE_ROWS,), methods=("GP", "HP"), seeds=1),
        Group(
            configs=(
                _SHORT,
                *variants(_SHORT, CODES_AND_NEURONS),
                *variants(_SHORT, RULES_AND_ABLATIONS),
            ),
            methods=("HP",),
            seeds=1,
        ),
    ),
    "laptop": (
        Group(configs=_REDUCED, methods=("GP", "HP"), seeds=1),
        Group(configs=_DENSE, methods=_ALL, seeds=3),
        Group(configs=(by_rows(_DENSE[0], "mnist-rows"),), methods=_ALL, seeds=3),
        Group(configs=variants(_DENSE[1], CODES_AND_NEURONS), methods=("GP", "HP"), seeds=3),
        Group(configs=variants(_DENSE[1], RULES_AND_ABLATIONS), methods=("HP",), seeds=3),
    ),
    "paper": (
        Group(
            configs=(MNIST_NETWORK, FASHION_NETWORK, CIFAR10_NETWORK),
            methods=("GP", "HP"),
            seeds=3,
        ),
        Group(
            configs=tuple(replace(config, epochs=30) for config in _DENSE), methods=_ALL, seeds=5
        ),
        Group(configs=(by_rows(_DENSE[0], "mnist-rows"),), methods=_ALL, seeds=3),
        Group(
            configs=(
                replace(by_rows(_DENSE[0], "mnist-pixels"), view="pixels", steps=784, decay=0.99),
            ),
            methods=_ALL,
            seeds=3,
        ),
    ),
}
