"""Panels of Fig. 1: how one neuron spikes and how one trace lives. Arrays in, artists out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hybrid.report.figures import Series

INK, SOFT = "#000000", "#999999"


def membrane(axes: Axes, current: Series, v: Series, z: Series, v_th: float) -> None:
    """Membrane potential, input current and spikes of one neuron [T] each."""
    steps = np.arange(len(v))
    axes.axhline(v_th, color=SOFT, linestyle="--", linewidth=0.7, label="threshold")
    axes.step(steps, current, where="mid", color=SOFT, linewidth=0.7, label="input current")
    axes.plot(steps, v, marker="o", label="membrane $v_t$")
    fired = np.flatnonzero(z)
    axes.plot(
        fired, v[fired], "*", color="#D55E00", markersize=7, linestyle="none", label="spike $z_t$"
    )
    axes.set(xlabel="step $t$", ylabel="potential (units of current)", title="A neuron spikes")
    axes.set_ylim(top=max(v.max(), v_th) * 1.75)
    axes.legend(ncols=2, loc="upper left")


def surrogates(axes: Axes, v: Series, v_th: float, slopes: Mapping[str, Series]) -> None:
    """The step and the derivatives that stand in for its own, over potentials `v`."""
    axes.step(v, (v > v_th).astype(float), color=INK, linewidth=0.8, label="$H(v - v_{th})$")
    for name, slope in slopes.items():
        axes.plot(v, slope, label=name)
    axes.set(xlabel="potential $v$", ylabel="spike, or its slope", title="A slope for the step")
    axes.set_ylim(-0.05, 1.75)
    axes.legend(ncols=2, loc="upper left")


def trace(axes: Axes, values: Series, driven: NDArray[np.bool_]) -> None:
    """One trace over time [T], with the steps in which pre- and postsynaptic signals meet."""
    steps = np.arange(len(values))
    axes.fill_between(
        steps,
        0,
        1,
        where=driven,
        step="mid",
        color="#E69F00",
        alpha=0.25,
        linewidth=0,
        transform=axes.get_xaxis_transform(),
        label="input on",
    )
    axes.plot(steps, values, color="#D55E00", label="trace $P_t$")
    axes.set(xlabel="step $t$", ylabel="trace (weight units)", title="A trace grows and fades")
    axes.legend(loc="upper center")


def meta_effect(
    axes: Axes, curves: Sequence[tuple[float, Series]], *, symbol: str, title: str, ylabel: str
) -> None:
    """One curve [T] for each value of one meta-local parameter."""
    shades = np.linspace(0.35, 1.0, len(curves))
    for shade, (value, curve) in zip(shades, curves, strict=True):
        axes.plot(curve, color="#0072B2", alpha=float(shade), label=f"{symbol} = {value:g}")
    axes.set(xlabel="step $t$", ylabel=ylabel, title=title)
    axes.legend(loc="best")


def agreement(axes: Axes, recurrent: Series, factored: Series) -> None:
    """Currents of both evaluations against each other [M], with their largest difference."""
    low, high = float(recurrent.min()), float(recurrent.max())
    axes.plot([low, high], [low, high], color=SOFT, linewidth=0.7)
    axes.plot(recurrent, factored, ".", color="#0072B2", markersize=2)
    difference = float(np.abs(recurrent - factored).max())
    text = f"largest difference < {_ceiling(difference)}"
    axes.text(0.05, 0.95, text, transform=axes.transAxes, va="top")
    axes.set(
        xlabel="$v_t$, recurrent",
        ylabel="$v_t$, factored",
        title="Two evaluations, one result",
    )


def toy_stream(
    axes: Axes, curves: Mapping[str, tuple[Series, str]], patterns: Sequence[tuple[int, int, str]]
) -> None:
    """One neuron's current [samples] per method, over a stream of named patterns (from, to)."""
    for name, (values, colour) in curves.items():
        axes.plot(values, color=colour, label=name)
    for first, last, name in patterns:
        if first:
            axes.axvline(first - 0.5, color=SOFT, linestyle="--", linewidth=0.7)
        middle, top = (first + last - 1) / 2, axes.get_xaxis_transform()
        axes.text(middle, 1.0, name, transform=top, ha="center", va="top")
    axes.set(
        xlabel="samples seen",
        ylabel="current (units of threshold)",
        title="LP, GP and HP on a toy stream",
    )
    axes.margins(y=0.15)
    axes.legend(loc="lower right", ncols=3)


def _ceiling(value: float) -> str:
    """Return the power of ten above a small difference: stable from machine to machine."""
    return "$10^{-16}$" if value == 0.0 else f"$10^{{{int(np.ceil(np.log10(value)))}}}$"
