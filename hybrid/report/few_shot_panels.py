"""Panels of Fig. 4: few-shot learning. Arrays in, artists out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hybrid.report.figures import Series, band

SOFT = "#999999"


def episode(
    axes: Axes, drawings: Series, labels: Sequence[int], target: int, potentials: Series
) -> None:
    """Draw labelled looks in order and the query, drawings [looks + 1, height, width] of ink.

    The answer is the class with the highest potential [ways].
    """
    side = drawings.shape[-1]
    gap = 3
    page = np.zeros((side, len(drawings) * (side + gap) + 2 * gap))
    places = [i * (side + gap) for i in range(len(drawings))]
    places[-1] += 2 * gap  # the query stands apart
    for place, drawing in zip(places, drawings, strict=True):
        page[:, place : place + side] = drawing
    axes.imshow(page, cmap="gray_r", aspect="equal")
    answer = int(np.argmax(potentials))
    texts = [f"look {i + 1}\nclass {label + 1}" for i, label in enumerate(labels)]
    texts.append(f"query: class {target + 1}\nanswer {answer + 1}")
    for place, text in zip(places, texts, strict=True):
        axes.text(place + side / 2, side + gap, text, ha="center", va="top", fontsize=5)
    axes.set(xticks=[], yticks=[], title="One episode of unseen classes")
    for spine in axes.spines.values():
        spine.set_visible(False)


def traces(axes: Axes, after: Series) -> None:
    """Draw the trace after each look [looks, ways, features], one below the other."""
    looks, ways, features = after.shape
    gap = 1
    page = np.full((looks * (ways + gap) - gap, features), np.nan)
    for look, trace in enumerate(after):
        page[look * (ways + gap) : look * (ways + gap) + ways] = trace
    limit = np.abs(after).max()
    image = axes.imshow(
        page, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    middles = [look * (ways + gap) + (ways - 1) / 2 for look in range(looks)]
    axes.set_yticks(middles, [f"look {look + 1}" for look in range(looks)])
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel=f"feature (first {features})", title="Trace, a row per class")
    axes.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)


def curves(
    axes: Axes, learned: Mapping[str, tuple[Series, Series, str]], *, chance: float, title: str
) -> None:
    """Draw accuracy on held-out classes [seeds, K] against training episodes [K], by method."""
    for name, (episodes, samples, colour) in learned.items():
        band(axes, episodes / 1_000, samples, colour=colour, label=name)
    axes.axhline(chance, color=SOFT, linewidth=0.7, linestyle=":")
    axes.set_xlim(left=0)
    axes.set(xlabel="training episodes (1,000)", ylabel="validation accuracy (%)", title=title)
    axes.legend(loc="center right", fontsize=5)


def grid(
    axes: Axes,
    intervals: Mapping[str, Mapping[str, tuple[float, float, float]]],
    colours: Mapping[str, str],
) -> None:
    """Draw accuracy and its interval (percent, low, high) for each kind of episode and method."""
    kinds = list(intervals)
    methods = [m for m in colours if any(m in by_method for by_method in intervals.values())]
    for i, method in enumerate(methods):
        offset = 0.8 * ((i + 0.5) / len(methods) - 0.5)
        drawn = [k for k, kind in enumerate(kinds) if method in intervals[kind]]
        values = np.array([intervals[kinds[k]][method] for k in drawn])
        percent, low, high = values.T
        axes.bar(
            [k + offset for k in drawn],
            percent,
            yerr=[percent - low, high - percent],
            width=0.8 / len(methods),
            color=colours[method],
            error_kw={"elinewidth": 0.6},
            label=method,
        )
    axes.set_xticks(range(len(kinds)), [kind.replace(" ", "\n") for kind in kinds])
    axes.set(ylabel="test accuracy (%)", ylim=(0, 100), title="Unseen classes")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4, fontsize=5)


def mixing(
    axes: Axes,
    histograms: Sequence[tuple[Series, Series]],
    initial: tuple[float, float],
    *,
    colour: str,
    rates: Sequence[float],
) -> None:
    """Draw the learned shares of the global weight, as (counts, edges) for each seed."""
    for counts, edges in histograms:
        axes.stairs(counts / counts.sum() / np.diff(edges), edges, color=colour, linewidth=0.8)
    axes.axvspan(*initial, color=SOFT, alpha=0.25, linewidth=0, label="initial range")
    learned = ", ".join(f"{rate:.3f}" for rate in rates)
    axes.set(xlabel="mixing α", ylabel="density", title=f"What θ learned (local rate {learned})")
    axes.legend(loc="lower center")


def positions(axes: Axes, lines: Mapping[str, tuple[Series, str]]) -> None:
    """Draw accuracy [seeds, looks] by the place of the look that mattered."""
    for name, (samples, colour) in lines.items():
        places = np.arange(1, samples.shape[1] + 1, dtype=float)
        band(axes, places, samples, colour=colour, label=name, marker="o")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="place of the look", ylabel="test accuracy (%)", title="Order of looks")


def noise(axes: Axes, lines: Mapping[str, tuple[Series, Series, str]]) -> None:
    """Draw accuracy [seeds, K] against the share of wrong labels [K]."""
    for name, (shares, samples, colour) in lines.items():
        band(axes, 100.0 * shares, samples, colour=colour, label=name, marker="o")
    axes.set(xlabel="wrong labels (%)", ylabel="test accuracy (%)", title="Wrong labels, 5 shots")
