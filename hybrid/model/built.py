"""Modules that know what they were built with, so that a file can say it."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any

import torch
from torch import nn


class Built(nn.Module):
    """A module that keeps the arguments of its constructor, all but sources of randomness."""

    built_with: Mapping[str, Any] = MappingProxyType({})

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]


def _remembering(build: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(build)

    @wraps(build)
    def remember(self: Built, *args: Any, **options: Any) -> None:
        build(self, *args, **options)
        given = signature.bind(self, *args, **options)
        given.apply_defaults()
        parts: dict[str, Any] = {}
        for name, value in given.arguments.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                parts |= value
            elif kind is not inspect.Parameter.VAR_POSITIONAL:
                parts[name] = value
            elif value:
                raise TypeError(f"{type(self).__name__}: name the arguments, none of *{name}")
        # A subclass ends after its parents: what it was given is what counts.
        self.built_with = {
            name: value
            for name, value in parts.items()
            if value is not self and not isinstance(value, torch.Generator)
        }

    return remember
