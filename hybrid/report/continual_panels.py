"""Panels of Fig. 5: continual learning. Arrays in, artists out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from hybrid.report.figures import Series, band, standard_error


def stream(axes: Axes, shown: Series) -> None:
    """Draw the same images as each task shows them [tasks, images, height, width]."""
    tasks, images, side, _ = shown.shape
    gap = 4
    page = np.zeros((images * (side + gap) - gap, tasks * (side + gap) - gap))
    for i in range(tasks):
        for j in range(images):
            top, left = j * (side + gap), i * (side + gap)
            page[top : top + side, left : left + side] = shown[i, j]
    axes.imshow(page, cmap="gray_r", aspect="equal")
    axes.set_xticks(
        [i * (side + gap) + side / 2 for i in range(tasks)], [f"{i + 1}" for i in range(tasks)]
    )
    axes.tick_params(length=0)
    axes.set(yticks=[], xlabel="task", title="The same images, task by task")
    for spine in axes.spines.values():
        spine.set_visible(False)


def course(axes: Axes, lines: Mapping[str, tuple[Series, str, bool]]) -> None:
    """Draw the mean accuracy over all tasks so far [seeds, tasks], by method.

    Methods that are told the task (True) have solid lines, the others dashed ones.
    """
    for name, (samples, colour, told) in lines.items():
        tasks = np.arange(1, samples.shape[1] + 1, dtype=float)
        style = "-" if told else "--"
        band(axes, tasks, samples, colour=colour, label=name, marker="", linestyle=style)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="tasks learned", ylabel="accuracy on all of them (%)")
    axes.set_title("Solid: told the task; dashed: not told")
    axes.set_ylim(0, 100)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4, fontsize=5)


def bars(axes: Axes, finals: Mapping[str, tuple[Series, str, bool]]) -> None:
    """Draw the accuracy over all tasks after the last one [seeds]; open bars: not told the task."""
    for place, (samples, colour, told) in enumerate(finals.values()):
        axes.bar(
            place,
            samples.mean(),
            yerr=standard_error(samples),
            color=colour if told else "none",
            edgecolor=colour,
            error_kw={"elinewidth": 0.6},
        )
        axes.text(place, samples.mean() + 3, f"{samples.mean():.0f}", ha="center", fontsize=5)
    axes.set_xticks(range(len(finals)), list(finals), rotation=45, ha="right")
    axes.set(ylabel="final accuracy (%)", ylim=(0, 110), title="After the last task")


def matrix(axes: Axes, table: Series, title: str, *, scale: bool) -> None:
    """Draw accuracies in per cent [trained, tested], NaN where there is none.

    `scale`: whether a colour scale stands beside it.
    """
    tasks = table.shape[1]
    image = axes.imshow(table, cmap="viridis", norm=Normalize(0, 100), aspect="auto")
    ticks = np.unique(np.linspace(0, tasks - 1, min(tasks, 5)).round().astype(int))
    axes.set_xticks(ticks, [str(t + 1) for t in ticks])
    axes.set_yticks(ticks, [str(t + 1) for t in ticks])
    axes.set(xlabel="tested task", ylabel="tasks learned", title=title)
    if scale:
        axes.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, label="accuracy (%)")


def overlaps(
    axes: Axes, bars_of: Mapping[str, tuple[Series, str]], active: Mapping[str, Series]
) -> None:
    """Draw the mean overlap of two tasks' hidden activity [seeds, layers], by method.

    `active`: share of neurons that spike for a task [seeds, layers], written above the bars.
    """
    layers = next(iter(active.values())).shape[1]
    width = 0.8 / layers
    for place, (name, (samples, colour)) in enumerate(bars_of.items()):
        errors = standard_error(samples)
        for layer in range(layers):
            left = place + (layer - (layers - 1) / 2) * width
            axes.bar(
                left,
                samples[:, layer].mean(),
                yerr=None if errors is None else errors[layer],
                width=width,
                color=colour,
                alpha=1.0 if layer == 0 else 0.5,
                error_kw={"elinewidth": 0.6},
            )
            share = 100 * active[name][:, layer].mean()
            top = samples[:, layer].mean() + 0.03
            axes.text(left, top, f"{share:.0f}%", ha="center", va="bottom", fontsize=5, rotation=90)
    axes.set_xticks(range(len(bars_of)), list(bars_of), rotation=45, ha="right")
    axes.set(ylabel="overlap of two tasks (cosine)", ylim=(0, 1.15))
    axes.set_title("Hidden layers 1, 2 (pale); above: neurons that spike")


def densities(axes: Axes, lines: Mapping[str, tuple[Series, Sequence[Series], str]]) -> None:
    """Draw final accuracies [seeds] against the share of synapses a task owns [K], by method."""
    for name, (shares, samples, colour) in lines.items():
        means = np.array([values.mean() for values in samples])
        errors = [standard_error(values) for values in samples]
        axes.errorbar(
            100 * shares,
            means,
            yerr=[0.0 if error is None else float(error) for error in errors],
            color=colour,
            marker="o",
            elinewidth=0.6,
            label=name,
        )
    shown = sorted({share for shares, _, _ in lines.values() for share in shares})
    axes.set_xscale("log")
    axes.set_xticks([100 * share for share in shown], [f"{100 * share:g}" for share in shown])
    axes.minorticks_off()
    axes.set(xlabel="density of a mask (%)", ylabel="final accuracy (%)", title="Sparsity")
    axes.legend(loc="best", fontsize=5)
