"""The ways to learn that are tested on faulty images: the paper's, and controls of ours."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from hybrid.data.augment import add_noise, erase
from hybrid.experiments.core.methods import GP, HP, HP_SAMPLE, LP, Method
from hybrid.experiments.core.network import build_network
from hybrid.experiments.core.samples import shape_of
from hybrid.experiments.core.trials import Trial
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.learning.training import Augment
from hybrid.model.layers import ThetaForm
from hybrid.model.networks import HybridNetwork
from hybrid.model.plasticity import Post


@dataclass(frozen=True, kw_only=True)
class Control(Method):
    """A method of ours that differs from GP or HP in one thing.

    Args:
        normalise: batch normalisation of the hidden layer, in training too.
        augment: training images get noise, or lose a rectangle.
        theta_form: see `HybridLinear`.
        sign, post: of the local rule; None as the settings have them.
    """

    normalise: bool = False
    augment: Literal["none", "noise", "erasing"] = "none"
    theta_form: ThetaForm = "free"
    sign: Literal[1, -1] | None = None
    post: Post | None = None


def _gp(name: str, about: str, **changes: Any) -> Control:
    return Control(**(vars(GP) | {"name": name, "about": about} | changes))


def _hp(name: str, about: str, **changes: Any) -> Control:
    return Control(**(vars(HP) | {"name": name, "about": about} | changes))


METHODS: tuple[Method, ...] = (
    LP,
    GP,
    HP,
    HP_SAMPLE,
    _gp("GP-norm", "GP with batch normalisation of its hidden layer", normalise=True),
    _gp("GP-noise", "GP, trained on images with noise of variance up to 0.06", augment="noise"),
    _gp("GP-erase", "GP, trained on images with a blank rectangle", augment="erasing"),
    _hp("HP-plus", "HP whose rule can only strengthen what repeats", theta_form="signed", sign=1),
    _hp("HP-minus", "HP whose rule can only weaken what repeats", theta_form="signed", sign=-1),
    _hp("HP-one-rate", "HP with one local rate for all inputs of a layer", theta_form="layer"),
    _hp("HP-mean", "HP whose trace is a running mean of the input", post="constant"),
)


def build(trial: Trial[FaultSettings, Method]) -> HybridNetwork:
    """Return the untrained network of a trial."""
    settings, method, form = trial.settings, trial.method, dict[str, Any]()
    if isinstance(method, Control):
        own = {"sign": method.sign, "post": method.post}
        changes: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
        settings = replace(settings, rule=replace(settings.rule, **changes))  # type: ignore[type-var]
        form = {"normalise": method.normalise, "theta_form": method.theta_form}
    return build_network(settings, method, trial.seed, shape_of(settings.dataset), **form)


def augmentation(trial: Trial[FaultSettings, Method]) -> Augment | None:
    """Return the random change of training images, or None."""
    kind = trial.method.augment if isinstance(trial.method, Control) else "none"
    shape = shape_of(trial.settings.dataset)

    def erased(inputs: Tensor, generator: torch.Generator) -> Tensor:
        return erase(inputs.unflatten(1, shape), generator).flatten(1)

    return {"none": None, "noise": add_noise, "erasing": erased}[kind]
