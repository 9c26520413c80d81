"""Numbers in SAID and the pages beside it: each is what the records say."""

import numpy as np
from scipy.stats import ttest_1samp

from environment import ROOT
from hybrid.experiments.core.records import Records, gap, samples, select
from hybrid.experiments.deployment.claims import claims, lost_on_broken, parts_in
from hybrid.experiments.event_tolerance.claims import faults_in
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.report.estimate import Estimate, Floats
from hybrid.runs.files import read_sealed
from hybrid.runs.instructions import FIXED
from hybrid.runs.store import read_record
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.validation import checks

_PAGES = (ROOT / "README.md", ROOT / "docs" / "findings.md", ROOT / "docs" / "running.md")
SAID = "\n".join(page.read_text("utf-8") for page in _PAGES)


def said(samples: Floats) -> str:
    """Return `mean ± standard error`, as the pages write it."""
    return f"{Estimate.of(samples):.1f}".partition(" (")[0]


def strongest(records: Records, label: str, first: str, second: str, **wanted: str) -> Floats:
    """Return the difference of two methods at the highest level [seeds]."""
    asked = {"condition": "gaussian", **wanted}
    return gap(select(records.frame, label=label), first, second, **asked)[:, -1]


def test_the_effect_and_what_it_rests_on() -> None:
    records = EXPERIMENTS["fault_tolerance"].load("laptop")
    found = {
        way: [said(strongest(records, label, way, "GP")) for label in ("fashion_mnist", "mnist")]
        for way in ("HP", "HP + stream", "HP + frozen")
    }
    one, other = found["HP"]
    assert f"above GP on Fashion-MNIST ({one}, 5 seeds) and on MNIST ({other})" in SAID
    one, other = found["HP + stream"]
    assert f"HP gains more ({one} and {other})" in SAID
    one, other = found["HP + frozen"]
    assert f"from below to above GP ({one} and {other})" in SAID
    (batch, of_mnist), (stream, stream_of_mnist) = found["HP"], found["HP + stream"]
    text = f"{batch} in batches and {stream} as a stream on Fashion-MNIST"
    assert f"{text}, {of_mnist} and {stream_of_mnist} on MNIST" in SAID
    assert f"nothing certain is left ({one} and {other})" in SAID
    lead = said(strongest(records, "mnist", "LP", "HP"))
    assert f"{lead} above it on MNIST" in SAID


def test_the_caption_of_the_first_figure() -> None:
    """In words alone; it has no numbers."""
    assert "HP is better than GP; GP whose hidden neurons only control their input currents" in SAID
    controls = EXPERIMENTS["fault_tolerance"].load("controls")
    own = select(controls.frame, label="fashion_mnist", condition="gaussian")
    for better, than in (("HP", "GP"), ("GP + currents-stream", "HP")):
        assert Estimate.of(gap(own, better, than)[:, -1]).low > 0.0
    newer, older = (
        strongest(EXPERIMENTS["fault_tolerance"].load(profile), "fashion_mnist", "HP", "GP").mean()
        for profile in ("controls", "laptop")
    )
    assert newer > older, "trained anew; those below gain less"
    assert "any memory will do" in SAID
    looks = EXPERIMENTS["few_shot"].load("laptop")
    one_look = select(looks.frame, label="omniglot", condition="5-way 1-shot")
    scores = one_look.groupby("method")["accuracy"].mean()
    assert scores[["HP", "prototypes", "matching"]].min() > 98.0
    assert "masks protect, traces add next to nothing" in SAID
    tasks = select(EXPERIMENTS["continual"].load("laptop").frame, label="mnist", condition="final")
    added = Estimate.of(gap(tasks, "HP", "sparse GP")[:, 0])
    assert -1.0 < added.low < added.high < 1.0
    assert Estimate.of(gap(tasks, "sparse GP", "GP")[:, 0]).low > 20.0


def test_records_that_repeat() -> None:
    """Which were computed with fixed instructions."""
    fixed = {
        (folder, name): [
            record["about"].get("processor", record["about"]).get("instructions") == FIXED
            for record in map(read_record, (ROOT / "data/results" / folder / name).glob("*.json"))
        ]
        for folder, name in (
            *(("laptop", name) for name in EXPERIMENTS),
            *(("controls", name) for name in EXPERIMENTS),
            ("search", "fault_tolerance"),
        )
    }
    chip = fixed.pop(("laptop", "deployment"))
    assert f"and {sum(chip)} of {len(chip)} of the chip" in SAID
    assert f"and {sum(chip)} of the laptop's {len(chip)} for the chip" in SAID
    for (folder, _), repeats in fixed.items():
        assert all(repeats) if folder != "laptop" else not any(repeats)


def test_iterations_on_a_gpu() -> None:
    rows = {row["work"]: row for row in read_sealed(ROOT / "data" / "gpu.json")["rows"]}
    found = [
        (rows[f"{name}: {method}"]["recorded, ms"], rows[f"{name}: {method}"]["as written, ms"])
        for name, method in (
            ("MNIST convolutional, batch 100", "HP"),
            ("784-512-10, T = 8, batch 100", "HP"),
            ("784-512-10, T = 8, batch 100", "GP"),
        )
    ]
    (a, b), (c, d), (e, f) = found
    assert f"took {a:.1f} ms, and {b:.0f} as it is written" in SAID
    assert f"took {c:.1f} against {d:.0f} ms (HP) and {e:.1f} against {f:.1f} (GP)" in SAID


