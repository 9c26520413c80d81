"""What one core does, and what it can do and hold: the design rules.

A core takes 256 numbers to 256 neurons. All that it keeps has to fit its memory: weights, inputs
that wait or are remembered, sums, potentials, tables.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.chip import Chip

Numbers = NDArray[np.int64]
Role = Literal[
    "synapses",  # weights, and a soma unless sums have it
    "carried",  # weights that training's trace became
    "recurrent",  # weights of the layer's own spikes of the step before
    "sums",  # adds what a neuron's potential is made of; soma
    "copies",  # the same somas once more, which send potentials
    "coincidences",  # products of an input now and then, weighted
    "scores",  # adds up coincidences
    "products",  # scores times earlier potentials
]
Memory = Literal["wide", "narrow"]


class RuleError(ValueError):
    """A network that the chip cannot hold: which rule, which layer, what to do."""

    def __init__(self, rule: str, layer: str, problem: str) -> None:
        super().__init__(rule, layer, problem)  # all, so that it can be pickled
        self.rule, self.layer, self.problem = rule, layer, problem

    def __str__(self) -> str:
        return f"rule {self.rule!r}, layer {self.layer!r}: {self.problem}"


class Core(NamedTuple):
    """What one core does.

    A folded convolution does the same several times in a step: axons and neurons are those of all
    of them, `operations`, `numbers` and `sends` the most of one.
    """

    layer: str
    role: Role
    axons: Numbers  # which inputs of the layer come in; its outputs if recurrent; of sums all, of
    # products lags
    neurons: Numbers  # which outputs of the layer go out; of scores for all neurons: lags
    primitives: tuple[str, ...]  # what it does in each phase of a step, one after the other
    operations: int  # of one phase, at most: synapses met, sums added
    weights: int  # kept in it
    held: int  # bytes of all else that it keeps
    numbers: int  # that come in for one phase
    sends: int  # numbers that go out of one phase
    folds: int = 1  # how often it does that in a step
    lag: int | None = None  # whose coincidences, scores; None for all

    @property
    def passes(self) -> int:
        """Phases of each step in which it computes."""
        return self.folds * len(self.primitives)


def tiles(count: int, size: int) -> list[Numbers]:
    """Cut 0 … count - 1 into as few and as equal runs of at most `size` as possible."""
    return list(np.array_split(np.arange(count), -(-count // size)))


def busy_clocks(core: Core, chip: Chip) -> int:
    """Return the clocks that a core computes for in a phase: its synapses, then its neurons."""
    return -(-core.operations // chip.macs_per_clock) + core.sends


def weight_bytes(core: Core, chip: Chip) -> int:
    """Return bytes of a core's weights."""
    return -(-core.weights * chip.weight_bits // 8)


class Rules(NamedTuple):
    """What a core can do and hold."""

    chip: Chip
    memory: Memory

    def asked(self, core: Core) -> list[tuple[str, int, int, str]]:
        """Return for each rule: its name, what a core asks for, what there is, of what."""
        chip, weights = self.chip, weight_bytes(core, self.chip)
        found = [
            ("fan-in", core.numbers, chip.fan_in, "numbers that come in"),
            ("fan-out", core.sends, chip.fan_out, "neurons"),
            ("phase", busy_clocks(core, chip), chip.phase_clocks, "clocks of a phase"),
        ]
        if self.memory == "narrow":
            return [*found, ("memory", weights + core.held, chip.core_sram, "bytes")]
        return [
            *found,
            ("synapses", weights, chip.core_synapses, "bytes of weights"),
            ("memory", core.held, chip.core_sram, "bytes beside weights"),
        ]

    def fits(self, core: Core) -> bool:
        """Return whether a core keeps all rules."""
        return all(asked <= most for _, asked, most, _ in self.asked(core))

    def check(self, core: Core) -> None:
        """Raise RuleError for a core that asks for more than there is in one."""
        for rule, asked, most, unit in self.asked(core):
            if asked > most:
                raise RuleError(rule, core.layer, f"{core.role}: {asked} {unit}, a core has {most}")

    def filled(self, count: int, most: int, made: Callable[[Numbers], Core]) -> list[Core]:
        """Return cores for so many neurons, at most `most` to a core, and fewer if need be."""
        most = min(most, self.chip.fan_out, count)
        while most > 1 and not self.fits(made(np.arange(most))):
            most = -(-most // 2)
        return [made(neurons) for neurons in tiles(count, most)]

    def of_number(self, graded: bool) -> float:
        """Return bytes of an input: 8 bits, or a spike."""
        return 1.0 if graded else 1 / 8

    @property
    def of_sum(self) -> int:
        """Bytes of a partial sum."""
        return -(-self.chip.partial_sum_bits // 8)

    @property
    def of_soma(self) -> int:
        """Bytes of a soma: its potential, its bias, and what its threshold has risen by."""
        return 3 * -(-self.chip.potential_bits // 8)

    def cuts(
        self, inputs: int, outputs: int, made: Callable[[Numbers, Numbers], Core]
    ) -> tuple[list[Numbers], list[Numbers]]:
        """Return tiles of inputs and outputs, as few as fit; of equally few, few of inputs.

        Raises:
            RuleError: see `check`; of what a core with one input and one output asks for.
        """
        self.check(made(np.arange(1), np.arange(1)))
        least = -(-inputs // self.chip.fan_in)
        choices = []
        for count in sorted({*range(least, min(inputs, 16 * least) + 1), inputs}):
            rows = tiles(inputs, -(-inputs // count))
            low, high = 1, min(outputs, self.chip.fan_out)
            if not self.fits(made(rows[0], np.arange(low))):
                continue
            while low < high:  # the widest tile of outputs that fits
                middle = (low + high + 1) // 2
                fits = self.fits(made(rows[0], np.arange(middle)))
                low, high = (middle, high) if fits else (low, middle - 1)
            choices.append((len(rows) * -(-outputs // low), len(rows), low))
        _, count, width = min(choices)
        return tiles(inputs, -(-inputs // count)), tiles(outputs, width)
