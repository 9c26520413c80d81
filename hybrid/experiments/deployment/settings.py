"""What is brought to the simulated chip, and what is asked there."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from hybrid.checks import require
from hybrid.data.faults import FAULTS, check_level
from hybrid.described import LATER
from hybrid.experiments.continual.settings import ContinualSettings
from hybrid.experiments.core.settings import Levels, Settings, check_faults
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.experiments.few_shot.settings import FewShotSettings
from hybrid.learning.schedule import Schedule

Trainable = FaultSettings | FewShotSettings | ContinualSettings
Defect = Literal["dead cores", "stuck bits", "flipped bits", "lost packets"]


@dataclass(frozen=True, kw_only=True)
class DeploymentSettings(Settings):
    """One kind of trained network on the chip.

    Args:
        trained: settings that the network is trained with; data and schedule are theirs.
        tested: test images, or episodes, or images of each task; None for all there are.
        faults: of the images, for networks of fault tolerance: fault and levels, 0 first.
        bits: of weights.
        codebook: numbers that weights are chosen from, tried beside all that 8 bits hold.
        sums: bits of partial sums, tried beside those of the chip.
        fine_tuned: epochs of fine-tuning with rounded weights.
        lags, delays: of histories without the oldest, or the newest steps.
        homeostatic: whether it is also tested with hidden neurons that keep the currents of
            training ("currents-stream"), at the rates of `trained`; not where each sample has a
            trace of its own, without which the weights were never trained.
        rewritten: images for which a host rewrites synapses, which takes long to simulate.
        defects: of the chip, for networks of fault tolerance: kind and levels, 0 first.
        on_defects: images that are tried on each defective chip.
        streamed: images from one rewriting of synapses to the next, for networks of fault tolerance
            whose trace a host keeps while images come one by one; 1 first.
        in_stream: images of each stream.

    Raises ValueError, naming the field, for values that make no sense.
    """

    dataset: str = field(init=False)
    validation: int = field(init=False)
    schedule: Schedule = field(init=False)
    trained: Trainable
    tested: int | None = None
    faults: Levels = ()
    bits: tuple[int, ...] = (8, 6, 4, 3)
    codebook: int = 32
    sums: tuple[int, ...] = (16, 12, 10, 8)
    fine_tuned: int = 1
    lags: tuple[int, ...] = (1, 2, 4)
    delays: tuple[int, ...] = (1, 2)
    rewritten: int = 200
    homeostatic: bool = field(default=False, metadata=LATER)
    defects: Levels = field(default=(), metadata=LATER)
    on_defects: int = field(default=500, metadata=LATER)
    streamed: tuple[int, ...] = field(default=(), metadata=LATER)
    in_stream: int = field(default=1000, metadata=LATER)

    def __post_init__(self) -> None:
        known = isinstance(self.trained, Trainable)
        require(self, "trained", known, "of fault tolerance, few-shot or continual learning")
        for name in ("dataset", "validation", "schedule"):
            object.__setattr__(self, name, getattr(self.trained, name))
        super().__post_init__()
        require(self, "tested", self.tested is None or self.tested >= 1, ">= 1, or None for all")
        require(self, "bits", all(2 <= b <= 8 for b in self.bits), "of 2 to 8")
        require(self, "sums", all(2 <= b <= 32 for b in self.sums), "of 2 to 32")
        require(self, "codebook", self.codebook >= 2, ">= 2")
        for name in ("fine_tuned", "rewritten"):
            require(self, name, getattr(self, name) >= 1, ">= 1")
        require(self, "lags", all(lags >= 1 for lags in self.lags), "numbers >= 1")
        require(self, "delays", all(delay >= 1 for delay in self.delays), "numbers >= 1")
        fits = not self.homeostatic or isinstance(self.trained, FaultSettings)
        require(self, "homeostatic", fits, "False but for networks of fault tolerance")
        broken = not self.defects or isinstance(self.trained, FaultSettings)
        require(self, "defects", broken, "() but for networks of fault tolerance")
        kinds = {kind for kind, _ in self.defects} <= set(get_args(Defect))
        require(self, "defects", kinds, f"of {', '.join(get_args(Defect))}")
        zero = all(levels and levels[0] == 0.0 for _, levels in self.defects)
        require(self, "defects", zero, "levels of each kind, 0 first")
        sound = all(
            level % 1.0 == 0.0 if kind == "dead cores" else 0.0 <= level <= 1.0
            for kind, levels in self.defects
            for level in levels
        )
        require(self, "defects", sound, "whole numbers of cores, shares of bits and packets")
        require(self, "on_defects", self.on_defects >= 1, ">= 1")
        fits = not self.streamed or isinstance(self.trained, FaultSettings)
        require(self, "streamed", fits, "() but for networks of fault tolerance")
        sound = not self.streamed or self.streamed[0] == 1 <= min(self.streamed)
        require(self, "streamed", sound, "numbers of images, 1 first")
        require(self, "in_stream", self.in_stream >= 1, ">= 1")
        if self.faults:
            check_faults(self, self.faults, FAULTS, check_level)
        if isinstance(self.trained, FaultSettings):
            sound = bool(self.faults) and self.faults[0][1][0] == 0.0
            require(self, "faults", sound, "at least one fault, its level 0 first")
