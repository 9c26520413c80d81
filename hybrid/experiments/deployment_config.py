"""What is brought to the simulated chip, and what is asked there."""

from dataclasses import asdict, dataclass
from typing import Literal

from hybrid.experiments import continual_plans, fault_tolerance, few_shot_plans
from hybrid.experiments.base import PROFILES, Profile, listed, require
from hybrid.experiments.trials import Config as TrainedConfig
from hybrid.learning.schedule import Schedule
from hybrid.runs.store import Json

Base = Literal["fault_tolerance", "few_shot", "continual"]
BASES: tuple[Base, ...] = ("fault_tolerance", "few_shot", "continual")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One kind of trained network on the chip.

    Args:
        label: names the config in records, tables and figures.
        base: experiment that trains the network.
        profile, trained_label: config of that experiment.
        tested: test images, or episodes, or images of each task; None for all there are.
        faults: of the images, for networks of fault tolerance: fault and levels, 0 first.
        bits: of weights.
        codebook: numbers that weights are chosen from, tried beside all that 8 bits hold.
        sums: bits of partial sums, tried beside those of the chip.
        fine_tuned: epochs of fine-tuning with rounded weights.
        lags, delays: of histories without the oldest, or the newest steps.
        rewritten: images for which a host rewrites synapses, which takes long to simulate.

    Raises ValueError, naming the field, for values that make no sense.
    """

    label: str
    base: Base
    profile: Profile
    trained_label: str
    tested: int | None = None
    faults: tuple[tuple[str, tuple[float, ...]], ...] = ()
    bits: tuple[int, ...] = (8, 6, 4, 3)
    codebook: int = 32
    sums: tuple[int, ...] = (16, 12, 10, 8)
    fine_tuned: int = 1
    lags: tuple[int, ...] = (1, 2, 4)
    delays: tuple[int, ...] = (1, 2)
    rewritten: int = 200

    def __post_init__(self) -> None:
        require(self, "base", self.base in BASES, f"one of {', '.join(BASES)}")
        require(self, "profile", self.profile in PROFILES, f"one of {', '.join(PROFILES)}")
        known = ", ".join(_known(self.base, self.profile))
        ok = self.trained_label in _known(self.base, self.profile)
        require(self, "trained_label", ok, f"one of {known}")
        require(self, "tested", self.tested is None or self.tested >= 1, ">= 1, or None for all")
        require(self, "bits", all(2 <= b <= 8 for b in self.bits), "of 2 to 8")
        require(self, "sums", all(2 <= b <= 32 for b in self.sums), "of 2 to 32")
        require(self, "codebook", self.codebook >= 2, ">= 2")
        for name in ("fine_tuned", "rewritten"):
            require(self, name, getattr(self, name) >= 1, ">= 1")
        require(self, "lags", all(lags >= 1 for lags in self.lags), "numbers >= 1")
        require(self, "delays", all(delay >= 1 for delay in self.delays), "numbers >= 1")
        if self.base == "fault_tolerance":
            sound = bool(self.faults) and self.faults[0][1][0] == 0.0
            require(self, "faults", sound, "at least one fault, its level 0 first")

    @property
    def trained(self) -> TrainedConfig:
        """Config that the network is trained with."""
        return _known(self.base, self.profile)[self.trained_label]

    @property
    def dataset(self) -> str:
        """Name of the data that the network learned from."""
        return self.trained.dataset

    @property
    def validation(self) -> int:
        """Training data that were held out."""
        return self.trained.validation

    def schedule(self) -> Schedule:
        """Return how the network is trained."""
        return self.trained.schedule()

    def as_json(self) -> Json:
        """Return all constants as JSON values, those of the training included."""
        own = {name: listed(value) for name, value in asdict(self).items()}
        return own | {"trained": self.trained.as_json()}


def _known(base: Base, profile: Profile) -> dict[str, TrainedConfig]:
    """Return the configs of an experiment's profile by label."""
    if base == "fault_tolerance":
        return {c.label: c for c in fault_tolerance.PLANS[profile].configs}
    plans = few_shot_plans.PLANS if base == "few_shot" else continual_plans.PLANS
    return {c.label: c for group in plans[profile] for c in group.configs}
