"""Few-shot learning: a plastic read-out binds features to labels from one example each.

Labelled drawings are shown one after the other. A strong label current makes the neuron of the
right class fire, and the local rule writes the drawing's features x into that neuron's synapses:

    I_t     = x_t (α ∘ Wᵀ + (1 - α) ∘ P_t) + label_current · label_t
    P_{t+1} = λ P_t + local_rate · x_t ⊗ softmax(v_t - sliding_threshold)

An unlabelled query then drives most strongly the neurons whose drawings it resembles. Each episode
has a trace of its own, so any number of them run side by side. Source: paper Eq. 14-17.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid.model.built import Built
from hybrid.model.embedding import Embedding, Pixels
from hybrid.model.layers import uniform_parameter
from hybrid.model.networks import MetaLearner
from hybrid.model.neurons import LIF, NeuronState, require_numbers, without_values
from hybrid.model.parameters import Theta
from hybrid.model.plasticity import (
    Hebbian,
    LayerState,
    MetaLocal,
    Synapse,
    global_weight,
    hybrid_weight,
)
from hybrid.model.window.choice import Evaluation, Window, run_window


class Support(NamedTuple):
    """Labelled examples in the order in which they are shown."""

    features: Tensor  # [episodes, looks, features]
    labels: Tensor  # [episodes, looks], integers below the number of ways


class InitialBinding(NamedTuple):
    """Where the meta-local parameters start; pairs are drawn from U(low, high)."""

    mixing: tuple[float, float] = (0.0, 0.1)
    local_rate: float = 0.1
    sliding_threshold: tuple[float, float] = (0.0, 0.1)


class FewShotReadOut(Built):
    """Spiking neurons, one per class of an episode, that bind features to labels after one example.

    Args:
        features: size of the feature vectors.
        ways: classes of an episode, at most.
        neuron: neuron model; the authors': LIF(decay=0.2, v_th=0.5, reset="zero").
        rule: local rule; the authors': Hebbian(trace_decay=0.99, post="softmax"). None gives a
            read-out without a trace: of the support only a rest of potential reaches the query.
        label_current: strength of the label.
        largest_rate: upper bound of the local rate.
        initial: where the meta-local parameters start.
        generator, meta_generator: sources of the initial weights and of the initial θ, see
            `HybridLinear`.

    `mixing` is the authors' alpha, one per synapse: the share of the global weight; 1 - mixing
    takes the place of the local gain.

    Raises:
        ValueError: if there are no features, or fewer than two ways.
    """

    def __init__(
        self,
        features: int,
        ways: int,
        *,
        neuron: LIF,
        rule: Hebbian | None,
        label_current: float = 10.0,
        largest_rate: float = 0.1,
        initial: InitialBinding = InitialBinding(),  # noqa: B008 (immutable)
        generator: torch.Generator | None = None,
        meta_generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if features < 1 or ways < 2:
            raise ValueError(f"features = {features}, ways = {ways}: give >= 1 and >= 2")
        require_numbers(neuron, "FewShotReadOut")
        self.neuron, self.rule, self.ways = neuron, rule, ways
        self.label_current, self.largest_rate = label_current, largest_rate
        self.weight = uniform_parameter(features, generator, ways, features)
        source = meta_generator or generator
        mixing = torch.empty(features, ways).uniform_(*initial.mixing, generator=source)
        if rule is None:  # then it only scales the weights, and learns as they do
            self.mixing = nn.Parameter(mixing)
        else:
            threshold = torch.empty(ways)
            threshold.uniform_(*initial.sliding_threshold, generator=source)
            rate = torch.tensor(initial.local_rate)
            self.theta = Theta(mixing=mixing, local_rate=rate, sliding_threshold=threshold)

    def synapse(self, ways: int) -> Synapse:
        """Return the synapses of the first `ways` neurons."""
        if self.rule is None:
            return Synapse(self.weight[:ways], None, mask=self.mixing[:, :ways])
        theta = self.theta
        meta = MetaLocal(
            local_gain=self.weight.new_ones(()),
            local_rate=theta.local_rate.clamp(max=self.largest_rate),
            sliding_threshold=theta.sliding_threshold[:ways],
        )
        return Synapse(self.weight[:ways], None, meta, mask=theta.mixing[:, :ways])

    def bind(
        self, support: Support, *, ways: int | None = None, evaluation: Evaluation = "auto"
    ) -> Window:
        """Show labelled features and return the window; its final state holds the traces.

        Args:
            support: the examples of all episodes.
            ways: classes of these episodes, at most those of the read-out; None for all.
            evaluation: see `run_window`.

        Raises:
            ValueError: if shapes do not fit, or a label is not below `ways`.
        """
        features, labels = support
        ways = self._check(features, labels, ways)
        current = self.label_current * torch.eye(ways, dtype=features.dtype, device=features.device)
        return run_window(
            features.unbind(1),
            self.synapse(ways),
            self.neuron,
            self.rule,
            pool="sample",
            evaluation=evaluation,
            teacher=current[labels].unbind(1),
        )

    def recall(self, query: Tensor, bound: LayerState) -> Tensor:
        """Return the potentials [episodes, queries, ways] that queries evoke, each on its own.

        Args:
            query: features [episodes, queries, features].
            bound: the state after `bind`; queries do not change it.
        """
        assert bound.neuron is not None
        ways = bound.neuron.v.shape[-1]
        synapse = self.synapse(ways)
        weight = global_weight(synapse)
        if bound.trace is not None:
            weight = hybrid_weight(weight, bound.trace, synapse)
        before = NeuronState(bound.neuron.v.unsqueeze(1), bound.neuron.z.unsqueeze(1))
        return self.neuron.step(query @ weight.mT, before).v

    def forward(self, support: Support, query: Tensor, *, ways: int | None = None) -> Tensor:
        """Bind the support and return the potentials of the queries; see `bind` and `recall`."""
        return self.recall(query, self.bind(support, ways=ways).final)

    def _check(self, features: Tensor, labels: Tensor, ways: int | None) -> int:
        ways = self.ways if ways is None else ways
        if not 2 <= ways <= self.ways:
            raise ValueError(f"ways = {ways}: this read-out tells 2 to {self.ways} classes apart")
        size = self.weight.shape[1]
        if features.ndim != 3 or features.shape[2] != size:
            raise ValueError(
                f"support features must have shape [episodes, looks, {size}], "
                f"got {list(features.shape)}"
            )
        if labels.shape != features.shape[:2]:
            raise ValueError(
                f"labels must have shape {list(features.shape[:2])}, got {list(labels.shape)}"
            )
        if not without_values() and (labels.min() < 0 or labels.max() >= ways):
            raise ValueError(f"labels must lie in 0 … {ways - 1}, the episode's classes")
        return ways


class Prototypes(Built):
    """Minus the squared distance to the mean of each class (Snell et al., NeurIPS 2017).

    A class without an example scores minus infinity.

    Args:
        scale: factor of the distances, learned.
    """

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, support: Support, query: Tensor, *, ways: int | None = None) -> Tensor:
        """Return scores of queries [episodes, queries, features]."""
        members = _members(support, ways)
        counts = members.sum(1).unsqueeze(-1)
        means = members.mT @ support.features / counts.clamp(min=1.0)
        scores = -self.scale * (query.unsqueeze(2) - means.unsqueeze(1)).square().sum(-1)
        return scores.masked_fill((counts == 0.0).mT, float("-inf"))


class Matching(Built):
    """Attention over the examples by cosine, summed by class (Vinyals et al., NeurIPS 2016).

    Scores are log probabilities. Without the full-context embeddings of that paper.

    Args:
        sharpness: factor of the cosines, learned.
    """

    def __init__(self, sharpness: float = 10.0) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(sharpness))

    def forward(self, support: Support, query: Tensor, *, ways: int | None = None) -> Tensor:
        """Return scores of queries [episodes, queries, features]."""
        examples = F.normalize(support.features, dim=-1)
        similarity = self.sharpness * F.normalize(query, dim=-1) @ examples.mT
        attention = torch.log_softmax(similarity, dim=-1)  # [episodes, queries, looks]
        members = _members(support, ways).unsqueeze(1)
        return (attention.unsqueeze(-1) + members.log()).logsumexp(2)


def _members(support: Support, ways: int | None) -> Tensor:
    """Return which look is of which class, as 0 and 1 [episodes, looks, ways]."""
    ways = int(support.labels.max()) + 1 if ways is None else ways
    return F.one_hot(support.labels, ways).to(support.features.dtype)


class FewShot(MetaLearner):
    """An embedding and a head that learns the classes of an episode from its support.

    Args:
        embedding: images to features: an `Embedding`, or `Pixels`.
        head: maps (support, query features, ways) to scores [episodes, queries, ways]: a
            `FewShotReadOut`, or one without spikes: `Prototypes`, `Matching`.
    """

    def __init__(self, embedding: Embedding | Pixels, head: nn.Module) -> None:
        super().__init__()
        self.embedding, self.head = embedding, head

    def forward(
        self,
        images: Tensor,
        support: Tensor,
        labels: Tensor,
        query: Tensor,
        *,
        ways: int | None = None,
    ) -> Tensor:
        """Return scores [episodes, queries, ways] for all queries of a batch of episodes.

        Every image is embedded once, however many episodes show it.

        Args:
            images: [N, channels, height, width].
            support, query: numbers of images [episodes, looks] and [episodes, queries].
            labels: classes of the support within the episode [episodes, looks].
            ways: classes of these episodes; None for all that the head knows.
        """
        features = self.embedding(images)
        scores: Tensor = self.head(Support(features[support], labels), features[query], ways=ways)
        return scores
