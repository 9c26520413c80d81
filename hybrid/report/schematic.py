"""The hybrid synapse as a drawing: what acts, what learns from errors, what from activity."""

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from hybrid.report.figures import BLACK, BLUE, FAINT, GREEN, GREY, VERMILION

_Point = tuple[float, float]


def schematic(axes: Axes, title: str) -> None:
    """Draw one synapse of a network with hybrid plasticity, and what teaches it."""
    axes.set(xlim=(0, 14), ylim=(0, 6.2), title=title, aspect="equal")
    axes.set_axis_off()
    _box(axes, (4.2, 3.7), (3.6, 1.2), "global weight  $W$", BLUE)
    _box(axes, (4.2, 1.5), (3.6, 1.2), "local trace  $P_t$", GREEN)
    _circle(axes, (1.4, 3.2), 0.65, "$x_t$", "presynaptic\nactivity", GREY)
    _circle(axes, (9.5, 3.2), 0.4, "+", "", GREY)
    _circle(axes, (11.9, 3.2), 0.8, "$v_t$", "postsynaptic\nneuron", VERMILION)
    for start, end in (
        ((2.05, 3.35), (4.2, 4.3)),
        ((2.05, 3.05), (4.2, 2.1)),
        ((7.8, 4.3), (9.2, 3.45)),
        ((7.8, 2.1), (9.2, 2.95)),
        ((9.9, 3.2), (11.1, 3.2)),
        ((12.7, 3.2), (13.9, 3.2)),
    ):
        _arrow(axes, start, end, BLACK)
    axes.text(8.75, 2.25, r"$\times\,\alpha$", ha="center")
    axes.text(13.4, 3.4, "$z_t$", ha="center")
    # What teaches: errors from above, activity from below.
    axes.text(9.6, 5.75, "error (backpropagation)", color=BLUE, va="center")
    _arrow(axes, (9.5, 5.75), (6.0, 4.95), BLUE, bent=0.15)
    axes.text(
        6.0, 0.25, r"$\theta$: gain $\alpha$, rate $\eta$, threshold $\vartheta$", ha="center"
    )
    _arrow(axes, (6.0, 0.6), (6.0, 1.45), BLACK)
    _arrow(axes, (13.3, 5.5), (8.9, 0.3), BLUE, bent=-0.5)
    _arrow(axes, (11.6, 2.4), (7.85, 1.75), GREEN, bent=-0.25)
    _arrow(axes, (1.7, 2.55), (4.15, 1.75), GREEN, bent=0.25)
    axes.text(2.3, 1.35, "activity\n(Hebbian)", color=GREEN, ha="center", va="top")


def _box(axes: Axes, corner: _Point, size: _Point, text: str, colour: str) -> None:
    style = "round,pad=0.05"
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, facecolor=FAINT, edgecolor=colour))
    axes.text(corner[0] + size[0] / 2, corner[1] + size[1] / 2, text, ha="center", va="center")


def _circle(axes: Axes, at: _Point, radius: float, text: str, below: str, colour: str) -> None:
    axes.add_patch(Circle(at, radius, facecolor=FAINT, edgecolor=colour))
    axes.text(*at, text, ha="center", va="center")
    axes.text(at[0], at[1] + radius + 0.15, below, ha="center", va="bottom")


def _arrow(axes: Axes, start: _Point, end: _Point, colour: str, bent: float = 0.0) -> None:
    """Draw an arrow; bent ones teach and are dashed, straight ones carry signals."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=6,
            color=colour,
            linewidth=0.8,
            linestyle="--" if bent else "-",
            connectionstyle=f"arc3,rad={bent}",
        )
    )
