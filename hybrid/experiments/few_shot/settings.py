"""Constants of a few-shot network."""

import math
from dataclasses import dataclass
from typing import Literal

from hybrid.checks import one_of, require
from hybrid.data.augment import Jitter
from hybrid.data.characters import CHARACTER_NAMES
from hybrid.data.episodes import SPLITS
from hybrid.experiments.core.settings import Settings
from hybrid.learning.episodic import Objective
from hybrid.model.embedding import Activation
from hybrid.model.few_shot import InitialBinding
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian

Ink = Literal["unit", "authors"]


@dataclass(frozen=True, kw_only=True)
class FewShotSettings(Settings):
    """One network on one set of characters, how it learns and what it is asked.

    Args:
        validation: classes held out to watch learning.
        split, unseen: see `split_classes`; test classes of the pooled split.
        rotations: turned characters are further classes to learn from.
        ink: "unit", 0 to 1; "authors", white minus its mean, by its deviation.
        flipped: share of the images mirrored in training.
        jitter: how far training images are turned, scaled and shifted.
        channels, activation, normalised, length: see `Embedding`.
        neuron, rule, label_current, largest_rate, initial: see `FewShotReadOut`.
        ways, shots, queries: of training episodes.
        shared: drawings embedded at each step and shared by its episodes (classes, drawings of
            each); None: each episode brings its own drawings.
        objective: loss, and how θ learns: with the weights, or from a bilevel gradient.
        steps: meta-batches in each epoch; `schedule.batch_size` episodes in each step of weights.
        steps_per_check: steps of the weights before each of θ, with a bilevel gradient.
        inner_steps, inner_rate: gradient steps of MAML on each support, and their size.
        tests: (ways, shots) of the episodes that are asked; the first pair counts in validation.
        test_episodes, validation_episodes: how many.
        noises: shares of wrong labels.

    Raises ValueError, naming the field, for values that make no sense.
    """

    split: str = "pooled"
    unseen: int = 100
    rotations: bool = False
    ink: Ink = "unit"
    flipped: float = 0.0
    jitter: Jitter = Jitter(0.0, 0.0, 0.0)  # noqa: RUF009 (immutable)
    channels: tuple[int, ...]
    activation: Activation = "tanh"
    normalised: bool = False
    length: float | None = None
    neuron: LIF
    rule: Hebbian
    label_current: float
    largest_rate: float
    initial: InitialBinding = InitialBinding()  # noqa: RUF009 (immutable)
    ways: int
    shots: int = 1
    queries: int
    shared: tuple[int, int] | None = None
    objective: Objective
    steps: int
    steps_per_check: int = 5
    inner_steps: int = 5
    inner_rate: float = 0.4
    tests: tuple[tuple[int, int], ...]
    test_episodes: int = 10_000
    validation_episodes: int = 1_000
    noises: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "dataset", CHARACTER_NAMES)
        one_of(self, "split", SPLITS)
        one_of(self, "activation", Activation)
        one_of(self, "ink", Ink)
        counts = ("unseen", "shots", "queries", "steps_per_check", "inner_steps", "steps")
        for name in (*counts, "test_episodes", "validation_episodes"):
            require(self, name, getattr(self, name) >= 1, ">= 1")
        for name in ("label_current", "largest_rate", "inner_rate"):
            require(self, name, getattr(self, name) > 0.0, "> 0")
        noises = all(0.0 <= share <= 1.0 for share in self.noises)
        require(self, "noises", noises, "shares in [0, 1]")
        require(self, "flipped", 0.0 <= self.flipped <= 1.0, "in [0, 1]")
        require(self, "ways", self.ways >= 2, ">= 2")
        require(self, "length", self.length is None or self.length > 0.0, "> 0, or None")
        sound = all(0.0 <= value < math.inf for value in self.jitter)
        require(self, "jitter", sound, "three numbers >= 0")
        mixing, rate, threshold = self.initial
        drawn = mixing[0] <= mixing[1] and threshold[0] <= threshold[1] and math.isfinite(rate)
        require(self, "initial", drawn, "pairs (low, high) with low <= high, and a finite rate")
        require(self, "jitter", self.jitter.scale < 1.0, "less than the whole size")
        # Episodes that the held-out classes cannot fill are refused before hours of training.
        require(self, "tests", bool(self.tests), "at least one pair (ways, shots)")
        ways = [ways for ways, _ in self.tests]
        require(self, "tests", min(ways) >= 2, "pairs (ways, shots) with ways >= 2")
        require(self, "tests", min(shots for _, shots in self.tests) >= 1, "shots >= 1")
        if self.split == "pooled":
            fits = max(ways) <= self.unseen
            require(self, "unseen", fits, f">= {max(ways)}, the ways of a test")
        fits = ways[0] <= self.validation
        require(self, "validation", fits, f">= {ways[0]}, the ways of the first test")
        if self.shared is not None:
            classes, drawings = self.shared
            ok = classes >= self.ways and drawings >= self.shots + self.queries
            require(self, "shared", ok, "at least (ways, shots + queries), or None")
            together = self.objective.bilevel is None
            require(self, "shared", together, "None unless θ learns with the weights")

    @property
    def most_ways(self) -> int:
        """Neurons of the read-out."""
        return max(self.ways, *(ways for ways, _ in self.tests))


def size_name(ways: int, shots: int) -> str:
    """Return how records call episodes of a size: "5-way 1-shot" for example."""
    return f"{ways}-way {shots}-shot"
