"""Fig. 3: accuracy under faults; which arrays go into which panel."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid.data.faults import FAULTS, corrupt
from hybrid.data.images import load_images
from hybrid.experiments.core.records import (
    Drawn,
    Records,
    gap,
    levels,
    samples,
    select,
    shared_seeds,
    usual,
)
from hybrid.experiments.core.samples import class_names
from hybrid.experiments.fault_tolerance.claims import MAIN, reported_gaps
from hybrid.experiments.fault_tolerance.controls import draw_controls
from hybrid.report.figures import BLACK, COLOURS, GREY, ON_WHITE, canvas, spoken
from hybrid.report.panels import Bar, Line, bars, images, learning, lines, matrix
from hybrid.runs.seeds import numpy_stream

# Line styles of the test protocols, the same in every panel.
_STYLE = {
    "batch": {"linestyle": "-", "marker": "o"},
    "stream": {"linestyle": "-", "marker": "s"},
    "frozen": {"linestyle": "--", "marker": "^"},
    "sample": {"linestyle": ":", "marker": "v"},
}
_TICKS = {
    "salt_pepper": "salt &\npepper",
    "gaussian_unclipped": "noise, not\nclipped",
    "gaussian_centred": "noise,\nmean 0",
}
_FAR = 5.0  # points, of a lead that a title tells of
_NAMES = {"gaussian": "noise", "crop": "blanked"}
_AXIS = {"gaussian": FAULTS["gaussian"].axis, "crop": FAULTS["crop"].axis}


def draw(records: Records[Any, Any], label: str, seed: int = 0) -> Figure:
    """Draw Fig. 3 for one data set; seeds that all methods share are drawn.

    Args:
        records: finished trials of at least LP, GP and HP.
        label: of the settings.
        seed: of the noise in the example pictures.
    """
    methods, own = _shared(records, label)
    n = own["seed"].nunique()
    figure, panels = canvas(["aabbcc", "ddeeff"], height=112)
    names, rows, captions = gallery(seed)
    images(panels["a"], rows, row_names=names, labels=captions, cmap="gray", vmin=0, vmax=1)
    panels["a"].set_title("The faults, on a digit\n")
    faulty = own[own["level"] > 0.0]
    for letter, fault in (("b", "gaussian"), ("d", "crop")):
        where: dict[str, Any] = {"condition": fault, "usual": True}
        x = levels(own, **where)
        curves = [Line(m, x, samples(own, method=m, **where), COLOURS[m]) for m in methods]
        mean = gap(faulty, "HP", "GP", condition=fault).mean()
        title = f"{spoken(label)}, {_NAMES[fault]}: HP minus GP {mean:+.1f}"
        ahead = gap(own, "LP", "HP", condition=fault)[:, -1].mean()
        if ahead > _FAR:
            title = f"{spoken(label)}: LP {ahead:.0f} points above HP at {x[-1]:g}"
        lines(panels[letter], curves, legend={"loc": "lower left"}, **_words(fault, title))
        _chance(panels[letter], records, label)
    _gains(panels["c"], gap(own, "HP", "GP", condition="gaussian"), own, label)
    for letter, fault in (("e", "gaussian"), ("f", "crop")):
        frozen = gap(faulty, "HP + frozen", "GP", condition=fault).mean()
        title = f"{_NAMES[fault].capitalize()}: frozen HP minus GP {frozen:+.1f}"
        _protocols(panels[letter], own, fault, title)
        _chance(panels[letter], records, label)
    panels["b"].text(0.98, 0.98, f"n = {n}", transform=panels["b"].transAxes, ha="right", va="top")
    return figure


def draw_details(records: Records[Any, Any], label: str) -> Figure:
    """Draw the supplement of Fig. 3: other noises, hidden firing rates, confusions."""
    methods, own = _shared(records, label)
    figure, panels = canvas(["abc"], height=68)
    settings = records.of(label)[0]["request"]["settings"]
    others = [name for name, _ in settings["faults"] if name not in _AXIS]
    if others:
        _other_noises(panels["a"], own, others)
    else:
        learned = {m: samples(own, method=m, condition="learning") for m in MAIN}
        learning(panels["a"], learned, "Learning, clean images")
    where = {"condition": "gaussian", "usual": True}
    variances = levels(own, **where)
    rates = {m: samples(own, "rate 0", method=m, **where) for m in methods}
    kept = 100.0 * rates["HP"][:, -1].mean() / max(rates["HP"][:, 0].mean(), 1e-9)
    lines(
        panels["b"],
        [Line(m, variances, found, COLOURS[m]) for m, found in rates.items()],
        xlabel=_AXIS["gaussian"],
        ylabel="spikes per neuron and step",
        title=f"HP keeps {kept:.0f} % of its hidden spikes",
    )
    panels["b"].set_ylim(bottom=0)
    seeds = set(own["seed"])
    counts = np.sum(
        [
            record["result"]["tests"]["batch"]["gaussian"]["confusion"][-1]
            for record in records.of(label, "HP")
            if record["request"]["seed"] in seeds
        ],
        axis=0,
    )
    classes = class_names(settings["dataset"], len(counts))
    shares = 100.0 * counts / counts.sum(-1, keepdims=True)
    given, known = 100.0 * counts.sum(0) / counts.sum(), shares.diagonal()
    most, least = int(given.argmax()), int(known.argmin())
    many = given[most] > 300.0 / len(counts)  # of answers, beside what is asked
    title = f"{given[most]:.0f} % called {classes[most]}"
    title = title if many else f"{classes[least]} known to {known[least]:.0f} %"
    matrix(
        panels["c"],
        shares,
        names=(classes, classes),
        scale="share of true class (%)",
        xlabel=f"predicted class, noise {variances[-1]:g}",
        ylabel="true class",
        title=f"{spoken(label)}, HP: {title}",
    )
    return figure


def _shared(records: Records[Any, Any], label: str) -> tuple[list[str], Any]:
    """Return the main methods, and the rows of those seeds that all of them have finished."""
    methods = [m for m in records.methods(label) if m in MAIN]
    return methods, shared_seeds(select(records.frame, label=label), methods)


def _words(fault: str, title: str) -> dict[str, Any]:
    words = {"xlabel": _AXIS[fault], "ylabel": "accuracy (%)", "title": title}
    return {**words, "ylim": (0, 100)}


def _chance(axes: Axes, records: Records[Any, Any], label: str) -> None:
    """Draw the accuracy of guessing."""
    tests = records.results(label, "GP")[0]["tests"]
    classes = len(tests[usual(tests)]["gaussian"]["confusion"][0])
    axes.axhline(100.0 / classes, color=GREY, linewidth=0.7, linestyle=":", zorder=0)


def gallery(seed: int) -> tuple[list[str], list[list[np.ndarray]], list[Sequence[str]]]:
    """Return one digit under faults: names of rows, pictures [K, 28, 28] and captions of each."""
    digit = load_images("digits").test[:1]

    def faulty(name: str, *strengths: float) -> np.ndarray:
        source = numpy_stream(seed, "pictures", name)
        return np.concatenate([corrupt(digit, name, level, source) for level in strengths])

    others = (("salt", 0.06), ("pepper", 0.36), ("salt_pepper", 0.12), ("speckle", 600.0))
    rows = [
        faulty("gaussian", 0.0, 0.02, 0.04, 0.06),
        faulty("crop", 3.0, 6.0, 9.0, 12.0),
        np.concatenate([faulty(name, level) for name, level in others]),
    ]
    captions: list[Sequence[str]] = [
        ("clean", "0.02", "0.04", "0.06"),
        ("3", "6", "9", "12"),
        ("salt", "pepper", "salt & p.", "speckle"),
    ]
    return ["noise", "blanked", "other"], [list(row) for row in rows], captions


def _gains(axes: Axes, gains: np.ndarray, own: Any, label: str) -> None:
    """Draw HP minus GP [seeds, variances], with reported points if there are any."""
    axes.axhline(0, color=GREY, linewidth=0.7)
    variances = levels(own, condition="gaussian", usual=True)
    drawn = [Line(f"ours (n = {len(gains)})", variances, gains, COLOURS["HP"])]
    for (who, (x, y)), marker in zip(reported_gaps(label).items(), "Dx", strict=False):
        style = {"marker": marker, "markersize": 3, "linestyle": "none"}
        drawn.append(Line(who, x, y, BLACK, style))
    xlabel, ylabel = _AXIS["gaussian"], "HP minus GP (points)"
    means = gains.mean(0)
    peak = int(means.argmax())
    shown = (0, -1) if peak == len(means) - 1 else (peak, -1)
    title = "HP's lead: " + ", ".join(f"{means[i]:z.1f} at {variances[i]:g}" for i in shown)
    lines(axes, drawn, xlabel=xlabel, ylabel=ylabel, title=title)


def _protocols(axes: Axes, own: Any, fault: str, title: str) -> None:
    """Draw HP under each test protocol, with GP for comparison."""
    x = levels(own, condition=fault, usual=True)
    hybrid = select(own, method="HP", condition=fault)
    drawn = [
        Line(f"HP, {name}", x, samples(hybrid, protocol=name), COLOURS[name], _STYLE[name])
        for name in hybrid["protocol"].unique()
        if name in _STYLE
    ]
    plain = samples(own, method="GP", condition=fault, usual=True)
    drawn.append(Line("GP", x, plain, COLOURS["GP"], {"linestyle": "-.", "marker": "."}))
    legend: dict[str, Any] = {"loc": "lower left", "ncols": 2, "columnspacing": 0.8}
    lines(axes, drawn, legend=legend, **_words(fault, title))


def _other_noises(axes: Axes, own: Any, noises: Sequence[str]) -> None:
    """Draw accuracies at the highest level of the other noises."""
    leads = [gap(own, "HP", "GP", condition=noise)[:, -1].mean() for noise in noises]
    width = 0.8 / len(MAIN)
    drawn = [
        Bar(
            place + (i - 1) * width,
            samples(own, method=method, condition=noise, usual=True)[:, -1],
            COLOURS[method],
            width,
            name="_" if place else method,
        )
        for i, method in enumerate(MAIN)
        for place, noise in enumerate(noises)
    ]
    bars(
        axes,
        drawn,
        legend={"ncols": len(MAIN), "loc": "upper center", **ON_WHITE},
        ticks={_TICKS.get(noise, noise): place for place, noise in enumerate(noises)},
        rotation=40 if len(noises) > 4 else 0,
        xlabel="other noises, highest level",
        ylabel="accuracy (%)",
        title=f"HP minus GP: {min(leads):+.1f} to {max(leads):+.1f}",
        ylim=(0, 100),
    )


def draw_all(records: Records[Any, Any], seed: int) -> Drawn:
    """Draw Fig. 3 for each data set on which LP, GP and HP have finished a seed in common.

    And, where they were tested with corrections, the supplement that shows these.
    """
    found: Drawn = {}
    for label in records.labels:
        methods, own = set(records.methods(label)), select(records.frame, label=label)
        if set(MAIN) <= methods and not shared_seeds(own, MAIN).empty:
            name = f"fig3_{label}" if found else "fig3"
            found[name] = (partial(draw, records, label, seed), [label])
            found[f"{name}_details"] = (partial(draw_details, records, label), [label])
            if records.planned[label].corrections:
                found[f"{name}_controls"] = (partial(draw_controls, records, label), [label])
    return found
