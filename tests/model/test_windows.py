"""Properties of whole windows: two evaluations, pools, states, the clip and its guard."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybrid.model.coding import Poisson
from hybrid.model.drive import Source, Static, as_drive, direct, fade
from hybrid.model.neurons import IF, LIF, AdaptiveLIF, Neuron
from hybrid.model.plasticity import (
    STDP,
    Hebbian,
    LayerState,
    LocalRule,
    MetaLocal,
    Synapse,
    plastic_step,
)
from hybrid.model.window.choice import cheaper_evaluation, run_window
from hybrid.model.window.clip import may_clip
from hybrid.model.window.memories import Plastic

IN, OUT, N, T = 7, 5, 4, 6
NEURON = LIF(decay=0.5, v_th=0.6)
cases = settings(max_examples=25, deadline=None, derandomize=True)


def case(seed: int, *, mask: bool = False, trace: str = "shared", rate: float = 0.3) -> tuple:
    """Return (static drive, event drive, synapse, start) in float64 from a seed."""
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=g, dtype=torch.float64)

    meta = MetaLocal(uniform() * 2, uniform(IN) * rate, uniform(OUT) - 0.5)
    masked = (uniform(IN, OUT) < 0.4).double() if mask else None
    synapse = Synapse(uniform(OUT, IN) - 0.2, uniform(OUT) - 0.3, meta, masked)
    shapes = {"none": None, "shared": (IN, OUT), "own": (N, IN, OUT)}
    start = LayerState()
    if shapes[trace] is not None:
        start = LayerState(trace=uniform(*shapes[trace]) - 0.5)
    events = (uniform(T, N, IN) < 0.4).double()
    return Static(uniform(N, IN), tuple(uniform(T).tolist())), events, synapse, start


def plastic(
    source: Source,
    synapse: Synapse,
    rule: LocalRule = Hebbian(trace_decay=0.95),  # noqa: B008 (immutable)
    pool: str = "batch",
    start: LayerState = LayerState(),  # noqa: B008 (immutable)
) -> Plastic:
    """Return a layer as evaluations are asked about it."""
    return Plastic(as_drive(source), synapse, rule, NEURON.v_th, pool, start)


@cases
@given(
    seed=st.integers(0, 10_000),
    static=st.booleans(),
    pool=st.sampled_from(["batch", "sample", "stream"]),
    post=st.sampled_from(["tanh", "identity", "softmax"]),
    sign=st.sampled_from([1, -1]),
    mask=st.booleans(),
    trace=st.sampled_from(["none", "shared", "own"]),
    reset=st.sampled_from(["subtract", "zero"]),
)
def test_factored_equals_recurrent(
    seed: int, static: bool, pool: str, post: str, sign: int, mask: bool, trace: str, reset: str
) -> None:
    if pool == "batch" and trace == "own":
        trace = "shared"
    drive, events, synapse, start = case(seed, mask=mask, trace=trace)
    rule = Hebbian(trace_decay=0.9, post=post, sign=sign, nominal_batch=3)
    neuron = LIF(decay=0.5, v_th=0.6, reset=reset)
    leaves = [t.requires_grad_() for t in (synapse.weight, synapse.bias, *synapse.meta)]
    results = []
    for evaluation in ("recurrent", "factored"):
        window = run_window(
            drive if static else events,
            synapse,
            neuron,
            rule,
            start,
            pool=pool,
            evaluation=evaluation,
        )
        goal = (window.v**2).sum() + window.z.sum() + (window.final.trace**2).sum()
        results.append((window, torch.autograd.grad(goal, leaves)))
    (a, grads_a), (b, grads_b) = results
    torch.testing.assert_close(a.z, b.z)
    torch.testing.assert_close(a.v, b.v)
    torch.testing.assert_close(a.final.trace, b.final.trace)
    for grad_a, grad_b in zip(grads_a, grads_b, strict=True):
        torch.testing.assert_close(grad_a, grad_b)


@cases
@given(seed=st.integers(0, 10_000), cut=st.integers(1, T - 1), rule_name=st.sampled_from("hs"))
def test_a_window_is_its_parts_one_after_the_other(seed: int, cut: int, rule_name: str) -> None:
    """T steps at once = two shorter windows = T single steps, neuron and trace handed on."""
    _, events, synapse, start = case(seed)
    rule: LocalRule = Hebbian(trace_decay=0.9) if rule_name == "h" else STDP(trace_decay=0.9)
    whole = run_window(events, synapse, NEURON, rule, start)
    first = run_window(events[:cut], synapse, NEURON, rule, start)
    second = run_window(events[cut:], synapse, NEURON, rule, first.final)
    state = start
    for x in events:
        state = plastic_step(x, state, synapse, NEURON, rule)
    torch.testing.assert_close(torch.cat([first.v, second.v]), whole.v)
    torch.testing.assert_close(second.final.trace, whole.final.trace)
    torch.testing.assert_close(state.trace, whole.final.trace)
    torch.testing.assert_close(state.neuron.v, whole.states[-1].v)


@cases
@given(seed=st.integers(0, 10_000))
def test_batch_trace_is_the_mean_of_its_samples_updates(seed: int) -> None:
    """One step from one trace: pool="batch" gives the mean of pool="sample"."""
    drive, _, synapse, start = case(seed)
    rule = Hebbian(trace_decay=0.9)
    one = Static(drive.value, drive.gain[:1])
    shared = run_window(one, synapse, NEURON, rule, start, pool="batch")
    own = run_window(one, synapse, NEURON, rule, start, pool="sample")
    torch.testing.assert_close(own.final.trace.mean(0), shared.final.trace)


@cases
@given(seed=st.integers(0, 10_000), evaluation=st.sampled_from(["recurrent", "factored"]))
def test_order_within_a_batch_does_not_matter(seed: int, evaluation: str) -> None:
    drive, _, synapse, start = case(seed)
    rule = Hebbian(trace_decay=0.9)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    shuffled = Static(drive.value[order], drive.gain)
    a = run_window(drive, synapse, NEURON, rule, start, evaluation=evaluation)
    b = run_window(shuffled, synapse, NEURON, rule, start, evaluation=evaluation)
    torch.testing.assert_close(b.v, a.v[:, order])
    torch.testing.assert_close(b.final.trace, a.final.trace)


@pytest.mark.parametrize("evaluation", ["recurrent", "factored"])
@pytest.mark.parametrize("pool", ["sample", "stream"])
def test_own_traces_keep_samples_apart(pool: str, evaluation: str) -> None:
    """A sample's answer is the same, whatever else is in its batch."""
    drive, _, synapse, start = case(3)
    rule = Hebbian(trace_decay=0.9)
    batch = run_window(drive, synapse, NEURON, rule, start, pool=pool, evaluation=evaluation)
    alone = Static(drive.value[1:2], drive.gain)
    single = run_window(alone, synapse, NEURON, rule, start, pool=pool, evaluation=evaluation)
    torch.testing.assert_close(single.v[:, 0], batch.v[:, 1])


