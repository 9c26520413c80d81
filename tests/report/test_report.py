"""Figures: sizes, letters, fonts, data, bytes and provenance; the scoreboard's verdicts."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from hybrid.report import figures
from hybrid.report.estimate import Estimate
from hybrid.report.panels import (
    Bar,
    Dot,
    Line,
    absent,
    bars,
    chip_map,
    dots,
    forest,
    images,
    learning,
    lines,
    logarithmic,
    matrix,
    raster,
)
from hybrid.report.scoreboard import Claim, as_text, holm, judge, load_claims, scoreboard

LEVELS = np.array([0.0, 0.02, 0.04])
SAMPLES = np.array([[90.0, 80.0, 70.0], [92.0, 84.0, 78.0]])
CURVES = [Line("GP", LEVELS, SAMPLES, "#0072B2"), Line("HP", LEVELS, SAMPLES + 1, "#D55E00")]
WORDS = {"xlabel": "variance", "ylabel": "accuracy (%)", "title": "Noise"}


def test_canvas_has_print_size_letters_and_small_type() -> None:
    figure, panels = figures.canvas(["ab", "cc"], width="double", height=80)
    assert figure.get_size_inches() * 25.4 == pytest.approx([183, 80])
    letters = [t for a in panels.values() for t in a.texts if t.get_text() in "abc"]
    assert [t.get_text() for t in letters] == ["a", "b", "c"]
    assert all(t.get_fontweight() == "bold" and t.get_fontsize() == 8 for t in letters)
    lines(panels["a"], CURVES, **WORDS)
    others = [t for t in figure.findobj(Text) if t.get_text() and t not in letters]
    assert {t.get_fontsize() for t in others} <= {5, 5.5, 6, 6.5, 7}
    for options in ({"width": "triple", "height": 50}, {"height": 900}, {"height": 0}):
        with pytest.raises(ValueError, match="choose a width of single, double"):
            figures.canvas(["a"], **options)


def test_a_line_is_a_mean_with_its_95_percent_interval() -> None:
    _, panels = figures.canvas(["a"], height=50)
    lines(panels["a"], [Line("GP", LEVELS, SAMPLES, "#0072B2")])
    (line,) = panels["a"].get_lines()
    np.testing.assert_allclose(line.get_ydata(), [91, 82, 74])
    vertices = panels["a"].collections[0].get_paths()[0].vertices
    for place, values in enumerate(SAMPLES.T):
        ends = Estimate.of(values)
        band = vertices[np.isclose(vertices[:, 0], LEVELS[place]), 1]
        assert (band.min(), band.max()) == pytest.approx((ends.low, ends.high))
    lines(panels["a"], [Line("one seed", LEVELS, SAMPLES[:1], "#0072B2")])
    lines(panels["a"], [Line("no seeds", LEVELS, SAMPLES[0], "#0072B2")])
    assert len(panels["a"].collections) == 1, "one seed has no band"


def test_lines_draw_what_they_are_given() -> None:
    _, panels = figures.canvas(["ab", "cd"], height=90)
    lines(panels["a"], CURVES, **WORDS)
    stars = {"marker": "*", "linestyle": "none"}
    potential = np.array([0.0, 2.0, 1.0, 0.5, 2.0])
    fired = np.flatnonzero(potential > 1.0)
    lines(
        panels["b"],
        [
            Line("membrane", np.arange(5.0), potential, "#000000"),
            Line("spike", fired, potential[fired], "#D55E00", stars),
            Line("_threshold", np.arange(5.0), np.ones(5), "#999999"),
        ],
        whole_x=True,
    )
    lines(panels["c"], CURVES, legend=None)
    learning(panels["d"], {"GP": SAMPLES, "HP": np.tile(SAMPLES, 4)}, "Learning")

    def labels(letter: str) -> list[str]:
        return [t.get_text() for t in panels[letter].get_legend().get_texts()]

    assert labels("a") == labels("d") == ["GP", "HP"]
    assert labels("b") == ["membrane", "spike"]
    assert panels["c"].get_legend() is None
    assert panels["b"].get_lines()[1].get_xdata().tolist() == [1, 4], "stars where it spikes"
    assert panels["b"].get_lines()[1].get_marker() == "*"
    assert not panels["b"].collections, "bare values have no band"
    assert all(float(tick).is_integer() for tick in panels["b"].get_xticks())
    short, long = panels["d"].get_lines()
    assert short.get_xdata().tolist() == [1, 2, 3], "epochs count from 1"
    assert short.get_marker() == "o"
    assert long.get_marker() == "", "many epochs need no marks"
    assert short.get_color() == figures.COLOURS["GP"]
    for letter in "ad":
        assert panels[letter].get_xlabel()
        assert panels[letter].get_ylabel()
        assert panels[letter].get_title()


def test_bars_and_dots_draw_what_they_are_given() -> None:
    _, panels = figures.canvas(["abc"], height=60)
    drawn = [
        Bar(0, SAMPLES[:, 0], "#0072B2", name="GP", text="91"),
        Bar(1, SAMPLES[:, 1], "#D55E00", name="HP"),
        Bar(2, 50.0, "#999999", ends=(40.0, 70.0)),
    ]
    ticks = {"salt": 0.0, "pepper": 1.0}
    bars(panels["a"], drawn, legend={"ncols": 2}, ticks=ticks, rotation=90, ylabel="accuracy (%)")
    assert [bar.get_height() for bar in panels["a"].patches] == [91, 82, 50]
    reach = [line.get_segments()[0][:, 1].tolist() for line in panels["a"].collections]
    ends = Estimate.of(SAMPLES[:, 0])
    assert reach[0] == pytest.approx([ends.low, ends.high]), "the 95 % interval"
    assert reach[-1] == pytest.approx([40, 70]), "the interval that was given"
    assert [t.get_text() for t in panels["a"].get_legend().get_texts()] == ["GP", "HP"]
    assert [t.get_text() for t in panels["a"].get_xticklabels()] == ["salt", "pepper"]
    assert panels["a"].texts[-1].get_text() == "91"
    assert panels["a"].get_ylabel() == "accuracy (%)"
    bars(panels["b"], drawn, horizontal=True)
    assert [bar.get_width() for bar in panels["b"].patches] == [91, 82, 50]
    assert panels["b"].yaxis_inverted(), "the first one is at the top"
    marks = [
        Dot.of(0.0, SAMPLES[:, 0], "#0072B2", "GP"),
        Dot.of(1.0, SAMPLES[:1, 1], "#0072B2"),
        Dot(2.0, 50.0, 40.0, 70.0),
    ]
    assert (marks[0].low, marks[0].high) == pytest.approx((ends.low, ends.high))
    assert (marks[1].low, marks[1].high) == (None, None), "one seed has no interval"
    dots(panels["c"], marks, title="Dots")
    found = [line.get_ydata()[0] for line in panels["c"].get_lines() if line.get_marker() == "o"]
    assert found == [91, 80, 50]
    assert panels["c"].collections[-1].get_segments()[0][:, 1] == pytest.approx([40, 70])
    assert panels["c"].get_title() == "Dots"


def test_a_forest_draws_rows_from_the_top_and_says_what_lies_beyond_it() -> None:
    _, panels = figures.canvas(["ab"], height=60)
    rows = {
        "first": [Dot(-0.1, 2.0, 1.0, 3.0, name="GP"), Dot(0.1, -1.0, name="HP")],
        "none": [],
        "far": [Dot(0.0, -57.2, -90.0, -20.0), Dot(0.1, 40.0)],
    }
    forest(panels["a"], rows, zero=True, within=4.0, legend={"loc": "best"}, xlabel="points")
    drawn = {
        line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0])
        for line in panels["a"].get_lines()
    }
    assert drawn["<"] == (-4.0, 2.0)
    assert drawn[">"] == (4.0, 2.1)
    assert drawn["o"] == (-1.0, 0.1), "the last of the marks that have room"
    assert [text.get_text() for text in panels["a"].texts if len(text.get_text()) > 1] == [
        "-57 [-90, -20]",
        "+40",
    ]
    assert [text.get_text() for text in panels["a"].get_yticklabels()] == list(rows)
    assert panels["a"].yaxis_inverted(), "the first row is at the top"
    assert [text.get_text() for text in panels["a"].get_legend().get_texts()] == ["GP", "HP"]
    forest(panels["b"], rows)
    assert panels["b"].get_legend() is None
    assert not panels["b"].texts[1:], "without an end everything is drawn where it lies"


def test_pictures_tables_spikes_and_maps_draw_what_they_are_given() -> None:
    _, panels = figures.canvas(["abc", "def"], height=110)
    pictures = np.stack([np.zeros((28, 28)), np.ones((28, 28))])
    rows, captions = [list(pictures), list(pictures[:1])], [["clean", "0.1"], ["3"]]
    images(panels["a"], rows, row_names=["noise", "crop"], labels=captions, cmap="gray")
    page = panels["a"].images[0].get_array()
    assert page.shape == (28 + 11 + 28, 28 + 3 + 28)
    np.testing.assert_array_equal(page[:28, :28], pictures[0])
    np.testing.assert_array_equal(page[:28, 31:], pictures[1])
    np.testing.assert_array_equal(page[39:, :28], pictures[0])
    assert np.ma.getmaskarray(page)[39:, 28:].all() or np.isnan(page[39:, 28:]).all()
    texts = [t.get_text() for t in panels["a"].texts if t.get_text() != "a"]
    assert texts == ["noise", "clean", "0.1", "crop", "3"]

    shares = np.array([[90.0, 10.0], [20.0, np.nan]])
    classes = ["shirt", "boot"]
    matrix(panels["b"], shares, names=(classes, classes), scale="share (%)", title="HP")
    drawn = panels["b"].images[0]
    np.testing.assert_allclose(drawn.get_array().filled(np.nan), shares)
    assert drawn.get_clim() == (0.0, 100.0)
    assert drawn.colorbar.ax.get_ylabel() == "share (%)"
    assert [t.get_text() for t in panels["b"].get_yticklabels()] == classes
    matrix(panels["c"], np.zeros((50, 50)))
    assert panels["c"].images[0].colorbar is None
    ticks = [t.get_text() for t in panels["c"].get_xticklabels()]
    assert (ticks[0], ticks[-1], len(ticks)) == ("1", "50", 5)

    raster(panels["d"], {"hidden": ([(0, 1), (2, 9)], 10), "out": ([], 3)}, colour="#000000")
    hidden, out = panels["d"].get_lines()
    assert hidden.get_xdata().tolist() == [1, 3], "steps count from 1"
    assert hidden.get_ydata().tolist() == [1, 9]
    assert len(out.get_xdata()) == 0
    assert [t.get_text() for t in panels["d"].get_yticklabels()] == ["hidden", "out"]

    used = [(0, 0, "synapses"), (2, 1, "synapses"), (1, 1, "sums")]
    chip_map(panels["e"], (3, 2), used, "A chip", {"synapses": "weights", "sums": "sums"})
    cores = panels["e"].images[0].get_array()
    assert cores.shape == (2, 3, 3)
    np.testing.assert_allclose(cores[1, 2], cores[0, 0])
    assert not np.allclose(cores[1, 1], cores[0, 0])
    assert [t.get_text() for t in panels["e"].get_legend().get_texts()] == [
        "weights (2)",
        "sums (1)",
    ]
    absent(panels["f"], "nothing was run")
    assert panels["f"].texts[-1].get_text() == "nothing was run"
    assert not panels["f"].axison


def test_words_for_a_figure_are_its_titles(tmp_path: Path) -> None:
    """In order, with their letters; a notebook's picture and the file beside it have them."""
    figure, panels = figures.canvas(["ab"], height=50)
    panels["a"].set_title("It\nrises to $\\alpha$")
    panels["b"].set_title("It falls", loc="left")
    words = "sketch: a, It rises to alpha; b, It falls"
    assert figures.described(figure, "sketch") == words
    panels["b"].set_title("", loc="left")
    assert figures.described(figure, "sketch") == "sketch: It rises to alpha"
    panels["b"].set_title("It falls", loc="left")
    path, *_ = figures.save(figure, "sketch", tmp_path, {})
    data, metadata = figures.picture(path)._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == words
    assert base64.b64decode(data["image/png"]) == path.read_bytes()


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("fashion_mnist-rate", "Fashion-MNIST-rate"),
        ("mnist-to-nmnist", "MNIST-to-N-MNIST"),
        ("omniglot", "Omniglot"),
        ("kmnist", "kmnist"),
        ("my_mnist_2", "my_mnist_2"),
    ],
)
def test_data_sets_are_called_what_readers_call_them(label: str, name: str) -> None:
    assert figures.spoken(label) == name


