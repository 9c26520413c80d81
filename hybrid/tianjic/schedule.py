"""When cores compute and packets travel within a phase, and how long a phase has to be.

All cores start together; each sends when it has computed, and the phase ends when the last packet
has arrived. Phases have one length for the whole chip, Tianjic's, or a longer one if the busiest
phase of a network needs it: then with everything sent that ever is, so that no image overruns it.
"""

import math
from dataclasses import dataclass

import numpy as np

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.mapping import Mapping
from hybrid.tianjic.mesh import Drained, Mesh
from hybrid.tianjic.routing import Floats, Multicast, Numbers, Rates, multicasts, streams
from hybrid.tianjic.rules import busy_clocks

_DRAWS = 5
_SEED = 0


@dataclass(frozen=True)
class Schedule:
    """The busiest phase of a network: that in which all of its layers work at once.

    Args:
        chip: whose phases there are.
        computing: clocks of the busiest core.
        typical: clock at which the last packet arrives, for some draws of what is active [draws].
        worst: the same if all numbers are sent.
        busiest: packets of the busiest link then.
    """

    chip: Chip
    computing: int
    typical: Numbers
    worst: int
    busiest: int

    @property
    def clocks(self) -> int:
        """Clocks of a phase."""
        return max(self.chip.phase_clocks, self.worst)

    @property
    def stretch(self) -> float:
        """How much longer than Tianjic's a phase is: 1 if it is not."""
        return self.clocks / self.chip.phase_clocks

    @property
    def phase(self) -> float:
        """Seconds of a phase."""
        return self.clocks / self.chip.clock


def schedule(mapping: Mapping, rates: Rates) -> Schedule:
    """Return how the busiest phase of a step goes.

    Args:
        mapping: cores and places.
        rates: of each layer, how often its outputs are active in a step [outputs]; under "input",
            the same of what enters. Numbers are drawn as if they were independent.
    """
    chip, source = mapping.chip, np.random.default_rng(_SEED)
    casts = multicasts(mapping)
    drawn = [[_drawn(cast, rates, chip, source) for cast in casts] for _ in range(_DRAWS)]
    everything = [_folded(cast, cast.packets(chip.packet_bytes)) for cast in casts]
    computing, drained = _drained(mapping, np.array([everything, *drawn], np.int64))
    return Schedule(
        chip,
        computing=computing,
        typical=np.maximum(drained.clocks[1:], computing),
        worst=max(computing, int(drained.clocks[0])),
        busiest=max((int(load[0]) for load in drained.links.values()), default=0),
    )


def arrivals(mapping: Mapping, packets: Numbers) -> Numbers:
    """Return the clock of a phase at which all is done: cores, and the last packet [phases].

    Cores start to send when they would have computed the most that they ever do.

    Args:
        mapping: cores and places, of which none is folded.
        packets: that each multicast sends in a phase [phases, multicasts], in the order of
            `routing.multicasts`: as `machine.Ran.steps` counts them for a sample, for example.

    Raises:
        ValueError: if a core is folded, which spreads its packets over several phases.
    """
    if any(core.folds > 1 for core in mapping.cores):
        raise ValueError("folded cores spread what they send over phases: unfold them")
    computing, drained = _drained(mapping, packets)
    return np.maximum(drained.clocks, computing)


def _drained(mapping: Mapping, packets: Numbers) -> tuple[int, Drained]:
    """Return the clocks for which the busiest core computes, and what happens to packets."""
    computed = np.array([busy_clocks(core, mapping.chip) for core in mapping.cores])
    _, made = streams(mapping, computed)
    drained = Mesh.of(mapping.chip, mapping.chips).drain(made, packets)
    return int(computed.max()), drained


def _drawn(cast: Multicast, rates: Rates, chip: Chip, source: np.random.Generator) -> int:
    """Return the packets of one phase, active senders drawn."""
    if cast.active is None:
        return _folded(cast, cast.packets(chip.packet_bytes))
    shares = rates[cast.active][cast.senders]
    return _folded(cast, int((source.random(len(shares)) < shares).sum()))


def _folded(cast: Multicast, packets: int) -> int:
    """Return the packets of one of the phases over which a folded core spreads them."""
    return math.ceil(packets * min(1.0, cast.share))


def leaving(mapping: Mapping, rates: Rates) -> dict[str, Floats]:
    """Return how often outputs are active, from how often inputs are, as `traffic` takes it.

    Args:
        mapping: of which layers.
        rates: of each layer, how often its inputs are active in a step [inputs]; under "output",
            the same of the last layer's neurons.
    """
    names = [shape.name for shape in mapping.shapes]
    first, *later = (rates[name] for name in names)
    return dict(zip(names, [*later, rates["output"]], strict=True)) | {"input": first}
