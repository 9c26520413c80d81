"""Few-shot learning (paper Fig. 4): classes that nobody has seen, known after one look each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybrid.experiments.few_shot_config import Config
from hybrid.experiments.few_shot_lessons import Bank, bank_of, characters_of, exercises
from hybrid.experiments.few_shot_methods import METHODS, FewShotMethod, build
from hybrid.experiments.few_shot_plans import PLANS
from hybrid.experiments.few_shot_results import Result
from hybrid.experiments.few_shot_tests import Examinee, examine, test_grid
from hybrid.experiments.plans import Schemes
from hybrid.experiments.trials import Trial
from hybrid.learning.episodic import Learner, train_on_episodes
from hybrid.learning.fitting import EpochLog
from hybrid.runs.seeds import numpy_stream, torch_stream
from hybrid.runs.store import Json


@dataclass(frozen=True)
class FewShotExperiment:
    """Episodes of characters; see `hybrid.experiments.trials.Experiment`."""

    name: str = "few_shot"

    def data_sha256(self, dataset: str) -> str:
        """Return a hash of a set of characters, after fetching it."""
        return characters_of(dataset).sha256()

    def build(self, trial: Trial) -> Learner:
        """Return the untrained network of a trial."""
        config, method = _own(trial)
        return build(config, method, trial.seed)

    def run(
        self, trial: Trial, device: torch.device, checkpoint: Path | None = None
    ) -> tuple[Json, Learner]:
        """Train and test one network; see `fit` for what `checkpoint` does."""
        config, _ = _own(trial)
        network, bank = self.build(trial).to(device), bank_of(config, trial.seed)

        def validate() -> float:
            classes = bank.split.validation
            examinee = Examinee.of(network, bank, classes, config, device)
            source = numpy_stream(trial.seed, "validation episodes")
            ways, shots = config.tests[0]
            episodes = examinee.episodes(config.validation_episodes, ways, shots, source)
            return float(np.mean(examinee.answers(episodes, ways)))

        logs: list[EpochLog] = []
        if not network.weight_parameters():
            settle(network, bank, config, device)
        else:
            logs = train_on_episodes(
                network,
                lambda generator: exercises(bank, config, generator, device),
                validate,
                config.schedule(),
                lambda epoch: torch_stream(trial.seed, "order", epoch),
                config.teaching(),
                checkpoint=checkpoint,
                title=trial.title,
            )
        examinee = Examinee.of(network, bank, bank.split.test, config, device)
        result: Json = {
            "epochs": [vars(log) for log in logs],
            "tests": test_grid(examinee, config, trial.seed),
            "examined": examine(examinee, config, trial.seed),
        }
        return result, network


@torch.no_grad()
def settle(network: Learner, bank: Bank, config: Config, device: torch.device) -> None:
    """Let normalised layers of a network that is not trained see the training drawings once."""
    drawn = (bank.split.train[:, None] * bank.drawings + np.arange(bank.drawings)).ravel()
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all that is seen
    for part in np.array_split(drawn, -(-len(drawn) // 500)):
        network.embedding(bank.images(part, config).to(device))
    network.eval()


def _own(trial: Trial) -> tuple[Config, FewShotMethod]:
    assert isinstance(trial.config, Config)
    assert isinstance(trial.method, FewShotMethod)
    return trial.config, trial.method


EXPERIMENT = FewShotExperiment()
SCHEMES = Schemes(experiment=EXPERIMENT, methods=METHODS, plans=PLANS)


def run(profile: str, **options: Any) -> Result:
    """Run a profile, or what is left of it, and return its result; see `Schemes.run`."""
    return Result(*SCHEMES.run(profile, **options))


def load(profile: str, *, folder: Path | None = None) -> Result:
    """Return the result of a profile's committed records; see `Schemes.load`."""
    return Result(*SCHEMES.load(profile, folder=folder))
