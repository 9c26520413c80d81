"""Continual learning: the penalties, the Fisher information, and the course through tasks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from hybrid.learning import continual
from hybrid.learning.consolidation import Consolidation, fisher_information
from hybrid.learning.continual import (
    Learner,
    Stream,
    StreamTraining,
    View,
    accuracy_on,
)
from hybrid.learning.fitting import Training, fit
from hybrid.learning.iteration import Split
from hybrid.learning.schedule import Schedule
from hybrid.learning.training import one_hot_mse
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import ContextGated
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.model.window.sparse import Masks, random_masks

SIZES = (12, 40, 30, 3)
TASKS = 3


def network(local: bool = False) -> ContextGated:
    net = ContextGated(
        SIZES,
        neuron=LIF(decay=0.8, v_th=0.5),
        rule=Hebbian(trace_decay=0.8) if local else None,
        steps=3,
        tau=50.0,
        initial_meta=InitialMeta((0.0, 0.1), (0.0, 0.1), (0.0, 0.0)),
        generator=torch.Generator().manual_seed(0),
        meta_generator=torch.Generator().manual_seed(1),
    )
    with torch.no_grad():
        for weight in net.weights:
            weight.mul_(3.0)
    return net


def masks(task: int) -> Masks:
    return random_masks(SIZES, 0.4, torch.Generator().manual_seed(task))


def stream() -> Stream:
    """Three bars, to be told apart under three orders of the pixels."""
    g = torch.Generator().manual_seed(3)
    labels = torch.arange(90) % 3
    inputs = torch.rand(90, 12, generator=g) * 0.3
    for label in range(3):
        inputs[labels == label, 4 * label : 4 * label + 4] += 1.0
    data, whole = Split(inputs, labels), torch.arange(3)
    numbers = torch.randperm(90, generator=g)
    orders = [None, *(torch.randperm(12, generator=g) for _ in range(TASKS - 1))]
    views = tuple(
        View(order, numbers[:60], numbers[60:], torch.arange(90), whole, whole) for order in orders
    )
    return Stream(data, data, views)


def learn(
    learner: Learner,
    training: StreamTraining,
    checkpoint: Path | None = None,
    tasks: Stream | None = None,
) -> Tensor:
    schedule = Schedule(epochs=TASKS * training.epochs, batch_size=10, lr_weight=1e-2, lr_meta=1e-2)
    order: Callable[[int], torch.Generator] = torch.Generator().manual_seed
    tasks = tasks or stream()
    fit(continual.prepared(learner, tasks, training, schedule, order, checkpoint=checkpoint))
    return learner.accuracy


def learner_of(
    net: ContextGated | None = None,
    kind: str = "none",
    gated: bool = False,
    strength: float = 1.0,
) -> Learner:
    net = net or network()
    held = Consolidation(net.weights, kind, strength=strength)  # type: ignore[arg-type]
    return Learner(net, held, TASKS, masks if gated else None)


@pytest.mark.parametrize("choices", [None, [0, 2]])
@pytest.mark.parametrize("gated", [False, True])
def test_fisher_information_is_of_each_samples_own_gradient(
    gated: bool, choices: list[int] | None
) -> None:
    net, own = network(local=True), masks(0) if gated else None
    images = torch.rand(5, 12, generator=torch.Generator().manual_seed(4)) * 2.0
    wanted = None if choices is None else torch.tensor(choices)
    found = fisher_information(
        net,
        images,
        torch.Generator().manual_seed(5),
        masks=own,
        choices=wanted,
        batch_size=2,
    )
    source = torch.Generator().manual_seed(5)
    noise = torch.cat([torch.randn(n, 3, generator=source) for n in (2, 2, 1)])
    if choices is not None:
        noise[:, 1] = 0.0
    noise *= (2.0 / len(choices or range(3))) ** 0.5
    expected = [torch.zeros_like(weight) for weight in net.weights]
    for image, drawn in zip(images.split(1), noise.split(1), strict=True):
        score = (net(image, own, adapt=False).output * drawn).sum()
        for total, slope in zip(expected, torch.autograd.grad(score, net.weights), strict=True):
            total += slope**2 / 5
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.max() > 0.0, "the neurons spike"
        torch.testing.assert_close(ours, theirs)
    if choices is not None:
        assert (found[-1][1] == 0.0).all(), "nothing hangs on an output that is not used"


def test_penalties_of_all_tasks_are_one() -> None:
    """Offline EWC: the sum over tasks of F_k (w - w_k)², kept as one Ω and one anchor."""
    weight = nn.Parameter(torch.zeros(4))
    held = Consolidation([weight], "ewc", strength=2.0)
    g = torch.Generator().manual_seed(0)
    fishers, anchors = torch.rand(3, 4, generator=g), torch.randn(3, 4, generator=g)
    fishers[:, 3] = 0.0  # of no importance to any task
    for fisher, anchor in zip(fishers, anchors, strict=True):
        weight.data.copy_(anchor)
        held.end_task(lambda fisher=fisher: [fisher])
    weight.data.copy_(torch.randn(4, generator=g))
    weight.grad = torch.zeros(4)
    held.step(lambda: None)
    expected = 2.0 * (fishers * (weight.detach() - anchors)).sum(0)
    torch.testing.assert_close(weight.grad, expected)


def test_online_penalties_fade() -> None:
    weight = nn.Parameter(torch.zeros(1))
    held = Consolidation([weight], "online-ewc", fading=0.5)
    for value in (1.0, 3.0):
        weight.data.fill_(value)
        held.end_task(lambda: [torch.ones(1)])
    assert held.named("omega")[0].item() == 1.5
    assert held.named("anchor")[0].item() == 3.0


def test_synaptic_intelligence_sums_to_the_fall_of_the_loss() -> None:
    """Of a quadratic loss under small steps of gradient descent."""
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    held = Consolidation([weight], "si", damping=1e-3)
    scale = torch.tensor([1.0, 0.5])
    optimiser = torch.optim.SGD([weight], 1e-3)

    def loss() -> Tensor:
        return (scale * weight**2).sum()

    first = loss().item()
    for _ in range(2000):
        optimiser.zero_grad()
        loss().backward()
        held.step(optimiser.step)
    path = held.named("path")[0].clone()
    assert path.sum().item() == pytest.approx(first - loss().item(), rel=1e-2)
    moved = (weight.detach() - torch.tensor([1.0, 2.0])) ** 2
    held.end_task(list)
    torch.testing.assert_close(held.named("omega")[0], path / (moved + 1e-3))
    assert held.named("path")[0].abs().sum() == 0.0
    # In the next task the penalty pulls, too; the path is of the loss alone.
    weight.grad = torch.tensor([1.0, 0.0])
    weight.data.add_(0.5)

    def move() -> None:
        weight.data.sub_(0.1)

    held.step(move)
    assert (weight.grad[0] - 1.0).abs() > 1e-3, "the penalty has joined in"
    torch.testing.assert_close(held.named("path")[0], torch.tensor([0.1, 0.0]))


def test_fine_tuning_forgets_and_each_remedy_helps() -> None:
    plain = learn(learner_of(), StreamTraining(epochs=6))
    untested = [[0 < i < j for j in range(TASKS)] for i in range(TASKS + 1)]
    assert plain.isnan().tolist() == untested
    assert plain[1:].diagonal().min() > 0.9, "each task is learned"
    assert plain[-1, 0] < 0.8, "and forgotten"
    remedies = {
        "joint": (learner_of(), StreamTraining(epochs=6, joint=True)),
        "ewc": (learner_of(kind="ewc"), StreamTraining(epochs=6)),
        "si": (learner_of(kind="si"), StreamTraining(epochs=6)),
        "gating": (learner_of(gated=True), StreamTraining(epochs=6)),
        "hybrid": (
            learner_of(network(local=True), gated=True),
            StreamTraining(epochs=6, meta="replay"),
        ),
    }
    for name, (learner, training) in remedies.items():
        assert learn(learner, training)[-1].mean() > plain[-1].mean() + 0.1, name


def test_theta_learns_between_tasks_alone() -> None:
    for meta, moves in (("none", False), ("own", True), ("replay", True)):
        net = network(local=True)
        before = [p.detach().clone() for p in net.meta_parameters()]
        learn(learner_of(net, gated=True), StreamTraining(epochs=1, meta=meta))  # type: ignore[arg-type]
        moved = [not torch.equal(p, q) for p, q in zip(net.meta_parameters(), before, strict=True)]
        assert any(moved) == moves, meta
    net = network(local=True)
    before = [p.detach().clone() for p in net.meta_parameters()]
    learn(learner_of(net, gated=True), StreamTraining(epochs=1, meta="own", meta_tasks=0))
    assert all(torch.equal(p, q) for p, q in zip(net.meta_parameters(), before, strict=True))


def prepared_of(learner: Learner, training: StreamTraining) -> Training:
    """Return a training whose lessons can be taken one by one."""
    schedule = Schedule(epochs=3, batch_size=10, lr_weight=1e-2, lr_meta=1e-2)
    return continual.prepared(learner, stream(), training, schedule, torch.Generator().manual_seed)


@pytest.mark.parametrize(("meta", "shown"), [("own", {2}), ("replay", {0, 1})])
def test_meta_epochs_show_what_they_should_and_leave_weights_alone(meta: str, shown: set) -> None:
    net = network(local=True)
    learner = learner_of(net, gated=True)
    learner.done.fill_(2)
    how = prepared_of(learner, StreamTraining(epochs=1, meta=meta))  # type: ignore[arg-type]
    weights = [weight.detach().clone() for weight in net.weights]
    theta = [p.detach().clone() for p in net.meta_parameters()]
    taught = [own for name, own in how.lessons(torch.Generator().manual_seed(0)) if name == "theta"]
    for batch in taught:
        how.iterations["theta"](batch)
    drawn = {k: masks(k)[0].inputs for k in range(TASKS)}
    seen = {k for own in taught for k in drawn if torch.equal(own[3].inputs, drawn[k])}
    assert seen == shown
    assert all(torch.equal(w, old) for w, old in zip(net.weights, weights, strict=True))
    assert not all(torch.equal(p, old) for p, old in zip(net.meta_parameters(), theta, strict=True))


def test_joint_batches_mix_all_tasks() -> None:
    """Their loss is that of each task's images and answers, weighted by their number."""
    learner, views = learner_of(), stream().views
    how = prepared_of(learner, StreamTraining(epochs=1, joint=True))
    batches = [own for _, own in how.lessons(torch.Generator().manual_seed(0))]
    assert {len(inputs) for inputs, *_ in batches} == {10}
    shown = torch.cat([inputs for inputs, *_ in batches])
    of_task = [
        {tuple(row) for row in view.inputs(stream().train.inputs).tolist()} for view in views
    ]
    counts = [sum(tuple(row) in own for row in shown.tolist()) for own in of_task]
    assert sum(counts) == len(shown)
    assert min(counts) > 5
    inputs, targets, choices = batches[0]
    output = learner.network(inputs).output
    assert torch.equal(choices, torch.arange(3).expand(10, -1))
    loss = how.iterations["weights"].measure(*batches[0])
    torch.testing.assert_close(loss, one_hot_mse(output, targets))


