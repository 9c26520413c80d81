"""Paper against ours: claims are data, verdicts are computed."""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Verdict = Literal[
    "reproduced",
    "not reproduced",
    "undecided",
    "too few seeds",
    "not run",
    "not run at paper scale",
]


BEGIN, END = "<!-- scoreboard: begin -->", "<!-- scoreboard: end -->"
_CONFIDENCE = {"high": "found twice", "medium": "found once", "shape": "no number"}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of the paper and what counts as reproducing it; see `data/paper.toml`."""

    id: str
    text: str
    unit: str
    source: str
    confidence: Literal["high", "medium", "shape"]
    rule: Literal["within", "above"]
    low: float
    minimum: int
    high: float = float("inf")
    reported: float | None = None
    rerun: float | None = None
    scale: Literal["laptop", "paper"] = "laptop"  # what it takes to speak to the claim


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its uncertainty."""

    n: int
    mean: float
    sem: float  # standard error of the mean; NaN for n = 1
    low: float  # 95 % confidence interval (Student's t)
    high: float

    @classmethod
    def of(cls, samples: NDArray[np.float64]) -> "Estimate":
        """Estimate from one value per seed [n]."""
        n, mean = len(samples), float(np.mean(samples))
        if n < 2:
            return cls(n, mean, float("nan"), float("-inf"), float("inf"))
        sem = float(stats.sem(samples))
        reach = float(stats.t.ppf(0.975, n - 1)) * sem
        return cls(n, mean, sem, mean - reach, mean + reach)


@dataclass(frozen=True, kw_only=True)
class Unavailable:
    """What the paper shows without a number that could be read."""

    text: str
    where: str


@dataclass(frozen=True)
class Line:
    """One line of the scoreboard."""

    claim: Claim
    estimate: Estimate | None
    verdict: Verdict

    @property
    def reason(self) -> str:
        """Why the verdict is what it is, in a few words."""
        claim, found = self.claim, self.estimate
        if found is None:
            return "no record" if claim.scale == "laptop" else "a paper-scale run is needed"
        if found.n < claim.minimum:
            return f"{found.n} of {claim.minimum} seeds"
        if claim.rule == "within":
            side = "inside" if self.verdict == "reproduced" else "outside"
            return f"{side} {claim.low:g} to {claim.high:g}"
        reached = f"95 % CI {found.low:.2g} to {found.high:.2g}"
        return f"{reached}, needed above {claim.low:g}"


@dataclass(frozen=True)
class Row:
    """A line of the scoreboard, and the runs behind it."""

    line: Line
    profile: str | None  # None: no record speaks to it
    seeds: tuple[int, ...]
    minutes: float | None  # of a trial, the median


def load_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """Read the claims, by default from `data/paper.toml`."""
    return tuple(Claim(**entry) for entry in _paper(path)["claim"])


def load_unavailable(path: Path | None = None) -> tuple[Unavailable, ...]:
    """Read what has no number that could be read, by default from `data/paper.toml`."""
    return tuple(Unavailable(**entry) for entry in _paper(path)["unavailable"])


def _paper(path: Path | None) -> dict[str, Any]:
    here = Path(__file__).resolve()
    candidates = (here.parents[2] / "data" / "paper.toml", here.parent / "paper.toml")
    path = path or next(candidate for candidate in candidates if candidate.exists())
    return tomllib.loads(path.read_text("utf-8"))


