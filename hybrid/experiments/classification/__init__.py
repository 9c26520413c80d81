"""Classification (paper Fig. 2): images and sequences, codes, neurons, rules and ablations."""

from hybrid.experiments.classification.plans import METHODS, PLANS
from hybrid.experiments.classification.run import TRAINING, build
from hybrid.experiments.classification.settings import ClassificationSettings, hash_of, on_own
from hybrid.experiments.core.experiment import Experiment
from hybrid.experiments.core.methods import Method

EXPERIMENT: Experiment[ClassificationSettings, Method] = Experiment(
    name="classification",
    notebook="02_classification",
    methods=METHODS,
    plans=PLANS,
    data_sha256=hash_of,
    build=build,
    begin=TRAINING.begin,
    read_by=__name__,
    on_own=on_own,
)
