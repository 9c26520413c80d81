"""Heads without spikes that learn a class from a few looks: what the plastic read-out is up to.

Each maps labelled support features and queries to scores [episodes, queries, ways] and is trained
through the embedding alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid.model.few_shot import Support


class Prototypes(nn.Module):
    """Minus the squared distance to the mean of each class (Snell et al., NeurIPS 2017).

    A class without a look scores minus infinity.

    Args:
        scale: factor of the distances, learned.
    """

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, support: Support, query: Tensor, *, ways: int | None = None) -> Tensor:
        """Return scores of queries [episodes, queries, features]."""
        members = _members(support, ways)
        looks = members.sum(1).unsqueeze(-1)
        means = members.mT @ support.features / looks.clamp(min=1.0)
        scores = -self.scale * (query.unsqueeze(2) - means.unsqueeze(1)).square().sum(-1)
        return scores.masked_fill((looks == 0.0).mT, float("-inf"))


class Matching(nn.Module):
    """Attention over the looks by cosine, summed by class (Vinyals et al., NeurIPS 2016).

    Scores are log probabilities. Without the full-context embeddings of that paper.

    Args:
        sharpness: factor of the cosines, learned.
    """

    def __init__(self, sharpness: float = 10.0) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(sharpness))

    def forward(self, support: Support, query: Tensor, *, ways: int | None = None) -> Tensor:
        """Return scores of queries [episodes, queries, features]."""
        looks = F.normalize(support.features, dim=-1)
        similarity = self.sharpness * F.normalize(query, dim=-1) @ looks.mT
        attention = torch.log_softmax(similarity, dim=-1)  # [episodes, queries, looks]
        members = _members(support, ways).unsqueeze(1)
        return (attention.unsqueeze(-1) + members.log()).logsumexp(2)


def _members(support: Support, ways: int | None) -> Tensor:
    """Return which look is of which class, as 0 and 1 [episodes, looks, ways]."""
    ways = int(support.labels.max()) + 1 if ways is None else ways
    return F.one_hot(support.labels, ways).to(support.features.dtype)
