"""Training what sparse masks leave of weights, as vectors of a few per cent of their size."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hybrid.learning.iteration import Iteration
from hybrid.model.window.sparse import Masks, SparseMask

# Steps without a gradient after which a step of Adam, (β1 / √β2)^steps of what it was, is far
# below the rounding of a weight.
FADED = 400


class _Part(NamedTuple):
    weight: Tensor
    mask: SparseMask
    own: nn.Parameter  # its entries at the ones of the mask


def _is_plain_adam(optimiser: torch.optim.Optimizer) -> bool:
    """Return whether an optimiser moves what has no gradient by fading moments alone."""
    plain = type(optimiser) is torch.optim.Adam and len(optimiser.param_groups) == 1
    return plain and not any(optimiser.param_groups[0][x] for x in ("amsgrad", "weight_decay"))


@contextmanager
def owned(iteration: Iteration, weights: Sequence[Tensor], masks: Masks) -> Iterator[Masks]:
    """Let an iteration train, within the block, the entries of weights at the ones of masks alone.

    The other entries have no gradient under these masks. Where their moments are zero, as after
    `start_anew`, or have faded for `FADED` steps, Adam leaves them where they are, and their
    moments fade on. So the result is the same up to rounding, without tensors of zeros to fill and
    to step along: a third of an iteration. An error within the block leaves weights and moments as
    they were.

    Args:
        iteration: of these weights.
        weights: [out, in].
        masks: of the weights, in their order.

    Yields:
        Masks in whose place the iteration's network is to be called; those given, where nothing
        can be spared: they are not sparse, the optimiser has other weights, or is not plain Adam.
    """
    optimisers = list(iteration.optimisers)
    if len(optimisers) != 1 or not _is_plain_adam(optimisers[0]):
        yield masks
        return
    (whole,) = optimisers
    (group,) = whole.param_groups
    trained = {id(parameter) for parameter in group["params"]}
    parts = [
        _Part(weight, mask, nn.Parameter(mask.take(weight.detach())))
        for weight, mask in zip(weights, masks, strict=True)
        if isinstance(mask, SparseMask) and id(weight) in trained
    ]
    if {id(part.weight) for part in parts} != trained:
        yield masks
        return
    small = torch.optim.Adam([{**group, "params": [part.own for part in parts]}])
    for weight, mask, part in parts:
        for name, past in whole.state[weight].items():
            taken = mask.take(past) if past.shape == weight.shape else past.clone()
            small.state[part][name] = taken
    iteration.optimisers = [small]
    try:
        own = {id(part.weight): part.mask.holding(part.own) for part in parts}
        pairs = zip(weights, masks, strict=True)
        yield [own.get(id(weight), mask) for weight, mask in pairs]
    finally:
        iteration.optimisers = [whole]
    fading = dict(zip(("exp_avg", "exp_avg_sq"), group["betas"], strict=True))
    with torch.no_grad():
        for weight, mask, part in parts:
            weight.put_(mask.positions, part)
            new, past = small.state[part], whole.state[weight]
            steps = float(new.get("step", 0.0)) - float(past.get("step", 0.0))
            for name, rate in fading.items() if new else ():
                moments = past.setdefault(name, torch.zeros_like(weight))
                moments.mul_(rate**steps).put_(mask.positions, new[name])
            past |= {name: value for name, value in new.items() if name not in fading}
