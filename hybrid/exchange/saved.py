"""Networks as files: weights, traces, and all it takes to build the network again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybrid.described import Kinds, as_json, from_json
from hybrid.model import coding, convolutional, embedding, few_shot, networks, neurons
from hybrid.model.built import Built
from hybrid.model.drive import drive_decay
from hybrid.model.layers import HybridLinear, InitialMeta
from hybrid.model.networks import HybridNetwork
from hybrid.model.plasticity import STDP, Hebbian
from hybrid.model.recurrent import HybridRecurrent
from hybrid.model.rules import BCM, Oja, Rewarded
from hybrid.runs.files import DamagedFileError, load_tensors, save_tensors
from hybrid.version import __version__

# What the networks of this package are made of.
PARTS: tuple[type, ...] = (
    *(networks.FullyConnected, convolutional.Convolutional, networks.ContextGated),
    *(few_shot.FewShot, few_shot.FewShotReadOut, few_shot.Prototypes, few_shot.Matching),
    *(embedding.Embedding, embedding.Pixels, HybridLinear, HybridRecurrent),
    *(neurons.LIF, neurons.IF, neurons.AdaptiveLIF),
    *(neurons.Rectangle, neurons.FastSigmoid, neurons.ArcTan),
    *(Hebbian, STDP, Oja, BCM, Rewarded, InitialMeta, few_shot.InitialBinding),
    *(convolutional.Convolution, convolutional.Dense),
    *(coding.Rate, coding.LastMembrane, coding.Rank),
    *(coding.Poisson, coding.InParts, coding.EventCounts),
)


def save(network: Built, path: str | Path, *, kinds: Sequence[type] = ()) -> None:
    """Write a network to one safetensors file, from which `load` builds it again.

    The file holds weights, θ, traces and what rules remember, with the constants that the network
    was built with. Other programs find the weights in it by their names, as in `state_dict()`.

    Args:
        network: of this package, or of a class of your own that inherits from one of its classes.
        path: of the file; `.safetensors` is its usual ending.
        kinds: your own classes that it is made of, rules or encoders for example: data classes, or
            subclasses of the package's networks and layers.

    Raises:
        ValueError: if it is made of what a file cannot say, or no longer what was built.
        OSError: if the file cannot be written; an older one is then left as it was.
    """
    known, tensors = _known(kinds), network.state_dict()
    if not isinstance(network, Built):
        raise ValueError(
            f"{type(network).__name__} does not know what it was built with: save the networks and "
            "layers of hybrid that it is made of, or let it inherit from one of them"
        )
    about = {"hybrid": __version__, "network": as_json(network, known)}
    changed = _changed(network)
    if not changed and repr(_built(tensors, about["network"], known)) != repr(network):
        changed = "its parts"
    if changed:
        raise ValueError(
            f"{changed} of this {type(network).__name__} changed after it was built: the file "
            "would say something else; build one with these parts and give it the weights"
        )
    save_tensors(Path(path), tensors, about)


def load(path: str | Path, *, kinds: Sequence[type] = ()) -> Any:
    """Return the network of a file that `save` wrote, on the CPU and in evaluation mode.

    To train it again, call `train()` first; all parameters are then trained, those too that were
    held (`requires_grad`) when the file was written.

    Args:
        path: of the file.
        kinds: your own classes that it is made of.

    Raises:
        DamagedFileError: if the file was cut short or changed since, or others wrote it.
        ValueError: if it holds no network, comes from another version of the package, or is made of
            classes that are not given.
        OSError: if there is no such file, or it must not be read.
    """
    damaged = f"{path} is damaged, or hybrid.save has not written it: save the network anew"
    try:
        tensors, about = load_tensors(Path(path))
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise DamagedFileError(damaged) from error
    if not isinstance(about, dict) or "network" not in about:
        raise ValueError(f"{path} holds tensors alone: give a file that hybrid.save has written")
    version = about.get("hybrid")
    if not isinstance(version, str):
        raise DamagedFileError(damaged)
    if _series(version) != _series(__version__):
        raise ValueError(
            f"{path} was written by hybrid {version}, and this is {__version__}: install "
            f"hybrid {_series(version)}, or train and save the network anew"
        )
    try:
        return _built(tensors, about["network"], _known(kinds)).eval()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # tensors of other shapes, or a description of something else
        raise DamagedFileError(damaged) from error


def _changed(network: nn.Module) -> str:
    """Return what is no longer as a network, or a part of it, was built with; "" for nothing."""
    for module in network.modules():
        built = module.built_with if isinstance(module, Built) else {}
        for name, value in built.items():
            now = getattr(module, name, value)
            if isinstance(now, nn.Module) or name == "neuron":
                continue  # made of it; neurons show in the repr
            now, value = (tuple(x) if isinstance(x, list) else x for x in (now, value))
            if (now is not None) != bool(value) if name == "bias" else now != value:
                return name
        known = isinstance(module, HybridNetwork) and {"steps", "tau"} <= set(built)
        if known and module.gain != drive_decay(built["steps"], built["tau"]):
            return "gain"
    return ""


def _built(tensors: dict[str, Tensor], described: Any, kinds: Kinds) -> nn.Module:
    """Return a network as it is described, with what it has learned."""
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn for nothing
        network: nn.Module = from_json(described, kinds)
    for name, own in network.state_dict(keep_vars=True).items():
        if name in tensors:  # the precision of the file, in the network's layout of memory
            own.data = own.data.to(tensors[name].dtype)
    network.load_state_dict(tensors)
    return network


def _known(own: Sequence[type]) -> dict[str, Any]:
    made = {"Tensor": torch.tensor, "Parameter": lambda data: nn.Parameter(torch.tensor(data))}
    return {kind.__name__: kind for kind in (*PARTS, *own)} | made


def _series(version: str) -> str:
    """Return the part of a version in which files stay the same: 0.2 of 0.2.1."""
    return ".".join(version.split(".")[:2])
