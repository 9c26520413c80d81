"""Few-shot learning (paper Fig. 4): classes that nobody has seen, known after one example each."""

import numpy as np
import torch

from hybrid.experiments.core.trials import Place, Trial
from hybrid.experiments.few_shot.episodes import DrawingPool, meta_batches, pool_of
from hybrid.experiments.few_shot.evaluation import Tested, examine, right_by_size
from hybrid.experiments.few_shot.methods import FewShotMethod, build
from hybrid.experiments.few_shot.settings import FewShotSettings
from hybrid.learning.episodic import EpisodicNetwork, train_on_episodes
from hybrid.learning.fitting import EpochLog
from hybrid.runs.seeds import numpy_stream, torch_stream
from hybrid.runs.store import Json


def compute(
    trial: Trial[FewShotSettings, FewShotMethod], place: Place
) -> tuple[Json, EpisodicNetwork]:
    """Train and test one network; see `fit` for what a checkpoint does."""
    settings, device = trial.settings, place.device
    network, pool = build(trial).to(device), pool_of(settings, trial.seed)

    def validate() -> float:
        tested = Tested.of(network, pool, pool.split.validation, settings, device)
        source = numpy_stream(trial.seed, "validation episodes")
        ways, shots = settings.tests[0]
        episodes = tested.episodes(settings.validation_episodes, ways, shots, source)
        return float(np.mean(tested.correct(episodes, ways)))

    logs: list[EpochLog] = []
    if not network.weight_parameters():
        normalise(network, pool, settings, device)
    else:
        logs = train_on_episodes(
            network,
            lambda generator: meta_batches(pool, settings, generator, device),
            validate,
            settings.schedule,
            lambda epoch: torch_stream(trial.seed, "order", epoch),
            settings.objective,
            checkpoint=place.checkpoint,
            title=trial.name,
        )
    tested = Tested.of(network, pool, pool.split.test, settings, device)
    result: Json = {
        "epochs": [vars(log) for log in logs],
        "tests": right_by_size(tested, settings, trial.seed),
        "examined": examine(tested, settings, trial.seed),
    }
    return result, network


@torch.no_grad()
def normalise(
    network: EpisodicNetwork, pool: DrawingPool, settings: FewShotSettings, device: torch.device
) -> None:
    """Give normalised layers of a network that is not trained the statistics of its drawings."""
    drawn = pool.of(pool.split.train)
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all that is seen
    for part in np.array_split(drawn, -(-len(drawn) // 500)):
        network.embedding(pool.images(part, settings).to(device))
    network.eval()
