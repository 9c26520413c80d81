"""Figures: sizes, letters, fonts, data, bytes and provenance; the scoreboard's verdicts."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from hybrid.report import fault_panels, figures, model_panels
from hybrid.report.learning_panel import learning
from hybrid.report.scoreboard import (
    Claim,
    Estimate,
    as_text,
    judge,
    load_claims,
    reported_gaps,
    scoreboard,
)

LEVELS = np.array([0.0, 0.02, 0.04])
SAMPLES = np.array([[90.0, 80.0, 70.0], [92.0, 84.0, 78.0]])
CURVES = {"GP": (SAMPLES, "#0072B2"), "HP": (SAMPLES + 1, "#D55E00")}


@pytest.fixture(autouse=True)
def _close() -> object:
    yield
    plt.close("all")


def test_canvas_has_print_size_letters_and_small_type() -> None:
    figure, panels = figures.canvas(["ab", "cc"], width="double", height=80)
    assert figure.get_size_inches() * 25.4 == pytest.approx([183, 80])
    letters = [t for a in panels.values() for t in a.texts if t.get_text() in "abc"]
    assert [t.get_text() for t in letters] == ["a", "b", "c"]
    assert all(t.get_fontweight() == "bold" and t.get_fontsize() == 8 for t in letters)
    fault_panels.accuracy(panels["a"], LEVELS, CURVES, xlabel="variance", title="Noise")
    others = [t for t in figure.findobj(Text) if t.get_text() and t not in letters]
    assert {t.get_fontsize() for t in others} <= {5, 5.5, 6, 6.5, 7}
    for options in ({"width": "triple", "height": 50}, {"height": 900}, {"height": 0}):
        with pytest.raises(ValueError, match="choose a width of single, double"):
            figures.canvas(["a"], **options)


def test_band_is_mean_and_standard_error() -> None:
    _, panels = figures.canvas(["a"], height=50)
    figures.band(panels["a"], LEVELS, SAMPLES, colour="#0072B2", label="GP")
    (line,) = panels["a"].get_lines()
    np.testing.assert_allclose(line.get_ydata(), [91, 82, 74])
    vertices = panels["a"].collections[0].get_paths()[0].vertices
    assert vertices[:, 1].max() == pytest.approx(92)
    assert vertices[:, 1].min() == pytest.approx(70)
    figures.band(panels["a"], LEVELS, SAMPLES[:1], colour="#0072B2", label="one seed")
    assert len(panels["a"].collections) == 1, "one seed has no band"


def test_fault_panels_draw_what_they_are_given() -> None:
    figure, panels = figures.canvas(["abcd", "efgh"], height=120)
    pictures = np.zeros((2, 28, 28), np.float32)
    fault_panels.pictures(panels["a"], [("noise", pictures, ["clean", "0.1"])])
    fault_panels.accuracy(panels["b"], LEVELS, CURVES, xlabel="variance", title="Noise")
    reported = reported_gaps("fashion_mnist")
    fault_panels.gap(
        panels["c"], LEVELS, SAMPLES - 80, colour="#D55E00", xlabel="variance", reported=reported
    )
    hp = {"batch": SAMPLES, "frozen": SAMPLES - 3}
    fault_panels.protocols(
        panels["d"], LEVELS, hp, SAMPLES, baseline_colour="#0072B2", xlabel="variance", title="x"
    )
    bars = {"salt": {"GP": SAMPLES[:, 0], "HP": SAMPLES[:, 1]}}
    fault_panels.other_noises(panels["e"], bars, {"GP": "#0072B2", "HP": "#D55E00"})
    fault_panels.rates(panels["f"], LEVELS, CURVES, xlabel="variance")
    counts = np.array([[9, 1], [2, 8]])
    fault_panels.confusion(panels["g"], counts, ["0", "1"], title="HP", figure=figure)
    learning(panels["h"], CURVES, title="Learning")

    def labels(letter: str) -> list[str]:
        return [t.get_text() for t in panels[letter].get_legend().get_texts()]

    assert labels("b") == ["GP", "HP"]
    assert labels("c") == ["ours (n = 2)", "authors", "rerun"]
    assert labels("d") == ["HP, batch", "HP, frozen", "GP"]
    assert [bar.get_height() for bar in panels["e"].patches] == [91, 82]
    np.testing.assert_allclose(panels["g"].images[0].get_array(), [[90, 10], [20, 80]])
    for letter in "bcdfh":
        assert panels[letter].get_xlabel()
        assert panels[letter].get_ylabel()
        assert panels[letter].get_title()


def test_model_panels_draw_what_they_are_given() -> None:
    _, panels = figures.canvas(["abc", "def"], height=90)
    ones = np.ones(5)
    model_panels.membrane(panels["a"], ones, ones * 2, np.array([0, 1, 0, 0, 1]), 1.0)
    assert panels["a"].get_lines()[-1].get_xdata().tolist() == [1, 4], "stars where it spikes"
    model_panels.surrogates(panels["b"], np.linspace(0, 2, 5), 1.0, {"rectangle": ones})
    model_panels.trace(panels["c"], ones, np.array([True, True, False, False, True]))
    model_panels.meta_effect(
        panels["d"], [(0.1, ones), (0.2, ones)], symbol="rate", title="t", ylabel="trace"
    )
    model_panels.agreement(panels["e"], ones, ones + 3e-15)
    assert "10^{-14}" in panels["e"].texts[-1].get_text()
    model_panels.toy_stream(panels["f"], {"HP": (ones, "#D55E00")}, [(0, 3, "A"), (3, 5, "B")])
    assert {"A", "B"} <= {t.get_text() for t in panels["f"].texts}


def test_saved_figures_are_the_same_bytes_and_say_where_they_come_from(tmp_path: Path) -> None:
    record = {
        "request": {"data": "d" * 64, "label": "digits-HP-seed1"},
        "about": {"hybrid": "0.1.0", "torch": "2.13.0"},
    }
    about = figures.provenance("smoke", {"x": 1}, records=[record], seeds=[2, 1, 2])
    contents = []
    for name in ("first", "second"):
        figure, panels = figures.canvas(["ab"], height=50)
        fault_panels.accuracy(panels["a"], LEVELS, CURVES, xlabel="variance", title="Noise")
        paths = figures.save(figure, "fig", tmp_path / name, about)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert [path.suffix for path in paths] == [".png", ".pdf", ".json"]
    sidecar = json.loads(paths[-1].read_text())
    assert sidecar["seeds"] == [1, 2]
    assert sidecar["trials"] == ["digits-HP-seed1"]
    assert sidecar["data_sha256"] == ["d" * 64]
    assert len(sidecar["config_sha256"]) == 64
    assert set(sidecar["drawn_with"]) == {"hybrid", "torch", "numpy", "matplotlib", "python"}


def claim(**changes: object) -> Claim:
    base = {
        "id": "x",
        "text": "x",
        "unit": "%",
        "source": "s",
        "confidence": "high",
        "rule": "within",
        "low": 70.0,
        "high": 80.0,
        "minimum": 3,
    }
    return Claim(**(base | changes))


@pytest.mark.parametrize(
    ("changes", "samples", "verdict"),
    [
        ({}, [71.0, 75.0, 79.0], "reproduced"),
        ({}, [60.0, 61.0, 62.0], "not reproduced"),
        ({}, [75.0, 75.0], "too few seeds"),
        ({}, [], "not run"),
        ({}, None, "not run"),
        ({"rule": "above", "low": 4.0}, [9.0, 9.5, 10.0], "reproduced"),
        ({"rule": "above", "low": 4.0}, [1.0, 5.0, 9.0], "undecided"),
        ({"rule": "above", "low": 4.0}, [1.0, 1.1, 1.2], "not reproduced"),
    ],
)
def test_verdicts_are_computed(changes: dict, samples: list[float] | None, verdict: str) -> None:
    values = None if samples is None else np.array(samples)
    assert judge(claim(**changes), values).verdict == verdict


def test_estimate_is_students() -> None:
    """Mean 2, s = 1, n = 3: s.e.m. 1/√3, t(0.975, 2) = 4.3027."""
    estimate = Estimate.of(np.array([1.0, 2.0, 3.0]))
    assert estimate.sem == pytest.approx(3**-0.5)
    assert estimate.high == pytest.approx(2 + 4.30265 * 3**-0.5, rel=1e-5)
    assert Estimate.of(np.array([2.0])).high == float("inf")


# Claims on 60,000 recordings: a run takes over half an hour, so the plan has three seeds.
LONG = {"event_tolerance/mnist/HP-GP", "event_tolerance/mnist/HP-LP"}


def test_claims_are_well_formed() -> None:
    claims = load_claims()
    assert len({c.id for c in claims}) == len(claims)
    for c in claims:
        assert c.low < c.high
        if c.reported is not None:
            assert c.low <= c.reported <= c.high, f"{c.id}: what was reported would be refused"
        assert c.minimum >= (3 if c.scale == "paper" or c.id in LONG else 5)
        assert c.source
        if c.rule == "within":
            assert c.high < float("inf")
    text = as_text(scoreboard({}, "fault_tolerance/fashion_mnist/clean"))
    assert text.count("not run") == 4
    assert "75.8" in text
    assert "73.6" in text
