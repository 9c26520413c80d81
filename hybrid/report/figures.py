"""Figures at print size: a lettered canvas, byte-identical files, provenance beside each."""

import io
import platform
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hybrid import __version__
from hybrid.runs.files import canonical_json, sha256, write_atomically

Series = NDArray[np.float64]

_MM = 1.0 / 25.4
WIDTHS = {"single": 89.0, "double": 183.0}  # mm
HIGHEST = 225.0  # mm, a page with its caption


def use_style() -> None:
    """Apply the project's matplotlib style to everything drawn from now on."""
    with as_file(files("hybrid.report").joinpath("hybrid.mplstyle")) as style:
        plt.style.use(style)


def canvas(
    mosaic: Sequence[Sequence[str]], *, width: str = "double", height: float, **kwargs: Any
) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure of `width` ("single" or "double") and `height` mm with lettered panels.

    Args:
        mosaic: panel names as for `subplot_mosaic`; names of one letter become panel letters.
        width: column width.
        height: mm, at most a page.
        kwargs: passed to `subplot_mosaic`.

    Raises:
        ValueError: if the size is not one that can be printed.
    """
    if width not in WIDTHS or not 0.0 < height <= HIGHEST:
        raise ValueError(
            f"width = {width!r}, height = {height}: choose a width of {', '.join(WIDTHS)} "
            f"and a height up to {HIGHEST:g} mm"
        )
    use_style()
    figure = plt.figure(figsize=(WIDTHS[width] * _MM, height * _MM))
    panels = figure.subplot_mosaic([list(row) for row in mosaic], **kwargs)
    for name, axes in panels.items():
        if len(name) == 1:
            letter(axes, name)
    return figure, panels


def letter(axes: Axes, name: str) -> None:
    """Put a bold lower-case panel letter at the upper left corner of a panel."""
    axes.annotate(
        name,
        xy=(0, 1),
        xycoords="axes fraction",
        xytext=(-20, 6),
        textcoords="offset points",
        fontsize=8,
        fontweight="bold",
        annotation_clip=False,
    )


def band(axes: Axes, x: Series, samples: Series, *, colour: str, label: str, **line: Any) -> None:
    """Draw the mean of `samples` [seeds, x] with a band of one standard error of the mean.

    With one seed there is no band.
    """
    mean, sem = samples.mean(0), standard_error(samples)
    axes.plot(x, mean, color=colour, label=label, **{"marker": "o", **line})
    if sem is not None:
        axes.fill_between(x, mean - sem, mean + sem, color=colour, alpha=0.25, linewidth=0)


def absent(axes: Axes, why: str) -> None:
    """Say why there is nothing to draw."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", color="#999999")
    axes.set_axis_off()


def standard_error(samples: Series) -> Series | None:
    """Return the standard error of the mean over seeds, the first axis; None for one seed."""
    if len(samples) < 2:
        return None
    return np.asarray(samples.std(0, ddof=1) / np.sqrt(len(samples)))


def versions() -> dict[str, str]:
    """Return the versions that a figure depends on."""
    return {
        "hybrid": __version__,
        "torch": torch.__version__.split("+")[0],
        "numpy": np.__version__,
        "matplotlib": matplotlib.__version__,
        "python": platform.python_version(),
    }


def provenance(
    profile: str, config: Any, *, records: Sequence[Mapping[str, Any]] = (), seeds: Sequence[int]
) -> dict[str, Any]:
    """Return where a figure comes from.

    Args:
        profile: name of the profile.
        config: what was computed, as JSON values.
        records: run records that the figure was drawn from.
        seeds: all seeds in it.
    """
    requests = [record["request"] for record in records]
    return {
        "profile": profile,
        "config": config,
        "config_sha256": sha256(canonical_json(config)),
        "seeds": sorted(set(seeds)),
        "data_sha256": sorted({request["data"] for request in requests}),
        "trials": sorted(request["label"] for request in requests),
        "computed_with": sorted(
            {
                f"hybrid {r['about']['hybrid']}, source {r['about'].get('source', 'not noted')}, "
                f"torch {r['about']['torch']}"
                for r in records
            }
        ),
        "drawn_with": versions(),
    }


def save(figure: Figure, name: str, folder: Path, about: Mapping[str, Any]) -> list[Path]:
    """Write `<folder>/<name>.png`, `.pdf` and `.json` (provenance), and return their paths.

    The same figure gives the same bytes again: no dates, no tight bounding box.

    Raises:
        OSError: if the folder cannot be written; files that are there stay whole.
    """
    paths = []
    for suffix, options in (("png", {}), ("pdf", {"metadata": {"CreationDate": None}})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, **options)  # type: ignore[arg-type]
        paths.append(folder / f"{name}.{suffix}")
        write_atomically(paths[-1], buffer.getvalue())
    text = {"figure": name, **about}
    paths.append(folder / f"{name}.json")
    write_atomically(paths[-1], (_indented(text) + "\n").encode())
    return paths


def _indented(value: Mapping[str, Any]) -> str:
    lines = [f'  "{key}": {canonical_json(entry)}' for key, entry in value.items()]
    return "{\n" + ",\n".join(lines) + "\n}"
