"""Constants of one network that learns from events."""

from dataclasses import dataclass, field
from itertools import pairwise

from hybrid.checks import require
from hybrid.data.events.faults import SENSOR_FAULTS, check_sensor_level
from hybrid.data.events.sets import EVENT_NAMES
from hybrid.described import LATER
from hybrid.experiments.core.network import NetworkSettings
from hybrid.experiments.core.samples import checked_dataset
from hybrid.experiments.core.settings import Levels, check_faults
from hybrid.learning.correction import Correction, Rates
from hybrid.model.coding import EventCounts


@dataclass(frozen=True, kw_only=True)
class EventSettings(NetworkSettings):
    """One network on one set of recordings.

    The authors' event networks are not known: windows, scaling and training are ours. Neurons and
    rule start from the simple example's constants; plans choose others.

    Args:
        recordings, tested: the first ones alone are used; None for all.
        span: µs that the windows divide, and behind which all is counted in the last one; None: of
            each recording its own, which faults may move.
        faults: level 0, the sound camera, is tested once for all: it is the first level of the
            first fault.
        corrections, rates: what the network is tested with beside the protocols of its method.
        each: whether records say of each recording if it was answered rightly, for intervals over
            seeds and recordings.

    Raises ValueError, naming the field, for values that make no sense.
    """

    recordings: int | None = None
    tested: int | None = None
    span: int | None = None
    faults: Levels
    corrections: tuple[Correction, ...] = field(default=(), metadata=LATER)
    rates: Rates = field(default=Rates(), metadata=LATER)
    each: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_dataset(self, EVENT_NAMES)
        for name in ("recordings", "tested"):
            value = getattr(self, name)
            require(self, name, value is None or value >= 1, ">= 1, or None for all")
        fits = self.span is None or self.span >= self.steps
        require(self, "span", fits, "at least 1 µs for each window, or None")
        counted = isinstance(self.encode, EventCounts) and self.encode.ceiling <= 255
        require(self, "encode", counted, "EventCounts of at most 255: frames count no further")
        self._check_faults()
        slow = all(0.0 < rate <= 1.0 for rate in self.rates)
        require(self, "rates", slow, "shares above 0, at most 1")
        fit = set(self.corrections) <= {"currents-batch", "currents-stream", "thresholds"}
        require(self, "corrections", fit, "of currents and thresholds: events have no offset")
        plain = not (self.corrections and self.convolutions)
        require(self, "corrections", plain, "() for convolutional networks")

    def _check_faults(self) -> None:
        check_faults(self, self.faults, SENSOR_FAULTS, check_sensor_level)
        first, (sound, *_) = self.faults[0]
        require(self, "faults", sound == 0.0, "the sound camera, level 0, first")
        for name, levels in self.faults:
            rising = all(low < high for low, high in pairwise(levels))
            require(self, "faults", rising, f"with levels of {name} that rise")
            once = name == first or levels[0] > 0.0
            require(self, "faults", once, "with level 0 of the first fault alone")