@pytest.mark.parametrize("static", [True, False])
def test_zero_gain_is_global_learning_bit_for_bit(static: bool) -> None:
    drive, events, synapse, start = case(4)
    silent = synapse._replace(meta=synapse.meta._replace(local_gain=torch.zeros(()).double()))
    source, evaluation = (drive, "factored") if static else (events, "recurrent")
    rule = Hebbian(trace_decay=0.9)
    hybrid = run_window(source, silent, NEURON, rule, start, evaluation=evaluation)
    plain = run_window(source, synapse, NEURON, None, start)
    assert torch.equal(hybrid.v, plain.v)
    assert plain.z.sum() > 0


def test_zero_weight_leaves_the_local_module_alone() -> None:
    """With W = 0 and no bias the current is the trace's, and nothing but the trace's."""
    _, events, synapse, start = case(5)
    local = synapse._replace(weight=torch.zeros_like(synapse.weight), bias=None)
    window = run_window(events[:1], local, NEURON, Hebbian(trace_decay=0.9), start)
    expected = synapse.meta.local_gain * (events[0] @ start.trace)
    torch.testing.assert_close(window.states[0].v, expected)


def test_frozen_trace_neither_moves_nor_decays() -> None:
    drive, events, synapse, start = case(6)
    rule = Hebbian(trace_decay=0.5)
    frozen = run_window(drive, synapse, NEURON, rule, start, adapt=False)
    assert torch.equal(frozen.final.trace, start.trace)
    weight = synapse.weight + synapse.meta.local_gain * start.trace.mT
    same = run_window(drive, Synapse(weight, synapse.bias), NEURON)
    torch.testing.assert_close(frozen.v, same.v)
    as_events = run_window(events, synapse, NEURON, rule, start, adapt=False)
    same = run_window(events, Synapse(weight, synapse.bias), NEURON)
    torch.testing.assert_close(as_events.v, same.v)


