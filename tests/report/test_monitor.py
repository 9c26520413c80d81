"""Monitors: what they record is what happened, and they change nothing."""

from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor, nn

from hybrid.model.coding import LastMembrane
from hybrid.model.layers import HybridLinear, InitialMeta
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import STDP, Hebbian, LocalRule
from hybrid.model.recurrent import HybridRecurrent
from hybrid.model.rules import BCM, Oja, Rewarded
from hybrid.report.monitor import Monitor

NEURON = LIF(decay=0.6, v_th=0.2)
RULES: tuple[LocalRule, ...] = (
    Hebbian(trace_decay=0.9),
    Hebbian(trace_decay=0.9, trace_clip=0.05),
    STDP(trace_decay=0.9),
    Oja(trace_decay=0.9),
    BCM(trace_decay=0.9),
)
WAITING = Rewarded(rule=STDP(trace_decay=0.9))


def network(rule: LocalRule | None, **options: Any) -> FullyConnected:
    return FullyConnected(
        (6, 8, 3),
        neuron=NEURON,
        rule=rule,
        readout=LastMembrane(),
        steps=5,
        initial_meta=InitialMeta.up_to(0.1),
        generator=torch.Generator().manual_seed(0),
        **options,
    ).double()


def images(samples: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.rand(samples, 6, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("pool", ["batch", "sample"])
def test_a_monitor_sees_what_happens_and_changes_nothing(rule: LocalRule, pool: Any) -> None:
    """Spikes and potentials are the window's; traces end where the layer's did."""
    options: dict[str, Any] = {"lifetime": "call", "pool": pool} if pool == "sample" else {}
    watched, plain = network(rule, **options), network(rule, **options)
    with Monitor(watched, traces=True) as seen:
        watched(images())
        found = watched(images(), watched.stored())
    plain(images())
    expected = plain(images(), plain.stored())
    assert torch.equal(found.output, expected.output)
    assert list(seen) == ["layers.0", "layers.1"]
    for own, window in zip(seen.values(), expected.windows, strict=True):
        assert torch.equal(own.z, window.z)
        assert torch.equal(own.v, window.v)
        assert own.trace is not None
        assert own.trace.shape[0] == 6
        assert torch.allclose(own.trace[-1], window.final.trace, atol=1e-12)
        assert own.trace[1].isfinite().all()
        assert (own.trace[2] - own.trace[0]).abs().max() > 1e-4
    assert seen["layers.0"].z.mean() > 0.05
    with Monitor(watched) as later:
        pass
    watched(images())
    assert len(later) == 0


def test_recurrence_and_chains_are_seen() -> None:
    rule = Hebbian(trace_decay=0.9)
    options: dict[str, Any] = {"neuron": NEURON, "rule": rule, "returns": "spikes"}
    model = nn.Sequential(HybridRecurrent(6, 5, **options), HybridLinear(5, 3, **options)).double()
    shown = images().expand(4, -1, -1)
    with Monitor(model, traces=True) as seen:
        spikes = model(shown)
    assert torch.equal(seen["1"].z, spikes)
    trace = seen["0"].trace
    assert trace is not None
    assert torch.allclose(trace[-1], model[0].trace, atol=1e-12)


def test_monitors_may_be_nested() -> None:
    """Each sees every call within its block."""
    own = network(RULES[0])
    with Monitor(own) as outer:
        own(images())
        with Monitor(own.layers[0]) as inner:
            own(images(2))
        own(images(3))
    assert {len(seen.z[0]) for seen in outer.values()} == {3}
    assert len(inner[""].z[0]) == 2


def test_tags_are_no_traces() -> None:
    """Of a rule that waits for a reward the trace stays where it is."""
    own = network(WAITING)
    with Monitor(own, traces=True) as seen:
        own(images())
    trace = seen["layers.0"].trace
    assert trace is not None
    assert not trace.any()
    assert own.layers[0].stored().eligibility.tag.any()  # type: ignore[operator]


@pytest.mark.parametrize(("shown", "adapt"), [(slice(None), False), (slice(0), True)])
def test_a_trace_that_nothing_moves_stays(shown: slice, adapt: bool) -> None:
    """It is frozen, or the batch is empty."""
    own = network(RULES[0])
    own(images())
    with Monitor(own, traces=True) as seen:
        own.eval()(images()[shown], adapt=adapt)
    trace = seen["layers.0"].trace
    assert trace is not None
    assert torch.equal(trace, own.layers[0].trace.expand(6, -1, -1))


def test_pictures_in_one_line() -> None:
    """As many dots as spikes; curves are the potentials and traces asked for."""
    own = network(RULES[0])
    with Monitor(own, traces=True) as seen:
        own(images())
    figure = seen.raster(sample=2)
    dots = sum(len(line.get_xdata()) for line in figure.axes[0].lines)
    assert dots == sum(int(part.z[:, 2].sum()) for part in seen.values()) > 0
    curve = seen.potentials(neurons=(1, 3), sample=1).axes[0].lines[1]
    assert torch.equal(torch.tensor(curve.get_ydata()), seen["layers.0"].v[:, 1, 3])
    drawn = seen.traces(synapses=((2, 1),), layer="layers.1").axes[0].lines[0]
    trace = seen["layers.1"].trace
    assert trace is not None
    assert torch.equal(torch.tensor(drawn.get_ydata()), trace[:, 2, 1])
    assert list(drawn.get_xdata()) == [0, 1, 2, 3, 4, 5]
    plt.close("all")


def test_what_cannot_be_seen_is_named() -> None:
    with pytest.raises(ValueError, match="Linear has no layer to look into"):
        Monitor(nn.Linear(2, 2))
    lengths, shown = torch.tensor([5, 2, 3, 4]), images().expand(5, -1, -1)
    watched = network(RULES[0])
    message = "not of samples that end at different steps"
    with Monitor(watched, traces=True), pytest.raises(ValueError, match=message):
        watched(shown, lengths=lengths)
    own = network(RULES[0])
    with Monitor(own) as seen:
        with pytest.raises(ValueError, match="nothing was seen yet"):
            seen.raster()
        own(images())
    with pytest.raises(ValueError, match=r"no traces of layers\.0: Monitor\(model, traces=True\)"):
        seen.traces()
    with pytest.raises(ValueError, match=r"no layer 'hidden' was seen: choose one of layers\.0"):
        seen.potentials(layer="hidden")


def test_samples_neurons_and_synapses_that_are_not_there_are_named() -> None:
    own = network(RULES[0])
    with Monitor(own, traces=True) as seen:
        own(images())
    for draw in (
        lambda: seen.raster(sample=99),
        lambda: seen.potentials(neurons=(99,)),
        lambda: seen.potentials(sample=99),
        lambda: seen.traces(synapses=((0, 99),)),
    ):
        with pytest.raises(ValueError, match="99 is not there"):
            draw()
