"""Holding on to weights that mattered for earlier tasks: EWC and synaptic intelligence.

Both add a quadratic penalty to the loss, strength / 2 · Σ Ω (w - w*)², with an importance Ω of each
weight and an anchor w*; they differ in where Ω comes from. A sum of such penalties, one per task,
is again one, up to a constant: Ω = Σ Ω_k and w* = Σ Ω_k w_k / Ω. So nothing grows with the number
of tasks.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hybrid.checks import choose
from hybrid.model.networks import ContextGated
from hybrid.model.window.sparse import Masks, dense_mask

Importance = Literal["none", "ewc", "online-ewc", "si"]

# Returns the squared gradients of a task's samples, averaged, one tensor per weight.
Fisher = Callable[[], Sequence[Tensor]]


class Consolidation(nn.Module):
    """The penalty, as buffers that are saved with a network; gradients are added by hand.

    Args:
        weights: the weights to hold, in the order in which `fisher` gives their information.
        importance: "none"; "ewc", the Fisher information of all tasks (Kirkpatrick et al., PNAS
            114, 2017); "online-ewc", of the latest and, fading, the earlier ones, around the latest
            weights (Schwarz et al., ICML 2018); "si", the share of each weight in the fall of the
            loss (Zenke et al., ICML 2017).
        strength: factor of the penalty.
        fading: of earlier importance at each task, for "online-ewc".
        damping: keeps the importance of weights that hardly moved small, for "si".

    Raises:
        ValueError: if a value makes no sense.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        importance: Importance,
        *,
        strength: float = 1.0,
        fading: float = 1.0,
        damping: float = 0.1,
    ) -> None:
        super().__init__()
        choose("importance", importance, get_args(Importance))
        for name, value in (("strength", strength), ("damping", damping)):
            if not value > 0.0:
                raise ValueError(f"{name} = {value}: it must be > 0")
        if not 0.0 <= fading <= 1.0:
            raise ValueError(f"fading = {fading}: it must lie in [0, 1]")
        self.importance, self.strength = importance, strength
        self.fading, self.damping = fading, damping
        self._weights = [] if importance == "none" else list(weights)
        names = ["omega", "anchor"] + (["path", "start"] if importance == "si" else [])
        for name in names:
            for i, weight in enumerate(self._weights):
                kept = weight.detach().clone() if name == "start" else torch.zeros_like(weight)
                self.register_buffer(f"{name}_{i}", kept)

    def named(self, name: str) -> list[Tensor]:
        """Return one buffer per weight: "omega" or "anchor"."""
        return [getattr(self, f"{name}_{i}") for i in range(len(self._weights))]

    def _held(self, *names: str) -> Iterator[tuple[Tensor, ...]]:
        """Yield each weight with its buffers of these names."""
        return zip(self._weights, *map(self.named, names), strict=True)

    @torch.no_grad()
    def step(self, optimise: Callable[[], object]) -> None:
        """Let an optimiser take a step along the gradients of the loss and of the penalty."""
        if self.importance == "none":
            optimise()
            return
        before = []
        for weight, omega, anchor in self._held("omega", "anchor"):
            assert weight.grad is not None
            if self.importance == "si":  # of the loss alone
                before.append((weight.detach().clone(), weight.grad.clone()))
            weight.grad.addcmul_(omega, weight - anchor, value=self.strength)
        optimise()
        if self.importance == "si":
            for (old, slope), (weight, path) in zip(before, self._held("path"), strict=True):
                path.addcmul_(slope, weight - old, value=-1.0)

    def end_task(self, fisher: Fisher) -> None:
        """Take in what the task that ends has made important; `fisher` is asked by EWC alone."""
        if self.importance == "si":
            self._end_path()
        elif self.importance != "none":
            self._add_fisher(fisher())

    @torch.no_grad()
    def _add_fisher(self, found: Sequence[Tensor]) -> None:
        for new, (weight, omega, anchor) in zip(found, self._held("omega", "anchor"), strict=True):
            if self.importance == "online-ewc":
                omega.mul_(self.fading).add_(new)
                anchor.copy_(weight)
            else:
                total = omega + new
                moved = (omega * anchor + new * weight) / total.clamp(min=torch.finfo().tiny)
                anchor.copy_(torch.where(total > 0.0, moved, weight))
                omega.copy_(total)

    @torch.no_grad()
    def _end_path(self) -> None:
        for weight, omega, anchor, path, start in self._held("omega", "anchor", "path", "start"):
            moved = (weight - start) ** 2 + self.damping
            omega.add_((path / moved).clamp(min=0.0))
            anchor.copy_(weight)
            start.copy_(weight)
            path.zero_()


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
        squares = _squares(network, batch, generator, masks, choices)
        for total, square in zip(sums, squares, strict=True):
            total.add_(square)
    if masks is not None:
        for total, mask in zip(sums, masks, strict=True):
            total.mul_(dense_mask(mask).mT.to(total))
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
        noise = torch.zeros_like(noise).index_copy(1, choices, noise[:, choices])
    noise = noise * (2.0 / (output.shape[1] if choices is None else len(choices))) ** 0.5
    potentials = [state.v for window in windows for state in window.states]
    gradients = iter(torch.autograd.grad((output * noise).sum(), potentials))
    inputs = [gain * images for gain in network.gain]
    squares = []
    for window in windows:
        slopes = [next(gradients) for _ in window.states]
        squares.append(_squared_sums([x.detach() for x in inputs], slopes))
        inputs = [g * state.z for g, state in zip(network.gain, window.states, strict=True)]
    last = potentials[-1].detach()
    return [*squares, (noise**2).mT @ last**2]


def _squared_sums(inputs: list[Tensor], slopes: list[Tensor]) -> Tensor:
    """Return Σ_n (Σ_t d_tn x_tn)² [out, in]."""
    total = torch.zeros(slopes[0].shape[1], inputs[0].shape[1]).to(inputs[0])
    for t, s in combinations_with_replacement(range(len(inputs)), 2):
        pair = (slopes[t] * slopes[s]).mT @ (inputs[t] * inputs[s])
        total.add_(pair, alpha=1.0 if t == s else 2.0)
    return total
