"""Continual learning (paper Fig. 5): tasks one after the other, and what is left of the first."""

from hybrid.experiments.continual.methods import METHODS, ContinualMethod
from hybrid.experiments.continual.plans import PLANS
from hybrid.experiments.continual.run import begin, build_learner
from hybrid.experiments.continual.settings import ContinualSettings
from hybrid.experiments.core.experiment import Experiment
from hybrid.experiments.core.samples import (
    hash_of_images,
    on_images,
)

EXPERIMENT: Experiment[ContinualSettings, ContinualMethod] = Experiment(
    name="continual",
    notebook="05_continual",
    methods=METHODS,
    plans=PLANS,
    data_sha256=hash_of_images,
    build=build_learner,
    begin=begin,
    read_by=__name__,
    on_own=on_images,
)
