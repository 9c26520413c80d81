"""All constants of a network that learns from events."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from hybrid.data.events import EVENT_NAMES
from hybrid.data.frames import BINNINGS, Binning
from hybrid.data.sensor_faults import SENSOR_FAULTS, check_sensor_level
from hybrid.experiments.base import listed, require
from hybrid.learning.schedule import Schedule
from hybrid.runs.store import Json

Answer = Literal["rate", "membrane"]
ANSWERS: tuple[Answer, ...] = ("rate", "membrane")
# Level 0, the sound camera, is tested once for all: it is the first level of the first fault.
LEVELS = (
    ("centre", (0.0, 2.0, 4.0, 6.0, 8.0)),
    ("occlusion", (0.1, 0.2, 0.3, 0.4)),
    ("dead", (0.1, 0.2, 0.4, 0.6)),
    ("hot", (0.01, 0.02, 0.05, 0.1)),
    ("dropped", (0.25, 0.5, 0.75, 0.9)),
    ("gap", (0.2, 0.4, 0.6, 0.8)),
    ("noise", (2.0, 5.0, 10.0, 20.0)),
    ("flipped", (0.1, 0.2, 0.3, 0.4)),
    ("jitter", (10.0, 25.0, 50.0, 100.0)),
    ("slow", (3.0, 5.0, 10.0, 20.0)),
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One network on one set of recordings.

    The authors' event networks are not known: windows, scaling and training are ours. Neurons and
    rule start from the simple example's constants; plans choose others.

    Raises ValueError, naming the field, for values that make no sense.
    """

    label: str  # names the config in records, tables and figures
    dataset: str = "event_digits"
    recordings: int | None = None  # the first ones alone are used; None for all
    tested: int | None = None
    validation: int = 100  # training recordings held out to watch learning

    steps: int = 6  # windows T, one for each step of the network
    by: Binning = "time"
    # µs that the windows divide, and behind which all is counted in the last one; None: of each
    # recording its own, which faults may move.
    span: int | None = None
    ceiling: int = 3  # counts of a pixel are cut here, and scaled to at most 1

    convolutions: tuple[tuple[int, bool], ...] = ()  # (channels, whether pooled)
    hidden: int = 512
    v_th: float = 0.35
    decay: float = 0.4
    tau: float | None = None
    trace_decay: float = 0.95
    trace_clip: float = 4.0
    initial_meta: float = 0.01
    answer: Answer = "rate"  # spikes per step of the output neurons, or their last potential
    output_ceiling: float = 1.1  # of potentials, in units of the threshold

    epochs: int = 30
    batch_size: int = 100
    lr_weight: float = 1e-3
    lr_meta: float = 5e-4
    faults: tuple[tuple[str, tuple[float, ...]], ...] = LEVELS

    def __post_init__(self) -> None:
        for name, allowed in (("dataset", EVENT_NAMES), ("by", BINNINGS), ("answer", ANSWERS)):
            ok = getattr(self, name) in allowed
            require(self, name, ok, f"one of {', '.join(allowed)}")
        for name in ("recordings", "tested"):
            value = getattr(self, name)
            require(self, name, value is None or value >= 1, ">= 1, or None for all")
        require(self, "span", self.span is None or self.by == "time", "None with windows by count")
        fits = self.span is None or self.span >= self.steps
        require(self, "span", fits, "at least 1 µs for each window, or None")
        require(self, "ceiling", self.ceiling <= 255, "at most 255: frames count no further")
        require(self, "initial_meta", self.initial_meta >= 0.0, ">= 0")
        for name in ("validation", "steps", "ceiling", "hidden", "epochs", "batch_size"):
            require(self, name, getattr(self, name) >= 1, ">= 1")
        for name in ("v_th", "trace_clip", "output_ceiling", "lr_weight", "lr_meta"):
            require(self, name, getattr(self, name) > 0.0, "> 0")
        for name in ("decay", "trace_decay"):
            require(self, name, 0.0 <= getattr(self, name) <= 1.0, "in [0, 1]")
        require(self, "tau", self.tau is None or self.tau > 0.0, "> 0, or None")
        known = bool(self.faults) and all(name in SENSOR_FAULTS for name, _ in self.faults)
        require(self, "faults", known, f"pairs of ({', '.join(SENSOR_FAULTS)}) and levels")
        names = [name for name, _ in self.faults]
        require(self, "faults", len(set(names)) == len(names), "of different names")
        require(self, "faults", all(levels for _, levels in self.faults), "with levels")
        first = self.faults[0][1][0]
        require(self, "faults", first == 0.0, "the sound camera, level 0, first")
        for name, levels in self.faults:
            rising = all(low < high for low, high in pairwise(levels))
            require(self, "faults", rising, f"with levels of {name} that rise")
            once = name == names[0] or levels[0] > 0.0
            require(self, "faults", once, "with level 0 of the first fault alone")
            for level in levels:
                check_sensor_level(name, level)

    def schedule(self) -> Schedule:
        """Return how long and how fast networks are trained."""
        return Schedule(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr_weight=self.lr_weight,
            lr_meta=self.lr_meta,
        )

    def as_json(self) -> Json:
        """Return all constants as JSON values: tuples become lists, as they do in a record."""
        constants: dict[str, Any] = asdict(self)
        return {name: listed(value) for name, value in constants.items()}
