"""What each profile of the deployment experiment runs."""

from dataclasses import replace

from hybrid.experiments.continual import plans as continual
from hybrid.experiments.core.experiment import Group, Plan, Profile
from hybrid.experiments.core.methods import GP, HP, HP_SAMPLE, LP, Method
from hybrid.experiments.deployment.settings import DeploymentSettings
from hybrid.experiments.fault_tolerance import plans as fault_tolerance
from hybrid.experiments.few_shot import plans as few_shot
from hybrid.model.convolutional import Dense

METHODS: tuple[Method, ...] = (LP, GP, HP, HP_SAMPLE)
_FAULTS = (("gaussian", (0.0, 0.02, 0.04, 0.06)), ("crop", (2.0, 4.0, 6.0)))
_MAIN = ("LP", "GP", "HP")
# Cores of a chip's 156; shares of bits and of packets.
_DEFECTS = (
    ("dead cores", (0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0)),
    ("stuck bits", (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)),
    ("flipped bits", (0.0, 0.001, 0.003, 0.01, 0.03)),
    ("lost packets", (0.0, 0.01, 0.03, 0.1, 0.3)),
)
_PAPER = DeploymentSettings(label="fashion_mnist", trained=fault_tolerance.PAPER, faults=_FAULTS)
_SMOKE = replace(
    _PAPER, label="digits", trained=fault_tolerance.SMOKE, bits=(8, 4, 3), rewritten=40
)
_LAPTOP = (
    replace(_PAPER, trained=fault_tolerance.LAPTOP),
    DeploymentSettings(label="omniglot", trained=few_shot.OMNIGLOT),
    DeploymentSettings(label="permuted-mnist", trained=continual.LAPTOP),
)
# The networks of fault tolerance's controls: with a trace of its own for each image, and with
# neurons that keep the currents of training.
_TESTED = replace(
    _PAPER,
    label="fashion_mnist-tested",
    trained=fault_tolerance.TESTED,
    homeostatic=True,
    bits=(),
    defects=_DEFECTS,
)
# Small networks, whose defects take minutes to try.
_BROKEN = replace(
    _SMOKE, label="digits-broken", bits=(), sums=(), lags=(), delays=(), defects=_DEFECTS
)
# Pictures as numbers, spikes between layers: both ways to compute in one network. A drive that does
# not fade leaves spikes bare, where the next layer has no local module.
_SPIKES = replace(
    _SMOKE,
    label="digits-spikes",
    trained=replace(
        fault_tolerance.SMOKE,
        label="digits-spikes",
        tau=None,
        dense=(Dense(size=256, plastic=True), Dense(size=10)),
    ),
    bits=(),
    sums=(),
    lags=(),
    delays=(),
)
# Local modules at work: HP-sample's as a history, HP's kept by a host while images come one by one
# and synapses are rewritten after 1, 10 or 100 of them.
_LOCAL = tuple(
    replace(
        _PAPER,
        label=f"{name}-local",
        trained=trained,
        bits=(),
        sums=(),
        lags=(),
        delays=(),
        streamed=(1, 10, 100),
    )
    for name, trained in (
        ("digits", fault_tolerance.SMOKE),
        ("fashion_mnist", fault_tolerance.LAPTOP),
    )
)
PLANS: dict[Profile, Plan[DeploymentSettings]] = {
    "smoke": (Group(settings=(_SMOKE,), methods=_MAIN, seeds=1),),
    "laptop": (
        Group(settings=_LAPTOP, methods=_MAIN, seeds=3),
        Group(settings=(_BROKEN, _SPIKES), methods=(*_MAIN, "HP-sample"), seeds=5),
        Group(settings=_LOCAL[:1], methods=("HP", "HP-sample"), seeds=5),
    ),
    "controls": (
        Group(settings=(_TESTED,), methods=(*_MAIN, "HP-sample"), seeds=5),
        Group(settings=_LOCAL[1:], methods=("HP", "HP-sample"), seeds=3),
    ),
    "paper": (Group(settings=(_PAPER,), methods=(*_MAIN, "HP-sample"), seeds=3),),
}
