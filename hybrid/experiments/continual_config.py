"""All constants of a continual-learning run; those of HP and sparse GP are the authors'."""

from dataclasses import asdict, dataclass
from typing import Literal

from hybrid.data.images import GREY_NAMES
from hybrid.data.tasks import SCENARIOS, Scenario
from hybrid.experiments.base import listed, require
from hybrid.learning.schedule import Schedule
from hybrid.runs.store import Json

StreamName = Literal["permuted"] | Scenario
STREAMS: tuple[StreamName, ...] = ("permuted", *SCENARIOS)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One stream of tasks, and the network that learns it.

    The defaults are the authors', but for this: they learn from all training images, here
    `validation` of them are held out; and their penalties differ (EWC with a strength of 5000 and
    the squared gradients of batches, no SI), so that the strengths here are ours.

    Raises ValueError, naming the field, for values that make no sense.
    """

    label: str  # names the config in records, tables and figures
    dataset: str = "mnist"
    validation: int = 5_000
    stream: StreamName = "permuted"
    tasks: int = 50
    authors_permutations: bool = True  # the same in every run; else drawn from the seed

    hidden: tuple[int, int] = (1024, 1024)
    density: float = 0.03  # share of the synapses that each task owns
    steps: int = 3
    tau: float | None = 50.0
    v_th: float = 0.5
    decay: float = 0.8
    trace_decay: float = 0.8
    initial_gain: tuple[float, float] = (0.0, 0.1)
    initial_rate: tuple[float, float] = (0.0, 1e-3)
    initial_threshold: tuple[float, float] = (0.0, 0.0)
    # Factor of the initial weights under masks, which leave a neuron few of its inputs.
    initial_scale: float = 1.0

    epochs: int = 10  # of each task
    batch_size: int = 100
    lr_weight: float = 5e-4
    lr_gated: float = 5e-4  # of weights under masks, which leave few of them to do the work
    lr_meta: float = 5e-5
    meta_tasks: int = 35
    fresh: bool = False  # each task starts with new moments of Adam

    # Of the penalties, for dense networks and for those under masks.
    strength_ewc: float = 100.0
    strength_online: float = 100.0
    strength_si: float = 30.0
    strength_ewc_gated: float = 10.0
    strength_si_gated: float = 10.0
    fading: float = 1.0
    damping: float = 0.1
    fisher_samples: int = 1_000

    def __post_init__(self) -> None:
        for name, allowed in (("dataset", GREY_NAMES), ("stream", STREAMS)):
            ok = getattr(self, name) in allowed
            require(self, name, ok, f"one of {', '.join(allowed)}")
        for name in ("validation", "steps", "epochs", "batch_size", "fisher_samples"):
            require(self, name, getattr(self, name) >= 1, ">= 1")
        for name in ("v_th", "initial_scale", "damping"):
            require(self, name, getattr(self, name) > 0.0, "> 0")
        strengths = [name for name in vars(self) if name.startswith("strength_")]
        for name in (*strengths, "lr_weight", "lr_gated", "lr_meta"):
            require(self, name, getattr(self, name) > 0.0, "> 0")
        require(self, "tau", self.tau is None or self.tau > 0.0, "> 0, or None")
        require(self, "meta_tasks", self.meta_tasks >= 0, ">= 0")
        require(self, "tasks", self.tasks >= 2, ">= 2")
        for name in ("density", "decay", "trace_decay", "fading"):
            require(self, name, 0.0 <= getattr(self, name) <= 1.0, "in [0, 1]")
        require(self, "hidden", min(self.hidden) >= 1, "sizes >= 1")
        if self.stream != "permuted":
            require(self, "tasks", self.tasks == 5, "5 with a split stream: two classes each")

    def schedule(self, gated: bool = False) -> Schedule:
        """Return how long and how fast the network is trained on all tasks."""
        return Schedule(
            epochs=self.epochs * self.tasks,
            batch_size=self.batch_size,
            lr_weight=self.lr_gated if gated else self.lr_weight,
            lr_meta=self.lr_meta,
        )

    def as_json(self) -> Json:
        """Return all constants as JSON values: tuples become lists, as they do in a record."""
        return {name: listed(value) for name, value in asdict(self).items()}