@cases
@given(
    seed=st.integers(0, 10_000),
    clip=st.floats(0.3, 3.0),
    static=st.booleans(),
    pool=st.sampled_from(["batch", "sample", "stream"]),
    trace=st.sampled_from(["none", "shared", "own"]),
    mask=st.booleans(),
    kind=st.sampled_from([Hebbian, STDP]),
)
def test_clip_guard_is_sound(
    seed: int,
    clip: float,
    static: bool,
    pool: str,
    trace: str,
    mask: bool,
    kind: type[Hebbian] | type[STDP],
) -> None:
    """Rows the guard calls safe stay inside the clip; and results agree, however rows are split."""
    trace = "shared" if pool == "batch" and trace == "own" else trace
    drive, events, synapse, start = case(seed, rate=1.0, trace=trace, mask=mask)
    static = static or kind is STDP  # which has a closed form under a static drive alone
    source = drive if static else events
    rule, free = (kind(trace_decay=0.95, trace_clip=c, nominal_batch=3) for c in (clip, None))
    safe = ~may_clip(plastic(source, synapse, rule, pool, start))
    state = start
    for x in source if not static else [gain * drive.value for gain in drive.gain]:
        state = plastic_step(x, state, synapse, NEURON, free, pool)
        assert (state.trace.abs()[..., safe, :] < clip).all()
    leaves = [t.requires_grad_() for t in (synapse.weight, synapse.bias, *synapse.meta)]
    results = []
    for evaluation in ("recurrent", "factored"):
        window = run_window(source, synapse, NEURON, rule, start, pool=pool, evaluation=evaluation)
        goal = (window.v**2).sum() + (window.final.trace**2).sum()
        results.append([window.v, window.final.trace, *torch.autograd.grad(goal, leaves)])
        if kind is STDP:
            results[-1].extend(window.final.eligibility)
    for recurrent, factored in zip(*results, strict=True):
        torch.testing.assert_close(factored, recurrent)


@pytest.mark.parametrize(("clip", "expected"), [(60.0, "none"), (0.6, "all"), (2.0, "some")])
def test_clip_guard_decides_row_by_row_and_matters(clip: float, expected: str) -> None:
    """Large rates make the clip act: without the guard, results would be wrong."""
    drive, _, synapse, start = case(7, rate=10.0)
    few = torch.tensor([0.001] * 5 + [1.0] * 2) if expected == "some" else torch.ones(IN)
    synapse = synapse._replace(meta=synapse.meta._replace(local_rate=few * 5.0))
    rule, free = Hebbian(trace_decay=0.95, trace_clip=clip), Hebbian(trace_decay=0.95)
    risky = may_clip(plastic(drive, synapse, rule, "batch", start))
    assert risky.sum() == {"none": 0, "all": IN, "some": 2}[expected]
    clipped = run_window(drive, synapse, NEURON, rule, start, evaluation="factored")
    unclipped = run_window(drive, synapse, NEURON, free, start, evaluation="factored")
    difference = (clipped.v - unclipped.v).abs().max()
    if expected == "none":
        assert difference == 0.0
    else:
        assert clipped.final.trace.abs().max() <= clip
        assert difference > 0.01


