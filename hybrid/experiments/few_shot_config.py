"""All constants of a few-shot network, and the authors' own choices of them."""

from dataclasses import asdict, dataclass
from typing import Literal

from hybrid.data.characters import CHARACTER_NAMES
from hybrid.data.episodes import SPLITS
from hybrid.experiments.base import listed, require
from hybrid.learning.bilevel import SECOND_ORDERS, Bilevel
from hybrid.learning.episodic import LOSSES, LossName, Teaching
from hybrid.learning.schedule import Decay, Schedule
from hybrid.model.embedding import ACTIVATIONS, Activation
from hybrid.runs.store import Json

Ink = Literal["unit", "authors"]
MetaLearning = Literal["joint", "finite-difference", "exact", "first-order"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """One network on one set of characters; the defaults are the authors'.

    But for this: they learn from all classes that are not tested, here `validation` of these are
    held out; and their GP keeps its random mixing, which is trained here.

    Raises ValueError, naming the field, for values that make no sense.
    """

    label: str  # names the config in records, tables and figures
    dataset: str = "omniglot"
    split: str = "pooled"
    validation: int = 100  # classes held out to watch learning
    unseen: int = 100  # test classes of the pooled split
    rotations: bool = False  # turned characters are further classes to learn from
    ink: Ink = "authors"  # "unit": 0 to 1; "authors": white minus its mean, by its deviation
    flipped: float = 0.2  # share of the images mirrored in training
    # How far training images are turned (degrees), scaled (share) and shifted (pixels).
    jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)

    channels: tuple[int, ...] = (128, 128, 128, 128)
    activation: Activation = "tanh"
    normalised: bool = False
    length: float | None = None  # of all feature vectors

    v_th: float = 0.5
    decay: float = 0.2
    trace_decay: float = 0.99
    label_current: float = 10.0
    largest_rate: float = 0.1
    initial_mixing: tuple[float, float] = (0.0, 0.1)
    initial_rate: float = 0.1
    initial_threshold: tuple[float, float] = (0.0, 0.1)

    ways: int = 5  # of training episodes
    shots: int = 1
    queries: int = 1
    # Drawings embedded at each step and shared by its episodes: (classes, drawings of each).
    # None: each episode brings its own drawings.
    shared: tuple[int, int] | None = None
    episodes: int = 1  # in each step of the weights
    # How θ learns: from the loss of the weights, or from a loss of its own, in one of three ways.
    meta: MetaLearning = "finite-difference"
    steps_per_check: int = 5  # steps of the weights before each of θ, unless "joint"
    # Of the bilevel gradient, see `Bilevel`.
    lookahead: bool = False
    meta_step: float = 0.1
    clamp: float | None = 1.0
    max_norm: float | None = 1.0
    inner_steps: int = 5  # gradient steps of MAML on each support, and their size
    inner_rate: float = 0.4
    loss: LossName = "binary"
    epochs: int = 100
    steps: int = 10_000  # exercises in each epoch
    lr_weight: float = 8e-5
    lr_meta: float = 3e-5
    lr_decay: Decay = "halves"
    halving: float = 1.0  # epochs after which rates are half, for "halves"
    eps: float = 1e-6  # of Adam

    tests: tuple[tuple[int, int], ...] = ((5, 1), (5, 5))  # (ways, shots)
    test_episodes: int = 10_000
    validation_episodes: int = 1_000
    noises: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4)  # shares of wrong labels

    def __post_init__(self) -> None:
        for name, allowed in (
            ("dataset", CHARACTER_NAMES),
            ("split", SPLITS),
            ("ink", ("unit", "authors")),
            ("activation", ACTIVATIONS),
            ("meta", ("joint", *SECOND_ORDERS)),
            ("loss", LOSSES),
        ):
            ok = getattr(self, name) in allowed
            require(self, name, ok, f"one of {', '.join(map(str, allowed))}")
        for name in (
            "validation",
            "unseen",
            "shots",
            "queries",
            "episodes",
            "steps_per_check",
            "inner_steps",
            "epochs",
            "steps",
            "test_episodes",
            "validation_episodes",
        ):
            require(self, name, getattr(self, name) >= 1, ">= 1")
        for name in ("v_th", "label_current", "largest_rate", "inner_rate"):
            require(self, name, getattr(self, name) > 0.0, "> 0")
        for name in ("decay", "trace_decay", "flipped"):
            require(self, name, 0.0 <= getattr(self, name) <= 1.0, "in [0, 1]")
        require(self, "ways", self.ways >= 2, ">= 2")
        require(self, "jitter", min(self.jitter) >= 0.0, "three numbers >= 0")
        require(self, "jitter", self.jitter[1] < 1.0, "less than the whole size")
        self._check_tests()
        if self.shared is not None:
            classes, drawings = self.shared
            ok = classes >= self.ways and drawings >= self.shots + self.queries
            require(self, "shared", ok, "at least (ways, shots + queries), or None")
            require(self, "shared", self.meta == "joint", "None unless meta is 'joint'")
        self.schedule()
        self.teaching()

    def _check_tests(self) -> None:
        """Refuse episodes that the held-out classes cannot fill, before hours of training."""
        require(self, "tests", bool(self.tests), "at least one pair (ways, shots)")
        ways = [ways for ways, _ in self.tests]
        require(self, "tests", min(ways) >= 2, "pairs (ways, shots) with ways >= 2")
        require(self, "tests", min(shots for _, shots in self.tests) >= 1, "shots >= 1")
        if self.split == "pooled":
            fits = max(ways) <= self.unseen
            require(self, "unseen", fits, f">= {max(ways)}, the ways of a test")
        fits = ways[0] <= self.validation
        require(self, "validation", fits, f">= {ways[0]}, the ways of the first test")

    @property
    def most_ways(self) -> int:
        """Neurons of the read-out."""
        return max(self.ways, *(ways for ways, _ in self.tests))

    def schedule(self) -> Schedule:
        """Return how long and how fast the network is trained."""
        return Schedule(
            epochs=self.epochs,
            batch_size=self.episodes,
            lr_weight=self.lr_weight,
            lr_meta=self.lr_meta,
            eps=self.eps,
            decay=self.lr_decay,
            halving=self.halving,
            decay_meta=True,
        )

    def teaching(self) -> Teaching:
        """Return how scores become steps."""
        if self.meta == "joint":
            return Teaching(self.loss)
        second_order = next(name for name in SECOND_ORDERS if name == self.meta)
        bilevel = Bilevel(
            second_order=second_order,
            rate=self.meta_step,
            lookahead=self.lookahead,
            clamp=self.clamp,
            max_norm=self.max_norm,
        )
        return Teaching(self.loss, bilevel)

    def as_json(self) -> Json:
        """Return all constants as JSON values: tuples become lists, as they do in a record."""
        return {name: listed(value) for name, value in asdict(self).items()}
