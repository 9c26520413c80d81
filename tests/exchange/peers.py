"""Other libraries of the field, which networks are compared with: `make` installs them."""

import warnings
from importlib import import_module
from typing import Any


def peer(name: str) -> Any:
    """Return a module of another library, without what it warns of when it is imported."""
    with warnings.catch_warnings(action="ignore"):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{error.name} is not here: the tests of hybrid/exchange need the extra `peers`, "
                "see PEERS in the Makefile"
            ) from error
