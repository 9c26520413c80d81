"""What a trained few-shot network is asked: unseen classes, and what disturbs it."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybrid.data.episodes import Episodes, Integers, sample_episodes
from hybrid.experiments.few_shot_config import Config
from hybrid.experiments.few_shot_lessons import Bank, lesson_of
from hybrid.learning.episodic import Learner, answer_episodes, embed
from hybrid.learning.maml import FirstOrderMAML
from hybrid.model.few_shot import FewShotReadOut, Support
from hybrid.runs.seeds import numpy_stream
from hybrid.runs.store import Json

_BINS = 24  # of the distribution of mixing
_SHOWN = 48  # features whose traces are kept to be looked at


class Examinee(NamedTuple):
    """A network and classes to ask it about."""

    network: Learner
    images: Tensor  # [classes · drawings, 1, height, width]
    features: Tensor | None  # of all images; None where they depend on the episode
    drawings: int  # of each class
    takes: int  # blocks that they come in

    @classmethod
    def of(
        cls, network: Learner, bank: Bank, classes: Integers, config: Config, device: torch.device
    ) -> "Examinee":
        """Take some classes of a bank; each of their drawings is embedded once."""
        numbers = (classes[:, None] * bank.drawings + np.arange(bank.drawings)).ravel()
        images = bank.images(numbers, config).to(device)
        features = None if isinstance(network, FirstOrderMAML) else embed(network, images)
        return cls(network, images, features, bank.drawings, bank.takes)

    def episodes(self, count: int, ways: int, shots: int, source: np.random.Generator) -> Episodes:
        """Draw episodes with one query each."""
        classes = np.arange(len(self.images) // self.drawings)
        return sample_episodes(
            classes,
            self.drawings,
            count,
            ways=ways,
            shots=shots,
            queries=1,
            generator=source,
            takes=self.takes,
        )

    @torch.no_grad()
    def answers(self, episodes: Episodes, ways: int) -> NDArray[np.bool_]:
        """Return which episodes' queries are answered rightly."""
        lesson = lesson_of(self.images, episodes, ways, self.images.device)
        if isinstance(self.network, FirstOrderMAML):
            scores = self.network(*lesson[:4], ways=ways)
            right = scores.argmax(-1) == lesson.targets
        else:
            assert self.features is not None
            right = answer_episodes(self.network.head, self.features, lesson)
        return right[:, 0].cpu().numpy()


def test_grid(examinee: Examinee, config: Config, seed: int) -> Json:
    """Return right answers in episodes of each size, "5-way 1-shot" for example."""
    result = {}
    for ways, shots in config.tests:
        source = numpy_stream(seed, "test episodes", ways, shots)
        episodes = examinee.episodes(config.test_episodes, ways, shots, source)
        right = int(examinee.answers(episodes, ways).sum())
        result[f"{ways}-way {shots}-shot"] = {"right": right, "episodes": config.test_episodes}
    return result


def examine(examinee: Examinee, config: Config, seed: int) -> Json:
    """Return how the order of the looks and wrong labels matter, and what θ became."""
    ways, shots = config.tests[0][0], 5
    return {
        "positions": _by_position(examinee, config, seed),
        "noise": [
            [share, _with_wrong_labels(examinee, config, seed, share, ways, shots)]
            for share in config.noises
        ],
        "noise_episodes": config.validation_episodes,
        **_inside(examinee, config, seed),
    }


def _by_position(examinee: Examinee, config: Config, seed: int) -> list[list[int]]:
    """Return, for each place at which the class asked for was shown, right answers and episodes."""
    ways, shots = config.tests[0][0], 1
    source = numpy_stream(seed, "test episodes", ways, shots)
    episodes = examinee.episodes(config.test_episodes, ways, shots, source)
    right = examinee.answers(episodes, ways)
    shown = (episodes.labels == episodes.targets).argmax(1)
    return [
        [int(right[shown == place].sum()), int((shown == place).sum())]
        for place in range(ways * shots)
    ]


def _with_wrong_labels(
    examinee: Examinee, config: Config, seed: int, share: float, ways: int, shots: int
) -> int:
    """Return right answers where each look has a wrong label with probability `share`."""
    source = numpy_stream(seed, "noisy episodes", ways, shots)
    episodes = examinee.episodes(config.validation_episodes, ways, shots, source)
    wrong = (episodes.labels + source.integers(1, ways, episodes.labels.shape)) % ways
    labels = np.where(source.random(episodes.labels.shape) < share, wrong, episodes.labels)
    return int(examinee.answers(episodes._replace(labels=labels), ways).sum())


def _inside(examinee: Examinee, config: Config, seed: int) -> Json:
    """Return θ and one episode, look by look, of a network that has traces; else nothing."""
    head = getattr(examinee.network, "head", None)
    if not isinstance(head, FewShotReadOut) or head.rule is None:
        return {}
    return {"theta": _theta(head), "example": _example(examinee, head, config, seed)}


def _theta(head: FewShotReadOut) -> Json:
    """Return the meta-local parameters, mixing as a histogram."""
    counts, edges = np.histogram(head.mixing.detach().cpu().numpy(), bins=_BINS)
    return {
        "mixing": {"counts": counts.tolist(), "edges": [round(float(e), 6) for e in edges]},
        "local_rate": round(head.local_rate.item(), 6),
        "sliding_threshold": [round(value, 6) for value in head.sliding_threshold.tolist()],
    }


@torch.no_grad()
def _example(examinee: Examinee, head: FewShotReadOut, config: Config, seed: int) -> Json:
    """Return one episode: its drawings, the trace after each look, and the potentials it ends in.

    Of the trace, [looks, ways, features], only the first features are kept.
    """
    assert examinee.features is not None
    ways, shots = config.tests[0]
    episode = examinee.episodes(1, ways, shots, numpy_stream(seed, "example"))
    lesson = lesson_of(examinee.images, episode, ways, examinee.images.device)
    features = examinee.features[lesson.support]
    traces = []
    for looks in range(1, ways * shots + 1):
        seen = Support(features[:, :looks], lesson.labels[:, :looks])
        bound = head.bind(seen, ways=ways).final
        assert bound.trace is not None
        traces.append(bound.trace[0, :_SHOWN].mT.cpu())
    potentials = head.recall(examinee.features[lesson.query], bound)[0, 0]
    shown = torch.cat([lesson.support[0], lesson.query[0]])
    ink = examinee.images[shown, 0].cpu()
    levels = (255 * (ink - ink.min()) / (ink.max() - ink.min())).round().int()
    return {
        "drawings": levels.tolist(),  # the support in order, then the query
        "labels": episode.labels[0].tolist(),
        "target": int(episode.targets[0, 0]),
        "traces": [[[round(v, 4) for v in row] for row in trace.tolist()] for trace in traces],
        "potentials": [round(v, 4) for v in potentials.tolist()],
    }
