"""Training of plain modules, from whatever gives batches."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hybrid.learning.iteration import Split
from hybrid.learning.schedule import Schedule
from hybrid.learning.training import train
from hybrid.model.coding import InParts, Rate
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian


class Sequential(nn.Module):
    """A plain module around one plastic layer: images to scores."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.hidden = HybridLinear(
            12,
            20,
            neuron=LIF(decay=0.5, v_th=0.2),
            rule=Hebbian(trace_decay=0.9),
            returns="spikes",
            generator=generator,
        )
        self.out = nn.Linear(20, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        spikes = self.hidden(images.expand(4, -1, -1))
        scores: torch.Tensor = self.out(spikes.mean(0))
        return scores


def test_a_plain_module_learns_from_a_loader() -> None:
    """Whatever gives batches of inputs and labels, whatever returns outputs [N, C]."""
    generator = torch.Generator().manual_seed(1)
    templates = torch.rand(3, 12, generator=generator) > 0.5
    labels = torch.arange(120) % 3
    flips = torch.rand(120, 12, generator=generator) < 0.05
    images = (templates[labels] ^ flips).float()
    loader = DataLoader(TensorDataset(images, labels), batch_size=10, shuffle=True)
    schedule = Schedule(epochs=12, batch_size=10, lr_weight=0.01, lr_meta=0.01)

    def trained() -> tuple[list[float], Sequential]:
        torch.manual_seed(0)
        module = Sequential()
        logs = train(module, loader, loader, schedule)
        return [log.validation for log in logs], module

    (validation, module), (again, _) = trained(), trained()
    assert validation == again  # the order of the loader follows from the epoch's generator
    assert validation[-1] > 0.95
    assert module.hidden.trace.abs().max() > 0
    assert module.hidden.theta.local_gain.grad is not None
    split = Split(images, labels)
    again = train(Sequential(), split, DataLoader(TensorDataset(*split), batch_size=7), schedule)
    assert again[-1].validation > 0.9
    pair = (images, labels)
    assert train(Sequential(), pair, pair, schedule)[-1].validation > 0.9
    empty = Split(images[:0], labels[:0])
    for data, held_out, message in (
        (iter(loader), split, "an iterator is used up after one epoch"),
        (empty, split, "no samples: give at least one"),
        (split, empty, "no samples: give at least one"),
        (split, [], "no samples to validate with"),
        ([], split, "no samples in epoch 1"),
        ([{"image": images}], split, "a batch is a dict: give pairs"),
        ([(images, labels, labels)], split, "a batch is a tuple: give pairs"),
        ((images.numpy(), labels.numpy()), split, "a pair of ndarray and ndarray: give samples"),
        (split, (images, labels + 1), "labels from 1 to 3 for 3 classes"),
        (split, (images, labels.float()), "labels of dtype torch.float32: give whole numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            train(Sequential(), data, held_out, schedule)  # type: ignore[arg-type]
    some = [(images, labels), (images[:0], labels[:0])]  # an empty batch is passed over
    assert len(train(Sequential(), some, some, schedule)) == 12
    with pytest.raises(ValueError, match="nothing to train"):
        train(Sequential().requires_grad_(False), split, split, schedule)


@pytest.mark.parametrize("size", [10, 7])
def test_samples_with_steps_are_never_taken_for_steps_of_samples(size: int) -> None:
    """With as many samples in a batch as steps, shapes do not tell them apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    x = torch.rand(200, 10, 5, generator=generator)
    x[labels == 1, :, 0] += 2.0
    options = {"neuron": LIF(decay=0.5, v_th=0.2), "rule": None, "readout": Rate(), "steps": 10}
    schedule = Schedule(epochs=10, batch_size=size, lr_weight=0.01, lr_meta=0.01)
    network = FullyConnected((5, 20, 2), **options, generator=generator)
    with pytest.raises(ValueError, match=r"with steps of their own.*encode=InParts\(\)"):
        train(network, Split(x, labels), Split(x, labels), schedule)
    network.encode = InParts()
    split = Split(x.flatten(1), labels)
    assert train(network, split, split, schedule)[-1].validation > 0.95
