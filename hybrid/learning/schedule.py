"""How long and how fast to train: optimisers of weights and θ, and their rates over the epochs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hybrid.checks import one_of, require

Decay = Literal["none", "steps", "cosine", "halves"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Constants of a training run. Raises ValueError for values that cannot work.

    Args:
        epochs, batch_size: length and grain.
        lr_weight, lr_meta: initial rates of the weights' and of θ's optimiser.
        optimiser: of the weights, "adam" or "sgd"; θ always has an Adam of its own.
        momentum, weight_decay: of "sgd".
        decay: how rates fall. "steps": to a tenth at each of `milestones`. "cosine": along half a
            cosine to zero after the last epoch. "halves": to half each `halving` epochs.
        milestones: epochs, counted from 0, for "steps".
        halving: number of epochs, for "halves".
        decay_meta: whether θ's rate falls too.
        eps: of Adam, added to the root of the second moment.
        mixed_precision: run the forward pass under torch's autocast to bfloat16; of convolutional
            networks the convolutions' operands alone, while membranes, traces and dense layers
            keep their precision.
    """

    epochs: int
    batch_size: int
    lr_weight: float
    lr_meta: float
    optimiser: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay: Decay = "none"
    milestones: tuple[int, ...] = ()
    halving: float = 1.0
    eps: float = 1e-8
    decay_meta: bool = False
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            require(self, name, getattr(self, name) >= 1, ">= 1")
        for name in ("lr_weight", "lr_meta", "halving", "eps"):
            require(self, name, getattr(self, name) > 0.0, "> 0")
        require(self, "momentum", 0.0 <= self.momentum < 1.0, "in [0, 1)")
        one_of(self, "optimiser", ("adam", "sgd"))
        one_of(self, "decay", Decay)
        decays = self.weight_decay == 0.0 or (self.weight_decay > 0.0 and self.optimiser == "sgd")
        require(self, "weight_decay", decays, ">= 0, and 0 for adam")
        stepped = (self.decay == "steps") == bool(self.milestones)
        require(self, "milestones", stepped, "given with decay = 'steps' alone")

    def optimisers(
        self,
        weights: Sequence[nn.Parameter],
        meta: Sequence[nn.Parameter],
        *,
        recorded: bool = False,
    ) -> list[torch.optim.Optimizer]:
        """Return the optimisers of weights and θ; none for an empty group.

        Args:
            weights, meta: what is trained.
            recorded: whether steps are recorded and replayed: their rates are then tensors, where
                a replayed step reads them.
        """
        chosen: list[torch.optim.Optimizer] = []
        for parameters, rate, kind, decays in (
            (weights, self.lr_weight, self.optimiser, True),
            (meta, self.lr_meta, "adam", self.decay_meta),
        ):
            if not parameters:
                continue
            start = torch.tensor(rate, device=parameters[0].device) if recorded else rate
            if kind == "adam":
                adam: dict[str, Any] = {"eps": self.eps, "fused": True, "capturable": recorded}
                chosen.append(torch.optim.Adam(parameters, start, **adam))
            else:
                sgd: dict[str, Any] = {"momentum": self.momentum, "weight_decay": self.weight_decay}
                chosen.append(torch.optim.SGD(parameters, start, **sgd, fused=True))
            for group in chosen[-1].param_groups:
                group["decays"], group["initial_lr"] = decays, rate
        return chosen

    def set_rates(self, optimisers: Sequence[torch.optim.Optimizer], epoch: int) -> None:
        """Give the optimisers the rates of `epoch`, counted from 0."""
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                share = self.share(epoch) if group["decays"] else 1.0
                rate = group["initial_lr"] * share
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def share(self, epoch: int) -> float:
        """Return the share of the initial rate that is left in `epoch`."""
        if self.decay == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * epoch / self.epochs))
        if self.decay == "halves":
            return float(0.5 ** (epoch // self.halving))
        return float(0.1 ** sum(epoch >= milestone for milestone in self.milestones))