def test_a_task_of_few_answers_learns_from_these_alone() -> None:
    """In whatever order the samples of a batch have theirs."""
    learner = learner_of()
    how = prepared_of(learner, StreamTraining(epochs=1, joint=True))
    inputs, choices = torch.rand(4, 12), torch.tensor([[0, 2], [0, 1], [1, 2], [0, 2]])
    targets, output = torch.tensor([0, 1, 1, 0]), learner.network(inputs).output
    own = [output[i, choices[i]] for i in range(4)]
    expected = torch.stack(
        [(x - torch.eye(2)[t]).square().mean() for x, t in zip(own, targets, strict=True)]
    )
    found = how.iterations["weights"].measure(inputs, targets, choices)
    torch.testing.assert_close(found, expected.mean())
    together = how.iterations["weights"].measure(inputs, targets, choices[0])
    torch.testing.assert_close(together, one_hot_mse(output[:, [0, 2]], targets))


def test_gated_importance_stays_within_the_masks() -> None:
    learner = learner_of(kind="ewc", gated=True)
    lessons: Any = prepared_of(learner, StreamTraining(epochs=1)).lessons
    fisher = lessons.__self__._fisher
    learner.consolidation.end_task(lambda: fisher(1, torch.Generator().manual_seed(0)))
    own = learner.masks(1)
    assert own is not None
    for omega, mask in zip(learner.consolidation.named("omega"), own, strict=True):
        assert omega.sum() > 0.0
        assert (omega[mask.dense().mT == 0.0] == 0.0).all()


