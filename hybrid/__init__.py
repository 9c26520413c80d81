"""hybrid: a reproducible companion to brain-inspired global-local learning.

Wu et al., "Brain-inspired global-local learning incorporated with neuromorphic computing",
Nature Communications 13:65 (2022), https://doi.org/10.1038/s41467-021-27653-2.

What a reader needs is named here, and imported when it is first asked for.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

# Module -> what it gives to `from hybrid import ...`.
_FACE = {
    "data.characters": "load_characters render_glyphs",
    "data.episodes": "sample_episodes",
    "data.events.faults": "SENSOR_FAULTS corrupt_events",
    "data.events.frames": "to_frames",
    "data.events.sets": "load_events",
    "data.faults": "FAULTS corrupt",
    "data.images": "load_images",
    "data.own": "own_events own_images",
    "data.tasks": "permuted",
    "model.neurons": "IF LIF AdaptiveLIF ArcTan FastSigmoid Rectangle",
    "model.plasticity": "STDP Hebbian LayerState MetaLocal Synapse plastic_step synaptic_current",
    "model.rules": "BCM Oja Rewarded",
    "model.drive": "Static direct drive_decay",
    "model.coding": "EventCounts InParts LastMembrane Poisson Rank Rate",
    "model.layers": "HybridLinear InitialMeta",
    "model.recurrent": "HybridRecurrent",
    "model.networks": "ContextGated FullyConnected",
    "model.convolutional": "Convolution Convolutional Dense",
    "model.window.sparse": "random_masks",
    "model.window.choice": "run_window",
    "model.embedding": "Embedding",
    "model.few_shot": "FewShotReadOut Support",
    "learning.schedule": "Schedule",
    "learning.training": "Split train",
    "learning.evaluation": "accuracy evaluate",
    "tianjic.quantize": "quantize",
    "exchange.frozen": "Frozen",
    "exchange.neurobench": "neurobench_model",
    "exchange.nir": "from_nir to_nir",
    "exchange.saved": "load save",
    "experiments.registry": "EXPERIMENTS experiment",
    "experiments.core.experiment": "Group",
    "experiments.core.records": "gap levels samples select",
    "experiments.core.settings": "vary",
    "experiments.core.trials": "Trial choose_device",
    "report.estimate": "Estimate",
    "report.monitor": "Monitor",
    "report": "figures panels scoreboard",
    "runs.seeds": "numpy_stream torch_stream",
    "runs.store": "Store",
}
_HOME = {name: f"hybrid.{module}" for module, names in _FACE.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Return what the face names, importing it now."""
    if name not in _HOME:
        raise AttributeError(f"module 'hybrid' has no {name!r}: it offers {', '.join(__all__)}")
    home = import_module(_HOME[name])
    return getattr(home, name) if hasattr(home, name) else import_module(f"{_HOME[name]}.{name}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
