"""Look into layers while a network works: spikes, potentials, traces, and pictures of them.

with Monitor(network, traces=True) as seen:
    network(images)
seen.raster()
seen.potentials(neurons=(0, 1))
seen.traces(synapses=((300, 0), (301, 0)))
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from hybrid.model.convolutional import Convolutional
from hybrid.model.drive import Drive
from hybrid.model.layers import HybridLinear
from hybrid.model.plasticity import LayerState, Step
from hybrid.model.pooling import Pool, Pooling
from hybrid.model.recurrent import HybridRecurrent
from hybrid.model.window.choice import Window
from hybrid.report.figures import BLACK, COLOURS, canvas
from hybrid.report.panels import Line, lines, raster

Observer = Callable[[Drive, LayerState, Window, Pool, bool, Tensor | None], None]
_SHADES = (COLOURS["HP"], COLOURS["GP"], COLOURS["LP"], BLACK)


@dataclass(frozen=True)
class Seen:
    """What one layer did in one window.

    Attributes:
        z, v: spikes and membrane potentials [T, N, out].
        trace: before each step and after the last [T + 1, in, out], or [T + 1, N, in, out] where
            samples have traces of their own; None where none was asked for, or there is none.
    """

    z: Tensor
    v: Tensor
    trace: Tensor | None


class Monitor(Mapping[str, Seen]):
    """Records each window of the plastic layers of a model while it is entered.

    By name of the layer, as of `named_modules`, it gives the last window: `seen["layers.0"].z`.
    Nothing that the model computes is changed.

    Args:
        model: network, layer, or whatever has layers.
        traces: whether traces are recorded step by step, too, which takes T of them in memory.

    Raises:
        ValueError: if there is no layer to look into. Convolutional networks advance step by step,
            and return all states by themselves (`activity.windows`).
    """

    def __init__(self, model: nn.Module, *, traces: bool = False) -> None:
        self._layers = {
            name: layer for name, layer in model.named_modules() if isinstance(layer, HybridLinear)
        }
        if not self._layers or any(isinstance(m, Convolutional) for m in model.modules()):
            raise ValueError(
                f"{type(model).__name__} has no layer to look into, HybridLinear; a Convolutional "
                "network returns its windows itself"
            )
        self._traces = traces
        self._before: dict[str, Observer | None] = {}
        self._seen: dict[str, Seen] = {}

    def __enter__(self) -> "Monitor":
        self._before = {name: layer.observer for name, layer in self._layers.items()}
        for name, layer in self._layers.items():
            layer.observer = self._observer(name, layer)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name, layer in self._layers.items():
            layer.observer = self._before[name]

    def __getitem__(self, name: str) -> Seen:
        return self._seen[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)

    def _observer(self, name: str, layer: HybridLinear) -> Observer:
        @torch.no_grad()
        def look(
            drive: Drive,
            start: LayerState,
            window: Window,
            pool: Pool,
            adapt: bool,
            lengths: Tensor | None,
        ) -> None:
            if (before := self._before[name]) is not None:
                before(drive, start, window, pool, adapt, lengths)
            trace = None
            if self._traces and (lengths is not None or pool == "ranks"):
                raise ValueError(
                    "traces=True: not of samples that end at different steps, nor of several "
                    "processes"
                )
            if self._traces and layer.rule is not None:
                trace = _history(layer, drive, start, window, pool, adapt)
            self._seen[name] = Seen(window.z.detach(), window.v.detach(), trace)

        return look

    def raster(self, sample: int = 0) -> Figure:
        """Draw the spikes of one sample: a dot for each step and neuron, layer above layer."""
        self._require()
        for seen in self._seen.values():
            _check("sample", sample, seen.z.shape[1])
        groups = {
            name: (seen.z[:, sample].nonzero().tolist(), seen.z.shape[2])
            for name, seen in self._seen.items()
        }
        figure, panels = canvas(["a"], width="single", height=70)
        raster(panels["a"], groups, colour=COLOURS["HP"], xlabel="step", title="Spikes")
        return figure

    def potentials(
        self, neurons: Sequence[int] = (0,), layer: str | None = None, sample: int = 0
    ) -> Figure:
        """Draw membrane potentials of some neurons of a layer (the first), for one sample."""
        seen = self._seen[self._chosen(layer)]
        _check("sample", sample, seen.v.shape[1])
        for i in neurons:
            _check("neuron", i, seen.v.shape[2])
        curves = {f"neuron {i}": seen.v[:, sample, i] for i in neurons}
        return _curves(curves, 1, "membrane potential", "Potentials")

    def traces(
        self,
        synapses: Sequence[tuple[int, int]] = ((0, 0),),
        layer: str | None = None,
        sample: int = 0,
    ) -> Figure:
        """Draw the traces of some synapses (input, neuron) of a layer (the first), step by step.

        Raises:
            ValueError: if no traces were recorded.
        """
        name = self._chosen(layer)
        trace = self._seen[name].trace
        if trace is None:
            raise ValueError(f"no traces of {name}: Monitor(model, traces=True), and a local rule")
        if trace.ndim == 4:
            _check("sample", sample, trace.shape[1])
            trace = trace[:, sample]
        for j, i in synapses:
            _check("input", j, trace.shape[1])
            _check("neuron", i, trace.shape[2])
        curves = {f"{j} → {i}": trace[:, j, i] for j, i in synapses}
        return _curves(curves, 0, "trace P", "Traces")

    def _require(self) -> None:
        if not self._seen:
            raise ValueError("nothing was seen yet: call the model within the `with` block")

    def _chosen(self, layer: str | None) -> str:
        self._require()
        name = next(iter(self._seen)) if layer is None else layer
        if name not in self._seen:
            raise ValueError(f"no layer {name!r} was seen: choose one of {', '.join(self._seen)}")
        return name


def _check(what: str, number: int, count: int) -> None:
    """Raise ValueError if there is no such sample, neuron or input."""
    if not -count <= number < count:
        raise ValueError(f"{what} {number} is not there: give one from 0 to {count - 1}")


def _history(
    layer: HybridLinear, drive: Drive, start: LayerState, window: Window, pool: Pool, adapt: bool
) -> Tensor:
    """Return P before each step and after the last, from what the neurons did.

    However the window was evaluated, its spikes and potentials say what the rule wrote.
    """
    rule, meta, shape = layer.rule, layer.synapse().meta, layer.trace.shape
    assert rule is not None
    assert meta is not None
    samples = drive.shape[0]
    pooling = Pooling.of(pool, rule, max(samples, 1))
    size = shape if pooling.shared else (samples, *shape)
    first = layer.trace.new_zeros(size) if start.trace is None else start.trace.expand(size)
    history, memory = [first], start.eligibility
    before = None if start.neuron is None else start.neuron.z
    for t, state in enumerate(window.states):
        x = drive.at(t)
        if isinstance(layer, HybridRecurrent):
            own = state.z.new_zeros(state.z.shape) if before is None else before
            x, before = torch.cat([x, own], dim=-1), state.z
        if adapt and samples:
            step = Step(x, state, meta, layer.neuron.v_th, pooling)
            moved, memory = rule.learn(history[-1], memory, step)
            history.append(moved)
        else:
            history.append(history[-1])
    return torch.stack(history)


def _curves(values: Mapping[str, Tensor], first: int, ylabel: str, title: str) -> Figure:
    figure, panels = canvas(["a"], width="single", height=60)
    drawn = [
        Line(name, range(first, first + len(value)), value.cpu().numpy(), shade)
        for (name, value), shade in zip(values.items(), _SHADES * len(values), strict=False)
    ]
    lines(panels["a"], drawn, whole_x=True, xlabel="step", ylabel=ylabel, title=title)
    return figure