def test_clip_guard_trusts_no_unbounded_signal_and_no_nan() -> None:
    drive, _, synapse, start = case(7)
    unbounded = Hebbian(trace_decay=0.95, trace_clip=1e6, post="identity")
    assert may_clip(plastic(drive, synapse, unbounded, "batch", start)).all()
    rule = Hebbian(trace_decay=0.95, trace_clip=1e6)
    broken = Static(drive.value * float("nan"), drive.gain)
    assert may_clip(plastic(broken, synapse, rule, "batch", start)).all()


@cases
@given(
    seed=st.integers(0, 10_000),
    clip=st.sampled_from([0.05, 0.3, None]),
    sign=st.sampled_from([1, -1]),
    bias=st.booleans(),
)
def test_a_recurrent_window_is_its_single_steps(
    seed: int, clip: float | None, sign: int, bias: bool
) -> None:
    """A fading drive against `plastic_step` under the same inputs, with the clip acting or not.

    Every gradient is compared: of W, b, θ, the inputs and the trace it started from.
    """
    image, events, synapse, start = case(seed, rate=1.0)
    synapse = synapse if bias else synapse._replace(bias=None)
    rule = Hebbian(trace_decay=0.9, trace_clip=clip, sign=sign)
    leaves = [synapse.weight, *synapse.meta, events, start.trace]
    leaves += [synapse.bias] if bias else []
    for leaf in leaves:
        leaf.requires_grad_()

    def step_by_step() -> tuple[Tensor, Tensor, Tensor]:
        state, v, z = start, [], []
        for gain, x in zip(image.gain, events, strict=True):
            state = plastic_step(gain * x, state, synapse, NEURON, rule)
            v.append(state.neuron.v)
            z.append(state.neuron.z)
        return torch.stack(v), torch.stack(z), state.trace

    def together() -> tuple[Tensor, Tensor, Tensor]:
        drive = fade(events, image.gain)
        window = run_window(drive, synapse, NEURON, rule, start, evaluation="recurrent")
        return window.v, window.z, window.final.trace

    results = []
    for evaluate in (step_by_step, together):
        v, z, trace = evaluate()
        goal = (v**2).sum() + (z * torch.arange(1, T + 1).view(-1, 1, 1)).sum() + (trace**3).sum()
        results.append([v, z, trace, *torch.autograd.grad(goal, leaves)])
    for ours, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, expected)
    if clip == 0.05:
        assert (results[0][2].abs() == clip).any(), "the clip acts"


@pytest.mark.parametrize(
    "neuron", [LIF(decay=0.5, v_th=0.6), IF(v_th=0.6), AdaptiveLIF(decay=0.5, v_th=0.6)]
)
def test_every_neuron_model_runs_both_rules(neuron: Neuron) -> None:
    _, events, synapse, start = case(8)
    for rule in (Hebbian(trace_decay=0.9), STDP(trace_decay=0.9)):
        window = run_window(events, synapse, neuron, rule, start)
        assert window.z.sum() > 0
        assert not torch.equal(window.final.trace, start.trace)


def test_gain_per_synapse_equals_a_scalar_of_the_same_value() -> None:
    _, events, synapse, start = case(9)
    rule = Hebbian(trace_decay=0.9)
    wide = synapse.meta._replace(local_gain=synapse.meta.local_gain.expand(IN, OUT))
    for pool in ("batch", "sample"):
        a = run_window(events, synapse, NEURON, rule, start, pool=pool)
        b = run_window(events, synapse._replace(meta=wide), NEURON, rule, start, pool=pool)
        torch.testing.assert_close(a.v, b.v)


def test_a_stream_of_m_equal_samples_weighs_as_much_as_one_batch() -> None:
    """M single samples with weight 1/M and decay λ^{1/M} ≈ one batch step with decay λ."""
    drive, _, synapse, start = case(10)
    rule = Hebbian(trace_decay=0.9, nominal_batch=1_000)
    sample = Static(drive.value[:1], (1.0,))
    batch = run_window(sample, synapse, NEURON, rule, start).final.trace
    state = start
    frozen_y = run_window(sample, synapse, NEURON, rule, start, adapt=False)
    assert frozen_y.final.trace is start.trace
    for _ in range(1_000):
        trace = run_window(sample, synapse, NEURON, rule, state, pool="stream").final.trace
        state = LayerState(trace=trace)
    # They differ because the stream hears its own changes on the way.
    moved = (batch - start.trace).norm()
    assert (state.trace[0] - batch).norm() < 0.2 * moved


