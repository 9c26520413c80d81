"""The Fisher information of a context-gated network's weights, sample by sample."""

from itertools import combinations_with_replacement

import torch
from torch import Tensor

from hybrid.model.context import ContextGated, Masks


def fisher_information(
    network: ContextGated,
    images: Tensor,
    generator: torch.Generator,
    *,
    masks: Masks | None = None,
    choices: Tensor | None = None,
    batch_size: int = 100,
) -> list[Tensor]:
    """Return the diagonal of the Fisher information, one tensor like each weight.

    The mean squared error over C outputs is, up to a constant, minus the log-likelihood of a
    Gaussian model of the targets with variance C / 2. For targets drawn from that model its
    gradient is that of output · noise · sqrt(2 / C), so that one backward pass per batch gives an
    unbiased estimate. Traces have no part in it.

    Squares are of each sample's own gradient, not of a batch's mean. They need no [N, in, out]
    tensor: with the input x_t and the gradient d_t of a layer's potentials,

        Σ_n (Σ_t x_tn d_tn)² = Σ_{t,s} (x_t ∘ x_s)ᵀ (d_t ∘ d_s) .

    Args:
        images: [N, in], at least one.
        generator: draws the noise.
        masks: of a task; what they hide has no information.
        choices: outputs that the task has to do with; None for all.
    """
    sums = [torch.zeros_like(weight) for weight in network.weights]
    for batch in images.split(batch_size):
        for total, square in zip(
            sums, _squares(network, batch, generator, masks, choices), strict=True
        ):
            total.add_(square)
    if masks is not None:
        for total, mask in zip(sums, masks, strict=True):
            total.mul_(mask.dense().mT.to(total))
    return [total / len(images) for total in sums]


def _squares(
    network: ContextGated,
    images: Tensor,
    generator: torch.Generator,
    masks: Masks | None,
    choices: Tensor | None,
) -> list[Tensor]:
    """Return sums of squared gradients over a batch, one [out, in] per weight."""
    output, windows = network(images, masks, adapt=False)
    noise = torch.randn(output.shape, generator=generator).to(output)
    if choices is not None:
        chosen = torch.zeros_like(noise)
        chosen[:, choices] = noise[:, choices]
        noise = chosen
    noise = noise * (2.0 / (output.shape[1] if choices is None else len(choices))) ** 0.5
    potentials = [state.v for window in windows for state in window.states]
    gradients = iter(torch.autograd.grad((output * noise).sum(), potentials))
    inputs = [gain * images for gain in network.gain]
    squares = []
    for window in windows:
        slopes = [next(gradients) for _ in window.states]
        squares.append(_squared_sums([x.detach() for x in inputs], slopes))
        spikes = zip(network.gain, window.states, strict=True)
        inputs = [gain * state.z for gain, state in spikes]
    last = potentials[-1].detach()
    return [*squares, (noise**2).mT @ last**2]


def _squared_sums(inputs: list[Tensor], slopes: list[Tensor]) -> Tensor:
    """Return Σ_n (Σ_t d_tn x_tn)² [out, in]."""
    total = torch.zeros(slopes[0].shape[1], inputs[0].shape[1]).to(inputs[0])
    for t, s in combinations_with_replacement(range(len(inputs)), 2):
        pair = (slopes[t] * slopes[s]).mT @ (inputs[t] * inputs[s])
        total.add_(pair, alpha=1.0 if t == s else 2.0)
    return total
