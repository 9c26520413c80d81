"""Other libraries of the field, as far as they are installed: the extra `peers`."""

import os
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest


def peer(name: str) -> Any:
    """Return a module of another library; a test file without it is skipped, save on CI."""
    library = name.split(".")[0]
    if find_spec(library) is None and "CI" not in os.environ:
        pytest.skip(f"{library} is not here: pip install '.[peers]'", allow_module_level=True)
    with warnings.catch_warnings(action="ignore"):  # their own, of torch and of each other
        return import_module(name)
