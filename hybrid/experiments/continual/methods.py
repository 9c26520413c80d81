"""The ways to learn one task after the other."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from hybrid.described import LATER
from hybrid.experiments.continual.settings import ContinualSettings
from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.samples import shape_of
from hybrid.learning.consolidation import Consolidation, Importance
from hybrid.learning.continual import Learner, MetaEpoch
from hybrid.model.networks import ContextGated
from hybrid.model.window.sparse import Masks, random_masks
from hybrid.runs.seeds import torch_stream


@dataclass(frozen=True, kw_only=True)
class ContinualMethod(Method):
    """A method, and what it knows, keeps and stores of its tasks."""

    gated: bool = False  # sees each task through its masks: it is told the task, also in tests
    importance: Importance = "none"
    joint: bool = False  # stores the data of all tasks
    meta: MetaEpoch = "none"  # "replay" stores data, too
    # Of each task, beyond the settings': in all at least as many steps as HP takes with those of θ.
    extra_epochs: int = field(default=0, metadata=LATER)


def _plain(name: str, about: str, **changes: Any) -> ContinualMethod:
    """Return a method without traces."""
    return ContinualMethod(name=name, about=about, local=False, **changes)


def _plastic(name: str, about: str, **changes: Any) -> ContinualMethod:
    """Return a gated method with traces; its θ learns from stored data unless told otherwise."""
    usual: dict[str, Any] = {"gated": True, "meta": "replay"}
    usual |= {"protocols": ("batch", "frozen", "sample")}
    return ContinualMethod(name=name, about=about, local=True, **(usual | changes))


GP = _plain("GP", "fine-tuning: all synapses, task after task, and no remedy")
JOINT = _plain(
    "joint", "GP on a mixture of all tasks, also of those to come: no stream at all", joint=True
)
LP = _plastic(
    "LP",
    "HP with random hidden weights: of these layers θ alone is trained, from stored data",
    hidden_trained=False,
)
SPARSE_GP = _plain(
    "sparse GP", "gating alone: each task owns few synapses; it is told the task", gated=True
)
HP = _plastic(
    "HP", "gating, and traces on all other synapses; θ learns from stored data of earlier tasks"
)
EWC = _plain(
    "EWC", "GP with elastic weight consolidation; it is not told the task", importance="ewc"
)

METHODS: tuple[ContinualMethod, ...] = (
    *(GP, JOINT, LP, SPARSE_GP, HP),
    _plastic(
        "HP-own", "HP whose θ learns from the task just learned: nothing is stored", meta="own"
    ),
    EWC,
    _plain(
        "online EWC",
        "GP with the online form of EWC; it is not told the task",
        importance="online-ewc",
    ),
    _plain("SI", "GP with synaptic intelligence; it is not told the task", importance="si"),
    _plain("EWC + gating", "sparse GP with EWC; it is told the task", gated=True, importance="ewc"),
    _plain(
        "longer sparse GP",
        "sparse GP with at least as many steps as HP",
        gated=True,
        extra_epochs=1,
    ),
    _plain(
        "longer EWC + gating",
        "EWC + gating with at least as many steps as HP",
        gated=True,
        importance="ewc",
        extra_epochs=1,
    ),
    _plain(
        "SI + gating",
        "sparse GP with synaptic intelligence; it is told the task",
        gated=True,
        importance="si",
    ),
)


def build(settings: ContinualSettings, method: ContinualMethod, seed: int, outputs: int) -> Learner:
    """Return the untrained learner of a trial; all methods of a seed start from the same draws."""
    sizes = (math.prod(shape_of(settings.dataset)), *settings.hidden, outputs)
    network = ContextGated(
        sizes,
        neuron=settings.neuron,
        rule=settings.rule if method.local else None,
        steps=settings.steps,
        tau=settings.tau,
        initial_meta=settings.initial_meta,
        generator=torch_stream(seed, "initial values"),
        meta_generator=torch_stream(seed, "initial meta-local values"),
    )
    if method.gated:
        with torch.no_grad():
            for weight in network.weights:
                weight.mul_(settings.initial_scale)
    if not method.hidden_trained:
        for layer in network.layers:
            layer.get_parameter("weight").requires_grad_(False)
    penalty = settings.penalty
    held = Consolidation(
        network.weights,
        method.importance,
        strength=penalty.strength(method.importance, gated=method.gated),
        fading=penalty.fading,
        damping=penalty.damping,
    )

    def masks(task: int) -> Masks:
        return random_masks(sizes, settings.density, torch_stream(seed, "masks", task))

    return Learner(network, held, settings.tasks, masks if method.gated else None)
