"""Few-shot read-out and embedding: the authors' episode, batches, shapes."""

import pytest
import torch
import torch.nn.functional as F

from hybrid.model.embedding import Embedding
from hybrid.model.few_shot import FewShotReadOut, Support
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.model.windows import Evaluation, run_window
from tests.golden import Golden, assert_gradient, assert_value

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
    with torch.no_grad():
        for i, module in enumerate(embedding.convolutions, 1):
            module.weight.copy_(golden[f"param_conv{i}.weight"])
            module.bias.copy_(golden[f"param_conv{i}.bias"])
        head.weight.copy_(golden["param_fc1.weight"])
        head.mixing.copy_(golden["param_alpha"])
        head.sliding_threshold.copy_(golden["param_beta"])
        head.local_rate.copy_(golden["param_eta"].squeeze())

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
    assert_gradient(head.mixing.grad, golden["grad_alpha"])
    assert_gradient(head.sliding_threshold.grad, golden["grad_beta"])
    assert_gradient(head.local_rate.grad, golden["grad_eta"])
