"""What `import hybrid` offers: read by type checkers, and by lazy_loader at run time."""

from .data.characters import load_characters, render_glyphs
from .data.episodes import sample_episodes
from .data.events.faults import SENSOR_FAULTS, corrupt_events
from .data.events.frames import to_frames
from .data.events.sets import load_events
from .data.faults import FAULTS, corrupt
from .data.images import load_images
from .data.own import own_events, own_images
from .data.tasks import permuted
from .exchange.frozen import Frozen
from .exchange.neurobench import neurobench_model
from .exchange.nir import from_nir, to_nir
from .exchange.saved import load, save
from .experiments.core.experiment import Group
from .experiments.core.records import gap, levels, samples, select
from .experiments.core.settings import vary
from .experiments.core.trials import Trial, choose_device
from .experiments.registry import EXPERIMENTS, experiment
from .learning.evaluation import accuracy, evaluate
from .learning.iteration import Split
from .learning.schedule import Schedule
from .learning.training import train
from .model.coding import EventCounts, InParts, LastMembrane, Poisson, Rank, Rate
from .model.convolutional import Convolution, Convolutional, Dense
from .model.drive import Static, direct, drive_decay
from .model.embedding import Embedding
from .model.few_shot import FewShotReadOut, Support
from .model.layers import HybridLinear, InitialMeta
from .model.networks import ContextGated, FullyConnected
from .model.neurons import IF, LIF, AdaptiveLIF, ArcTan, FastSigmoid, Rectangle
from .model.plasticity import (
    STDP,
    Hebbian,
    LayerState,
    LocalRule,
    MetaLocal,
    Step,
    Synapse,
    plastic_step,
    synaptic_current,
)
from .model.recurrent import HybridRecurrent
from .model.rules import BCM, Oja, Rewarded
from .model.window.choice import run_window
from .model.window.sparse import random_masks
from .report import figures, panels, scoreboard
from .report.estimate import Estimate
from .report.monitor import Monitor
from .runs.seeds import numpy_stream, torch_stream
from .runs.store import Store
from .tianjic.quantize import quantize, quantize_layers

__version__: str

__all__ = [
    "BCM",
    "EXPERIMENTS",
    "FAULTS",
    "IF",
    "LIF",
    "SENSOR_FAULTS",
    "STDP",
    "AdaptiveLIF",
    "ArcTan",
    "ContextGated",
    "Convolution",
    "Convolutional",
    "Dense",
    "Embedding",
    "Estimate",
    "EventCounts",
    "FastSigmoid",
    "FewShotReadOut",
    "Frozen",
    "FullyConnected",
    "Group",
    "Hebbian",
    "HybridLinear",
    "HybridRecurrent",
    "InParts",
    "InitialMeta",
    "LastMembrane",
    "LayerState",
    "LocalRule",
    "MetaLocal",
    "Monitor",
    "Oja",
    "Poisson",
    "Rank",
    "Rate",
    "Rectangle",
    "Rewarded",
    "Schedule",
    "Split",
    "Static",
    "Step",
    "Store",
    "Support",
    "Synapse",
    "Trial",
    "__version__",
    "accuracy",
    "choose_device",
    "corrupt",
    "corrupt_events",
    "direct",
    "drive_decay",
    "evaluate",
    "experiment",
    "figures",
    "from_nir",
    "gap",
    "levels",
    "load",
    "load_characters",
    "load_events",
    "load_images",
    "neurobench_model",
    "numpy_stream",
    "own_events",
    "own_images",
    "panels",
    "permuted",
    "plastic_step",
    "quantize",
    "quantize_layers",
    "random_masks",
    "render_glyphs",
    "run_window",
    "sample_episodes",
    "samples",
    "save",
    "scoreboard",
    "select",
    "synaptic_current",
    "to_frames",
    "to_nir",
    "torch_stream",
    "train",
    "vary",
]