class KilledError(Exception):
    """Stands in for a kill."""


@pytest.mark.parametrize("kind", ["none", "si", "ewc", "online-ewc"])
@pytest.mark.parametrize(("meta", "fresh"), [("own", True), ("replay", False)])
def test_a_killed_course_ends_where_an_unbroken_one_does(
    kind: str, meta: str, fresh: bool, tmp_path: Path
) -> None:
    training = StreamTraining(epochs=2, meta=meta, fresh=fresh)  # type: ignore[arg-type]
    unbroken = learner_of(network(local=True), kind, gated=True)
    learn(unbroken, training)
    path = tmp_path / "checkpoint.safetensors"
    killed, calls = learner_of(network(local=True), kind, gated=True), 0

    def dying(seed: int) -> torch.Generator:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KilledError
        return torch.Generator().manual_seed(seed)

    schedule = Schedule(epochs=2 * TASKS, batch_size=10, lr_weight=1e-2, lr_meta=1e-2)
    with pytest.raises(KilledError):
        fit(continual.prepared(killed, stream(), training, schedule, dying, checkpoint=path))
    resumed = learner_of(network(local=True), kind, gated=True)
    learn(resumed, training, path)
    for (name, ours), theirs in zip(
        resumed.state_dict().items(), unbroken.state_dict().values(), strict=True
    ):
        assert torch.equal(ours.nan_to_num(-1.0), theirs.nan_to_num(-1.0)), name


