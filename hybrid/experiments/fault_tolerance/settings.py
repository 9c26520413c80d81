"""Constants of one network that is tested on faulty images."""

from dataclasses import dataclass

from hybrid.checks import require
from hybrid.data.faults import FAULTS, check_level
from hybrid.data.images import GREY_NAMES
from hybrid.experiments.core.network import NetworkSettings
from hybrid.experiments.core.settings import Levels, check_faults


@dataclass(frozen=True, kw_only=True)
class FaultSettings(NetworkSettings):
    """A network on grey images, and the faults it is tested under: name and levels of each.

    Raises ValueError, naming the field, for values that make no sense.
    """

    faults: Levels

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "dataset", self.dataset in GREY_NAMES, f"one of {', '.join(GREY_NAMES)}")
        require(self, "convolutions", not self.convolutions, "(): layers are fully connected here")
        require(self, "encode", self.encode is None, "None: images are shown as they are")
        check_faults(self, self.faults, FAULTS, check_level)
