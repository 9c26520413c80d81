"""Few-shot learning (paper Fig. 4): classes that nobody has seen, known after one example each."""

from hybrid.experiments.core.experiment import Experiment
from hybrid.experiments.few_shot.episodes import hash_of_characters
from hybrid.experiments.few_shot.methods import METHODS, FewShotMethod, build
from hybrid.experiments.few_shot.plans import PLANS
from hybrid.experiments.few_shot.run import begin
from hybrid.experiments.few_shot.settings import FewShotSettings

EXPERIMENT: Experiment[FewShotSettings, FewShotMethod] = Experiment(
    name="few_shot",
    notebook="04_few_shot",
    methods=METHODS,
    plans=PLANS,
    data_sha256=hash_of_characters,
    build=build,
    begin=begin,
    read_by=__name__,
)
