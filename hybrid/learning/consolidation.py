"""Holding on to weights that mattered for earlier tasks: EWC and synaptic intelligence.

Both add a quadratic penalty to the loss, strength / 2 · Σ Ω (w - w*)², with an importance Ω of each
weight and an anchor w*; they differ in where Ω comes from. A sum of such penalties, one per task,
is again one, up to a constant: Ω = Σ Ω_k and w* = Σ Ω_k w_k / Ω. So nothing grows with the number
of tasks.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Importance = Literal["none", "ewc", "online-ewc", "si"]
IMPORTANCES: tuple[Importance, ...] = ("none", "ewc", "online-ewc", "si")

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
        if importance not in IMPORTANCES:
            raise ValueError(f"importance = {importance!r}: choose one of {', '.join(IMPORTANCES)}")
        for name, value in (("strength", strength), ("damping", damping)):
            if not value > 0.0:
                raise ValueError(f"{name} = {value}: it must be > 0")
        if not 0.0 <= fading <= 1.0:
            raise ValueError(f"fading = {fading}: it must lie in [0, 1]")
        self.importance, self.strength, self.fading, self.damping = (
            importance,
            strength,
            fading,
            damping,
        )
        self._weights = [] if importance == "none" else list(weights)
        names = ["omega", "anchor"] + (["path", "start"] if importance == "si" else [])
        for name in names:
            for i, weight in enumerate(self._weights):
                kept = weight.detach().clone() if name == "start" else torch.zeros_like(weight)
                self.register_buffer(f"{name}_{i}", kept)

    def named(self, name: str) -> list[Tensor]:
        """Return one buffer per weight: "omega" or "anchor"."""
        return [getattr(self, f"{name}_{i}") for i in range(len(self._weights))]

    @torch.no_grad()
    def step(self, optimise: Callable[[], object]) -> None:
        """Let an optimiser take a step along the gradients of the loss and of the penalty."""
        if self.importance == "none":
            optimise()
            return
        before, slopes = [], []
        buffers = zip(self._weights, self.named("omega"), self.named("anchor"), strict=True)
        for weight, omega, anchor in buffers:
            assert weight.grad is not None
            if self.importance == "si":  # of the loss alone
                before.append(weight.detach().clone())
                slopes.append(weight.grad.clone())
            weight.grad.addcmul_(omega, weight - anchor, value=self.strength)
        optimise()
        if self.importance == "si":
            for path, slope, old, weight in zip(
                self.named("path"), slopes, before, self._weights, strict=True
            ):
                path.addcmul_(slope, weight - old, value=-1.0)

    def end_task(self, fisher: Fisher) -> None:
        """Take in what the task that ends has made important; `fisher` is asked by EWC alone."""
        if self.importance == "none":
            return
        if self.importance == "si":
            self._end_path()
        else:
            self._add_fisher(fisher())

    @torch.no_grad()
    def _add_fisher(self, found: Sequence[Tensor]) -> None:
        buffers = zip(self._weights, self.named("omega"), self.named("anchor"), found, strict=True)
        for weight, omega, anchor, new in buffers:
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
        names = ("omega", "anchor", "path", "start")
        for weight, omega, anchor, path, start in zip(
            self._weights, *(self.named(name) for name in names), strict=True
        ):
            moved = (weight - start) ** 2 + self.damping
            omega.add_((path / moved).clamp(min=0.0))
            anchor.copy_(weight)
            start.copy_(weight)
            path.zero_()
