"""An iteration that asks no tensor for its value is the readable network's, and compiles whole."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from hybrid.experiments.classification import EXPERIMENT
from hybrid.experiments.classification import plans as classification
from hybrid.experiments.classification.settings import ClassificationSettings
from hybrid.experiments.core.trials import Trial
from hybrid.experiments.fault_tolerance import EXPERIMENT as FAULTS
from hybrid.learning.iteration import Iteration, Recorded, Split, moments
from hybrid.learning.schedule import Schedule
from hybrid.learning.training import one_hot_mse, prepared
from hybrid.model.coding import LastMembrane, Poisson, Rank
from hybrid.model.convolutional import Convolutional
from hybrid.model.layers import weight_parameters
from hybrid.model.neurons import data_independent
from hybrid.model.rules import BCM
from tests.model.test_transforms import traced

# The convolutional networks of the paper, and its simple example.
PAPER = {
    "mnist": classification.MNIST_NETWORK,
    "fashion": classification.FASHION_NETWORK,
    "cifar10": classification.CIFAR10_NETWORK,
    "simple": next(
        s
        for group in EXPERIMENT.plans["paper"]
        for s in group.settings
        if not s.convolutions and s.readout == LastMembrane(ceiling=1.1) and s.encode is None
    ),
}


def narrow(settings: ClassificationSettings) -> ClassificationSettings:
    """Return the settings of a network with few channels and neurons, and all else the paper's."""
    few = tuple(replace(spec, channels=3) for spec in settings.convolutions)
    *hidden, last = settings.dense
    return replace(
        settings,
        convolutions=few,
        dense=(*(replace(spec, size=7) for spec in hidden), last),
        schedule=replace(settings.schedule, batch_size=6),
    )


def network(name: str, method: str, steps: int | None = None) -> nn.Module:
    """Return a network of the paper in double precision, whose neurons spike."""
    settings = narrow(PAPER[name])
    settings = replace(settings, steps=steps or settings.steps)
    own = Trial(EXPERIMENT, settings, EXPERIMENT.method(method), 1).build().double()
    with torch.no_grad():
        for parameter in weight_parameters(own):
            parameter.mul_(4.0)
    return own.train()


def batches(own: nn.Module, count: int = 3, samples: int = 6) -> Iterator[Split]:
    generator = torch.Generator().manual_seed(3)
    image = own.image if isinstance(own, Convolutional) else (own.layers[0].in_features,)
    for _ in range(count):
        inputs = torch.rand((samples, *image), generator=generator, dtype=torch.float64)
        yield Split(inputs, torch.randint(10, (samples,), generator=generator))


def iteration(own: nn.Module, schedule: Schedule) -> Iteration:
    (some,) = batches(own, 1)
    order = torch.Generator().manual_seed
    return prepared(own, some, some, schedule, order).iterations["both"]


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["HP", "GP"])
@pytest.mark.parametrize(
    ("name", "early"),
    [("simple", None), *((n, e) for n in PAPER if n != "simple" for e in (0.0, 0.9, None))],
)
def test_whole_windows_are_those_of_the_readable_network(
    name: str, method: str, early: float | None
) -> None:
    """Outputs, stop steps, traces and gradients, with early stops and without; equal masks."""
    plain = network(name, method)
    if early is not None:
        plain.readout = replace(plain.readout, fraction=early)
    whole, (batch,) = deepcopy(plain), batches(plain, 1)
    torch.manual_seed(7)
    expected = plain(batch.inputs)
    torch.manual_seed(7)
    with data_independent():
        found = whole(batch.inputs)
    assert all(window.z.any() for window in expected.windows[:-1]), "neurons must spike"
    assert close(found.output, expected.output)
    if isinstance(plain, Convolutional):
        readout = plain.readout
        ends = [
            readout.stop_steps(activity.windows[-1].states, plain.v_th)
            for activity in (expected, found)
        ]
        ended = len(expected.windows[-1].states)
        assert torch.equal(ends[0].clamp(max=ended - 1), ends[1])
        assert len(found.windows[-1].states) == plain.steps
        if early == 0.0:
            assert ended < plain.steps, "the batch must stop early"
    for activity in (expected, found):
        one_hot_mse(activity.output, batch.labels).backward()
    for mine, own in zip(whole.parameters(), plain.parameters(), strict=True):
        assert (mine.grad is None) == (own.grad is None)
        assert own.grad is None or close(mine.grad, own.grad)
    for mine, own in zip(whole.buffers(), plain.buffers(), strict=True):
        assert own.any()
        assert close(mine, own)


