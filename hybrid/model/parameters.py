"""What layers own beside their weights: θ, trained constants of neurons, what rules remember."""

from typing import Any

import torch
from torch import Tensor, nn

from hybrid.model.plasticity import Memory, mapped


class Named(nn.Module):
    """A few tensors by name."""

    def extra_repr(self) -> str:
        """Return names and shapes."""
        own = [*self.named_parameters(recurse=False), *self.named_buffers(recurse=False)]
        return ", ".join(f"{name} {list(value.shape)}" for name, value in own)


class Theta(Named):
    """θ, the meta-local parameters of a layer, by name: what training tells from weights."""

    local_gain: nn.Parameter
    local_rate: nn.Parameter
    sliding_threshold: nn.Parameter
    mixing: nn.Parameter  # of the few-shot read-out, in the place of the local gain

    def __init__(self, **values: Tensor) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(value))


class Constants(Named):
    """A layer's own copies of those constants of its neurons that are tensors."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in values.items():
            own = value.detach().clone()
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, nn.Parameter(own, value.requires_grad))
            else:
                self.register_buffer(name, own)

    def now(self) -> dict[str, Tensor]:
        """Return the present values by name."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}


class Kept(Named):
    """What a rule remembers from call to call, as buffers of its layer."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._form = mapped(lambda _: torch.empty(0), memory)
        self.store(memory)

    def store(self, memory: Memory) -> None:
        """Keep a memory of the form that it began with."""
        found: list[Tensor] = []
        mapped(lambda value: found.append(value) or value, memory)  # type: ignore[func-returns-value]
        for number, value in enumerate(found):
            before = self._buffers.get(f"part{number}")
            if before is not None and before.shape != value.shape:
                raise ValueError(
                    f"a memory of shape {list(value.shape)} cannot be kept for all samples, whose "
                    f"memory is {list(before.shape)}: start from stored()"
                )
            self.register_buffer(f"part{number}", value)

    def value(self) -> Memory:
        """Return the memory."""
        parts = iter([value for value in self._buffers.values() if value is not None])
        return mapped(lambda _: next(parts), self._form)


def renew_buffers(module: nn.Module, *_: Any) -> None:
    """Give a module buffers of its own before others are loaded: states handed out stay."""
    for own in module.modules():
        for name, value in own._buffers.items():
            own._buffers[name] = None if value is None else value.clone()
