"""The ways to learn one task after the other."""

from dataclasses import dataclass

import torch

from hybrid.experiments.continual.settings import ContinualSettings
from hybrid.experiments.core import methods
from hybrid.experiments.core.methods import Method
from hybrid.learning.consolidation import Consolidation, Importance
from hybrid.learning.continual import Learner, MetaEpoch, StreamTraining
from hybrid.model.context import ContextGated, Masks
from hybrid.model.window.sparse import random_masks
from hybrid.runs.seeds import torch_stream


@dataclass(frozen=True, kw_only=True)
class ContinualMethod(Method):
    """A method, and what it knows, keeps and stores of its tasks."""

    gated: bool = False  # sees each task through its masks: it is told the task, also in tests
    importance: Importance = "none"
    joint: bool = False  # stores the data of all tasks
    meta: MetaEpoch = "none"  # "replay" stores data, too


def _method(method: Method, protocols: tuple[str, ...], **changes: object) -> ContinualMethod:
    return ContinualMethod(**(vars(method) | {"protocols": protocols} | changes))


GP = _method(
    methods.GP, ("frozen",), about="fine-tuning: all synapses, task after task, and no remedy"
)
JOINT = ContinualMethod(
    name="joint",
    about="GP on a mixture of all tasks, also of those to come: no stream at all",
    local=False,
    joint=True,
)
SPARSE_GP = ContinualMethod(
    name="sparse GP",
    about="gating alone: each task owns few synapses; it is told the task",
    local=False,
    gated=True,
)
LP = _method(
    methods.LP,
    ("batch", "frozen", "sample"),
    gated=True,
    meta="replay",
    about="HP with random hidden weights: of these layers θ alone is trained, from stored data",
)
HP = _method(
    methods.HP,
    ("batch", "frozen", "sample"),
    gated=True,
    meta="replay",
    about="gating, and traces on all other synapses; θ learns from stored data of earlier tasks",
)
HP_OWN = ContinualMethod(
    name="HP-own",
    about="HP whose θ learns from the task just learned: nothing is stored",
    local=True,
    gated=True,
    meta="own",
    protocols=("batch", "frozen", "sample"),
)
EWC = ContinualMethod(
    name="EWC",
    about="GP with elastic weight consolidation; it is not told the task",
    local=False,
    importance="ewc",
)
ONLINE_EWC = ContinualMethod(
    name="online EWC",
    about="GP with the online form of EWC; it is not told the task",
    local=False,
    importance="online-ewc",
)
SI = ContinualMethod(
    name="SI",
    about="GP with synaptic intelligence; it is not told the task",
    local=False,
    importance="si",
)
EWC_GATED = ContinualMethod(
    name="EWC + gating",
    about="sparse GP with EWC; it is told the task",
    local=False,
    gated=True,
    importance="ewc",
)
SI_GATED = ContinualMethod(
    name="SI + gating",
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


def build(settings: ContinualSettings, method: ContinualMethod, seed: int, outputs: int) -> Learner:
    """Return the untrained learner of a trial; all methods of a seed start from the same draws."""
    sizes = (28 * 28, *settings.hidden, outputs)
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


def stream_training(settings: ContinualSettings, method: ContinualMethod) -> StreamTraining:
    """Return how a trial learns its stream."""
    return StreamTraining(
        epochs=settings.epochs,
        joint=method.joint,
        meta=method.meta,
        meta_tasks=settings.meta_tasks,
        fresh=settings.fresh,
        fisher_samples=settings.penalty.fisher_samples,
    )
