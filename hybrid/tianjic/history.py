"""The local module on a chip that cannot rewrite its synapses.

With one sample a trace of its own, and no clip, P never has to be built:

    x_t P_t = Σ_{l ≥ 0} (Σ_i lag_l[i] · x_t[i] · x_{t-1-l}[i]) · y_{t-1-l},  lag_l = decay^l · rate

Counted by lag l, decay and rate are static weights; inputs and potentials of earlier steps are
activations, which shift by one place in each step. A score is one number for all neurons; where
each synapse has a factor of its own (a gain, a mask), lag_l is a matrix, and scores are neurons'.
Exact but for rounding while no clip acts on the trace; with fewer lags than steps the oldest ones
are missing, with a delay the newest. Source: DESIGN §4, *factored*; the mapping to vector
operations is a model of ours.
"""

from dataclasses import dataclass

from torch import Tensor

from hybrid.tianjic.fixed import Overflows, exact_product, shifted
from hybrid.tianjic.soma import SoftMaximum, Table


@dataclass(frozen=True, kw_only=True)
class LocalModule:
    """Constants of a local module in whole numbers.

    Args:
        lags: static weights [lags, in] or [lags, in, out], 8 bits.
        table: post factor of the potential's argument.
        thresholds: subtracted from potentials [out].
        argument: (multiplier, shift) from what is left to the table's argument.
        coincidence_shift: bits that products of two inputs lose.
        score_shift: bits that scores lose before they are cut to `score_bits`.
        score_bits: of scores.
        gain: (multiplier, shift) from sums of score · post factor to potentials.
        delay: newest steps that are left out: lags begin with the one of that age.
    """

    lags: Tensor
    table: Table | SoftMaximum
    thresholds: Tensor
    argument: tuple[int, int]
    coincidence_shift: int
    score_shift: int
    score_bits: int
    gain: tuple[int, int]
    delay: int = 0

    def __post_init__(self) -> None:
        if self.lags.ndim not in (2, 3):
            raise ValueError(f"lags must be [lags, in] or [lags, in, out], got {self.lags.ndim}-d")
        if self.delay < 0:
            raise ValueError(f"delay = {self.delay}: it must be >= 0")

    def coincidences(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Return products of inputs now and earlier [N, in]."""
        return shifted(x.long() * earlier.long(), 1, self.coincidence_shift)

    def post(self, v: Tensor, overflows: Overflows, place: str) -> Tensor:
        """Return the post factor of potentials [N, out], 8 bits; see `Table.look_up`."""
        argument = shifted(v - self.thresholds, *self.argument)
        return self.table.look_up(argument, overflows, f"{place}: arguments of tables")


class History:
    """Inputs and post factors of earlier steps, and the current they make.

    Args:
        module: constants.
        overflows, place: where scores and arguments that do not fit are counted.
    """

    def __init__(self, module: LocalModule, overflows: Overflows, place: str) -> None:
        self._module, self._overflows, self._place = module, overflows, place
        self._inputs: list[Tensor] = []
        self._posts: list[Tensor] = []

    def repeated(self, times: int) -> "History":
        """Return a history for `times` samples in the place of each: queries of one support."""
        made = History(self._module, self._overflows, self._place)
        made._inputs = [x.repeat_interleave(times, 0) for x in self._inputs]
        made._posts = [y.repeat_interleave(times, 0) for y in self._posts]
        return made

    def current(self, x: Tensor) -> Tensor | int:
        """Return the local current under input x [N, in], in units of the potential."""
        total: Tensor | int = 0
        for lag in range(len(self._module.lags)):
            step = len(self._posts) - 1 - lag - self._module.delay
            if step < 0:
                break
            total = total + self.score(x, self._inputs[step], lag) * self._posts[step]
        return total if isinstance(total, int) else shifted(total, *self._module.gain)

    def learn(self, x: Tensor, v: Tensor) -> None:
        """Remember an input [N, in] and the potential that it led to [N, out]."""
        self._inputs.append(x)
        self._posts.append(self._module.post(v, self._overflows, self._place))

    def score(self, x: Tensor, earlier: Tensor, lag: int) -> Tensor:
        """Return how alike two inputs are, weighted by a lag [N, 1] or [N, out]."""
        weight = self._module.lags[lag]
        column = weight.unsqueeze(1) if weight.ndim == 1 else weight
        sums = exact_product(self._module.coincidences(x, earlier), column)
        sums = shifted(sums, 1, self._module.score_shift)
        return self._overflows.saturate(sums, self._module.score_bits, f"{self._place}: scores")
