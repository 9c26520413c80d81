"""First-order MAML: a network whose weights take a few gradient steps on each episode's support."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hybrid.model.embedding import Embedding
from hybrid.model.layers import uniform_parameter
from hybrid.model.networks import MetaLearner


class FirstOrderMAML(MetaLearner):
    """An embedding and a linear read-out that learn an episode by gradient descent.

    Each episode starts from the same weights, takes `steps` gradient steps on the cross-entropy
    of its support, and answers its queries. The weights' own gradient is that of the queries at
    the end of these steps; second derivatives are left out.

    Args:
        embedding: images to features, without batch normalisation: running statistics would be
            those of no episode.
        ways: classes of an episode, at most.
        steps: gradient steps on each support, in training and test.
        rate: size of these steps.
        generator: source of the initial read-out.

    Raises:
        ValueError: if the embedding is normalised, or a number makes no sense.

    Source: Finn et al., ICML 2017 (Omniglot: one step of 0.4; first-order form, section 5.2).
    """

    def __init__(
        self,
        embedding: Embedding,
        ways: int,
        *,
        steps: int,
        rate: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if embedding.normalised:
            raise ValueError("an embedding for MAML must not be normalised over batches")
        if ways < 2 or steps < 1 or rate <= 0.0:
            raise ValueError(f"ways = {ways}, steps = {steps}, rate = {rate}: give >= 2, >= 1, > 0")
        self.embedding, self.steps, self.rate = embedding, steps, rate
        features = embedding.features
        self.weight = uniform_parameter(features, generator, ways, features)
        self.bias = nn.Parameter(torch.zeros(ways))

    def forward(
        self,
        images: Tensor,
        support: Tensor,
        labels: Tensor,
        query: Tensor,
        *,
        ways: int | None = None,
    ) -> Tensor:
        """Return scores [episodes, queries, ways]; arguments as of `FewShot`."""
        graded = torch.is_grad_enabled()
        scores = []
        for shown, label, asked in zip(support, labels, query, strict=True):
            own = self._episode(images[shown], label, images[asked], ways)
            scores.append(own if graded else own.detach())
        return torch.stack(scores)

    @torch.enable_grad()
    def _episode(
        self, support: Tensor, labels: Tensor, queries: Tensor, ways: int | None
    ) -> Tensor:
        adapted: dict[str, Tensor] = dict(self.named_parameters())
        for _ in range(self.steps):
            loss = F.cross_entropy(self._scores(adapted, support, ways), labels)
            gradients = torch.autograd.grad(loss, list(adapted.values()))
            moved = zip(adapted.items(), gradients, strict=True)
            adapted = {name: value - self.rate * g for (name, value), g in moved}
        return self._scores(adapted, queries, ways)

    def _scores(self, state: dict[str, Tensor], images: Tensor, ways: int | None) -> Tensor:
        inner = {k.removeprefix("embedding."): v for k, v in state.items() if "embedding." in k}
        features: Tensor = functional_call(self.embedding, inner, (images,))
        return F.linear(features, state["weight"][:ways], state["bias"][:ways])
