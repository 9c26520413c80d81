"""What is published of Tianjic against what the model gives: model / published, row by row.

A calibration uses the figure and proves nothing; a consistency check compares figures that are not
independent, or rests on an inferred number; a prediction could have failed, and some do. Core
counts, power and rates of the paper's own network on the chip are in none of the texts at hand:
there is nothing to compare those with.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.cost import power_share

Kind = Literal["calibration", "consistency", "prediction"]
Relation = Literal["about", "below"]
_ZHAO = "Zhao et al., Nat. Commun. 13:3427 (2022)"
_ACTIVE = 0.1  # share of the synapses that meet a spike in a phase: typical, not published


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure to compare with, and the model's."""

    id: str
    what: str
    unit: str
    reference: float
    origin: str  # where the reference is from
    model: float
    kind: Kind
    relation: Relation = "about"  # what the model has to be, seen from the reference
    tolerance: float = 0.0  # share of the reference, for "about"

    @property
    def ratio(self) -> float:
        """Model over published."""
        return self.model / self.reference

    @property
    def holds(self) -> bool:
        """Whether the model is as it has to be."""
        if self.relation == "below":
            return self.ratio < 1.0
        return abs(self.ratio - 1.0) <= self.tolerance


NOT_FOUND = (
    "cores, frames per second and power of the paper's network on Tianjic",
    "how far its accuracy on the chip lies below that in floating point",
    "rates and power of MLP, N-MNIST, convolutional and LSTM networks (Nature 2019, JSSC 2020)",
    "energy and latency of a hop on Tianjic's mesh",
    "what Wang et al. (Front. Neurosci. 2021, 615279) measured: its text was not to be had",
    "cores and activity of any network whose energy is published: rows V3e to V5e assume them",
)


def tracker_energy(chip: Chip, *, phases: int, cores: int, active: float) -> float:
    """Return J of a frame in which cores compute in all phases, one frame after the other.

    Args:
        chip: gives the constants.
        phases: of a frame.
        cores: in use.
        active: share of the synapses that meet something in a phase.
    """
    computed = cores * phases * chip.core_phase_energy * power_share(chip, active)
    return chip.static_power * phases * chip.phase + (1.0 - chip.static_share) * computed


def checks(chip: Chip) -> tuple[Check, ...]:
    """Return the checks V1 to V8; e for energies."""
    per_second = chip.cores * chip.slots / chip.phase
    tracker = partial(Check, unit="frames/s", kind="consistency", tolerance=0.005)
    energy = partial(Check, unit="µJ", tolerance=0.05)
    all_cores = partial(tracker_energy, chip, cores=chip.cores)
    return (
        Check(
            id="V1",
            what="memory bandwidth, a byte for each synapse",
            unit="GB/s",
            reference=610.0,
            origin="published as more than that; other memory is not counted here",
            model=per_second / 1e9,
            kind="consistency",
            tolerance=0.01,
        ),
        Check(
            id="V1s",
            what="synaptic operations per second at most",
            unit="GSOPS",
            reference=608.0,
            origin="quoted from a table of 2020; it may have been computed as the model's is",
            model=per_second / 1e9,
            kind="consistency",
            tolerance=0.005,
        ),
        Check(
            id="V2",
            what="power at full load in SNN mode",
            unit="W",
            reference=chip.full_power,
            origin="that in ANN mode: both efficiencies are inputs, that they agree is all it says",
            model=per_second * chip.energy_per_sop,
            kind="calibration",
            tolerance=0.02,
        ),
        tracker(
            id="V3",
            what="spiking tracker, 9 phases",
            reference=6613.8,
            origin=f"{_ZHAO}; the phase is from another text, that there are 9 is inferred",
            model=1.0 / (9 * chip.phase),
        ),
        tracker(
            id="V4",
            what="hybrid tracker, 10 phases",
            reference=5952.4,
            origin="published; as V3",
            model=1.0 / (10 * chip.phase),
        ),
        energy(
            id="V3e",
            what="energy of the spiking tracker",
            reference=106.0,
            origin=f"{_ZHAO}; the gating fraction is fitted to it, for all cores and a tenth of "
            "their synapses active: with fewer cores it would be larger",
            model=1e6 * all_cores(phases=9, active=_ACTIVE),
            kind="calibration",
        ),
        energy(
            id="V4e",
            what="energy of the hybrid tracker, as many cores as V3e",
            reference=129.5,
            origin=f"{_ZHAO}, as 129 and as 130; one phase more is all that the model adds",
            model=1e6 * all_cores(phases=10, active=_ACTIVE),
            kind="prediction",
        ),
        energy(
            id="V5e",
            what="energy of the ANN tracker, as many cores as V3e",
            reference=272.0,
            origin=f"{_ZHAO}; if it is folded it fills few cores, but how many is not published",
            model=1e6 * all_cores(phases=110, active=1.0),
            kind="prediction",
        ),
        Check(
            id="V5",
            what="static power",
            unit="W",
            reference=272e-6 / (110 * 16.8e-6),
            origin="all that the ANN tracker draws: 272 uJ in 11 times the phases of V4",
            model=chip.static_power,
            kind="consistency",
            relation="below",
        ),
        Check(
            id="V6",
            what="cores at full load that a bicycle's 0.4 W would feed",
            unit="cores",
            reference=float(chip.cores),
            origin="cores there are; how many were busy is not published: weak",
            model=0.4 / (chip.full_power / chip.cores),
            kind="consistency",
            relation="below",
        ),
        Check(
            id="V7",
            what="clocks of a phase",
            unit="clocks",
            reference=16.8e-6 * 300e6,
            origin="derived from the ratio of V3 and V4; the model's is from a survey",
            model=float(chip.phase_clocks),
            kind="consistency",
            tolerance=0.005,
        ),
        tracker(
            id="V8",
            what="DashNet, a hybrid tracker, 29 phases",
            reference=2083.0,
            origin="arXiv 1909.12942; 28.5 phases: no whole number of them explains it",
            model=1.0 / (29 * chip.phase),
            kind="prediction",
        ),
    )


def as_text(chip: Chip) -> str:
    """Format the checks for a notebook or a terminal."""
    lines = [
        f"{c.id:3s}  {c.kind:11s}  model / published {c.ratio:5.3f}  {c.what}: model "
        f"{c.model:.4g}, {c.relation} {c.reference:.4g} {c.unit}, "
        f"{'holds' if c.holds else 'DOES NOT HOLD'} ({c.origin})"
        for c in checks(chip)
    ]
    return "\n".join([*lines, "", "not found in any text at hand:", *(f"- {x}" for x in NOT_FOUND)])
