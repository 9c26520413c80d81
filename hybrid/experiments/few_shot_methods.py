"""The ways to learn a class from a few looks, and from a config to an untrained network."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from hybrid.data.characters import SIDES, SIZE
from hybrid.experiments import base
from hybrid.experiments.base import Method
from hybrid.experiments.few_shot_config import Config
from hybrid.learning.episodic import Learner
from hybrid.learning.maml import FirstOrderMAML
from hybrid.model.embedding import Embedding, Pixels
from hybrid.model.few_shot import FewShot, FewShotReadOut, InitialBinding
from hybrid.model.heads import Matching, Prototypes
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.runs.seeds import torch_stream
from hybrid.runs.store import Json

Head = Literal["spiking", "prototypes", "matching", "MAML", "pixels"]


@dataclass(frozen=True, kw_only=True)
class FewShotMethod(Method):
    """A method, and what sits on the embedding."""

    head: Head = "spiking"
    meta_trained: bool = True  # gradients reach θ

    def request(self) -> Json:
        return super().request() | {"head": self.head, "meta_trained": self.meta_trained}


def _method(method: Method, **changes: object) -> FewShotMethod:
    return FewShotMethod(**(vars(method) | {"protocols": ("frozen",)} | changes))


LP = _method(
    base.LP,
    about="nothing is trained: a random embedding, and the local rule with θ as it starts",
    meta_trained=False,
)
GP = _method(
    base.GP,
    about="the same network without a trace, mixing trained as a weight: it can only guess",
)
HP = _method(
    base.HP,
    about="embedding, weights and meta-local parameters trained by gradients; traces bind",
)
HEBBIAN = FewShotMethod(
    name="Hebbian",
    colour="#E69F00",
    about="HP with its local rule as it starts: gradients reach the embedding and the weights",
    local=True,
    meta_trained=False,
)
PROTOTYPES = FewShotMethod(
    name="prototypes",
    colour="#56B4E9",
    about="distance to the mean of each class, on the same embedding",
    local=False,
    head="prototypes",
)
MATCHING = FewShotMethod(
    name="matching",
    colour="#999999",
    about="attention over all looks by cosine, on the same embedding",
    local=False,
    head="matching",
)
MAML = FewShotMethod(
    name="MAML",
    colour="#F0E442",
    about="first-order MAML: gradient steps on each support; the embedding without batch "
    "normalisation, and far fewer training episodes, which are costly",
    local=False,
    head="MAML",
)
NEAREST = FewShotMethod(
    name="nearest",
    colour="#CC79A7",
    about="nearest neighbours by the cosine of pixels: nothing is trained",
    local=False,
    hidden_trained=False,
    head="pixels",
)
METHODS: tuple[FewShotMethod, ...] = (LP, GP, HP, HEBBIAN, PROTOTYPES, MATCHING, MAML, NEAREST)

_SHARP = 1_000.0  # attention so sharp that the nearest look decides


def build(config: Config, method: FewShotMethod, seed: int) -> Learner:
    """Return the untrained network of a trial; all methods of a seed start from one embedding."""
    if method.head == "pixels":
        return FewShot(Pixels(), Matching(_SHARP).requires_grad_(False))
    generator = torch_stream(seed, "initial values")
    side = SIDES.get(config.dataset, SIZE)
    embedding = Embedding(
        config.channels,
        image=(1, side, side),
        activation=config.activation,
        normalised=config.normalised and method.head != "MAML",
        length=config.length if method.head != "MAML" else None,
        generator=generator,
    )
    if method.head == "MAML":
        return FirstOrderMAML(
            embedding,
            config.most_ways,
            steps=config.inner_steps,
            rate=config.inner_rate,
            generator=generator,
        )
    network = FewShot(embedding, _head(config, method, embedding.features, generator, seed))
    if not method.hidden_trained:
        network.requires_grad_(False)
    return network


def _head(
    config: Config, method: FewShotMethod, features: int, generator: torch.Generator, seed: int
) -> nn.Module:
    if method.head == "prototypes":
        return Prototypes()
    if method.head == "matching":
        return Matching()
    rule = Hebbian(trace_decay=config.trace_decay, post="softmax")
    head = FewShotReadOut(
        features,
        config.most_ways,
        neuron=LIF(decay=config.decay, v_th=config.v_th, reset="zero"),
        rule=rule if method.local else None,
        label_current=config.label_current,
        largest_rate=config.largest_rate,
        initial=InitialBinding(
            config.initial_mixing, config.initial_rate, config.initial_threshold
        ),
        generator=generator,
        meta_generator=torch_stream(seed, "initial meta-local values"),
    )
    if not method.meta_trained:
        for parameter in head.meta_parameters():
            parameter.requires_grad_(False)
    return head
