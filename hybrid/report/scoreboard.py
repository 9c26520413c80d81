"""Paper against ours: claims are data, verdicts are computed.

- within: the 95 % interval of our mean lies in the window: reproduced; beside it: not reproduced;
  across its edge: undecided
- above: the interval lies above a value, and stays significant among all such claims of its family
  (Holm; a family is a group of claims of one experiment): reproduced; below: not reproduced
- equal: two one-sided tests: the 90 % interval lies in the window of what counts as equal

A comparison with a baseline that hardly spikes says nothing: "dead baseline". What the paper does
not claim is a comparison of ours: it "holds" or not, and is not counted with the paper's.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from hybrid.paths import shipped
from hybrid.report.estimate import Estimate, Floats

Verdict = Literal[
    "reproduced",
    "not reproduced",
    "holds",
    "does not hold",
    "undecided",
    "dead baseline",
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
    confidence: Literal["high", "medium", "shape", "ours"]
    rule: Literal["within", "above", "equal"]
    low: float
    minimum: int
    high: float = float("inf")
    window: str = ""  # where low and high come from
    reported: float | None = None
    rerun: float | None = None
    profile: Literal["laptop", "paper", "controls"] = "laptop"  # whose networks it is about
    alive: float | None = None  # least firing rate of the baseline, spikes per neuron and step

    @property
    def methods(self) -> list[str]:
        """What is compared, by the last part of the id: "A - B", "A-B", or A alone."""
        asked = self.id.rsplit("/", 1)[-1]
        return asked.split(" - ") if " - " in asked else asked.split("-")

    @property
    def family(self) -> tuple[str, bool]:
        """Claims that are corrected together: of one experiment, the paper's or ours."""
        return self.id.split("/")[0], self.confidence == "ours"

    @property
    def accepted(self) -> str:
        """What counts, in a few characters."""
        if self.rule == "above":
            return f"CI > {self.low:g}"
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, kw_only=True)
class Unavailable:
    """What the paper shows without a number that could be read."""

    text: str
    where: str


class Computation(NamedTuple):
    """How a row at the paper's scale was computed."""

    machine: str  # processor, or GPU, that trained
    precision: str
    best: float | None  # had each seed been judged by its best test epoch, in the claim's unit


@dataclass(frozen=True)
class Row:
    """One row of the scoreboard: a claim, what was found, and the runs behind it."""

    claim: Claim
    estimate: Estimate | None
    verdict: Verdict
    profile: str | None = None  # None: no record speaks to it, or nobody asked where from
    seeds: tuple[int, ...] = ()
    minutes: float | None = None  # of a trial, the median
    computation: Computation | None = None  # of rows at the paper's scale that have records

    @property
    def one_run(self) -> str:
        """Where one more run of ours would lie, beside one run of others; "-" without any."""
        alone = self.claim.reported is not None or self.claim.rerun is not None
        if self.estimate is None or self.estimate.n < 2 or not alone:
            return "-"
        low, high = self.estimate.single()
        digits = 1 if high - low >= 1.0 else 2 if high - low >= 0.1 else 3
        return f"{low:.{digits}f} to {high:.{digits}f}"

    @property
    def reason(self) -> str:
        """Why the verdict is what it is, in a few words."""
        claim, found = self.claim, self.estimate
        if found is None:
            return "a paper-scale run is needed" if claim.profile == "paper" else "no record"
        if found.n < claim.minimum:
            return f"{found.n} of {claim.minimum} seeds"
        if self.verdict == "dead baseline":
            return f"it is not known to fire {claim.alive:g} times per neuron and step"
        # That two things are equal asks for the 90 % interval, that they are not for the other.
        proven = claim.rule == "equal" and not self.verdict.startswith(("not", "does not"))
        level = 0.90 if proven else 0.95
        low, high = found.interval(level)
        reached = f"{100 * level:.0f} % CI {low:.3g} to {high:.3g}"
        if claim.rule == "above" and self.verdict == "undecided" and low > claim.low:
            return f"{reached}, not above {claim.low:g} among so many claims (Holm)"
        needed = f"above {claim.low:g}" if claim.rule == "above" else claim.accepted
        return f"{reached}, needed {needed}"


def load_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """Read the claims, by default from `data/paper.toml`."""
    return tuple(Claim(**entry) for entry in _paper(path)["claim"])


def load_unavailable(path: Path | None = None) -> tuple[Unavailable, ...]:
    """Read what has no number that could be read, by default from `data/paper.toml`."""
    return tuple(Unavailable(**entry) for entry in _paper(path)["unavailable"])


def _paper(path: Path | None) -> dict[str, Any]:
    return tomllib.loads((path or shipped("paper.toml")).read_text("utf-8"))