def test_known_tasks_narrow_the_choice() -> None:
    base = stream()
    first = base.views[0]
    two = torch.tensor([0, 2])
    numbers = (base.train.labels != 1).nonzero().squeeze(1)
    narrow = first._replace(train=numbers, validation=numbers, test=numbers, choices=two)
    learner = learner_of()
    learn(learner, StreamTraining(epochs=2), tasks=base._replace(views=(narrow, narrow, narrow)))
    everywhere = torch.arange(90)
    shown = base._replace(views=(narrow,))
    told = accuracy_on(learner, shown, 0, base.test, everywhere, batch_size=10)
    assert told == pytest.approx(2 / 3, abs=0.05), "the class that is no choice is never answered"


def test_protocols_differ_in_who_shares_a_trace() -> None:
    net = network(local=True)
    with torch.no_grad():
        for layer in net.layers:
            layer.theta.local_gain.fill_(5.0)
    learner, tasks, numbers = learner_of(net, gated=True), stream(), torch.arange(90)
    pools = []
    forward = ContextGated.forward

    def watched(self: ContextGated, *args: Any, **options: Any) -> Any:
        pools.append((options["pool"], options["adapt"], len(args[0])))
        return forward(self, *args, **options)

    with patch.object(ContextGated, "forward", watched):
        for protocol in ("batch", "frozen", "sample"):
            accuracy_on(learner, tasks, 0, tasks.test, numbers, batch_size=45, protocol=protocol)
    assert (
        pools == [("batch", True, 45)] * 2 + [("batch", False, 45)] * 2 + [("sample", True, 45)] * 2
    )


def test_wrong_constants_are_named() -> None:
    weight = nn.Parameter(torch.zeros(1))
    for change, message in (
        ({"importance": "fisher"}, "importance 'fisher' is unknown: choose one of none, ewc"),
        ({"importance": "si", "strength": 0.0}, r"strength = 0\.0"),
        ({"importance": "si", "damping": -1.0}, r"damping = -1\.0"),
        ({"importance": "ewc", "fading": 2.0}, r"fading = 2\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            Consolidation([weight], **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epochs = 0"):
        StreamTraining(epochs=0)
    with pytest.raises(ValueError, match="meta = 'later'"):
        StreamTraining(epochs=1, meta="later")  # type: ignore[arg-type]
    schedule = Schedule(epochs=4, batch_size=10, lr_weight=1e-2, lr_meta=1e-2)
    with pytest.raises(ValueError, match="3 tasks of 1 epochs take 3"):
        continual.prepared(
            learner_of(),
            stream(),
            StreamTraining(epochs=1),
            schedule,
            torch.Generator().manual_seed,
        )


def test_joint_learning_of_a_network_with_masks_moves_it() -> None:
    learner = learner_of(gated=True)
    before = [weight.detach().clone() for weight in learner.network.weights]
    learn(learner, StreamTraining(epochs=1, joint=True))
    moved = zip(learner.network.weights, before, strict=True)
    assert not any(torch.equal(weight, old) for weight, old in moved)
