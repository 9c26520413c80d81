"""The ways to learn a class from a few examples, and their untrained networks."""

from dataclasses import dataclass
from typing import Any, Literal

from hybrid.data.characters import SIDES, SIZE
from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.trials import Trial
from hybrid.experiments.few_shot.settings import FewShotSettings
from hybrid.learning.episodic import EpisodicNetwork, FirstOrderMAML
from hybrid.model.embedding import Embedding, Pixels
from hybrid.model.few_shot import FewShot, FewShotReadOut, Matching, Prototypes
from hybrid.runs.seeds import torch_stream

Head = Literal["spiking", "prototypes", "matching", "MAML", "pixels"]


@dataclass(frozen=True, kw_only=True)
class FewShotMethod(Method):
    """A method, and what sits on the embedding; `meta_trained`: gradients reach θ."""

    head: Head = "spiking"
    meta_trained: bool = True


def _method(name: str, about: str, *, local: bool = False, **changes: Any) -> FewShotMethod:
    return FewShotMethod(name=name, about=about, local=local, **changes)


LP = _method(
    "LP",
    "nothing is trained: a random embedding, and the local rule with θ as it starts",
    local=True,
    hidden_trained=False,
    meta_trained=False,
)
GP = _method(
    "GP", "the same network without a trace, mixing trained as a weight: it can only guess"
)
HP = _method(
    "HP",
    "embedding, weights and meta-local parameters trained by gradients; traces bind",
    local=True,
)
HEBBIAN = _method(
    "Hebbian",
    "HP with its local rule as it starts: gradients reach the embedding and the weights",
    local=True,
    meta_trained=False,
)
PROTOTYPES = _method(
    "prototypes", "distance to the mean of each class, on the same embedding", head="prototypes"
)
MATCHING = _method(
    "matching", "attention over the support by cosine, on the same embedding", head="matching"
)
MAML = _method(
    "MAML",
    "first-order MAML: gradient steps on each support; the embedding without batch normalisation, "
    "and far fewer training episodes, which are costly",
    head="MAML",
)
NEAREST = _method(
    "nearest",
    "nearest neighbours by the cosine of pixels: nothing is trained",
    hidden_trained=False,
    head="pixels",
)
METHODS: tuple[FewShotMethod, ...] = (LP, GP, HP, HEBBIAN, PROTOTYPES, MATCHING, MAML, NEAREST)

_SHARP = 1_000.0  # attention so sharp that the nearest example decides


def build(trial: Trial[FewShotSettings, FewShotMethod]) -> EpisodicNetwork:
    """Return the untrained network of a trial; all methods of a seed start from one embedding."""
    settings, method, seed = trial.settings, trial.method, trial.seed
    if method.head == "pixels":
        return FewShot(Pixels(), Matching(_SHARP).requires_grad_(False))
    generator = torch_stream(seed, "initial values")
    side, maml = SIDES.get(settings.dataset, SIZE), method.head == "MAML"
    embedding = Embedding(
        settings.channels,
        image=(1, side, side),
        activation=settings.activation,
        normalised=settings.normalised and not maml,
        length=None if maml else settings.length,
        generator=generator,
    )
    if maml:
        return FirstOrderMAML(
            embedding,
            settings.most_ways,
            steps=settings.inner_steps,
            rate=settings.inner_rate,
            generator=generator,
        )
    if method.head == "prototypes":
        return FewShot(embedding, Prototypes())
    if method.head == "matching":
        return FewShot(embedding, Matching())
    head = FewShotReadOut(
        embedding.features,
        settings.most_ways,
        neuron=settings.neuron,
        rule=settings.rule if method.local else None,
        label_current=settings.label_current,
        largest_rate=settings.largest_rate,
        initial=settings.initial,
        generator=generator,
        meta_generator=torch_stream(seed, "initial meta-local values"),
    )
    if method.local and not method.meta_trained:
        head.theta.requires_grad_(False)
    if not method.hidden_trained:
        embedding.requires_grad_(False)
        head.requires_grad_(False)
    return FewShot(embedding, head)
