"""Few-shot and context-gated networks on the chip, beside the same in floating point."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from hybrid.model.embedding import Embedding
from hybrid.model.few_shot import FewShot, FewShotReadOut, Matching, Support
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import ContextGated
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.model.window.sparse import random_masks
from hybrid.tianjic.chip import load_chip
from hybrid.tianjic.context import quantize_context
from hybrid.tianjic.cores import Limits
from hybrid.tianjic.few_shot import quantize_embedding, quantize_few_shot
from hybrid.tianjic.fixed import Overflows, SaturationError
from hybrid.tianjic.layer import DEFAULT
from hybrid.tianjic.mapping import map_network
from hybrid.tianjic.soma import SoftMaximum

STRICT = Limits(strict=True)


def few_shot(
    *,
    normalised: bool = True,
    length: float | None = 10.0,
    activation: Literal["tanh", "relu"] = "relu",
) -> FewShot:
    generator = torch.Generator().manual_seed(3)
    embedding = Embedding(
        (8, 16),
        image=(1, 16, 16),
        activation=activation,
        normalised=normalised,
        length=length,
        generator=generator,
    )
    head = FewShotReadOut(
        embedding.features,
        5,
        neuron=LIF(decay=0.2, v_th=0.5, reset="zero"),
        rule=Hebbian(trace_decay=0.99, post="softmax"),
        label_current=100.0,
        largest_rate=1.0,
        generator=generator,
        meta_generator=generator,
    )
    network = FewShot(embedding, head)
    network(drawings(40), *episode(1)[:3])  # batch statistics
    return network.eval().requires_grad_(False)


def drawings(count: int, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    blocks = (torch.rand(count, 1, 4, 4, generator=generator) < 0.4).float()
    return torch.nn.functional.interpolate(blocks, size=(16, 16))


def episode(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return support, labels and queries: the very drawings that were shown."""
    support = torch.stack([torch.randperm(40)[:5] for _ in range(count)])
    labels = torch.arange(5).expand(count, 5)
    return support, labels, support[:, [3, 0]]


@pytest.mark.parametrize("length", [None, 10.0])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_an_embedding_in_whole_numbers_points_the_same_way(
    activation: Literal["tanh", "relu"], normalised: bool, length: float | None
) -> None:
    network = few_shot(normalised=normalised, length=length, activation=activation)
    assert isinstance(network.embedding, Embedding)
    made = quantize_embedding(network.embedding, drawings(40), DEFAULT)
    shown = drawings(20, seed=6)
    expected, found = network.embedding(shown), made.features(shown, Overflows())
    assert found.dtype == torch.int64
    # A tanh's unit is 1/127 whatever comes: only what is rectified, or scaled, fills 8 bits.
    least = 60 if activation == "tanh" and length is None else 100
    assert least <= int(found.abs().max()) <= 127
    assert torch.nn.functional.cosine_similarity(expected, found.float()).min() > 0.99
    ratio = found.float().norm(dim=1) * made.feature_scale / expected.norm(dim=1)
    assert (ratio - 1.0).abs().max() < 0.05


def test_a_read_out_binds_in_whole_numbers() -> None:
    """Potentials of queries within a few per cent of their spread, and the same answers."""
    torch.manual_seed(1)
    network, images = few_shot(), drawings(40)
    support, labels, query = episode(30)
    chip = quantize_few_shot(network, images, support=5)
    features = chip.embedding.features(images, Overflows())
    found = chip.readout.potentials(
        features[support],
        labels,
        features[query],
        5,
        limits=STRICT,
        overflows=Overflows(strict=True),
    )
    exact = features.float() * chip.embedding.feature_scale
    assert isinstance(network.head, FewShotReadOut)
    expected = network.head(Support(exact[support], labels), exact[query])
    assert found.shape == (30, 2, 5)
    spread = float(expected.std())
    assert float((found * chip.readout.unit - expected).abs().mean()) < 0.05 * spread
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() > 0.95
    assert (found.argmax(-1) == torch.tensor([3, 0])).float().mean() > 0.9, "it learned"


def test_what_does_not_fit_is_counted_wherever_it_happens() -> None:
    """Ranges are taken from faint drawings: full ones are cut in every layer."""
    network = few_shot(length=None)
    assert isinstance(network.embedding, Embedding)
    made = quantize_embedding(network.embedding, drawings(40) * 0.1, DEFAULT)
    overflows = Overflows()
    made = replace(made, input_scale=made.input_scale * 10.0)
    louder = replace(
        made,
        convolutions=tuple(
            replace(layer, cut=max(layer.cut - 2, 0)) for layer in made.convolutions
        ),
    )
    assert int(louder.features(drawings(20), overflows).max()) == 127
    assert set(overflows.counts) == {"convolution 1", "convolution 2"}
    with pytest.raises(SaturationError, match="convolution 1"):
        louder.features(drawings(20), Overflows(strict=True))


