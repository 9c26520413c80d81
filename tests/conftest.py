"""One thread and one instruction set in every test: the same bits wherever there is AVX2."""

import gc
import os

import pytest

from hybrid.runs.instructions import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # before torch is loaded

import torch
from hypothesis import settings

torch.set_num_threads(1)

# The same examples each time: whether a change passes must not depend on luck. Others are drawn by
# `pytest --hypothesis-profile default`.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what stays anyway: a million objects of libraries."""
    gc.collect()
    gc.freeze()