def judge(
    claim: Claim, samples: Floats | None, baseline: Floats | None = None, level: float = 0.025
) -> Row:
    """Compare one claim with one value per seed, or with None if it was not run.

    Args:
        claim: what is claimed.
        samples: [seeds], or [seeds, items] where seeds were tested on the same items.
        baseline: its firing rate [seeds], where the claim asks for one that is alive.
        level: of the one-sided test of an "above" claim, see `holm`.
    """
    if samples is None or len(samples) == 0:
        paper = claim.profile == "paper"
        return Row(claim, None, "not run at paper scale" if paper else "not run")
    found = Estimate.of(samples)
    yes: Verdict = "holds" if claim.confidence == "ours" else "reproduced"
    no: Verdict = "does not hold" if claim.confidence == "ours" else "not reproduced"
    if found.n < claim.minimum:
        return Row(claim, found, "too few seeds")
    if not _alive(claim, baseline):
        return Row(claim, found, "dead baseline")
    low, high = found.interval(0.90 if claim.rule == "equal" else 0.95)
    if claim.rule == "above":
        proven = found.chance_of(claim.low) <= level
    else:
        proven = claim.low <= low and high <= claim.high
    # Not a number: what is claimed never happened in one of the runs.
    beside = np.isnan(found.mean) or found.high <= claim.low or found.low >= claim.high
    return Row(claim, found, yes if proven else no if beside else "undecided")


def _alive(claim: Claim, baseline: Floats | None) -> bool:
    """Return whether a claim's baseline is known to spike, if the claim asks for that."""
    if claim.alive is None:
        return True
    return baseline is not None and bool(np.median(baseline) >= claim.alive)


def holm(claims: Sequence[Claim], measured: Mapping[str, Floats]) -> dict[str, float]:
    """Return the level at which each "above" claim is to be tested, by id.

    Within a family the smallest p value is held against 0.025 / m, the next against
    0.025 / (m - 1), and so on; once one fails, all larger ones do. Claims without enough seeds, or
    with a dead baseline, do not count.

    Source: Holm, Scand. J. Stat. 6 (1979).
    """
    families: dict[tuple[str, bool], list[tuple[float, str]]] = {}
    for claim in claims:
        values = measured.get(claim.id)
        if claim.rule != "above" or not _alive(claim, measured.get(f"{claim.id}/baseline")):
            continue
        if values is not None and len(values) >= claim.minimum:
            chance = Estimate.of(values).chance_of(claim.low)
            families.setdefault(claim.family, []).append((chance, claim.id))
    levels = {}
    for tests in families.values():
        passing = True
        for rank, (chance, name) in enumerate(sorted(tests)):
            level = 0.025 / (len(tests) - rank)
            passing = passing and chance <= level
            levels[name] = level if passing else -1.0
    return levels


def scoreboard(measured: Mapping[str, Floats], prefix: str = "") -> list[Row]:
    """Judge all claims whose id begins with `prefix`, the name of an experiment at least."""
    claims = [claim for claim in load_claims() if claim.id.startswith(prefix)]
    levels = holm(claims, measured)
    return [
        judge(
            claim,
            measured.get(claim.id),
            measured.get(f"{claim.id}/baseline"),
            levels.get(claim.id, 0.025),
        )
        for claim in claims
    ]


def as_text(rows: Sequence[Row]) -> str:
    """Format a scoreboard for a notebook or a terminal, rounded, without empty columns."""
    head = (
        "claim",
        "unit",
        "paper",
        "rerun",
        "accepted",
        "ours ± s.e.m. (n)",
        "one run",
        "verdict",
    )
    table = [
        (
            row.claim.text,
            row.claim.unit,
            _number(row.claim.reported),
            _number(row.claim.rerun),
            row.claim.accepted,
            "-" if row.estimate is None else str(row.estimate),
            row.one_run,
            row.verdict if row.claim.confidence != "shape" else f"{row.verdict} (no number)",
        )
        for row in rows
    ]
    columns = [c for c in zip(head, *table, strict=True) if set(c[1:]) != {"-"}]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in zip(*columns, strict=True)
    )


def as_markdown(rows: Sequence[Row], unavailable: Sequence[Unavailable]) -> str:
    """Format all rows as tables for the page of the scoreboard, and list what has no number."""
    every = [row for row in rows if row.claim.confidence == "ours"]
    ours = [row for row in every if row.estimate is not None]
    paper = [row for row in rows if row.claim.confidence != "ours"]
    head = ("claim", "reported", "rerun", "ours", "one run", "profile, seeds, min", "verdict")
    short = ("comparison", "ours", "profile, seeds, min", "verdict")
    cells = [
        (*_cells(row), f"{row.claim.source} ({_CONFIDENCE[row.claim.confidence]})") for row in paper
    ]
    own = [(text, mean, runs, verdict) for text, _, _, mean, _, runs, verdict in map(_cells, ours)]
    return "\n".join(
        [
            f"What the paper and its authors' code report: {_counts(paper)}.",
            "",
            *_table((*head, "source"), cells),
            "",
            *_at_scale(paper),
            f"Comparisons of ours, which the paper does not make: {_counts(ours)}.",
            "",
            *_table(short, own),
            "",
            *waiting(every),
            "Shown in the paper, without a number that could be read:",
            "",
            *(f"- {entry.text} ({entry.where})" for entry in unavailable),
        ]
    )


