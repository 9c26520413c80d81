"""First-order MAML: what one episode does to the weights, by hand."""

import pytest
import torch
import torch.nn.functional as F

from hybrid.learning.episodic import FirstOrderMAML
from hybrid.model.embedding import Embedding


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(steps: int = 2) -> FirstOrderMAML:
    embedding = Embedding((3, 4), image=(1, 8, 8), generator=generator())
    return FirstOrderMAML(embedding, 3, steps=steps, rate=0.4, generator=generator()).double()


IMAGES = torch.rand(8, 1, 8, 8, generator=generator(1), dtype=torch.float64)
SUPPORT, LABELS = torch.tensor([[0, 1, 2], [5, 4, 3]]), torch.tensor([[0, 1, 2], [1, 0, 2]])
QUERY, TARGETS = torch.tensor([[6, 7], [7, 6]]), torch.tensor([[0, 2], [1, 1]])


def test_each_episode_takes_gradient_steps_from_the_same_weights() -> None:
    net = network()
    scores = net(IMAGES, SUPPORT, LABELS, QUERY)
    assert scores.shape == (2, 2, 3)
    for episode in (0, 1):
        alone = network()
        optimiser = torch.optim.SGD(alone.parameters(), 0.4)
        for _ in range(2):
            optimiser.zero_grad()
            features = alone.embedding(IMAGES[SUPPORT[episode]])
            loss = F.cross_entropy(F.linear(features, alone.weight, alone.bias), LABELS[episode])
            loss.backward()
            optimiser.step()
        features = alone.embedding(IMAGES[QUERY[episode]])
        torch.testing.assert_close(scores[episode], F.linear(features, alone.weight, alone.bias))

        # First order: the gradient at the adapted weights is the gradient of the first ones.
        net.zero_grad()
        F.cross_entropy(scores[episode], TARGETS[episode]).backward(retain_graph=True)
        alone.zero_grad()
        F.cross_entropy(F.linear(features, alone.weight, alone.bias), TARGETS[episode]).backward()
        for ours, expected in zip(net.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, expected.grad)


def test_it_answers_without_gradients_and_leaves_no_mark() -> None:
    net = network()
    before = [value.clone() for value in net.state_dict().values()]
    with torch.no_grad():
        scores = net(IMAGES, SUPPORT, LABELS, QUERY, ways=3)
    torch.testing.assert_close(scores, net(IMAGES, SUPPORT, LABELS, QUERY))
    for value, old in zip(net.state_dict().values(), before, strict=True):
        assert torch.equal(value, old)


def test_what_cannot_work_is_refused() -> None:
    embedding = Embedding((3,), image=(1, 8, 8), normalised=True, generator=generator())
    with pytest.raises(ValueError, match="must not be normalised"):
        FirstOrderMAML(embedding, 3, steps=1, rate=0.4, generator=generator())
    with pytest.raises(ValueError, match=r"give >= 2, >= 1, > 0"):
        network(steps=0)