def test_logarithmic_axes_have_plain_numbers() -> None:
    figure, panels = figures.canvas(["a"], height=50)
    panels["a"].plot([1, 100], [1, 2])
    logarithmic(panels["a"], "x", [1, 10, 100])
    figure.draw_without_rendering()
    assert panels["a"].get_xscale() == "log"
    assert panels["a"].get_yscale() == "linear"
    assert [t.get_text() for t in panels["a"].get_xticklabels()] == ["1", "10", "100"]


def test_saved_figures_are_the_same_bytes_and_say_where_they_come_from(tmp_path: Path) -> None:
    record = {
        "request": {"data": "d" * 64, "label": "digits-HP-seed1"},
        "about": {"hybrid": "0.1.0", "torch": "2.13.0"},
    }
    about = figures.provenance({"x": 1}, profile="smoke", records=[record], seeds=[2, 1, 2])
    contents = []
    for name in ("first", "second"):
        figure, panels = figures.canvas(["ab"], height=50)
        lines(panels["a"], CURVES, **WORDS)
        paths = figures.save(figure, "fig", tmp_path / name, about)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert [path.suffix for path in paths] == [".png", ".pdf", ".json"]
    sidecar = json.loads(paths[-1].read_text())
    assert sidecar["profile"] == "smoke"
    assert sidecar["seeds"] == [1, 2]
    assert sidecar["trials"] == ["digits-HP-seed1"]
    assert sidecar["data_sha256"] == ["d" * 64]
    assert len(sidecar["settings_sha256"]) == 64
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
        ({}, [74.0, 75.0, 76.0], "reproduced"),
        ({}, [71.0, 75.0, 79.0], "undecided"),
        ({}, [60.0, 61.0, 62.0], "not reproduced"),
        ({}, [75.0, 75.0, float("nan")], "not reproduced"),
        ({}, [75.0, 75.0], "too few seeds"),
        ({}, [], "not run"),
        ({}, None, "not run"),
        ({"rule": "above", "low": 4.0}, [9.0, 9.5, 10.0], "reproduced"),
        ({"rule": "above", "low": 4.0}, [1.0, 5.0, 9.0], "undecided"),
        ({"rule": "above", "low": 4.0}, [1.0, 1.1, 1.2], "not reproduced"),
        ({"rule": "above", "low": 4.0, "confidence": "ours"}, [9.0, 9.5, 10.0], "holds"),
        ({"rule": "above", "low": 4.0, "confidence": "ours"}, [1.0, 1.1, 1.2], "does not hold"),
        # Two one-sided tests: 75 ± 2.92 · 1.155 (90 %), ± 4.30 · 1.155 (95 %).
        ({"rule": "equal", "low": 71.5, "high": 78.5}, [73.0, 75.0, 77.0], "reproduced"),
        ({"rule": "within", "low": 71.5, "high": 78.5}, [73.0, 75.0, 77.0], "undecided"),
        ({"rule": "equal", "low": 72.0, "high": 78.0}, [73.0, 75.0, 77.0], "undecided"),
        ({"rule": "equal", "low": 85.0, "high": 88.0}, [73.0, 75.0, 77.0], "not reproduced"),
    ],
)
def test_verdicts_are_computed(changes: dict, samples: list[float] | None, verdict: str) -> None:
    values = None if samples is None else np.array(samples)
    assert judge(claim(**changes), values).verdict == verdict