def test_cost_rule_follows_the_shapes() -> None:
    wide = Synapse(torch.zeros(512, 784), None, case(0)[2].meta)
    image = Static(torch.zeros(100, 784), (1.0,) * 10)
    assert cheaper_evaluation(plastic(image, wide, pool="batch")) == "factored"
    assert cheaper_evaluation(plastic(image, wide, pool="sample")) == "factored"
    narrow = Synapse(torch.zeros(10, 512), None, case(0)[2].meta)
    spikes = torch.zeros(10, 100, 512)
    assert cheaper_evaluation(plastic(spikes, narrow, pool="batch")) == "recurrent"
    assert cheaper_evaluation(plastic(spikes, narrow, pool="sample")) == "factored"
    # With a mask, each pair of steps takes a product of its own.
    masked = narrow._replace(mask=torch.ones(512, 10))
    assert cheaper_evaluation(plastic(spikes, masked, pool="sample")) == "factored"
    longer = torch.zeros(100, 100, 512)
    assert cheaper_evaluation(plastic(longer, masked, pool="sample")) == "recurrent"


def test_codes() -> None:
    values = torch.tensor([[0.0, 0.25, 1.0]])
    spikes = Poisson()(values, 4_000, torch.Generator().manual_seed(0))
    assert spikes.shape == (4_000, 1, 3)
    torch.testing.assert_close(spikes.mean(0), values, atol=0.03, rtol=0)
    shown = direct(values, 3)
    assert shown.gain == (1.0, 1.0, 1.0)
    assert all(torch.equal(shown.at(t), values) for t in range(3))
    with pytest.raises(ValueError, match="must lie in"):
        Poisson()(values + 0.5, 2, torch.Generator())


def test_masks_of_booleans_are_masks() -> None:
    _, events, synapse, start = case(11)
    mask = torch.rand(IN, OUT, generator=torch.Generator().manual_seed(0)) < 0.5
    rule = Hebbian(trace_decay=0.9)
    expected = run_window(
        events, synapse._replace(mask=mask.to(synapse.weight)), NEURON, rule, start
    )
    for shown in (mask, mask.int()):
        found = run_window(events, synapse._replace(mask=shown), NEURON, rule, start)
        assert torch.equal(found.v, expected.v)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": torch.zeros(T, N, IN + 1)}, r"shape \[N, 7\], got \[4, 8\]"),
        ({"source": torch.zeros(0, N, IN)}, "no steps"),
        ({"start": LayerState(trace=torch.zeros(2, 3))}, r"trace must have shape \[7, 5\]"),
        ({"evaluation": "fast"}, "'fast' is unknown: choose one of auto, recurrent, factored"),
        ({"pool": "mean"}, "'mean' is unknown: choose one of batch, ranks, sample, stream"),
        ({"rule": STDP(trace_decay=0.9), "evaluation": "factored"}, "use 'auto' or 'recurrent'"),
        ({"teacher": torch.zeros(T - 1, N, OUT)}, "5 teacher currents for 6 steps"),
    ],
)
def test_wrong_arguments_are_named(change: dict, message: str) -> None:
    _, events, synapse, start = case(11)
    arguments = {"source": events, "start": start, "rule": Hebbian(trace_decay=0.9)} | change
    with pytest.raises(ValueError, match=message):
        run_window(synapse=synapse, neuron=NEURON, **arguments)
    own = LayerState(trace=torch.zeros(N, IN, OUT).double())
    with pytest.raises(ValueError, match="pool = 'batch' moves one trace for all samples"):
        run_window(events, synapse, NEURON, Hebbian(trace_decay=0.9), own)
    bad_mask = synapse._replace(mask=torch.zeros(OUT, IN).double())
    with pytest.raises(ValueError, match=r"mask must have shape \[7, 5\], got \[5, 7\]"):
        run_window(events, bad_mask, NEURON)