def as_card(rows: Sequence[Row]) -> str:
    """Format a few rows as a table of Markdown for the top of a page."""
    cells = [
        (row.claim.text, _with_unit(row.claim.reported, row.claim.unit), _found(row), row.verdict)
        for row in rows
    ]
    head = ("claim", "paper", "ours [95 % interval] (seeds)", "verdict")
    return "\n".join(_table(head, [(*own, f"**{verdict}**") for *own, verdict in cells]))


def _with_unit(value: float | None, unit: str) -> str:
    return f"{_number(value)} {unit if value is not None else ''}".strip()


def _found(row: Row) -> str:
    """Return our mean with its 95 % interval and the number of seeds."""
    return "-" if row.estimate is None else f"{row.estimate.with_interval} {row.claim.unit}".strip()


def as_summary(rows: Sequence[Row]) -> str:
    """Format the numbers of verdicts as a table for README: a row for each experiment."""
    paper = [row for row in rows if row.claim.confidence != "ours"]
    ours = [row for row in rows if row.claim.confidence == "ours" and row.estimate is not None]
    names = dict.fromkeys(row.claim.family[0] for row in (*paper, *ours))
    cells = [
        [name.replace("_", " ")]
        + [_counts([row for row in part if row.claim.family[0] == name]) for part in (paper, ours)]
        for name in names
    ]
    head = ("experiment", "claims of the paper", "comparisons of ours")
    every = ["**all**", _counts(paper), _counts(ours)]
    return "\n".join(_table(head, [*cells, every]))


def _at_scale(rows: Sequence[Row]) -> list[str]:
    """Return a table of the rows at the paper's scale, if there are any, and an empty line."""
    head = (
        *("at the paper's scale", "n", "machine", "precision", "min"),
        *("last epoch", "best test epoch"),
    )
    cells = []
    for row in rows:
        how, estimate, unit = row.computation, row.estimate, row.claim.unit
        if how is None or estimate is None:
            continue
        minutes = "-" if row.minutes is None else f"{row.minutes:.0f}"
        best = "-" if how.best is None else f"{how.best:.2f} {unit}".strip()
        last = f"{estimate} {unit}".strip()
        parts = (str(estimate.n), how.machine, how.precision, minutes)
        cells.append((row.claim.text, *parts, last, best))
    if not cells:
        return []
    text = "The last epoch counts; beside it, what choosing an epoch on test data would have given."
    return [*_table(head, cells), "", text, ""]


def waiting(rows: Sequence[Row]) -> list[str]:
    """Return a line, and an empty one, on the rows that no record speaks to, if there are any."""
    count = sum(row.estimate is None for row in rows)
    text = f"{count} more are planned and have no records yet; `data/paper.toml` has their texts."
    return [text, ""] if count else []


def _counts(rows: Sequence[Row]) -> str:
    counts = Counter(row.verdict for row in rows)
    many = {"holds": "hold", "does not hold": "do not hold"}
    said = [
        f"{counts[name]} {name if counts[name] == 1 else many.get(name, name)}"
        for name in get_args(Verdict)
        if counts[name]
    ]
    return ", ".join(said) or "-"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---" for _ in head], *rows)]


def _cells(row: Row) -> tuple[str, ...]:
    claim, estimate = row.claim, row.estimate
    runs = "-"
    if row.profile is not None and row.minutes is not None:
        runs = f"{row.profile}, {_range(row.seeds)}, {row.minutes:.0f}"
    return (
        claim.text,
        _number(claim.reported),
        _number(claim.rerun),
        "-" if estimate is None else f"{estimate} {claim.unit}".strip(),
        row.one_run,
        runs,
        f"**{row.verdict}**: {row.reason}",
    )


def _range(seeds: tuple[int, ...]) -> str:
    whole = seeds == tuple(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole and len(seeds) > 1 else ", ".join(map(str, seeds))


def between_markers(text: str, table: str, begin: str = BEGIN, end: str = END) -> str:
    """Return a text with what lies between two markers replaced.

    Raises:
        ValueError: if the markers are not there, once each and in order.
    """
    pieces = text.split(begin), text.split(end)
    if any(len(parts) != 2 for parts in pieces) or text.index(begin) > text.index(end):
        raise ValueError(f"the text needs one line {begin} and, behind it, one line {end}")
    return f"{pieces[0][0]}{begin}\n{table}\n{end}{pieces[1][1]}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