def test_queries_do_not_meet_each_other() -> None:
    torch.manual_seed(2)
    network, images = few_shot(), drawings(40)
    support, labels, query = episode(4)
    chip = quantize_few_shot(network, images, support=5)
    features = chip.embedding.features(images, Overflows())
    both = chip.readout.potentials(
        features[support], labels, features[query], 5, overflows=Overflows()
    )
    for q in range(2):
        one = query[:, q : q + 1]
        alone = chip.readout.potentials(
            features[support], labels, features[one], 5, overflows=Overflows()
        )
        assert torch.equal(both[:, q : q + 1], alone)


def test_fewer_ways_take_part() -> None:
    torch.manual_seed(3)
    network, images = few_shot(), drawings(40)
    support, labels, query = (part[:, :2] for part in episode(6))
    chip = quantize_few_shot(network, images, support=2)
    features = chip.embedding.features(images, Overflows())
    found = chip.readout.potentials(
        features[support], labels, features[query], 2, overflows=Overflows()
    )
    assert found.shape == (6, 2, 2)
    with pytest.raises(ValueError, match="support of 3 samples: the local module remembers 2"):
        chip.readout.potentials(
            features[support[:, [0, 1, 1]]], labels[:, [0, 1, 1]], found, 2, overflows=Overflows()
        )


def test_what_the_chip_has_not_is_refused() -> None:
    generator = torch.Generator().manual_seed(3)
    tanh = Embedding((4,), image=(1, 16, 16), generator=generator)
    with pytest.raises(ValueError, match="spiking read-out"):
        quantize_few_shot(FewShot(tanh, Matching()), drawings(4), 5)


def test_a_few_shot_network_can_be_mapped() -> None:
    chip = quantize_few_shot(few_shot(), drawings(40), support=5)
    mapping = map_network(chip.shapes(5, 5), load_chip())
    assert mapping.count("read-out", "coincidences") == 5
    assert mapping.count("convolution 1") >= 1
    folded = map_network(chip.shapes(5, 5, "folded"), load_chip())
    assert len(folded.cores) < len(mapping.cores)


def test_a_soft_maximum_shares_one() -> None:
    soft = SoftMaximum(1 / 32)
    arguments = torch.tensor([[0, 0], [32, 0], [5000, 0]])
    expected = (127 * torch.softmax(arguments / 32, -1)).round().long()
    strict = Overflows(strict=True)
    assert (soft.look_up(arguments, 0, strict, "here") - expected).abs().max() <= 1
    assert soft.look_up(arguments, 0, strict, "here")[2].tolist() == [127, 0]


@pytest.mark.parametrize("local", ["history", "off"])
def test_a_task_sees_its_synapses_in_whole_numbers(local: str) -> None:
    """Scores against the network's, each sample with its own trace, and with empty ones."""
    generator = torch.Generator().manual_seed(4)
    sizes = (100, 60, 50, 10)
    network = ContextGated(
        sizes,
        neuron=LIF(decay=0.8, v_th=0.5),
        rule=Hebbian(trace_decay=0.8),
        steps=3,
        tau=50.0,
        initial_meta=InitialMeta((0.3, 0.6), (-0.05, 0.2), (0.0, 0.1)),
        generator=generator,
        meta_generator=generator,
    ).requires_grad_(False)
    for weight in network.weights:
        weight.mul_(3.0)
    masks = random_masks(sizes, 0.3, generator)
    images = torch.rand(200, 100, generator=generator)
    chip = quantize_context(network, masks, images, replace(DEFAULT, kept=1.0))
    found, outcome = chip.scores(images, local=local, limits=STRICT)  # type: ignore[arg-type]
    expected = network(images, masks, pool="sample", adapt=local == "history").output
    assert outcome.layers["layer 1"].active_out.sum() > 0
    agreement = torch.corrcoef(torch.stack([found.float().ravel(), expected.ravel()]))[0, 1]
    assert agreement > 0.98
    other = network(images, masks, pool="sample", adapt=local != "history").output
    assert torch.corrcoef(torch.stack([found.float().ravel(), other.ravel()]))[0, 1] < agreement
    assert map_network(chip.shapes(), load_chip(), most_chips=2).count("layer 1", "copies") == 1


def test_a_network_without_masks_is_dense_and_has_no_history() -> None:
    generator = torch.Generator().manual_seed(4)
    network = ContextGated(
        (30, 20, 20, 5),
        neuron=LIF(decay=0.8, v_th=0.5),
        rule=None,
        steps=3,
        tau=50.0,
        initial_meta=InitialMeta.up_to(0.01),
        generator=generator,
        meta_generator=generator,
    ).requires_grad_(False)
    images = torch.rand(50, 30, generator=generator)
    chip = quantize_context(network, None, images)
    found, _ = chip.scores(images)
    assert all(layer.local is None for layer in chip.hidden.layers)
    expected = network(images).output
    assert torch.corrcoef(torch.stack([found.float().ravel(), expected.ravel()]))[0, 1] > 0.98