def test_a_dead_baseline_says_nothing() -> None:
    alive = claim(rule="above", low=0.0, alive=0.005)
    gain = np.array([50.0, 51.0, 52.0])
    for rates, verdict in (([0.0, 0.0, 0.1], "dead baseline"), ([0.01] * 3, "reproduced")):
        row = judge(alive, gain, np.array(rates))
        assert row.verdict == verdict
    for unknown in (None, np.full(3, np.nan)):
        assert judge(alive, gain, unknown).verdict == "dead baseline", "nobody knows that it lived"
    assert "not known to fire 0.005" in judge(alive, gain).reason
    other = claim(id="y", rule="above", low=0.0)
    measured = {"x": np.array([-1.0, 0.0, 1.0]), "y": gain, "x/baseline": np.zeros(3)}
    assert holm([alive, other], measured) == {"y": 0.025}, "the dead correct nobody"


def test_families_of_claims_are_corrected() -> None:
    """Holm: 0.025 / 3 for the smallest of three p values, 0.025 / 2 for the next, then 0.025."""
    claims = [claim(id=f"x/{name}", rule="above", low=0.0) for name in "abcd"]
    spread = np.array([-1.0, 0.0, 1.0])
    measured = {"x/a": 9.0 + spread, "x/b": 3.0 + spread, "x/c": 2.6 + spread, "x/d": spread[:2]}
    chances = {name: Estimate.of(values).chance_of(0.0) for name, values in measured.items()}
    assert chances["x/a"] < 0.025 / 3
    assert 0.025 / 2 < chances["x/b"] < chances["x/c"] < 0.025
    levels = holm(claims, measured)
    assert levels == {"x/a": 0.025 / 3, "x/b": -1.0, "x/c": -1.0}, "d has too few seeds"
    rows = [judge(c, measured[c.id], level=levels[c.id]) for c in claims[:3]]
    assert [row.verdict for row in rows] == ["reproduced", "undecided", "undecided"]
    assert "Holm" in rows[1].reason
    never = holm(claims[:2], {"x/a": np.array([1.0, np.nan, 1.0]), "x/b": measured["x/b"]})
    assert never == {"x/b": -1.0, "x/a": -1.0}, "a value that never came counts, as the worst"
    alone = holm(claims[1:2], measured)
    assert judge(claims[1], measured["x/b"], level=alone["x/b"]).verdict == "reproduced"
    ours = claim(id="x/c", rule="above", low=0.0, confidence="ours")
    assert holm([*claims[:2], ours], measured)["x/c"] == 0.025, "another family"