@pytest.mark.parametrize("method", ["HP", "GP"])
@pytest.mark.parametrize("name", PAPER)
def test_recorded_work_trains_as_the_loop_does(name: str, method: str) -> None:
    """Losses, weights, θ, traces and moments, and the batch of another size at the end."""
    plain = network(name, method)
    other = deepcopy(plain)
    schedule = replace(narrow(PAPER[name]).schedule, lr_weight=1e-3)
    loop, record = iteration(plain, schedule), iteration(other, schedule)
    losses = []
    for batch in (*batches(plain), *batches(plain, 1, 4)):
        torch.manual_seed(5)
        losses.append(loop(batch).item())
    kept = list(other.buffers())
    recorded, found, traces = Recorded(record, backend=None), [], []
    handed = [own.clone() for own in kept]
    for batch in (*batches(other), *batches(other, 1, 4)):
        torch.manual_seed(5)
        found.append(recorded(batch).item())
        traces = traces or [own.data_ptr() for own in other.buffers()]
    assert found == pytest.approx(losses, rel=1e-12)
    assert [own.data_ptr() for own in other.buffers()] == traces, "a trace stays where it is"
    assert all(map(torch.equal, kept, handed)), "what was handed out before stays as it was"
    for a, b in zip(other.state_dict().values(), plain.state_dict().values(), strict=True):
        assert close(a, b)
    for mine, own in zip(record.optimisers, loop.optimisers, strict=True):
        assert all(close(a, b) for a, b in zip(moments(mine), moments(own), strict=True))
        assert len(moments(own)) > 0


@traced
@pytest.mark.parametrize("name", PAPER)
def test_an_iteration_compiles_as_one_graph(name: str) -> None:
    plain = network(name, "HP", steps=4)
    for module in plain.modules():  # masks that a compiler draws are others
        if isinstance(module, Convolutional):
            module._drop = lambda x, share: x
    other, schedule = deepcopy(plain), replace(narrow(PAPER[name]).schedule, lr_weight=1e-3)
    loop = Recorded(iteration(plain, schedule), backend=None)
    compiled = Recorded(iteration(other, schedule), backend="aot_eager")
    expected, found = ([r(own).item() for own in batches(plain, 2)] for r in (loop, compiled))
    assert found == pytest.approx(expected, rel=1e-10)
    for a, b in zip(other.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-10)
    torch.compiler.reset()


def test_fault_tolerance_of_the_paper_trains_alike() -> None:
    """The clip of its rule keeps the compiled form from being factored; the numbers are equal."""
    (group, *_) = FAULTS.plans["paper"]
    settings = replace(group.settings[0], dense=classification.dense(9))
    plain = Trial(FAULTS, settings, FAULTS.method("HP"), 1).build().double().train()
    other = deepcopy(plain)
    loop, record = (iteration(own, settings.schedule) for own in (plain, other))
    expected = []
    for batch in batches(plain):
        expected.append(loop(batch).item())
    recorded = Recorded(record, backend=None)
    found = [recorded(batch).item() for batch in batches(other)]
    assert found == pytest.approx(expected, rel=1e-12)
    for a, b in zip(other.state_dict().values(), plain.state_dict().values(), strict=True):
        assert close(a, b)


