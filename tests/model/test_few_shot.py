"""Few-shot read-out and embedding: the authors' episode, batches, shapes."""

import pytest
import torch
import torch.nn.functional as F

from hybrid.model.embedding import Embedding
from hybrid.model.few_shot import FewShot, FewShotReadOut, Support
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.model.window.choice import Evaluation, run_window
from tests.golden import DEVICE, Golden, assert_gradient, assert_value

NEURON = LIF(decay=0.2, v_th=0.5, reset="zero")
RULE = Hebbian(trace_decay=0.99, post="softmax")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("evaluation", ["auto", "recurrent", "factored"])
def test_one_episode_agrees_with_the_authors(evaluation: Evaluation) -> None:
    """Output, trace and every gradient of one 5-way 1-shot episode."""
    golden = Golden("few_shot_5way")
    embedding = Embedding((8, 8, 8, 8), generator=generator())
    head = FewShotReadOut(
        32, 5, neuron=NEURON, rule=RULE, generator=generator(), meta_generator=generator()
    )
    embedding.to(DEVICE)
    head.to(DEVICE)
    with torch.no_grad():
        for i, module in enumerate(embedding.convolutions, 1):
            module.weight.copy_(golden[f"param_conv{i}.weight"])
            module.bias.copy_(golden[f"param_conv{i}.bias"])
        head.weight.copy_(golden["param_fc1.weight"])
        head.theta.mixing.copy_(golden["param_alpha"])
        head.theta.sliding_threshold.copy_(golden["param_beta"])
        head.theta.local_rate.copy_(golden["param_eta"].squeeze())

    features = embedding(golden["x"].squeeze(1)).unsqueeze(0)
    labels = golden["label_current"][:-1].argmax(-1).T
    bound = head.bind(Support(features[:, :-1], labels), evaluation=evaluation)
    assert torch.stack([state.z for state in bound.states]).sum() >= 5
    output = head.recall(features[:, -1:], bound.final).softmax(-1).squeeze(1)
    loss = F.binary_cross_entropy(output, golden["target"])
    loss.backward()

    assert_value(output, golden["output"])
    assert_value(loss, golden["loss"])
    # The authors let the query move the trace as well, before they forget it.
    teacher = head.label_current * golden["label_current"]
    whole = run_window(
        features.unbind(1), head.synapse(5), NEURON, RULE, pool="sample", teacher=teacher
    )
    assert whole.final.trace is not None
    assert_value(whole.final.trace[0], golden["trace_out"])
    assert_value(whole.v[-1].softmax(-1), golden["output"])
    for i, module in enumerate(embedding.convolutions, 1):
        assert_gradient(module.weight.grad, golden[f"grad_conv{i}.weight"])
        assert_gradient(module.bias.grad, golden[f"grad_conv{i}.bias"])
    assert_gradient(head.weight.grad, golden["grad_fc1.weight"])
    assert_gradient(head.theta.mixing.grad, golden["grad_alpha"])
    assert_gradient(head.theta.sliding_threshold.grad, golden["grad_beta"])
    assert_gradient(head.theta.local_rate.grad, golden["grad_eta"])


def read_out(ways: int = 5, rule: Hebbian | None = RULE) -> FewShotReadOut:
    return FewShotReadOut(
        7,
        ways,
        neuron=NEURON,
        rule=rule,
        label_current=100.0,
        generator=generator(1),
        meta_generator=generator(2),
    )


def looks(episodes: int = 3, shots: int = 2, ways: int = 5) -> Support:
    features = torch.randn(episodes, ways * shots, 7, generator=generator(3))
    order = [torch.randperm(ways * shots, generator=generator(i)) for i in range(episodes)]
    return Support(features, torch.stack(order) % ways)


def test_the_trace_is_a_sum_of_labelled_features() -> None:
    """Eq. 14: with a strong label, P = η Σ λ^age x ⊗ label."""
    head, support = read_out(), looks()
    trace = head.bind(support).final.trace
    assert trace is not None
    ages = torch.arange(9, -1, -1)
    labelled = F.one_hot(support.labels, 5).float()
    weighted = support.features * (0.1 * 0.99**ages).unsqueeze(-1)
    torch.testing.assert_close(trace, weighted.mT @ labelled, atol=1e-4, rtol=0)


