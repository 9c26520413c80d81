"""A mean with its uncertainty: the one way in which samples become a number."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
_DRAWS = 4_000  # of the bootstrap


@dataclass(frozen=True)
class Estimate:
    """A mean over n samples, such as seeds, its standard error, and its 95 % interval."""

    n: int
    mean: float
    sem: float  # standard error of the mean; NaN for n = 1
    low: float
    high: float

    @classmethod
    def of(cls, samples: Floats) -> "Estimate":
        """Estimate from one value per seed [n], or per seed and test item [n, items].

        Intervals are Student's, with n - 1 degrees of freedom. Where seeds were tested on the same
        items the standard error is that of a bootstrap which draws both anew, see `_bootstrapped`.
        """
        n, mean = len(samples), float(np.mean(samples))
        error = standard_error(samples) if samples.ndim == 1 else _bootstrapped(samples)
        if error is None:
            return cls(n, mean, float("nan"), float("-inf"), float("inf"))
        reach = float(stats.t.ppf(0.975, n - 1)) * float(error)
        return cls(n, mean, float(error), mean - reach, mean + reach)

    @classmethod
    def of_share(cls, right: int, asked: int) -> "Estimate":
        """Estimate a share in per cent with Wilson's interval, which also holds near 100 %."""
        low, high = stats.binomtest(right, asked).proportion_ci(0.95, method="wilson")
        share = right / asked
        sem = 100.0 * (share * (1.0 - share) / asked) ** 0.5
        return cls(asked, 100.0 * share, sem, 100.0 * low, 100.0 * high)

    @property
    def with_interval(self) -> str:
        """`mean [low, high] (n)`: the 95 % interval; without it where n is 1."""
        width = abs(self.mean) if self.n < 2 else self.high - self.low
        digits = 1 if width >= 0.3 else 2 if width >= 0.03 else 4
        mean = f"{self.mean:z.{digits}f}"  # z: no -0.0
        if self.n < 2:
            return f"{mean} ({self.n})"
        return f"{mean} [{self.low:z.{digits}f}, {self.high:z.{digits}f}] ({self.n})"

    @property
    def deviation(self) -> float:
        """Standard deviation of the samples; NaN for n = 1."""
        return self.sem * self.n**0.5

    def interval(self, level: float) -> tuple[float, float]:
        """Return Student's interval of the mean at another level than 0.95."""
        if self.n < 2:
            return float("-inf"), float("inf")
        reach = float(stats.t.ppf(0.5 + level / 2.0, self.n - 1)) * self.sem
        return self.mean - reach, self.mean + reach

    def single(self) -> tuple[float, float]:
        """Return the 95 % prediction interval of one more sample: what to set one run against."""
        low, high = self.interval(0.95)
        wider = (self.n + 1) ** 0.5
        return self.mean + wider * (low - self.mean), self.mean + wider * (high - self.mean)

    def chance_of(self, least: float) -> float:
        """Return the p value of a mean of at most `least` (Student, one-sided)."""
        if self.n < 2 or np.isnan(self.mean):
            return 1.0
        if self.sem == 0.0:
            return 0.0 if self.mean > least else 1.0
        return float(stats.t.sf((self.mean - least) / self.sem, self.n - 1))

    def __str__(self) -> str:
        """Return `mean ± standard error (n)`, with as many digits as the mean is large."""
        digits = 3 if abs(self.mean) < 0.1 else 2 if abs(self.mean) < 2.0 else 1
        return f"{self:.{digits}f}"

    def __format__(self, spec: str) -> str:
        """Return `mean ± standard error (n)`; width and sign are those of the mean."""
        if not spec:
            return str(self)
        digits = spec[spec.find(".") :]
        spread = f" ± {self.sem:{digits}}" if self.n > 1 else ""
        return f"{self.mean:{spec}}{spread} ({self.n})"


def lost_or_gained(points: float) -> str:
    """Return in words what positive points are lost, or negative ones gained."""
    return f"{'gains' if points < 0.0 else 'loses'} {abs(points):.1f} points"


def _bootstrapped(samples: Floats) -> Floats | None:
    """Return the standard error of the mean of values [n, items]; None for one seed.

    Seeds and items are drawn anew together: else a mean over few items would seem as sure as one
    over many. Of n seeds n - 1 are drawn, so that the variance between seeds is not too small.

    Source: the pigeonhole bootstrap, Owen, Ann. Appl. Stat. 1 (2007).
    """
    n, items = samples.shape
    if n < 2:
        return None
    source = np.random.default_rng(0)
    seeds = source.multinomial(n - 1, np.full(n, 1.0 / n), size=_DRAWS) / (n - 1)
    chosen = source.integers(items, size=(_DRAWS, items))
    return np.asarray(np.take_along_axis(seeds @ samples, chosen, axis=1).mean(1).std())


def standard_error(samples: Floats) -> Floats | None:
    """Return the standard error of the mean over seeds, the first axis; None for one seed."""
    if len(samples) < 2:
        return None
    return np.asarray(samples.std(0, ddof=1) / np.sqrt(len(samples)))


def half_interval(samples: Floats) -> Floats | None:
    """Return half of the 95 % interval (Student) of the mean over seeds; None for one seed."""
    error = standard_error(samples)
    return None if error is None else error * stats.t.ppf(0.975, len(samples) - 1)