def test_what_a_rule_remembers_ends_with_the_batch() -> None:
    """A memory that outlives a call must not see the steps after the stop."""
    rule, readout = BCM(trace_decay=0.9), Rank(fraction=0.0, earliest=1)
    settings = narrow(replace(PAPER["mnist"], rule=rule, readout=readout))
    plain = Trial(EXPERIMENT, settings, EXPERIMENT.method("HP"), 1).build().double().train()
    with torch.no_grad():
        for parameter in weight_parameters(plain):
            parameter.mul_(6.0)
    other, (batch,) = deepcopy(plain), batches(plain, 1)
    torch.manual_seed(1)
    assert len(plain(batch.inputs).windows[0].states) < plain.steps
    torch.manual_seed(1)
    with data_independent():
        other(batch.inputs)
    for a, b in zip(other.buffers(), plain.buffers(), strict=True):
        assert b.any()
        assert close(a, b)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_recorded_optimisers_step_as_others_and_follow_the_schedule(optimiser: str) -> None:
    """Their rates are tensors, where a replayed step reads them; they stay the same tensors."""
    options = {"momentum": 0.9} if optimiser == "sgd" else {}
    schedule = Schedule(
        epochs=4, batch_size=2, lr_weight=0.1, lr_meta=0.2, decay="steps", milestones=(2,),
        decay_meta=True, optimiser=optimiser, **options,
    )  # fmt: skip
    ends = []
    for recorded in (False, True):
        weight, theta = (nn.Parameter(torch.ones(3)) for _ in range(2))
        optimisers = schedule.optimisers([weight], [theta], recorded=recorded)
        rates = [own.param_groups[0]["lr"] for own in optimisers]
        for epoch in range(4):
            schedule.set_rates(optimisers, epoch)
            for own, parameter in zip(optimisers, (weight, theta), strict=True):
                parameter.grad = torch.tensor([1.0, -2.0, 3.0]) * (epoch + 1)
                own.step()
        if recorded:
            assert all(isinstance(rate, Tensor) for rate in rates)
            now = [own.param_groups[0]["lr"] for own in optimisers]
            assert [a is b for a, b in zip(rates, now, strict=True)] == [True, True]
            assert [float(rate) for rate in now] == pytest.approx([0.01, 0.02])
        ends.append((weight.detach(), theta.detach()))
    for a, b in zip(*ends, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
        assert not torch.equal(a, torch.ones(3))


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_warming_up_leaves_everything_as_it_was(name: str, fresh: bool) -> None:
    """Weights, θ, traces, moments and random numbers: then the first iteration counts."""
    plain = network(name, "HP")
    other, schedule = deepcopy(plain), replace(narrow(PAPER[name]).schedule, lr_weight=1e-3)
    cold, warm = (Recorded(iteration(own, schedule), backend=None) for own in (plain, other))
    for recorded in (cold, warm):
        if not fresh:
            torch.manual_seed(2)
            [recorded(own) for own in batches(plain)]
    torch.manual_seed(3)
    (batch,) = batches(plain, 1)
    if fresh:
        warm._prepare(batch)
    before = torch.get_rng_state()
    warm._warm(batch, warm._measure)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(own.grad is None for own in other.parameters())
    for recorded in (cold, warm):
        torch.manual_seed(4)
        recorded(batch)
    for a, b in zip(other.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for mine, own in zip(warm._iteration.optimisers, cold._iteration.optimisers, strict=True):
        assert all(map(torch.equal, moments(mine), moments(own)))


@traced
def test_networks_one_after_the_other_compile_each_for_themselves() -> None:
    """Of other widths and batch sizes, with Poisson spikes and mixed precision among them."""
    torch.compiler.reset()
    for width in range(5, 15):  # more than a compiler tells apart of one function
        settings = replace(narrow(PAPER["simple"]), steps=3)
        encode = Poisson() if width % 2 else None
        settings = replace(settings, dense=classification.dense(width), encode=encode)
        own = Trial(EXPERIMENT, settings, EXPERIMENT.method("HP"), 1).build().train()
        schedule = replace(settings.schedule, mixed_precision=width % 3 == 0)
        recorded = Recorded(iteration(own, schedule), backend="aot_eager")
        shown = Split(torch.rand(width, 784), torch.arange(width) % 10)
        assert all(torch.isfinite(recorded(shown)) for _ in range(2))
    torch.compiler.reset()