def reported_gaps(dataset: str) -> list[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """Return what others found for HP minus GP under noise: (who, variances, points)."""
    claims = {claim.id: claim for claim in load_claims()}
    clean = claims.get(f"fault_tolerance/{dataset}/clean/HP-GP")
    noisy = claims.get(f"fault_tolerance/{dataset}/gaussian-0.06/HP-GP")
    if clean is None or noisy is None:
        return []
    variances = np.array([0.0, 0.06])
    pairs = {
        "authors": (clean.reported, noisy.reported),
        "rerun": (clean.rerun, noisy.rerun),
    }
    return [(who, variances, np.array(pair, dtype=float)) for who, pair in pairs.items()]


def judge(claim: Claim, samples: NDArray[np.float64] | None) -> Line:
    """Compare one claim with one value per seed, or with None if it was not run."""
    if samples is None or len(samples) == 0:
        return Line(claim, None, "not run" if claim.scale == "laptop" else "not run at paper scale")
    estimate = Estimate.of(samples)
    if estimate.n < claim.minimum:
        return Line(claim, estimate, "too few seeds")
    if claim.rule == "within":
        inside = claim.low <= estimate.mean <= claim.high
        return Line(claim, estimate, "reproduced" if inside else "not reproduced")
    if estimate.low > claim.low:
        return Line(claim, estimate, "reproduced")
    reached = estimate.high > claim.low
    return Line(claim, estimate, "undecided" if reached else "not reproduced")


def scoreboard(measured: Mapping[str, NDArray[np.float64]], prefix: str = "") -> list[Line]:
    """Judge all claims whose id begins with `prefix`."""
    claims = [claim for claim in load_claims() if claim.id.startswith(prefix)]
    return [judge(claim, measured.get(claim.id)) for claim in claims]


def as_text(lines: list[Line]) -> str:
    """Format a scoreboard for a notebook or a terminal, rounded."""
    rows = [("claim", "unit", "paper", "rerun", "accepted", "ours ± s.e.m. (n)", "verdict")]
    rows += [
        (
            line.claim.text,
            line.claim.unit,
            _number(line.claim.reported),
            _number(line.claim.rerun),
            _accepted(line.claim),
            _estimate(line.estimate),
            line.verdict if line.claim.confidence != "shape" else f"{line.verdict} (no number)",
        )
        for line in lines
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def as_markdown(rows: Sequence[Row], unavailable: Sequence[Unavailable]) -> str:
    """Format all rows as a table for the README, and list what has no number."""
    counts = Counter(row.line.verdict for row in rows)
    head = ("claim", "reported", "rerun", "ours", "profile, seeds, min", "verdict", "source")
    table = [head, tuple("---" for _ in head), *map(_cells, rows)]
    return "\n".join(
        [
            ", ".join(f"{counts[name]} {name}" for name in get_args(Verdict) if counts[name]) + ".",
            "",
            *("| " + " | ".join(cells) + " |" for cells in table),
            "",
            "Shown in the paper, without a number that could be read:",
            "",
            *(f"- {entry.text} ({entry.where})" for entry in unavailable),
        ]
    )


def _cells(row: Row) -> tuple[str, ...]:
    claim, estimate = row.line.claim, row.line.estimate
    runs = "-"
    if row.profile is not None and row.minutes is not None:
        runs = f"{row.profile}, {_range(row.seeds)}, {row.minutes:.0f}"
    ours = "-" if estimate is None else f"{_estimate(estimate)} {claim.unit}".strip()
    return (
        claim.text,
        _number(claim.reported),
        _number(claim.rerun),
        ours,
        runs,
        f"**{row.line.verdict}**: {row.line.reason}",
        f"{claim.source} ({_CONFIDENCE[claim.confidence]})",
    )


def _range(seeds: tuple[int, ...]) -> str:
    whole = seeds == tuple(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole and len(seeds) > 1 else ", ".join(map(str, seeds))


def between_markers(text: str, table: str) -> str:
    """Return a text with what lies between its two markers replaced.

    Raises:
        ValueError: if the markers are not there, once each and in order.
    """
    pieces = text.split(BEGIN), text.split(END)
    if any(len(parts) != 2 for parts in pieces) or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the text needs one line {BEGIN} and, behind it, one line {END}")
    return f"{pieces[0][0]}{BEGIN}\n{table}\n{END}{pieces[1][1]}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _accepted(claim: Claim) -> str:
    if claim.rule == "above":
        return f"CI > {claim.low:g}"
    return f"{claim.low:g} to {claim.high:g}"


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    digits = 3 if abs(estimate.mean) < 0.1 else 2 if abs(estimate.mean) < 2.0 else 1
    spread = f" ± {estimate.sem:.{digits}f}" if estimate.n > 1 else ""
    return f"{estimate.mean:.{digits}f}{spread} ({estimate.n})"
