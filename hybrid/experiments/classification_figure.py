"""Fig. 2 assembled from a classification result: which arrays go into which panel."""

from matplotlib.figure import Figure

from hybrid.experiments.classification import METHODS
from hybrid.experiments.classification_results import Result
from hybrid.report import classification_panels as panels
from hybrid.report.figures import Series, canvas
from hybrid.report.learning_panel import learning
from hybrid.report.scoreboard import load_claims

_COLOUR = {method.name: method.colour for method in METHODS}
# Suffix of a variant's label -> its name in panels; "" is the base itself.
_CODES = {"": "membrane", "rate": "rate", "rank": "first spike", "poisson": "Poisson"}
_VARIANTS = {
    "": "base (LIF, Hebbian)",
    "rate": "rate code",
    "rank": "first-spike code",
    "poisson": "Poisson input",
    "IF": "IF, rate code",
    "adaptive": "adaptive, rate code",
    "STDP": "STDP",
    "fixed-theta": "θ not learned",
    "unit-gain": "gain fixed at 1",
    "hidden-only": "trace in hidden layer",
    "readout-only": "trace in read-out",
}


def draw(result: Result) -> Figure:
    """Draw Fig. 2 from the finished trials of a profile."""
    labels, base = result.labels(), base_of(result)
    first = max(labels, key=lambda label: len(result.methods(label)))  # the first of equals
    figure, axes = canvas(["aaabbb", "ccddee", "fffggg"], height=185)
    main = [label for label in labels if {"GP", "HP"} <= set(result.methods(label))]
    main = [label for label in main if not _is_variant(label, labels)]
    reported = {claim.id: claim.reported for claim in load_claims()}
    rows = [
        panels.Row(
            f"{_name(label)} (n = {len(result.seeds(label, 'HP'))})",
            _samples(result, label),
            reported.get(f"classification/{label}/HP"),
        )
        for label in main
    ]
    panels.table(axes["a"], rows, _COLOUR, title="Networks and data sets")
    learned = {
        name: (result.learning(first, name), _COLOUR[name]) for name in result.methods(first)
    }
    learning(axes["b"], learned, title=f"Learning, {_name(first)}")
    courses = {
        name: result.course(label, "HP")
        for suffix, name in _CODES.items()
        if (label := _label(base, suffix)) in labels
    }
    panels.codes_by_step(axes["c"], {n: (steps, right) for n, (steps, right, _) in courses.items()})
    panels.codes_by_spikes(
        axes["d"], {n: (spikes, right) for n, (_, right, spikes) in courses.items()}
    )
    raster = result.raster(first, "HP")
    groups = {name: raster[name] for name in ("hidden", "read-out")}
    panels.raster(axes["e"], groups, raster["steps"], colour=_COLOUR["HP"])
    lines: dict[str, tuple[Series, str]] = {
        name: (result.sensitivity(first, name)[1], _COLOUR[name])
        for name in ("LP", "HP")
        if name in result.methods(first)
    }
    scales = result.sensitivity(first)[0]
    panels.sensitivity(axes["f"], scales, lines, title=f"Sensitivity to θ, {_name(first)}")
    changed = [
        panels.Row(name, _samples(result, label, ("GP", "HP")))
        for suffix, name in _VARIANTS.items()
        if (label := _label(base, suffix)) in labels
    ]
    panels.table(axes["g"], changed, _COLOUR, title=f"One thing changed, {_name(base)}")
    return figure


def base_of(result: Result) -> str:
    """Return the label of the config that variants are made of, or else the first one."""
    labels = result.labels()
    return next(
        (base for base in labels if any(_is_variant(label, (base,)) for label in labels)),
        labels[0],
    )


def _is_variant(label: str, labels: tuple[str, ...]) -> bool:
    return any(label == _label(base, suffix) for base in labels for suffix in _VARIANTS if suffix)


def _label(base: str, suffix: str) -> str:
    return f"{base}-{suffix}" if suffix else base


def _name(label: str) -> str:
    return label.replace("_", "-").replace("-", " ")


def _samples(
    result: Result, label: str, methods: tuple[str, ...] = ("LP", "GP", "HP")
) -> dict[str, Series]:
    return {name: result.accuracy(label, name) for name in result.methods(label) if name in methods}
