"""Paper against ours: claims are data, verdicts are computed."""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from hybrid.paths import shipped
from hybrid.report.estimate import Estimate, Floats

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


@dataclass(frozen=True, kw_only=True)
class Unavailable:
    """What the paper shows without a number that could be read."""

    text: str
    where: str


@dataclass(frozen=True)
class Row:
    """One row of the scoreboard: a claim, what was found, and the runs behind it."""

    claim: Claim
    estimate: Estimate | None
    verdict: Verdict
    profile: str | None = None  # None: no record speaks to it, or nobody asked where from
    seeds: tuple[int, ...] = ()
    minutes: float | None = None  # of a trial, the median

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


def load_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """Read the claims, by default from `data/paper.toml`."""
    return tuple(Claim(**entry) for entry in _paper(path)["claim"])


def load_unavailable(path: Path | None = None) -> tuple[Unavailable, ...]:
    """Read what has no number that could be read, by default from `data/paper.toml`."""
    return tuple(Unavailable(**entry) for entry in _paper(path)["unavailable"])


def _paper(path: Path | None) -> dict[str, Any]:
    return tomllib.loads((path or shipped("paper.toml")).read_text("utf-8"))


def judge(claim: Claim, samples: Floats | None) -> Row:
    """Compare one claim with one value per seed, or with None if it was not run."""
    if samples is None or len(samples) == 0:
        return Row(claim, None, "not run" if claim.scale == "laptop" else "not run at paper scale")
    estimate = Estimate.of(samples)
    if estimate.n < claim.minimum:
        return Row(claim, estimate, "too few seeds")
    if claim.rule == "within":
        inside = claim.low <= estimate.mean <= claim.high
        return Row(claim, estimate, "reproduced" if inside else "not reproduced")
    if estimate.low > claim.low:
        return Row(claim, estimate, "reproduced")
    reached = estimate.high > claim.low
    return Row(claim, estimate, "undecided" if reached else "not reproduced")


def scoreboard(measured: Mapping[str, Floats], prefix: str = "") -> list[Row]:
    """Judge all claims whose id begins with `prefix`."""
    claims = [claim for claim in load_claims() if claim.id.startswith(prefix)]
    return [judge(claim, measured.get(claim.id)) for claim in claims]


def as_text(rows: Sequence[Row]) -> str:
    """Format a scoreboard for a notebook or a terminal, rounded."""
    head = ("claim", "unit", "paper", "rerun", "accepted", "ours ± s.e.m. (n)", "verdict")
    table = [
        (
            row.claim.text,
            row.claim.unit,
            _number(row.claim.reported),
            _number(row.claim.rerun),
            f"CI > {row.claim.low:g}"
            if row.claim.rule == "above"
            else f"{row.claim.low:g} to {row.claim.high:g}",
            "-" if row.estimate is None else str(row.estimate),
            row.verdict if row.claim.confidence != "shape" else f"{row.verdict} (no number)",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in (head, *table)
    )


def as_markdown(rows: Sequence[Row], unavailable: Sequence[Unavailable]) -> str:
    """Format all rows as a table for the README, and list what has no number."""
    counts = Counter(row.verdict for row in rows)
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
    claim, estimate = row.claim, row.estimate
    runs = "-"
    if row.profile is not None and row.minutes is not None:
        runs = f"{row.profile}, {_range(row.seeds)}, {row.minutes:.0f}"
    ours = "-" if estimate is None else f"{estimate} {claim.unit}".strip()
    return (
        claim.text,
        _number(claim.reported),
        _number(claim.rerun),
        ours,
        runs,
        f"**{row.verdict}**: {row.reason}",
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
