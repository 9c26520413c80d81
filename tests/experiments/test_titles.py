"""Titles of committed figures say what records say, computed here by another way.

They are what a tired reader reads, and words for one who cannot see the figure.
"""

import json
import re

import numpy as np
import pandas as pd
from scipy.stats import t as student

from environment import ROOT
from hybrid.experiments.core.records import gap
from hybrid.experiments.event_tolerance.claims import faults_in
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.experiments.scoreboard.rows import rows
from hybrid.report.estimate import Estimate


def titles(figure: str) -> dict[str, str]:
    """Return the titles of a committed figure by panel."""
    alt = json.loads((ROOT / "figures" / f"{figure}.json").read_text("utf-8"))["alt"]
    return dict(re.findall(r"(?:: |; )([a-z]), (.*?)(?=; [a-z], |$)", alt))


def means(experiment: str, profile: str, label: str, condition: str, level: float) -> pd.DataFrame:
    """Return accuracies by seed (rows) and way to test, "HP + stream" (columns)."""
    frame = EXPERIMENTS[experiment].load(profile).frame
    own = frame[
        (frame["label"] == label) & (frame["condition"] == condition) & (frame["level"] == level)
    ]
    way = own["method"] + " + " + own["protocol"]
    found = own.assign(way=way).pivot_table("accuracy", "seed", "way")
    usual = own[own["usual"]].pivot_table("accuracy", "seed", "method")
    return found.join(usual)


def ends(values: pd.Series) -> tuple[float, float]:
    """Return the 95 % interval of a mean."""
    known = values.dropna().to_numpy()
    reach = student.ppf(0.975, len(known) - 1) * known.std(ddof=1) / len(known) ** 0.5
    return known.mean() - reach, known.mean() + reach


HARD = {
    "gaussian": 0.06,
    "gaussian_unclipped": 0.06,
    "gaussian_centred": 0.06,
    "crop": 8.0,
    "salt": 0.06,
    "pepper": 0.36,
    "salt_pepper": 0.12,
    "speckle": 600.0,
}
WAYS = {
    "HP": "HP, batch",
    "HP + stream": "HP, stream",
    "GP + offset": "GP, one offset",
    "GP + pixels": "GP, mean image",
    "GP + thresholds": "GP, thresholds",
    "GP + currents-batch": "GP, homeostatic, batch",
    "GP + currents-stream": "GP, homeostatic",
}


def test_of_the_controls() -> None:
    said = titles("fig3_controls")
    for panel, fault, name in (("a", "gaussian", "Noise 0.06"), ("b", "crop", "Blanked 8")):
        found = means("fault_tolerance", "controls", "fashion_mnist", fault, HARD[fault])
        gains = {name: (found[way] - found["GP"]).mean() for way, name in WAYS.items()}
        assert said[panel] == f"{name}: most gained by {max(gains, key=lambda n: gains[n])}"
    intervals = []
    for fault, level in HARD.items():
        found = means("fault_tolerance", "controls", "fashion_mnist", fault, level)
        intervals.append(ends(found["HP"] - found["GP"]))
    gained, lost = (sum(low > 0 for low, _ in intervals), sum(high < 0 for _, high in intervals))
    assert said["c"] == f"HP gains under {gained} of 8 faults, loses under {lost}"
    found = means("fault_tolerance", "controls", "fashion_mnist", "gaussian", 0.06)
    trained = [name for name in found.columns if " + " not in name and name not in ("GP", "LP")]
    best = max(trained, key=lambda name: (found[name] - found["GP"]).mean())
    assert said["d"] == f"Trained otherwise, noise 0.06: most gained by {best}"
    for panel, way in (("e", "GP + currents-stream"), ("f", "HP + stream")):
        mixed, by_class = (
            means("fault_tolerance", "controls", "fashion_mnist", f"arrival {how}", level)[way]
            for how, level in (("batch of", 100.0), ("sorted", 1.0))
        )
        text = f"{mixed.mean():.0f} % under noise if classes are mixed, {by_class.mean():.0f} %"
        assert said[panel] == f"{WAYS[way]}: {text} if sorted"


