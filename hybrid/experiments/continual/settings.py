"""Constants of a continual-learning run."""

from dataclasses import dataclass, field
from typing import Literal

from hybrid.checks import one_of, require
from hybrid.data.images import GREY_NAMES
from hybrid.data.tasks import SCENARIOS, Scenario
from hybrid.described import LATER
from hybrid.experiments.core.samples import checked_dataset
from hybrid.experiments.core.settings import Settings
from hybrid.learning.consolidation import Importance
from hybrid.model.layers import InitialMeta
from hybrid.model.neurons import Neuron
from hybrid.model.plasticity import LocalRule

StreamName = Literal["permuted"] | Scenario


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """How strongly EWC and SI hold weights. Raises ValueError for values that make no sense.

    Args:
        ewc, online, si: factors of the penalties, for networks that see all their synapses.
        ewc_gated, si_gated: the same for networks under masks.
        fading, damping, fisher_samples: see `Consolidation` and `StreamTraining`.
    """

    ewc: float = 100.0
    online: float = 100.0
    si: float = 30.0
    ewc_gated: float = 10.0
    si_gated: float = 10.0
    fading: float = 1.0
    damping: float = 0.1
    fisher_samples: int = 1_000

    def __post_init__(self) -> None:
        for name in ("ewc", "online", "si", "ewc_gated", "si_gated", "damping"):
            require(self, name, getattr(self, name) > 0.0, "> 0")
        require(self, "fading", 0.0 <= self.fading <= 1.0, "in [0, 1]")
        require(self, "fisher_samples", self.fisher_samples >= 1, ">= 1")

    def strength(self, importance: Importance, *, gated: bool) -> float:
        """Return the factor of a kind of penalty."""
        ewc, si = (self.ewc_gated, self.si_gated) if gated else (self.ewc, self.si)
        return {"none": 1.0, "ewc": ewc, "online-ewc": self.online, "si": si}[importance]


@dataclass(frozen=True, kw_only=True)
class ContinualSettings(Settings):
    """One stream of tasks, and the network that learns it.

    Args:
        stream, tasks: see `hybrid.data.tasks`.
        authors_permutations: the same in every run; else they are drawn from the seed.
        hidden: neurons of the two spiking layers.
        density: share of the synapses that each task owns.
        neuron, rule, steps, tau, initial_meta: see `ContextGated`.
        initial_scale: factor of the initial weights under masks, which leave a neuron few of its
            inputs.
        epochs: of each task; the schedule's are those of all tasks together.
        lr_gated: rate of weights under masks, which leave few of them to do the work.
        judged_on: test images; or, to choose constants, the validation images never learned.
        meta_tasks, fresh: see `StreamTraining`.
        penalty: of EWC and SI.

    Raises ValueError, naming the field, for values that make no sense.
    """

    stream: StreamName = "permuted"
    tasks: int
    authors_permutations: bool = False
    hidden: tuple[int, int]
    density: float
    neuron: Neuron
    rule: LocalRule
    steps: int
    tau: float | None
    initial_meta: InitialMeta
    initial_scale: float = 1.0
    epochs: int
    lr_gated: float
    meta_tasks: int = 35
    fresh: bool = True
    penalty: Penalty
    judged_on: Literal["test", "validation"] = field(default="test", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_dataset(self, GREY_NAMES)
        one_of(self, "stream", ("permuted", *SCENARIOS))
        for name in ("steps", "epochs"):
            value = getattr(self, name)
            require(self, name, isinstance(value, int) and value >= 1, "a whole number >= 1")
        ordered = all(low <= high for low, high in self.initial_meta)
        require(self, "initial_meta", ordered, "pairs (low, high) with low <= high")
        for name in ("initial_scale", "lr_gated"):
            require(self, name, getattr(self, name) > 0.0, "> 0")
        one_of(self, "judged_on", ("test", "validation"))
        require(self, "tau", self.tau is None or self.tau > 0.0, "> 0, or None")
        require(self, "meta_tasks", self.meta_tasks >= 0, ">= 0")
        require(self, "tasks", self.tasks >= 2, ">= 2")
        require(self, "density", 0.0 <= self.density <= 1.0, "in [0, 1]")
        sizes = len(self.hidden) == 2 and min(self.hidden) >= 1
        require(self, "hidden", sizes, "two sizes >= 1")
        whole = self.schedule.epochs == self.epochs * self.tasks
        require(self, "schedule", whole, f"of {self.epochs} epochs for each of {self.tasks} tasks")
        if self.stream != "permuted":
            require(self, "tasks", self.tasks == 5, "5 with a split stream: two classes each")