def test_queries_do_not_disturb_each_other() -> None:
    head, support = read_out(), looks()
    query = torch.randn(3, 4, 7, generator=generator(4))
    together = head(support, query)
    for i in range(4):
        torch.testing.assert_close(head(support, query[:, i : i + 1])[:, 0], together[:, i])


def test_fewer_ways_use_the_first_neurons() -> None:
    wide, support = read_out(ways=9), looks()
    narrow = read_out()
    with torch.no_grad():
        narrow.weight.copy_(wide.weight[:5])
        narrow.theta.mixing.copy_(wide.theta.mixing[:, :5])
        narrow.theta.sliding_threshold.copy_(wide.theta.sliding_threshold[:5])
    query = torch.randn(3, 2, 7, generator=generator(4))
    torch.testing.assert_close(wide(support, query, ways=5), narrow(support, query))


def test_the_local_rate_is_bounded() -> None:
    head = read_out()
    with torch.no_grad():
        head.theta.local_rate.fill_(5.0)
    meta = head.synapse(5).meta
    assert meta is not None
    assert meta.local_rate.item() == pytest.approx(0.1)


def test_bad_episodes_are_refused() -> None:
    head, (features, labels) = read_out(), looks()
    with pytest.raises(ValueError, match="ways = 6: this read-out tells 2 to 5"):
        head.bind(Support(features, labels), ways=6)
    with pytest.raises(ValueError, match=r"shape \[episodes, looks, 7\], got \[3, 10, 6\]"):
        head.bind(Support(features[..., :6], labels))
    with pytest.raises(ValueError, match=r"labels must have shape \[3, 10\], got \[3, 9\]"):
        head.bind(Support(features, labels[:, :9]))
    with pytest.raises(ValueError, match=r"labels must lie in 0 … 3"):
        head.bind(Support(features, labels), ways=4)
    with pytest.raises(ValueError, match="give >= 1 and >= 2"):
        read_out(ways=1)


def test_embeddings() -> None:
    plain = Embedding((4, 6), image=(1, 9, 9), generator=generator())
    assert plain.features == 6 * 3 * 3
    images = torch.rand(5, 1, 9, 9, generator=generator())
    assert plain(images).shape == (5, 54)
    assert plain(images).abs().max() < 1.0
    scaled = Embedding((4, 6), image=(1, 9, 9), length=3.0, normalised=True, generator=generator())
    torch.testing.assert_close(scaled(images).norm(dim=1), torch.full((5,), 3.0))
    scaled.eval()
    alone = torch.cat([scaled(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(alone, scaled(images))
    with pytest.raises(ValueError, match=r"images must have shape \[N, \(1, 9, 9\)\]"):
        plain(images[..., :8])
    with pytest.raises(ValueError, match="choose one of tanh, relu"):
        Embedding((4,), activation="sigmoid", generator=generator())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="length = 0"):
        Embedding((4,), length=0.0, generator=generator())


def test_a_network_embeds_each_image_once() -> None:
    embedding = Embedding((4, 6), image=(1, 9, 9), generator=generator())
    head = FewShotReadOut(
        54, 3, neuron=NEURON, rule=RULE, generator=generator(), meta_generator=generator()
    )
    network = FewShot(embedding, head)
    images = torch.rand(5, 1, 9, 9, generator=generator())
    support, labels = torch.tensor([[0, 1, 2], [2, 0, 4]]), torch.tensor([[0, 1, 2], [1, 0, 2]])
    query = torch.tensor([[3, 4], [3, 1]])
    scores = network(images, support, labels, query)
    features = embedding(images)
    direct = head(Support(features[support], labels), features[query])
    torch.testing.assert_close(scores, direct)
    names = {id(p): name for name, p in network.named_parameters()}
    meta = {names[id(p)] for p in network.meta_parameters()}
    assert meta == {"head.theta.mixing", "head.theta.local_rate", "head.theta.sliding_threshold"}
    assert len(network.weight_parameters()) == 2 * 2 + 1
