"""Figures at print size: a lettered canvas, byte-identical files, provenance beside each."""

import io
import json
import platform
import re
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

from hybrid.runs.files import canonical_json, sha256, write_together
from hybrid.version import __version__

# Wong, Nat. Methods 8 (2011), safe for colour-blind readers; two of Tol's muted ones; and greys.
BLACK, BLUE, GREEN, VERMILION = "#000000", "#0072B2", "#009E73", "#D55E00"
ORANGE, SKY, YELLOW, PURPLE = "#E69F00", "#56B4E9", "#F0E442", "#CC79A7"
TEAL, WINE = "#44AA99", "#882255"
BROWN, INDIGO, GREY, PALE, FAINT = "#8C6D31", "#5B5BA5", "#999999", "#CCCCCC", "#EEEEEE"

# Names of data sets as readers write them.
_SPOKEN = {
    "fashion_mnist": "Fashion-MNIST",
    "nmnist": "N-MNIST",
    "mnist": "MNIST",
    "omniglot": "Omniglot",
}

# Of a legend that a line would cross.
ON_WHITE: dict[str, Any] = {"frameon": True, "framealpha": 1.0, "edgecolor": "none"}


class _Colours(dict[str, str]):
    """Colours by name; a name without one of its own gets one of a few, always the same."""

    def __missing__(self, name: str) -> str:
        spare = (BROWN, INDIGO, PURPLE, YELLOW)
        return spare[sum(map(ord, name)) % len(spare)]


# One colour for one thing within a figure, and for a method in all of them.
COLOURS = _Colours(
    {
        # methods
        "LP": GREEN,
        "GP": BLUE,
        "HP": VERMILION,
        "HP-sample": PURPLE,
        "HP-own": PURPLE,
        "GP-norm": SKY,
        "GP-noise": INDIGO,
        "GP-erase": GREY,
        "HP-plus": YELLOW,
        "HP-minus": BROWN,
        "HP-one-rate": ORANGE,
        "HP-mean": BLACK,
        "Hebbian": ORANGE,
        "prototypes": SKY,
        "matching": GREY,
        "MAML": YELLOW,
        "nearest": BROWN,
        "joint": BLACK,
        "sparse GP": SKY,
        "EWC": ORANGE,
        "online EWC": BROWN,
        "SI": YELLOW,
        "EWC + gating": GREY,
        "SI + gating": INDIGO,
        "longer sparse GP": TEAL,
        "longer EWC + gating": WINE,
        # what a trace may do in a test
        "batch": VERMILION,
        "stream": ORANGE,
        "frozen": SKY,
        "sample": GREY,
        # corrections at test time
        "offset": GREY,
        "pixels": BROWN,
        "currents-batch": INDIGO,
        "currents-stream": BLACK,
        "thresholds": PURPLE,
        # codes
        "membrane": BLACK,
        "rate": ORANGE,
        "first spike": SKY,
        "first spike (batch)": PURPLE,
        "Poisson": INDIGO,
        # cores by what they do, and models of energy
        "synapses": BLUE,
        "carried": SKY,
        "sums": GREY,
        "copies": PURPLE,
        "coincidences": ORANGE,
        "scores": YELLOW,
        "products": GREEN,
        "busy": INDIGO,
        "gated": BLUE,
        "naive": GREY,
        # verdicts
        "reproduced": GREEN,
        "not reproduced": VERMILION,
        "holds": SKY,
        "does not hold": PURPLE,
        "undecided": ORANGE,
        "dead baseline": YELLOW,
        "too few seeds": GREY,
        "not run": PALE,
        "not run at paper scale": PALE,
    }
)

_MM = 1.0 / 25.4
_HALF = 450  # pixels of a screen that half a page takes
WIDTHS = {"single": 89.0, "double": 183.0}  # mm
HIGHEST = 225.0  # mm, a page with its caption


def use_style() -> None:
    """Apply the project's style, and nothing of the user's, to everything drawn from now on."""
    backend = matplotlib.get_backend()
    matplotlib.rcdefaults()
    plt.switch_backend(backend)
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
    plt.close(figure)  # for pyplot alone: a notebook shows a figure when it is asked to
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


def spoken(label: str) -> str:
    """Return the label of some settings as readers write it: "fashion_mnist" as Fashion-MNIST."""
    known = rf"(?<!\w)({'|'.join(_SPOKEN)})(?!\w)"
    return re.sub(known, lambda found: _SPOKEN[found[0]], label)


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
    settings: Any,
    *,
    profile: str | None = None,
    records: Sequence[Mapping[str, Any]] = (),
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Return where a figure comes from.

    Args:
        settings: what was computed, as JSON values.
        profile: of the records; None where it shows something else.
        records: run records that the figure was drawn from.
        seeds: all seeds in it.
    """
    requests = [record["request"] for record in records]
    return {
        **({} if profile is None else {"profile": profile}),
        "settings": settings,
        "settings_sha256": sha256(canonical_json(settings)),
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
    """Write `<folder>/<name>.png`, `.pdf` and `.json`, and return their paths.

    The JSON says where the figure comes from and, for readers who cannot see it, what it shows.

    The same figure gives the same bytes again: no dates, no tight bounding box.

    Raises:
        OSError: if the folder cannot be written; files that are there stay whole.
    """
    made: dict[Path, bytes] = {}
    for suffix, options in (("png", {}), ("pdf", {"metadata": {"CreationDate": None}})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, **options)  # type: ignore[arg-type]
        made[folder / f"{name}.{suffix}"] = buffer.getvalue()
    digests = {path.suffix[1:]: sha256(content) for path, content in made.items()}
    whole = {"figure": name, "alt": described(figure, name), **about, "sha256": digests}
    made[folder / f"{name}.json"] = (_indented(whole) + "\n").encode()
    write_together(made)
    return list(made)


def described(figure: Figure, name: str) -> str:
    """Return in words what a figure shows: the titles of its panels, which say what was found."""
    titles = {
        axes.get_label(): re.sub(r"\s+", " ", re.sub(r"[$\\]", "", title)).strip()
        for axes in figure.axes
        if (title := axes.get_title() or axes.get_title(loc="left"))
    }
    if len(titles) < 2:
        return f"{name}: {'; '.join(titles.values())}"
    return f"{name}: " + "; ".join(f"{panel}, {title}" for panel, title in titles.items())


def show(figure: Figure, name: str, out_dir: str | Path, about: Any) -> Any:
    """Save a figure, see `save`; return it as a notebook's picture."""
    path, *_ = save(figure, name, Path(out_dir), about)
    return picture(path)


def picture(path: Path) -> Any:
    """Return a saved figure as a notebook's picture, with words for readers who cannot see it."""
    from IPython.display import Image  # part of Jupyter, which only notebooks need

    about = json.loads(path.with_suffix(".json").read_text("utf-8"))
    wide = plt.imread(path).shape[1] > 2 * _HALF
    return Image(
        path, width=2 * _HALF if wide else round(1.5 * _HALF), alt=about.get("alt", path.stem)
    )


def _indented(value: Mapping[str, Any]) -> str:
    lines = [f'  "{key}": {canonical_json(entry)}' for key, entry in value.items()]
    return "{\n" + ",\n".join(lines) + "\n}"
