"""Few-shot learning (paper Fig. 4): training, unseen classes, and what disturbs the answers."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybrid.data.episodes import Episodes, Integers, sample_episodes
from hybrid.experiments.core.trials import Begun, Place, Trial
from hybrid.experiments.few_shot.episodes import DrawingPool, batch_of, meta_batches, pool_of
from hybrid.experiments.few_shot.methods import FewShotMethod, build
from hybrid.experiments.few_shot.settings import FewShotSettings, size_name
from hybrid.learning.episodic import (
    EpisodicNetwork,
    FirstOrderMAML,
    correct_queries,
    embed,
    prepared,
)
from hybrid.learning.fitting import EpochLog
from hybrid.model.few_shot import FewShotReadOut, Support
from hybrid.runs.seeds import numpy_stream, torch_stream
from hybrid.runs.store import Json

_BINS = 24  # of the distribution of mixing
_SHOWN = 48  # features whose traces are kept to be looked at


def begin(trial: Trial[FewShotSettings, FewShotMethod], place: Place) -> Begun:
    """Prepare training and testing one network; see `fit` for what a checkpoint does."""
    settings, device = trial.settings, place.device
    network, pool = build(trial).to(device), pool_of(settings, trial.seed)

    def validate() -> float:
        tested = Tested.of(network, pool, pool.split.validation, settings, device)
        source = numpy_stream(trial.seed, "validation episodes")
        ways, shots = settings.tests[0]
        episodes = tested.episodes(settings.validation_episodes, ways, shots, source)
        return float(np.mean(tested.correct(episodes, ways)))

    def finish(logs: list[EpochLog]) -> tuple[Json, EpisodicNetwork]:
        tested = Tested.of(network, pool, pool.split.test, settings, device)
        result: Json = {
            "epochs": [log.record() for log in logs],
            "tests": right_by_size(tested, settings, trial.seed),
            "examined": examine(tested, settings, trial.seed),
        }
        return result, network

    if not network.weight_parameters():
        normalise(network, pool, settings, device)
        return Begun(None, finish)
    training = prepared(
        network,
        lambda generator: meta_batches(pool, settings, generator, device),
        validate,
        settings.schedule,
        lambda epoch: torch_stream(trial.seed, "order", epoch),
        settings.objective,
        checkpoint=place.checkpoint,
        title=trial.name,
        steps_per_epoch=settings.steps
        * (1 if settings.objective.bilevel is None else settings.steps_per_check),
    )
    return Begun(training, finish)


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


class Tested(NamedTuple):
    """A network, and the classes that it is tested on."""

    network: EpisodicNetwork
    images: Tensor  # [classes · drawings, 1, height, width]
    features: Tensor | None  # of all images; None where they depend on the episode
    drawings: int  # of each class
    takes: int  # blocks that they come in

    @classmethod
    def of(
        cls,
        network: EpisodicNetwork,
        pool: DrawingPool,
        classes: Integers,
        settings: FewShotSettings,
        device: torch.device,
    ) -> "Tested":
        """Take some classes of a pool; each of their drawings is embedded once."""
        images = pool.images(pool.of(classes), settings).to(device)
        features = None if isinstance(network, FirstOrderMAML) else embed(network, images)
        return cls(network, images, features, pool.drawings, pool.takes)

    def episodes(self, count: int, ways: int, shots: int, source: np.random.Generator) -> Episodes:
        """Draw episodes with one query each."""
        classes = np.arange(len(self.images) // self.drawings)
        wanted = {"ways": ways, "shots": shots, "queries": 1, "takes": self.takes}
        return sample_episodes(classes, self.drawings, count, **wanted, generator=source)

    @torch.no_grad()
    def correct(self, episodes: Episodes, ways: int) -> NDArray[np.bool_]:
        """Return which episodes' queries are answered rightly."""
        batch = batch_of(self.images, episodes, ways, self.images.device)
        if isinstance(self.network, FirstOrderMAML):
            scores = self.network(*batch[:4], ways=ways)
            right = scores.argmax(-1) == batch.targets
        else:
            assert self.features is not None
            right = correct_queries(self.network.head, self.features, batch)
        return right[:, 0].cpu().numpy()


