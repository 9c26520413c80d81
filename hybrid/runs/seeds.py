"""One seed, many independent named streams of random numbers.

A stream is found by its name, not by the order of asking, so a new consumer moves no other.
"""

import hashlib

import numpy as np
import torch


def _entropy(seed: int, name: tuple[str | int, ...]) -> np.random.SeedSequence:
    if seed < 0:
        raise ValueError(f"seed = {seed}: seeds must be >= 0")
    digest = hashlib.sha256(repr(name).encode()).digest()
    words = np.frombuffer(digest, dtype=np.uint32)
    return np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in words[:4]))


def numpy_stream(seed: int, *name: str | int) -> np.random.Generator:
    """Return the numpy generator of stream `name` of `seed`."""
    return np.random.default_rng(_entropy(seed, name))


def torch_stream(seed: int, *name: str | int) -> torch.Generator:
    """Return the torch generator (CPU) of stream `name` of `seed`."""
    (state,) = _entropy(seed, name).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)
