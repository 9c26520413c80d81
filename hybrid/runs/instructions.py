"""One instruction set for every trial, so that a record repeats to the last bit elsewhere.

Libraries choose their fastest code for the processor that they find, and each choice rounds
differently. The one named here is there on any x86-64 processor since 2013 (AVX2). It takes hold
only where it is set before torch is loaded: in processes that are started for the purpose. It
rules torch, MKL and oneDNN, which train and test; numpy, which makes noise, chooses for itself.
"""

import os
import platform
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# MKL, torch's own loops, oneDNN; and one thread, because sums depend on how they are shared out.
ENVIRONMENT = {
    "MKL_CBWR": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

# Modules of those whose name is another; a machine that only trains may lack them.
_MODULES = {"scikit-image": "skimage"}
FIXED = "AVX2, fixed"  # how a record calls them


def fixed() -> bool:
    """Return whether this process computes with the one instruction set."""
    import torch  # late, so that a process can be prepared before torch is loaded

    asked = all(os.environ.get(name) == value for name, value in ENVIRONMENT.items())
    return asked and torch.backends.cpu.get_cpu_capability() == "AVX2"


def processor(device: "torch.device") -> dict[str, str]:
    """Return what decides the last bits of a result here: processor, instructions, libraries.

    Args:
        device: computes; the instructions are those of the CPU alone.
    """
    import torch

    libraries = ("numpy", "scipy", "scikit-image")
    repeats = device.type == "cpu" and fixed()
    return {
        "cpu": _processor_name(),
        **({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}),
        "instructions": FIXED if repeats else torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        **{name: version(name) for name in libraries if find_spec(_MODULES.get(name, name))},
    }


@cache
def _processor_name() -> str:
    """Return the processor's name, as far as the system tells."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text("utf-8").splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":  # for the shell that starts workers of a cluster
    print(*(f"{name}={value}" for name, value in ENVIRONMENT.items()))


if __name__ == "__main__":  # for `env`, before a process that is not ours
    print(*(f"{name}={value}" for name, value in ENVIRONMENT.items()))