def test_one_run_of_others_is_set_against_one_of_ours() -> None:
    """Mean 2, s = 1, n = 3: one more value lies within t(0.975, 2) · sqrt(1 + 1/3)."""
    estimate = Estimate.of(np.array([1.0, 2.0, 3.0]))
    low, high = estimate.single()
    assert high - 2.0 == pytest.approx(4.30265 * (4 / 3) ** 0.5, rel=1e-5)
    assert low == pytest.approx(4.0 - high)
    row = judge(claim(low=0.0, high=4.0, reported=3.0), np.array([1.0, 2.0, 3.0]))
    assert row.one_run == "-3.0 to 7.0"
    assert judge(claim(), np.array([1.0, 2.0, 3.0])).one_run == "-"


def test_estimate_is_students() -> None:
    """Mean 2, s = 1, n = 3: s.e.m. 1/√3, t(0.975, 2) = 4.3027."""
    estimate = Estimate.of(np.array([1.0, 2.0, 3.0]))
    assert estimate.sem == pytest.approx(3**-0.5)
    assert estimate.high == pytest.approx(2 + 4.30265 * 3**-0.5, rel=1e-5)
    assert Estimate.of(np.array([2.0])).high == float("inf")


@pytest.mark.parametrize(("between_seeds", "between_items"), [(1.0, 0.1), (1.0, 14.0), (0.1, 14.0)])
def test_seeds_and_items_are_drawn_anew_together(
    between_seeds: float, between_items: float
) -> None:
    """A value a_seed + b_item: the variance of the mean is s_a² / n + s_b² / items."""
    source = np.random.default_rng(0)
    seeds, items = source.normal(0.0, between_seeds, 5), source.normal(0.0, between_items, 200)
    samples = 3.0 + seeds[:, None] + items[None]
    estimate = Estimate.of(samples)
    expected = (seeds.var(ddof=1) / 5 + items.var() / 200) ** 0.5
    assert (estimate.n, estimate.mean) == (5, pytest.approx(3.0 + seeds.mean() + items.mean()))
    assert estimate.sem == pytest.approx(expected, rel=0.03)
    assert estimate.high - estimate.mean == pytest.approx(2.77645 * estimate.sem, rel=1e-4)
    assert estimate == Estimate.of(samples), "the same draws each time"
    assert Estimate.of(samples[:1]).high == float("inf"), "one seed says nothing of others"
    row = judge(claim(rule="above", low=0.0, minimum=5), 30.0 + samples)
    assert row.verdict == "reproduced"