def right_by_size(tested: Tested, settings: FewShotSettings, seed: int) -> Json:
    """Return right answers in episodes of each size, "5-way 1-shot" for example."""
    result = {}
    for ways, shots in settings.tests:
        source = numpy_stream(seed, "test episodes", ways, shots)
        episodes = tested.episodes(settings.test_episodes, ways, shots, source)
        right = int(tested.correct(episodes, ways).sum())
        result[size_name(ways, shots)] = {"right": right, "episodes": settings.test_episodes}
    return result


def examine(tested: Tested, settings: FewShotSettings, seed: int) -> Json:
    """Return how the order of the shown and wrong labels matter.

    Of a network that has traces also what θ became, and one episode, look by look.
    """
    head = getattr(tested.network, "head", None)
    inside: Json = {}
    if isinstance(head, FewShotReadOut) and head.rule is not None:
        inside = {"theta": _theta(head), "example": _example(tested, head, settings, seed)}
    noises = settings.noises
    return {
        "positions": _by_position(tested, settings, seed),
        "noise": [[share, _with_wrong_labels(tested, settings, seed, share)] for share in noises],
        "noise_episodes": settings.validation_episodes,
        **inside,
    }


def _by_position(tested: Tested, settings: FewShotSettings, seed: int) -> list[list[int]]:
    """Return, for each place at which the class asked for was shown, right answers and episodes."""
    ways = settings.tests[0][0]
    source = numpy_stream(seed, "test episodes", ways, 1)
    episodes = tested.episodes(settings.test_episodes, ways, 1, source)
    right = tested.correct(episodes, ways)
    shown = (episodes.labels == episodes.targets).argmax(1)
    at = (shown == place for place in range(ways))
    return [[int(right[there].sum()), int(there.sum())] for there in at]


def _with_wrong_labels(tested: Tested, settings: FewShotSettings, seed: int, share: float) -> int:
    """Return right answers where each example has a wrong label with probability `share`."""
    ways, shots = settings.tests[0][0], 5
    source = numpy_stream(seed, "noisy episodes", ways, shots)
    episodes = tested.episodes(settings.validation_episodes, ways, shots, source)
    wrong = (episodes.labels + source.integers(1, ways, episodes.labels.shape)) % ways
    labels = np.where(source.random(episodes.labels.shape) < share, wrong, episodes.labels)
    return int(tested.correct(episodes._replace(labels=labels), ways).sum())


def _theta(head: FewShotReadOut) -> Json:
    """Return the meta-local parameters, mixing as a histogram."""
    counts, edges = np.histogram(head.theta.mixing.detach().cpu().numpy(), bins=_BINS)
    return {
        "mixing": {"counts": counts.tolist(), "edges": [round(float(e), 6) for e in edges]},
        "local_rate": round(head.theta.local_rate.item(), 6),
        "sliding_threshold": [round(value, 6) for value in head.theta.sliding_threshold.tolist()],
    }


@torch.no_grad()
def _example(tested: Tested, head: FewShotReadOut, settings: FewShotSettings, seed: int) -> Json:
    """Return one episode: its drawings, the trace after each, and the potentials it ends in.

    Of the trace, [shown, ways, features], only the first features are kept.
    """
    assert tested.features is not None
    ways, shots = settings.tests[0]
    episode = tested.episodes(1, ways, shots, numpy_stream(seed, "example"))
    batch = batch_of(tested.images, episode, ways, tested.images.device)
    features = tested.features[batch.support]
    traces = []
    for count in range(1, ways * shots + 1):
        seen = Support(features[:, :count], batch.labels[:, :count])
        bound = head.bind(seen, ways=ways).final
        assert bound.trace is not None
        traces.append(bound.trace[0, :_SHOWN].mT.cpu())
    potentials = head.recall(tested.features[batch.query], bound)[0, 0]
    shown = torch.cat([batch.support[0], batch.query[0]])
    ink = tested.images[shown, 0].cpu()
    levels = (255 * (ink - ink.min()) / (ink.max() - ink.min())).round().int()
    return {
        "drawings": levels.tolist(),  # the support in order, then the query
        "labels": episode.labels[0].tolist(),
        "target": int(episode.targets[0, 0]),
        "traces": [[[round(v, 4) for v in row] for row in trace.tolist()] for trace in traces],
        "potentials": [round(v, 4) for v in potentials.tolist()],
    }