def test_the_controls() -> None:
    records, label = EXPERIMENTS["fault_tolerance"].load("controls"), "fashion_mnist"
    own = select(records.frame, label=label)
    unclipped = said(strongest(records, label, "HP", "GP", condition="gaussian_unclipped"))
    centred = said(strongest(records, label, "HP", "GP", condition="gaussian_centred"))
    assert f"{unclipped} where it is not clipped, {centred} where its mean is centred" in SAID
    homeostatic = strongest(records, label, "GP + currents-stream", "HP")
    price = -gap(own, "GP + currents-stream", "GP", condition="gaussian")[:, 0].mean()
    assert f"it is {said(homeostatic)} above HP and loses {price:.1f} on clean images" in SAID
    assert f"has no trace, is {said(homeostatic)} above HP" in SAID
    sample = gap(own, "HP-sample", "GP", condition="gaussian")
    text = f"gains {said(sample[:, -1])} under noise and loses {-sample[:, 0].mean():.1f} on clean"
    assert f"{text} images ({len(sample)} seeds)" in SAID
    fallen = [
        said(-gap(own, way, "GP", condition="arrival sorted")[:, -1])
        for way in ("HP + stream", "GP + currents-stream")
    ]
    text = f"HP as a stream falls {fallen[0]} and homeostatic GP {fallen[1]} below GP as it is"
    assert text in SAID


def test_real_recordings() -> None:
    records = EXPERIMENTS["event_tolerance"].load("controls")
    own = records.frame

    def gain(way: str, *faults: str) -> float:
        each = [gap(own, way, "GP", condition=fault)[:, 1:].mean() for fault in faults]
        return float(np.mean(each))

    every = faults_in(own)
    batch, stream, frozen, sample, homeostatic = (
        f"{gain(way, *every):.1f}"
        for way in ("HP", "HP + stream", "HP + frozen", "HP + sample", "GP + currents-stream")
    )
    assert f"HP is {batch} points above GP in batches and {stream} as a stream" in SAID
    own_trace = f"{frozen} with a frozen trace and {sample.replace('-0.0', '0.0')} with one of each"
    assert f"{own_trace} recording's own" in SAID
    hot, noise = (f"{gain('GP + currents-stream', fault):.0f}" for fault in ("hot", "noise"))
    kept = f"GP with currents kept as in training is {homeostatic} above GP"
    assert f"{kept}, most of it under hot pixels ({hot}) and noise ({noise})" in SAID


def test_broken_chips() -> None:
    records = EXPERIMENTS["deployment"].load("laptop")
    own = select(records.frame, label="digits-broken")

    def lost(method: str, kind: str, level: float) -> str:
        return said(lost_on_broken(own, method, kind, level))

    flips = [lost(name, "flipped bits", 0.01) for name in ("HP", "GP", "HP-sample")]
    dead = [lost(name, "dead cores", 20.0) for name in ("HP", "GP")]
    text = f"flipped HP loses {flips[0]} and GP {flips[1]}, with 20 of 156 cores dead"
    assert f"{text} {dead[0]} and {dead[1]}" in SAID
    packets = [lost(name, "lost packets", 0.1) for name in ("HP-sample", "GP")]
    text = f"where bits flip ({flips[2]}) and more where packets get lost ({packets[0]} against"
    assert f"{text} {packets[1]} at 10 %)" in SAID
    equal = claims(own)["digits-broken/HP-sample/own trace"]
    assert f"on the chip as in floating point ({said(equal)} points)" in SAID
    tried = {"dead cores": 20.0, "stuck bits": 0.01, "flipped bits": 0.01, "lost packets": 0.1}
    fewer = {
        kind: lost_on_broken(own, "GP", kind, level) - lost_on_broken(own, "HP", kind, level)
        for kind, level in tried.items()
    }
    assert f"With dead cores HP loses {said(fewer['dead cores'])} points less than GP" in SAID
    beside = [kind for kind, own in fewer.items() if Estimate.of(own).low > 0.0]
    assert beside == ["dead cores"], "the only one whose interval leaves out 0"
    least = min(float(ttest_1samp(own, 0.0).pvalue) for own in fewer.values())
    assert least * len(tried) > 0.05, "and it does not stand after Holm's correction"


def test_streams_on_the_chip() -> None:
    records = EXPERIMENTS["deployment"].load("laptop")
    own = select(records.frame, label="digits-local", method="HP")

    def gained(form: str) -> str:
        """Return the gain over synapses that are never rewritten, mean over faults."""
        each = [
            samples(own, protocol=form, condition=part).mean(1)
            - samples(own, protocol="chip, stream, never rewritten", condition=part).mean(1)
            for part in parts_in(own)
        ]
        return said(np.mean(each, axis=0))

    often, seldom = gained("chip, stream"), gained("chip, stream by 100")
    text = f"gains {often} points over synapses that are never rewritten"
    assert f"{text}, and rewriting after every 100 images {seldom}" in SAID
    below = claims(own)["digits-local/HP/stream"]
    assert f"the chip stays {said(-below)} points below the same stream in floating point" in SAID


def test_the_chips_published_figures() -> None:
    found = checks(tianjic())
    assert len(found) == 12
    assert sum(check.holds for check in found) == 9
    assert sum(check.kind == "calibration" for check in found) == 2
    predictions = [check for check in found if check.kind == "prediction"]
    assert len(predictions) == 3
    assert not any(check.holds for check in predictions)
    low, high, _ = (check.ratio for check in predictions)
    text = f"one energy is {100 * (1.0 - low):.0f} % too low, another {high:.1f} times too high"
    assert text in SAID
