"""Deployment (paper Fig. 6): trained networks on a simulated Tianjic, beside floating point."""

from hybrid.experiments.core.experiment import Experiment
from hybrid.experiments.core.methods import Method
from hybrid.experiments.deployment.plans import METHODS, PLANS
from hybrid.experiments.deployment.run import begin, build, data_sha256
from hybrid.experiments.deployment.settings import DeploymentSettings

EXPERIMENT: Experiment[DeploymentSettings, Method] = Experiment(
    name="deployment",
    notebook="06_tianjic",
    methods=METHODS,
    plans=PLANS,
    data_sha256=data_sha256,
    build=build,
    begin=begin,
    read_by=__name__,
)
