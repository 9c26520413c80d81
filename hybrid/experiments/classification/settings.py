"""Constants of a classification network."""

from dataclasses import dataclass

from hybrid.checks import require
from hybrid.data.images import CLASSES, DATA_NAMES
from hybrid.experiments.core.network import NetworkSettings
from hybrid.model.coding import InParts


@dataclass(frozen=True, kw_only=True)
class ClassificationSettings(NetworkSettings):
    """One network on one data set of images.

    Args:
        augment: random crops and mirrored images, of colour images alone.

    Raises ValueError, naming the field, for values that make no sense.
    """

    augment: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "dataset", self.dataset in DATA_NAMES, f"one of {', '.join(DATA_NAMES)}")
        outputs, classes = self.dense[-1].size, len(CLASSES[self.dataset])
        require(self, "dense", outputs == classes, f"layers that end in {classes} classes")
        parts = self.encode != InParts() or (28 * 28) % self.steps == 0
        require(self, "steps", parts, "a divisor of the 784 pixels that are shown in parts")
        if self.colour:
            require(self, "convolutions", bool(self.convolutions), "there, for colour images")
        require(
            self, "encode", self.encode is None or not self.convolutions, "None with convolutions"
        )
        require(self, "augment", self.colour or not self.augment, "False for grey images")

    @property
    def colour(self) -> bool:
        """Whether images are in colour."""
        return self.dataset.startswith("cifar10")

    @property
    def image(self) -> tuple[int, int, int]:
        """Shape of what is shown at each step (channels, height, width)."""
        if self.colour:
            return 3, 32, 32
        return (1, 1, 28 * 28 // self.steps) if self.encode == InParts() else (1, 28, 28)
