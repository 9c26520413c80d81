"""The ways to learn one task after the other."""

from dataclasses import dataclass

import torch

from hybrid.experiments import base
from hybrid.experiments.base import Method
from hybrid.experiments.continual_config import Config
from hybrid.learning.consolidation import Consolidation, Importance
from hybrid.learning.continual import Learner, Lessons, MetaEpoch
from hybrid.model.context import ContextGated, Masks
from hybrid.model.layers import InitialMeta
from hybrid.model.masks import random_masks
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.runs.seeds import torch_stream
from hybrid.runs.store import Json


@dataclass(frozen=True, kw_only=True)
class ContinualMethod(Method):
    """A method, and what it knows, keeps and stores of its tasks."""

    gated: bool = False  # sees each task through its masks: it is told the task, also in tests
    importance: Importance = "none"
    joint: bool = False  # stores the data of all tasks
    meta: MetaEpoch = "none"  # "replay" stores data, too

    def request(self) -> Json:
        return super().request() | {
            "gated": self.gated,
            "importance": self.importance,
            "joint": self.joint,
            "meta": self.meta,
        }


def _method(method: Method, protocols: tuple[str, ...], **changes: object) -> ContinualMethod:
    return ContinualMethod(**(vars(method) | {"protocols": protocols} | changes))


GP = _method(
    base.GP, ("frozen",), about="fine-tuning: all synapses, task after task, and no remedy"
)
JOINT = ContinualMethod(
    name="joint",
    colour="#000000",
    about="GP on a mixture of all tasks, also of those to come: no stream at all",
    local=False,
    joint=True,
)
SPARSE_GP = ContinualMethod(
    name="sparse GP",
    colour="#56B4E9",
    about="gating alone: each task owns few synapses; it is told the task",
    local=False,
    gated=True,
)
LP = _method(
    base.LP,
    ("batch", "frozen", "sample"),
    gated=True,
    meta="replay",
    about="HP with random hidden weights: of these layers θ alone is trained, from stored data",
)
HP = _method(
    base.HP,
    ("batch", "frozen", "sample"),
    gated=True,
    meta="replay",
    about="gating, and traces on all other synapses; θ learns from stored data of earlier tasks",
)
HP_OWN = ContinualMethod(
    name="HP-own",
    colour="#CC79A7",
    about="HP whose θ learns from the task just learned: nothing is stored",
    local=True,
    gated=True,
    meta="own",
    protocols=("batch", "frozen", "sample"),
)
EWC = ContinualMethod(
    name="EWC",
    colour="#E69F00",
    about="GP with elastic weight consolidation; it is not told the task",
    local=False,
    importance="ewc",
)
ONLINE_EWC = ContinualMethod(
    name="online EWC",
    colour="#8C6D31",
    about="GP with the online form of EWC; it is not told the task",
    local=False,
    importance="online-ewc",
)
SI = ContinualMethod(
    name="SI",
    colour="#F0E442",
    about="GP with synaptic intelligence; it is not told the task",
    local=False,
    importance="si",
)
EWC_GATED = ContinualMethod(
    name="EWC + gating",
    colour="#999999",
    about="sparse GP with EWC; it is told the task",
    local=False,
    gated=True,
    importance="ewc",
)
SI_GATED = ContinualMethod(
    name="SI + gating",
    colour="#5B5BA5",
    about="sparse GP with synaptic intelligence; it is told the task",
    local=False,
    gated=True,
    importance="si",
)
METHODS: tuple[ContinualMethod, ...] = (
    GP,
    JOINT,
    LP,
    SPARSE_GP,
    HP,
    HP_OWN,
    EWC,
    ONLINE_EWC,
    SI,
    EWC_GATED,
    SI_GATED,
)


def build(config: Config, method: ContinualMethod, seed: int, outputs: int) -> Learner:
    """Return the untrained learner of a trial; all methods of a seed start from the same draws."""
    sizes = (28 * 28, *config.hidden, outputs)
    network = ContextGated(
        sizes,
        neuron=LIF(decay=config.decay, v_th=config.v_th),
        rule=Hebbian(trace_decay=config.trace_decay) if method.local else None,
        steps=config.steps,
        tau=config.tau,
        initial_meta=InitialMeta(
            config.initial_gain, config.initial_rate, config.initial_threshold
        ),
        generator=torch_stream(seed, "initial values"),
        meta_generator=torch_stream(seed, "initial meta-local values"),
    )
    if method.gated:
        with torch.no_grad():
            for weight in network.weights:
                weight.mul_(config.initial_scale)
    if not method.hidden_trained:
        for layer in network.layers:
            layer.get_parameter("weight").requires_grad_(False)
    dense, gated = (
        {"none": 1.0, "ewc": ewc, "online-ewc": config.strength_online, "si": si}
        for ewc, si in (
            (config.strength_ewc, config.strength_si),
            (config.strength_ewc_gated, config.strength_si_gated),
        )
    )
    held = Consolidation(
        network.weights,
        method.importance,
        strength=(gated if method.gated else dense)[method.importance],
        fading=config.fading,
        damping=config.damping,
    )

    def masks(task: int) -> Masks:
        return random_masks(sizes, config.density, torch_stream(seed, "masks", task))

    return Learner(network, held, config.tasks, masks if method.gated else None)


def lessons(config: Config, method: ContinualMethod) -> Lessons:
    """Return how a trial learns its stream."""
    return Lessons(
        epochs=config.epochs,
        joint=method.joint,
        meta=method.meta,
        meta_tasks=config.meta_tasks,
        fresh=config.fresh,
        fisher_samples=config.fisher_samples,
    )
