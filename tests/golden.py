"""Golden vectors: what the authors' own code computes, and how closely we must agree.

HYBRID_TEST_DEVICE=cuda compares on a GPU.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "vectors"
DEVICE = torch.device(os.environ.get("HYBRID_TEST_DEVICE", "cpu"))
# Of float32 operands it would keep ten bits.
torch.backends.cudnn.allow_tf32 = False


class Golden:
    """One vector file: tensors by name, and the constants it was computed with."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as file:
            self.config: dict[str, Any] = json.loads(str(file["config"]))
            self._tensors = {
                k: torch.from_numpy(file[k]).to(DEVICE) for k in file.files if k != "config"
            }

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def names(self, prefix: str) -> list[str]:
        return [name for name in self._tensors if name.startswith(prefix)]


def assert_value(actual: Tensor, expected: Tensor) -> None:
    """Outputs, spike counts and traces: 1e-5 of the tensor's scale, or of 1."""
    assert actual.shape == expected.shape
    tolerance = 1e-5 * max(1.0, expected.abs().max().item())
    assert (actual - expected).abs().max().item() <= tolerance


def assert_gradient(actual: Tensor | None, expected: Tensor) -> None:
    """Gradients: 1e-5 of the tensor's own scale."""
    assert actual is not None
    tolerance = 1e-5 * expected.abs().max().item() + 1e-8
    assert (actual.reshape(expected.shape) - expected).abs().max().item() <= tolerance
