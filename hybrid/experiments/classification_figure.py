"""Fig. 2 assembled from a classification result: which arrays go into which panel."""

from matplotlib.figure import Figure

from hybrid.experiments.classification_plans import METHODS
from hybrid.experiments.classification_results import Result
from hybrid.report import classification_panels as panels
from hybrid.report.figures import Series, absent, canvas
from hybrid.report.learning_panel import learning
from hybrid.report.scoreboard import load_claims

_COLOUR = {method.name: method.colour for method in METHODS}
_CODES = ("", "rate", "rank", "poisson")  # variants that differ in their code; "" is the base
_ANSWERS = {
    "membrane": "membrane",
    "rate": "rate",
    "rank": "first spike",
    "rank-batch": "first spike (batch)",
}
# Suffix of a variant's label -> its name in panel g.
_VARIANTS = {
    "rate": "rate code",
    "rank": "first-spike code",
    "poisson": "Poisson input",
    "IF": "IF neurons",
    "adaptive": "adaptive neurons",
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
    panels.table(axes["a"], _main_rows(result), _COLOUR, title="Networks and data sets")
    learned = {
        name: (result.learning(first, name), _COLOUR[name]) for name in result.methods(first)
    }
    learning(axes["b"], learned, title=f"Learning, {_name(first)}")
    courses = {
        _code(result, label): result.course(label, "HP")
        for suffix in _CODES
        if (label := _label(base, suffix)) in labels and "HP" in result.methods(label)
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
    rows = _variant_rows(result, base)
    if len(rows) > 1:
        panels.table(axes["g"], rows, _COLOUR, title=f"Variants, {_name(base)}")
    else:
        absent(axes["g"], "no variants in this profile")
    return figure


def _main_rows(result: Result) -> list[panels.Row]:
    """Return a row for each config that compares GP and HP and is no variant of another."""
    labels = result.labels()
    reported = {claim.id: claim.reported for claim in load_claims()}
    return [
        panels.Row(
            _name(label),
            _samples(result, label),
            reported.get(f"classification/{label}/HP"),
        )
        for label in labels
        if {"GP", "HP"} <= set(result.methods(label)) and not _is_variant(label, labels)
    ]


def _variant_rows(result: Result, base: str) -> list[panels.Row]:
    rows = [panels.Row(f"base: {_code(result, base)}", _samples(result, base, ("GP", "HP")))]
    return rows + [
        panels.Row(name, _samples(result, label, ("GP", "HP")))
        for suffix, name in _VARIANTS.items()
        if (label := _label(base, suffix)) in result.labels()
    ]


def _code(result: Result, label: str) -> str:
    """Return how a config's answer is read, or its input if that is spikes."""
    config = result.config(label)
    return "Poisson" if config["code"] == "poisson" else _ANSWERS[config["answer"]]


def base_of(result: Result) -> str:
    """Return the label of the config that variants are made of, or else the first one."""
    labels = result.labels()
    return next(
        (base for base in labels if any(_is_variant(label, (base,)) for label in labels)),
        labels[0],
    )


def _is_variant(label: str, labels: tuple[str, ...]) -> bool:
    return any(label == _label(base, suffix) for base in labels for suffix in _VARIANTS)


def _label(base: str, suffix: str) -> str:
    return f"{base}-{suffix}" if suffix else base


def _name(label: str) -> str:
    return label.replace("_", "-").replace("-", " ")


def _samples(
    result: Result, label: str, methods: tuple[str, ...] = ("LP", "GP", "HP")
) -> dict[str, Series]:
    return {name: result.accuracy(label, name) for name in result.methods(label) if name in methods}
