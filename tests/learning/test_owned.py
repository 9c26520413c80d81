"""A task's own weights, trained as vectors: the same end as that of whole weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybrid.learning import continual
from hybrid.learning.continual import StreamTraining
from hybrid.learning.fitting import fit
from hybrid.learning.iteration import Iteration, Split
from hybrid.learning.owned import owned
from hybrid.learning.schedule import Schedule
from hybrid.model.plasticity import Hebbian, LocalRule
from hybrid.model.rules import BCM
from hybrid.model.window.sparse import random_masks
from tests.learning.test_continual import learner_of, network, prepared_of, stream


@pytest.mark.parametrize(
    ("local", "fresh", "rule"),
    [
        (False, True, None),
        (True, True, None),
        (True, False, None),
        (True, True, BCM(trace_decay=0.5, trace_clip=0.2)),
        (True, True, Hebbian(trace_decay=0.8, trace_clip=0.001)),
    ],
)
def test_owned_weights_end_as_all_of_them(
    local: bool, fresh: bool, rule: LocalRule | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained as vectors at the ones of the masks: weights, θ, moments and accuracies agree.

    Also where moments go on from task to task, once they have faded.
    """
    monkeypatch.setattr(continual, "FADED", 240)
    epochs, size = (2, 10) if fresh else (5, 1)
    ends = []
    for dense in (False, True):
        net = network(local).double()
        for layer in net.layers:
            layer.rule = rule or layer.rule
        start = [weight.detach().clone() for weight in net.weights]
        learner = learner_of(net, gated=True)
        learner.dense = dense
        data = Split(stream().train.inputs.double(), stream().train.labels)
        meta: Any = "replay" if local else "none"
        training = StreamTraining(epochs=epochs, meta=meta, fresh=fresh)
        schedule = Schedule(epochs=3 * epochs, batch_size=size, lr_weight=1e-3, lr_meta=1e-3)
        tasks = stream()._replace(train=data, test=data)
        how = continual.prepared(learner, tasks, training, schedule, torch.Generator().manual_seed)
        seen: list[int] = []
        iteration = how.iterations["weights"]
        shown = iteration.measure

        def measure(*batch: Any, its: Iteration = iteration, shown: Any = shown) -> Tensor:
            seen.append(its.optimisers[0].param_groups[0]["params"][0].ndim)  # noqa: B023
            return shown(*batch)  # type: ignore[no-any-return]

        iteration.measure = measure
        fit(how)
        assert not any(torch.equal(a, b) for a, b in zip(net.weights, start, strict=True))
        if not dense and not fresh:  # the last of five epochs of each task
            assert seen.count(1) * 5 == len(seen)
        else:
            assert set(seen) == {2 if dense else 1}
        state = [
            value
            for o in how.optimisers
            for s in o.state.values()
            for _, value in sorted(s.items())
        ]
        ends.append([*learner.state_dict().values(), *state])
    assert len(ends[0]) == len(ends[1])
    for a, b in zip(*ends, strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=1e-9, atol=1e-12, equal_nan=True)


def test_an_epoch_that_fails_leaves_weights_as_they_were() -> None:
    learner = learner_of(gated=True)
    how = prepared_of(learner, StreamTraining(epochs=1))
    before = [weight.detach().clone() for weight in learner.network.weights]
    lessons = how.lessons(torch.Generator().manual_seed(0))
    name, batch = next(lessons)
    how.iterations[name](batch)
    (whole,) = how.optimisers
    assert how.iterations[name].optimisers != [whole]
    lessons.close()  # type: ignore[attr-defined]
    assert how.iterations[name].optimisers == [whole]
    assert all(torch.equal(a, b) for a, b in zip(learner.network.weights, before, strict=True))


def test_owned_leaves_other_optimisers_alone() -> None:
    """Decaying weights, AdamW, SGD and two groups train all of a weight; masks come back."""
    weights = [nn.Parameter(torch.ones(4, 3)) for _ in range(2)]
    masks = random_masks((3, 4, 3), 0.5, torch.Generator().manual_seed(1))[:1] * 2
    for optimiser in (
        torch.optim.Adam(weights, weight_decay=0.1),
        torch.optim.Adam(weights, amsgrad=True),
        torch.optim.AdamW(weights),
        torch.optim.SGD(weights),
        torch.optim.Adam([{"params": weights[:1]}, {"params": weights[1:]}]),
    ):
        iteration = Iteration(nn.Linear(1, 1), [optimiser], lambda: torch.ones(()))
        with owned(iteration, weights, masks) as given:
            assert list(given) == list(masks)
            assert iteration.optimisers == [optimiser]
    iteration = Iteration(nn.Linear(1, 1), [torch.optim.Adam(weights)], lambda: torch.ones(()))
    with owned(iteration, weights, masks) as given:  # one mask for two weights
        first, second = (mask.take(torch.zeros(4, 3)) for mask in given)
        assert first is not second
