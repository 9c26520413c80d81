"""What is published of Tianjic against what the model gives.

A calibration uses the figure and proves nothing; a consistency check compares figures that are not
independent, or rests on an inferred number; a prediction could have failed. Core counts, power and
rates of the paper's own network on the chip are in none of the texts at hand: there is nothing to
compare those with.
"""

from dataclasses import dataclass
from typing import Literal

from hybrid.tianjic.chip import Chip

Kind = Literal["calibration", "consistency", "prediction"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One published figure, and the model's."""

    id: str
    what: str
    unit: str
    published: float
    model: float
    tolerance: float  # share of the published figure
    kind: Kind
    note: str

    @property
    def deviation(self) -> float:
        """How far the model is off, as a share of the published figure."""
        return self.model / self.published - 1.0

    @property
    def holds(self) -> bool:
        """Whether it is within the tolerance."""
        return abs(self.deviation) <= self.tolerance


NOT_FOUND = (
    "cores, frames per second and power of the paper's network on Tianjic",
    "how far its accuracy on the chip lies below that in floating point",
    "rates and power of MLP, N-MNIST, convolutional and LSTM networks (Nature 2019, JSSC 2020)",
    "energy and latency of a hop on Tianjic's mesh",
)


def checks(chip: Chip) -> tuple[Check, ...]:
    """Return the checks V1 to V7."""
    per_second = chip.cores * chip.slots / chip.phase
    snn_power = per_second * chip.energy_per_sop
    tracker = 272e-6 / (110 * chip.phase)
    return (
        Check(
            id="V1",
            what="memory bandwidth, a byte for each synapse",
            unit="GB/s",
            published=610.0,
            model=per_second / 1e9,
            tolerance=0.01,
            kind="prediction",
            note="more than 610 is published: other memory is not counted",
        ),
        Check(
            id="V2",
            what="power at full load in SNN mode, against that in ANN mode",
            unit="W",
            published=chip.full_power,
            model=snn_power,
            tolerance=0.02,
            kind="calibration",
            note="both efficiencies are inputs; that they agree is all it says",
        ),
        Check(
            id="V3",
            what="tracker, spiking: 9 phases",
            unit="frames/s",
            published=6613.8,
            model=1.0 / (9 * chip.phase),
            tolerance=0.005,
            kind="consistency",
            note="the phase is from another text; that there are 9 phases is inferred",
        ),
        Check(
            id="V4",
            what="tracker, hybrid: 10 phases",
            unit="frames/s",
            published=5952.4,
            model=1.0 / (10 * chip.phase),
            tolerance=0.005,
            kind="consistency",
            note="as V3",
        ),
        Check(
            id="V5",
            what="tracker, ANN: power must exceed the static one",
            unit="W",
            published=0.147,
            model=tracker,
            tolerance=0.01,
            kind="consistency",
            note="110 phases are 11 times those of V4, as published: the time is circular",
        ),
        Check(
            id="V6",
            what="bicycle: cores that draw 0.4 W at full load, of 156",
            unit="cores",
            published=chip.cores / 2,
            model=0.4 / (chip.full_power / chip.cores),
            tolerance=0.5,
            kind="consistency",
            note="weak: how many cores were busy is not published, it must be a part of them",
        ),
        Check(
            id="V7",
            what="clocks of a phase, against 16.8 us from V3 : V4",
            unit="clocks",
            published=16.8e-6 * chip.clock,
            model=float(chip.phase_clocks),
            tolerance=0.005,
            kind="consistency",
            note="two texts; neither is a data sheet",
        ),
    )


def as_text(chip: Chip) -> str:
    """Format the checks for a notebook or a terminal."""
    lines = [
        f"{c.id}  {c.kind:11s}  {c.what}: published {c.published:.4g}, model {c.model:.4g} "
        f"{c.unit} ({c.deviation:+.1%}, {'holds' if c.holds else 'does not hold'}); {c.note}"
        for c in checks(chip)
    ]
    return "\n".join([*lines, "", "not found in any text at hand:", *(f"- {x}" for x in NOT_FOUND)])
