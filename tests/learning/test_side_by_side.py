"""Seeds side by side end as one at a time: weights, θ, traces, moments and logs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybrid.learning import continual, episodic, fitting, training
from hybrid.learning.checkpoint import BestState
from hybrid.learning.consolidation import Consolidation
from hybrid.learning.continual import Learner, Stream, StreamTraining, View
from hybrid.learning.episodic import FirstOrderMAML
from hybrid.learning.fitting import EpochLog, Training, fit
from hybrid.learning.iteration import Iteration, Recorded, Split, moments
from hybrid.learning.schedule import Schedule
from hybrid.learning.side_by_side import _SideBySide, fit_side_by_side
from hybrid.model.coding import LastMembrane, Poisson
from hybrid.model.embedding import Embedding
from hybrid.model.few_shot import FewShot, FewShotReadOut
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import ContextGated, FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian, LocalRule
from hybrid.model.rules import BCM
from hybrid.model.window.sparse import random_masks
from tests.learning.test_iteration import batches
from tests.learning.test_iteration import network as convolutional

SEEDS = (1, 2, 3)
NEURON = LIF(decay=0.8, v_th=0.5)
RULE = Hebbian(trace_decay=0.8)
META = InitialMeta((0.0, 0.2), (0.0, 0.2), (-0.1, 0.1))
SCHEDULE = Schedule(
    epochs=3, batch_size=7, lr_weight=1e-2, lr_meta=1e-2, decay="steps", milestones=(2,)
)


def source(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(hash(numbers) % 2**31)


def order(seed: int) -> Callable[[int], torch.Generator]:
    return lambda epoch: source(seed, epoch)


def dense(
    rule: LocalRule | None,
    seed: int,
    *,
    schedule: Schedule = SCHEDULE,
    samples: int = 24,
    **how: Any,
) -> Training:
    """A fully connected network; its samples are its own."""
    network = FullyConnected(
        (12, 9, 3), neuron=NEURON, rule=rule, readout=LastMembrane(), steps=4,
        generator=source(seed), initial_meta=META, **{"tau": 5.0, **how},
    ).double()  # fmt: skip
    with torch.no_grad():
        network.layers[0].weight.mul_(4.0)
    inputs = torch.rand(samples, 12, generator=source(seed, 7), dtype=torch.float64)
    data = Split(inputs, torch.arange(samples) % 3)
    return training.prepared(network, data, data, schedule, order(seed))


def stream_of_tasks(rule: LocalRule | None, seed: int, importance: Any = "none") -> Training:
    """Three tasks under masks; θ learns between them from replayed ones."""
    sizes, schedule = (12, 40, 30, 3), replace(SCHEDULE, epochs=6, milestones=(4,))
    network = ContextGated(
        sizes,
        neuron=NEURON,
        rule=rule,
        steps=3,
        tau=50.0,
        generator=source(seed),
        initial_meta=META,
    ).double()
    with torch.no_grad():
        for weight in network.weights:
            weight.mul_(3.0)
    learner = Learner(
        network,
        Consolidation(network.weights, importance),
        3,
        lambda task: random_masks(sizes, 0.4, source(seed, task)),
    ).double()
    inputs = torch.rand(30, 12, generator=source(seed, 8), dtype=torch.float64) * 2.0
    data, whole = Split(inputs, torch.arange(30) % 3), torch.arange(3)
    views = tuple(
        View(torch.randperm(12, generator=source(seed, k, 5)), whole.new_tensor(range(24)),
             torch.arange(24, 30), torch.arange(30), whole, whole)
        for k in range(3)
    )  # fmt: skip
    teaching = StreamTraining(epochs=2, meta="replay" if rule else "none")
    return continual.prepared(learner, Stream(data, data, views), teaching, schedule, order(seed))


def episodes(rule: LocalRule | None, seed: int, *, shared: bool = False) -> Training:
    """A normalised embedding, and episodes of drawings of their own, or of few that they share."""
    embedding = Embedding((3, 4), image=(1, 8, 8), normalised=True, generator=source(seed))
    head = FewShotReadOut(
        embedding.features, 3, neuron=NEURON, rule=rule, label_current=4.0, generator=source(seed)
    )
    for module in embedding.convolutions:  # its gradient is rounding: a normalisation follows
        module.bias.requires_grad_(False)
    network = FewShot(embedding, head).double()

    def drawn(generator: torch.Generator) -> Iterator[episodic.MetaBatch]:
        for _ in range(4):
            count = 10 + (int(torch.randint(3, (), generator=generator)) if shared else 0)
            images = torch.rand(count, 1, 8, 8, generator=generator, dtype=torch.float64)
            support, query = torch.arange(10).split([6, 4])
            labels = torch.randperm(6, generator=generator) % 3
            batch = (images, support.view(2, 3), labels.view(2, 3), query.view(2, 2))
            targets = torch.randint(3, (2, 2), generator=generator)
            yield episodic.MetaBatch([episodic.EpisodeBatch(*batch, targets, 3)])

    validate = partial(float, seed)
    how = (drawn, validate, SCHEDULE, order(seed), episodic.Objective())
    return episodic.prepared(network, *how)


KINDS: dict[str, Callable[[int], Training]] = {
    "GP": partial(dense, None),
    "HP": partial(dense, RULE),
    "LP of other rates": partial(dense, RULE, theta_form="signed"),
    "batches of other sizes": lambda seed: dense(RULE, seed, samples=21 + seed),
    "batches of other sizes, normalised": lambda seed: dense(
        None, seed, samples=21 + 2 * seed, normalise=True
    ),
    "a rule that remembers": partial(dense, BCM(trace_decay=0.5, trace_clip=0.3)),
    "normalised": partial(dense, None, normalise=True),
    "tasks, GP": partial(stream_of_tasks, None),
    "tasks, HP": partial(stream_of_tasks, RULE),
    "episodes, GP": partial(episodes, None),
    "episodes, HP": partial(episodes, RULE),
    "episodes of shared drawings": partial(episodes, RULE, shared=True),
}


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=1e-9, atol=1e-11, equal_nan=True)


def same(logs: list[EpochLog], others: list[EpochLog]) -> None:
    for mine, own in zip(logs, others, strict=True):
        assert mine.record() == pytest.approx(own.record(), rel=1e-9)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_several_end_as_one_at_a_time(
    kind: str, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced as a compiler traces it, which may see less than Python does.
    monkeypatch.setattr(fitting, "Recorded", partial(Recorded, backend="aot_eager"))
    alone, together = ([KINDS[kind](seed) for seed in SEEDS] for _ in range(2))
    before = [own.network.state_dict() for own in map(KINDS[kind], SEEDS)]
    expected = [fit(own) for own in alone]
    found = fit_side_by_side([replace(own, recorded=recorded) for own in together])
    for own, mine, start, logs, others in zip(
        alone, together, before, found, expected, strict=True
    ):
        same(logs, others)
        states = own.network.state_dict(), mine.network.state_dict()
        for name, value in states[0].items():
            assert close(states[1][name], value), name
            moves = name.endswith(("weight", "trace", "local_rate"))
            if moves and "tasks" not in kind and "episodes" not in kind:
                assert not torch.equal(value, start[name]), name
    ends = [own.network.state_dict().values() for own in together]
    assert any(not close(a, b) for a, b in zip(*ends[:2], strict=True)), "seeds must differ"


@pytest.mark.parametrize("kind", ["HP", "tasks, HP"])
def test_afterwards_each_can_be_trained_by_itself(kind: str) -> None:
    """Also after a refusal: nothing of the stack is left in it."""
    alone, together = ([KINDS[kind](seed) for seed in SEEDS] for _ in range(2))
    fit_side_by_side(together)
    for own in alone:
        fit(own)
    for own, mine in zip(alone, together, strict=True):
        for again in (own, mine):
            for optimiser in again.optimisers:
                optimiser.state.clear()
            if "tasks" in kind:
                again.network.done.zero_()
            fit(again)
        states = own.network.state_dict(), mine.network.state_dict()
        for name, value in states[0].items():
            assert close(states[1][name], value), name
    refused = [dense(None, seed, encode=Poisson()) for seed in SEEDS]
    with pytest.raises(ValueError, match="draw at random"):
        fit_side_by_side(refused)
    before = [p.detach().clone() for p in refused[1].network.parameters()]
    fit(refused[1])
    moved = zip(refused[1].network.parameters(), before, strict=True)
    assert not any(torch.equal(p, old) for p, old in moved)


def test_moments_are_those_of_all() -> None:
    alone = [KINDS["HP"](seed) for seed in SEEDS]
    several = _SideBySide([KINDS["HP"](seed) for seed in SEEDS])
    for own in alone:
        fit(own)
    fitting.fit_several(several)
    for i, optimiser in enumerate(several.how.optimisers):
        each = [moments(own.optimisers[i]) for own in alone]
        for whole, *parts in zip(moments(optimiser), *each, strict=True):
            assert close(whole.expand(3) if whole.ndim == 0 else whole, torch.stack(parts))


@pytest.mark.parametrize("kind", ["HP", "tasks, HP", "episodes, HP"])
def test_a_kill_at_any_epoch_is_made_good(kind: str, tmp_path: Path) -> None:
    """From the checkpoint of all, in another process: the same end to the last bit."""
    whole = [KINDS[kind](seed) for seed in SEEDS]
    expected = fit_side_by_side(whole)
    for epoch in (1, 2):
        paths = [tmp_path / f"{kind[:2]}{epoch}-{seed}.safetensors" for seed in SEEDS]

        def dying(number: int, own: Training, last: int = epoch) -> torch.Generator:
            if number == last:
                raise KeyboardInterrupt
            return own.order(number)

        fresh = [zip(map(KINDS[kind], SEEDS), paths, strict=True) for _ in range(2)]
        killed = [replace(own, checkpoint=path) for own, path in fresh[0]]
        with pytest.raises(KeyboardInterrupt):
            fit_side_by_side([replace(own, order=partial(dying, own=own)) for own in killed])
        again = [replace(own, checkpoint=path) for own, path in fresh[1]]
        assert fit_side_by_side(again) == expected
        for own, mine in zip(whole, again, strict=True):
            for a, b in zip(
                own.network.state_dict().values(), mine.network.state_dict().values(), strict=True
            ):
                assert torch.equal(a.nan_to_num(), b.nan_to_num())


def test_what_cannot_be_side_by_side_is_refused() -> None:
    cases: list[tuple[str, list[Training]]] = [
        ("one form", [KINDS["HP"](1), KINDS["GP"](2)]),
        ("one schedule", [dense(RULE, 1), dense(RULE, 2, schedule=replace(SCHEDULE, lr_meta=1.0))]),
        ("draw at random", [dense(None, seed, encode=Poisson()) for seed in SEEDS]),
        ("best state", [replace(KINDS["HP"](seed), best=BestState()) for seed in SEEDS]),
    ]  # fmt: skip
    cases.append(("held by what earlier", [stream_of_tasks(None, s, "ewc") for s in SEEDS]))
    cases.append(("give at least one", []))
    frozen = [dense(RULE, seed) for seed in SEEDS]
    next(frozen[1].network.parameters()).requires_grad_(False)
    cases.append(("one form", frozen))
    cases.append(("one form", [dense(RULE, 1), dense(RULE, 2, tau=1.0)]))
    other_loss = replace(dense(RULE, 2), objective=torch.nn.functional.cross_entropy)
    cases.append(("one objective", [dense(RULE, 1), other_loss]))
    maml = FirstOrderMAML(
        Embedding((3,), image=(1, 8, 8)), 3, steps=1, rate=0.1, generator=source(1)
    )
    drawn, validate = (lambda _: iter(())), (lambda: 0.0)
    how = (drawn, validate, SCHEDULE, order(1), episodic.Objective())
    cases.append(("gradient steps of its own", [episodic.prepared(maml, *how) for _ in range(2)]))
    three = Split(torch.rand(21, 12).double(), torch.arange(21) % 3)
    more = training.prepared(dense(RULE, 1).network, three, three, SCHEDULE, order(1))
    inputs = Split(torch.rand(28, 12).double(), torch.arange(28) % 3)
    longer = training.prepared(dense(RULE, 2).network, inputs, inputs, SCHEDULE, order(2))
    cases.append(("as many steps", [more, longer]))
    few = episodes(RULE, 2)
    fewer = replace(few, lessons=lambda g: ((n, (*b[:5], 2)) for n, b in few.lessons(g)))
    cases.append(("the same constants", [episodes(RULE, 1), fewer]))
    (shown,) = batches(convolutional("mnist", "GP"), 1)
    rich = [convolutional("mnist", "GP") for _ in SEEDS]
    rich_ones = [training.prepared(own, shown, shown, SCHEDULE, order(1)) for own in rich]
    cases.append(("convolutions", rich_ones))
    for words, several in cases:
        with pytest.raises(ValueError, match=words):
            fit_side_by_side(several)


def test_one_checkpoint_each_to_go_on_alone_or_together(tmp_path: Path) -> None:
    """Whoever trains on, side by side or not, and whatever becomes of the others."""
    expected = [KINDS["HP"](seed) for seed in SEEDS]
    for own in expected:
        fit(own)
    paths = [tmp_path / f"{seed}.safetensors" for seed in SEEDS]

    def kept(last: int) -> list[Training]:
        how = {"schedule": replace(SCHEDULE, epochs=last)}
        own = zip(map(KINDS["HP"], SEEDS), paths, strict=True)
        return [replace(training, checkpoint=path, **how) for training, path in own]

    fit_side_by_side(kept(1))
    one, two, three = kept(2)
    fit(one)
    with pytest.raises(ValueError, match="train those alone that are behind"):
        fit_side_by_side(kept(3))
    fit_side_by_side([two, three])
    whole = kept(3)
    fit_side_by_side(whole)
    for own, mine in zip(expected, whole, strict=True):
        for name, value in own.network.state_dict().items():
            assert close(mine.network.state_dict()[name], value), name


def test_a_loss_that_is_not_finite_stops_all_of_them() -> None:
    several = [KINDS["HP"](seed) for seed in SEEDS]
    with torch.no_grad():
        next(several[1].network.parameters()).fill_(float("inf"))
    with pytest.raises(
        fitting.NonFiniteLossError, match="weight is no longer finite after epoch 1"
    ):
        fit_side_by_side(several)


def test_an_iteration_is_of_the_parts_it_trains() -> None:
    """What rests has no gradient, also where a step fails."""
    how = stream_of_tasks(RULE, 1)
    (name, batch), *_ = how.lessons(source(1))
    how.iterations[name](batch)
    resting = [p for o in how.iterations[name].resting for g in o.param_groups for p in g["params"]]
    assert resting
    assert all(p.grad is None and p.requires_grad for p in resting)
    broken = Iteration(nn.Linear(1, 1), [], lambda *_: 1 / 0, resting=how.iterations[name].resting)  # type: ignore[arg-type,return-value]
    with pytest.raises(ZeroDivisionError):
        broken(batch)
    assert all(p.requires_grad for p in resting)