def test_intervals_over_seeds_and_items_hold_the_truth_as_often_as_they_say() -> None:
    source = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        found = Estimate.of(
            source.normal(0.0, 1.0, (5, 1))
            + source.normal(0.0, 5.0, 100)
            + source.normal(0.0, 3.0, (5, 100))
        )
        held += found.low < 0.0 < found.high
    assert held >= 0.92 * 200


# A run takes over half an hour, or belongs to a comparison that has three: the plan has no more.
FEW = re.compile("event_tolerance/mnist/|mnist/gaussian=0.06/HP-sample - GP|EWC . gating|authors-T")


def test_claims_are_well_formed() -> None:
    claims = load_claims()
    assert len({c.id for c in claims}) == len(claims)
    for c in claims:
        assert c.low < c.high
        if c.reported is not None:
            assert c.low <= c.reported <= c.high, f"{c.id}: what was reported would be refused"
        assert c.minimum >= (3 if c.profile == "paper" or FEW.search(c.id) else 5)
        assert c.source
        if c.rule != "above":
            assert c.high < float("inf")
            assert c.window, f"{c.id}: where does the window come from?"
    text = as_text(scoreboard({}, "fault_tolerance/fashion_mnist/clean"))
    assert text.count("not run") == 4
    assert "75.8" in text
    assert "73.6" in text
