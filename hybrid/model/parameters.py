"""What layers own beside their weights: θ, trained constants of neurons, what rules remember."""

from typing import Any

import torch
from torch import Tensor, nn

from hybrid.model.neurons import Neuron, with_constants
from hybrid.model.plasticity import Memory, mapped, tensors_in


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

    def of(self, neuron: Neuron, dtype: torch.dtype | None = None) -> Neuron:
        """Return a neuron with the present values, those of parameters within their bounds.

        Args:
            neuron: whose constants they are.
            dtype: of the weights beside them; None leaves them as they are.
        """
        # As modules hold them: under `torch.func` a parameter may be a plain tensor.
        own = {**self._parameters, **self._buffers}
        now = {name: value.to(dtype) for name, value in own.items() if value is not None}
        return with_constants(neuron, now, self._parameters)


class Kept(Named):
    """What a rule remembers from call to call, as buffers of its layer."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._form, self._words = mapped(lambda _: torch.empty(0), memory), _short(memory)
        mapped(_shared, memory)
        self.store(memory)

    def store(self, memory: Memory) -> None:
        """Keep a memory of the form that it began with.

        Raises:
            ValueError: if it has another form, or is not one for all samples.
        """
        if (words := _short(memory)) != self._words:
            raise ValueError(
                f"a memory of the form {words} cannot be kept in the place of {self._words}: begin "
                "with tensors for all that is remembered later"
            )
        for number, value in enumerate(tensors_in(memory)):
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


def _shared(value: Tensor) -> Tensor:
    """Return a tensor that begins with 1; ValueError for another, which no layer keeps."""
    if value.ndim == 0 or len(value) != 1:
        raise ValueError(
            f"a memory of shape {list(value.shape)}: what a rule begins with is for all samples, "
            "so that each of its tensors has a first dimension of 1"
        )
    return value


def _short(form: Any) -> str:
    """Return the form of a memory in words."""
    if isinstance(form, Tensor):
        return "a tensor"
    if form is None:
        return "None"
    return f"{type(form).__name__}({', '.join(map(_short, form))})"
