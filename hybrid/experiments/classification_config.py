"""All constants of a classification network, and the authors' own choices of them."""

from dataclasses import asdict, dataclass, replace
from typing import Literal

from hybrid.data.images import DATA_NAMES
from hybrid.experiments.base import listed, require
from hybrid.learning.schedule import Decay, Schedule
from hybrid.model.neurons import RESETS, Reset
from hybrid.model.plasticity import POSTS, Post
from hybrid.runs.store import Json

View = Literal["image", "rows", "pixels"]
Code = Literal["direct", "poisson"]
Answer = Literal["membrane", "rate", "rank", "rank-batch"]
NeuronName = Literal["LIF", "IF", "adaptive"]
RuleName = Literal["hebbian", "stdp"]
Theta = Literal["learned", "fixed", "unit-gain"]
Range = tuple[float, float]

_CHOICES: dict[str, tuple[object, ...]] = {
    "dataset": DATA_NAMES,
    "view": ("image", "rows", "pixels"),
    "code": ("direct", "poisson"),
    "answer": ("membrane", "rate", "rank", "rank-batch"),
    "neuron": ("LIF", "IF", "adaptive"),
    "reset": RESETS,
    "readout_reset": RESETS,
    "rule": ("hebbian", "stdp"),
    "post": POSTS,
    "sign": (1, -1),
    "theta": ("learned", "fixed", "unit-gain"),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """One network on one data set; the defaults are the authors' simple example.

    Raises ValueError, naming the field, for values that make no sense.
    """

    label: str  # names the config in records, tables and figures
    dataset: str = "digits"
    validation: int = 5_000  # training images held out to watch learning
    view: View = "image"  # a whole image at each step, or its rows or pixels one after the other
    code: Code = "direct"
    # Convolutions in front of the dense layers: (channels, pooled, dropout of its input).
    convolutions: tuple[tuple[int, bool, float], ...] = ()
    hidden: tuple[int, ...] = (512,)
    plastic: tuple[bool, ...] = (True, True)  # of the hidden layers and the read-out
    dense_dropout: float = 0.0  # of the first dense layer's input, behind convolutions
    fade_plastic: bool = True  # plastic layers behind convolutions see the fading drive, too
    answer: Answer = "membrane"
    stop_fraction: float = 0.8  # of the batch, for "rank-batch"
    ceiling: float | None = 1.1  # of membrane outputs
    neuron: NeuronName = "LIF"
    reset: Reset = "subtract"
    readout_reset: Reset = "subtract"  # behind convolutions; elsewhere as all others
    readout_scale: float = 1.0  # factor of the read-out's initial weights
    v_th: float = 0.35
    decay: float = 0.4
    steps: int = 10
    tau: float | None = 40.0
    rule: RuleName = "hebbian"
    post: Post = "tanh"
    sign: Literal[1, -1] = 1
    trace_decay: float = 0.95
    trace_clip: float | None = 4.0
    initial_gain: Range = (0.0, 0.01)
    initial_rate: Range = (0.0, 0.01)
    initial_threshold: Range = (0.0, 0.01)
    nonnegative_rate: bool = False
    # θ learned by gradients; fixed at its random start; or all but a gain that is always 1.
    theta: Theta = "learned"
    epochs: int = 30
    batch_size: int = 100
    lr_weight: float = 1e-3
    lr_meta: float = 5e-4
    optimiser: Literal["adam", "sgd"] = "adam"
    weight_decay: float = 0.0
    lr_decay: Decay = "none"
    milestones: tuple[int, ...] = ()
    decay_meta: bool = False
    augment: bool = False  # random crops and mirrored images
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            ok = getattr(self, name) in allowed
            require(self, name, ok, f"one of {', '.join(map(str, allowed))}")
        for name in ("validation", "steps", "epochs", "batch_size"):
            require(self, name, getattr(self, name) >= 1, ">= 1")
        for name in ("v_th", "readout_scale", "lr_weight", "lr_meta"):
            require(self, name, getattr(self, name) > 0.0, "> 0")
        for name in ("tau", "trace_clip", "ceiling"):
            value = getattr(self, name)
            require(self, name, value is None or value > 0.0, "> 0, or None")
        for name in ("decay", "trace_decay"):
            require(self, name, 0.0 <= getattr(self, name) <= 1.0, "in [0, 1]")
        for name in ("stop_fraction", "dense_dropout"):
            require(self, name, 0.0 <= getattr(self, name) < 1.0, "in [0, 1)")
        for name in ("initial_gain", "initial_rate", "initial_threshold"):
            low, high = getattr(self, name)
            require(self, name, low <= high, "(low, high) with low <= high")
        require(self, "hidden", min(self.hidden, default=1) >= 1, "sizes >= 1")
        layers = len(self.hidden) + 1
        require(self, "plastic", len(self.plastic) == layers, f"{layers} flags, read-out last")
        self._check_view()
        self._check_what_goes_together()
        self.schedule()

    def _check_view(self) -> None:
        whole, colour = self.view == "image", self.dataset.startswith("cifar10")
        steps = {"image": self.steps, **SEQUENCE_STEPS}[self.view]
        require(self, "steps", self.steps == steps, f"{steps} for view {self.view!r}")
        require(self, "view", whole or not colour, "'image' for colour images")
        require(self, "view", not colour or bool(self.convolutions), "convolved, if in colour")
        require(self, "code", whole or self.code == "direct", "'direct' for sequences")
        shown = whole and self.code == "direct"
        require(self, "convolutions", shown or not self.convolutions, "() unless images are shown")

    def _check_what_goes_together(self) -> None:
        """Refuse settings that would be ignored."""
        if not self.convolutions:
            for name in ("dense_dropout", "fade_plastic", "nonnegative_rate", "readout_reset"):
                is_default = getattr(self, name) == type(self).__dataclass_fields__[name].default
                require(self, name, is_default, "left alone without convolutions")
        if self.rule == "stdp":
            for name, usual in (("post", "tanh"), ("sign", 1)):
                require(self, name, getattr(self, name) == usual, f"{usual!r} with STDP")
        colour = self.dataset.startswith("cifar10")
        require(self, "augment", colour or not self.augment, "False for grey images")

    def schedule(self) -> Schedule:
        """Return how long and how fast the network is trained."""
        return Schedule(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr_weight=self.lr_weight,
            lr_meta=self.lr_meta,
            optimiser=self.optimiser,
            weight_decay=self.weight_decay,
            decay=self.lr_decay,
            milestones=self.milestones,
            decay_meta=self.decay_meta,
            mixed_precision=self.mixed_precision,
        )

    def as_json(self) -> Json:
        """Return all constants as JSON values: tuples become lists, as they do in a record."""
        return {name: listed(value) for name, value in asdict(self).items()}


# Steps of an image of 28 x 28 pixels shown in parts.
SEQUENCE_STEPS = {"rows": 28, "pixels": 28 * 28}


# The authors' convolutional networks, constants as in their classification scripts.
MNIST_NETWORK = Config(
    label="mnist-convolutional",
    dataset="mnist",
    convolutions=((128, True, 0.0), (256, True, 0.5), (256, True, 0.5)),
    plastic=(True, False),
    answer="rank-batch",
    stop_fraction=0.8,
    ceiling=None,
    v_th=0.3,
    decay=0.6,
    post="identity",
    sign=-1,
    trace_clip=2.0,
    initial_gain=(0.1, 0.1),
    initial_rate=(1e-3, 1e-3),
    initial_threshold=(0.0, 0.0),
    epochs=100,
    lr_weight=5e-4,
)
FASHION_NETWORK = replace(
    MNIST_NETWORK,
    label="fashion_mnist-convolutional",
    dataset="fashion_mnist",
    stop_fraction=0.9,
    ceiling=1.1,
    reset="zero",
    readout_reset="zero",
    v_th=0.45,
    decay=0.75,
    tau=30.0,
    trace_decay=0.9,
    trace_clip=4.0,
    nonnegative_rate=True,
    epochs=101,
    batch_size=50,
    lr_decay="steps",
    milestones=(41, 81),  # a tenth of the rate once epochs 40 and 80 have been trained
    readout_scale=0.5,
    decay_meta=True,
)
CIFAR10_NETWORK = replace(
    MNIST_NETWORK,
    label="cifar10-convolutional",
    dataset="cifar10",
    convolutions=(
        (128, False, 0.0),
        (256, True, 0.5),
        (512, True, 0.5),
        (1024, False, 0.5),
        (512, False, 0.5),
    ),
    hidden=(1024, 512),
    plastic=(False, True, False),
    dense_dropout=0.5,
    fade_plastic=False,
    stop_fraction=0.7,
    ceiling=1.1,
    readout_reset="none",
    v_th=0.5,
    decay=0.7,
    steps=8,
    tau=50.0,
    trace_decay=0.9,
    trace_clip=None,
    initial_gain=(0.0, 1e-3),
    initial_rate=(0.0, 1e-3),
    epochs=120,
    batch_size=50,
    optimiser="sgd",
    lr_weight=0.08,
    weight_decay=1e-8,
    lr_decay="cosine",
    augment=True,
)
