"""Constants of one network that is tested on faulty images."""

from dataclasses import dataclass, field
from typing import Literal

from hybrid.checks import require
from hybrid.data.faults import FAULTS, check_level
from hybrid.data.images import GREY_NAMES
from hybrid.described import LATER
from hybrid.experiments.core.network import NetworkSettings
from hybrid.experiments.core.samples import checked_dataset
from hybrid.experiments.core.settings import Levels, check_faults
from hybrid.learning.correction import CORRECTIONS, Correction, Rates


@dataclass(frozen=True, kw_only=True)
class FaultSettings(NetworkSettings):
    """A network on grey images, and the faults it is tested under: name and levels of each.

    Args:
        corrections: what the network is tested with beside the protocols of its method.
        rates: of their running estimates.
        arrivals: whether it is also tested on images that arrive in other ways, see `arrivals`.
        judged_on: test images; or, to choose constants, the validation images it never learned.

    Raises ValueError, naming the field, for values that make no sense.
    """

    faults: Levels
    corrections: tuple[Correction, ...] = field(default=(), metadata=LATER)
    rates: Rates = field(default=Rates(), metadata=LATER)
    arrivals: bool = field(default=False, metadata=LATER)
    judged_on: Literal["test", "validation"] = field(default="test", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_dataset(self, GREY_NAMES)
        require(self, "convolutions", not self.convolutions, "(): layers are fully connected here")
        require(self, "encode", self.encode is None, "None: images are shown as they are")
        check_faults(self, self.faults, FAULTS, check_level)
        known = set(self.corrections) <= set(CORRECTIONS)
        require(self, "corrections", known, f"of {', '.join(CORRECTIONS)}")
        slow = all(0.0 < rate <= 1.0 for rate in self.rates)
        require(self, "rates", slow, "shares above 0, at most 1")
        sets = ("test", "validation")
        require(self, "judged_on", self.judged_on in sets, f"one of {', '.join(sets)}")
