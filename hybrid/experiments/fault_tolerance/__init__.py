"""Fault tolerance (paper Fig. 3): images with noise and crops that no network was trained on."""

from hybrid.experiments.core.experiment import Experiment
from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.samples import (
    hash_of_images,
    on_images,
)
from hybrid.experiments.fault_tolerance.methods import METHODS, build
from hybrid.experiments.fault_tolerance.plans import PLANS
from hybrid.experiments.fault_tolerance.run import TRAINING
from hybrid.experiments.fault_tolerance.settings import FaultSettings

EXPERIMENT: Experiment[FaultSettings, Method] = Experiment(
    name="fault_tolerance",
    notebook="03_fault_tolerance",
    methods=METHODS,
    plans=PLANS,
    data_sha256=hash_of_images,
    build=build,
    begin=TRAINING.begin,
    read_by=__name__,
    on_own=on_images,
)