def test_of_classification() -> None:
    said = titles("fig2")
    frame = EXPERIMENTS["classification"].load("best").frame
    last = frame[(frame["condition"] == "last") & frame["usual"]]
    found = last.pivot_table("accuracy", ["label", "seed"], "method")
    gains = (found["HP"] - found["GP"]).groupby("label").mean()
    main = gains[["mnist", "fashion_mnist", "mnist-rows", "mnist-reduced", "fashion_mnist-reduced"]]
    assert said["a"] == f"HP minus GP: {main.min():+z.1f} to {main.max():+z.1f} points"
    changes = []
    for label in found.index.get_level_values("label").unique():
        if label.startswith("fashion_mnist-") and not label.endswith("reduced"):
            base = "fashion_mnist" + "-rate" * label.endswith(("-IF", "-adaptive"))
            changes += (found.loc[label] - found.loc[base])[["GP", "HP"]].mean().dropna().tolist()
    near = [abs(change) for change in changes if abs(change) <= 4.0]
    text = f"All but {len(changes) - len(near)} changes: {max(near):.1f} points at most on average"
    assert said["f"] == text


def test_of_continual_learning() -> None:
    records = EXPERIMENTS["continual"].load("best")
    gated = {method.name: method.gated for method in records.experiment.methods}
    overlaps: dict[bool, list[float]] = {True: [], False: []}
    active: dict[bool, list[float]] = {True: [], False: []}
    for method in records.methods("mnist"):
        kept = [result["representations"] for result in records.results("mnist", method)]
        tables = np.array([entry["overlap"] for entry in kept])[:, -1]
        tasks = tables.shape[-1]
        off = (tables.sum((1, 2)) - np.trace(tables, axis1=1, axis2=2)) / (tasks * (tasks - 1))
        overlaps[gated[method]].append(off.mean())
        active[gated[method]].append(100.0 * np.array([e["active"] for e in kept])[:, -1].mean())
    said = titles("fig5_details")
    assert said["b"] == "Layer 2, mean: {:.2f} with masks, {:.2f} without".format(
        *(np.mean(overlaps[told]) for told in (True, False))
    )
    assert said["c"] == "Layer 2, mean: {:.0f} % with masks, {:.0f} % without".format(
        *(np.mean(active[told]) for told in (True, False))
    )


def test_of_the_chip() -> None:
    frame = EXPERIMENTS["deployment"].load("best").frame
    broken = frame[(frame["label"] == "digits-broken") & (frame["protocol"] == "as mapped")]
    for panel, kind, level, words in (
        ("a", "dead cores", 20.0, "20 cores dead"),
        ("b", "stuck bits", 0.01, "1 % of bits stuck"),
        ("c", "flipped bits", 0.01, "1 % of bits flipped"),
        ("d", "lost packets", 0.1, "10 % of numbers lost"),
    ):
        own = broken[broken["condition"] == kind]
        found = own.pivot_table("accuracy", ["method", "seed"], "level")
        lost = found[0.0] - found[level]
        more = lost["HP"] - lost["GP"]
        low, high = ends(more)
        text = f"{more.mean():z.1f} [{low:z.1f}, {high:z.1f}] ({len(more)})"
        assert titles("fig6_broken")[panel] == f"{words}: HP's loss minus GP's {text}"


def test_of_the_scoreboard() -> None:
    every = [row for row in rows() if row.claim.confidence != "ours"]
    yes = [row for row in every if row.verdict == "reproduced"]
    said = titles("scoreboard")
    assert said["e"] == f"{len(yes)} of {len(every)} claims reproduced"
    run = [row for row in every if row.estimate is not None]
    for panel, unit, name in (("a", "%", "accuracies"), ("b", "points", "differences")):
        counts = [sum(row.claim.unit == unit for row in some) for some in (yes, run)]
        assert said[panel] == f"{counts[0]} of {counts[1]} {name} reproduced"
    ours = [row for row in rows() if row.claim.confidence == "ours" and row.estimate is not None]
    own = [row for row in ours if row.claim.text.startswith("Fashion-MNIST")]
    held = sum(row.verdict == "holds" for row in own)
    assert titles("comparisons")["a"] == f"Fashion-MNIST: {held} of {len(own)} hold"


def test_of_what_is_gained_on_real_recordings() -> None:
    """Counted as intervals of seeds and recordings that lie above 0."""
    frame = EXPERIMENTS["event_tolerance"].load("controls").frame
    counts = []
    for way, name in (
        ("HP", "HP, batch"),
        ("HP + stream", "HP, stream"),
        ("GP + currents-stream", "GP, homeostatic"),
    ):
        found = [
            Estimate.of(gap(frame, way, "GP", "each", condition=fault)[:, 1:].mean(1))
            for fault in faults_in(frame)
        ]
        above = [estimate.mean > estimate.high - estimate.mean for estimate in found]
        assert any(above)
        assert not all(above)
        counts.append(f"{name} {sum(above)}")
    path = ROOT / "figures" / "fig3_events_mnist-to-nmnist_gains.json"
    alt = json.loads(path.read_text("utf-8"))["alt"]
    assert alt.endswith(f": Sure gains, of {len(found)} faults: {'; '.join(counts)}")
