"""Files of networks: what comes back answers alike, and learns on alike; or a clear refusal."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import hybrid
from hybrid.model.coding import InParts, LastMembrane, Poisson, Rank, Rate
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.embedding import Embedding
from hybrid.model.few_shot import FewShot, FewShotReadOut, Prototypes
from hybrid.model.layers import HybridLinear, InitialMeta
from hybrid.model.networks import ContextGated, FullyConnected
from hybrid.model.neurons import LIF, AdaptiveLIF, ArcTan
from hybrid.model.plasticity import STDP, Hebbian
from hybrid.model.recurrent import HybridRecurrent
from hybrid.model.rules import BCM, Oja, Rewarded
from hybrid.model.window.sparse import random_masks
from hybrid.runs.files import UNSIGNED, DamagedFileError, load_tensors, save_tensors

NEURON = LIF(decay=0.6, v_th=0.3)
RULE = Hebbian(trace_decay=0.9, trace_clip=0.5)
META = InitialMeta.up_to(0.5)
TRAINED = LIF(decay=nn.Parameter(torch.tensor(0.7)), v_th=torch.tensor([0.2, 0.3, 0.4]))


def fully(**options: Any) -> FullyConnected:
    options = {
        "neuron": NEURON,
        "rule": RULE,
        "readout": LastMembrane(ceiling=1.5),
        "steps": 4,
        "initial_meta": META,
        "generator": torch.Generator().manual_seed(0),
        **options,
    }
    return FullyConnected((6, 8, 3), **options)


def convolutional() -> Convolutional:
    return Convolutional(
        (1, 6, 6),
        [Convolution(channels=4, pooled=True), Convolution(channels=3, dropout=0.2)],
        (Dense(size=8, plastic=True, faded=False), Dense(size=3, neuron=LIF(decay=1.0, v_th=0.2))),
        neuron=LIF(decay=0.5, v_th=0.2, reset="zero", surrogate=ArcTan(slope=3.0)),
        rule=Hebbian(trace_decay=0.9, sign=-1, post="identity"),
        readout=Rank(earliest=2, fraction=0.5),
        steps=5,
        tau=8.0,
        initial_meta=META,
        nonnegative_rate=True,
    )


NETWORKS: dict[str, Any] = {
    "plain": lambda: fully(rule=None, normalise=True, tau=5.0),
    "carried": fully,
    "each": lambda: fully(
        neuron=[AdaptiveLIF(decay=0.6, v_th=0.2), TRAINED], rule=(None, BCM(trace_decay=0.8))
    ),
    "own traces": lambda: fully(lifetime="call", pool="sample", rule=STDP(trace_decay=0.9)),
    "signed": lambda: fully(theta_form="signed", rule=Oja(trace_decay=0.9)),
    "rewarded": lambda: fully(rule=Rewarded(rule=RULE), theta_form="layer").double(),
    "convolutional": convolutional,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    """Output, traces, words and precision; and training goes on from there to the same bits."""
    torch.manual_seed(5)
    network, path = NETWORKS[name](), tmp_path / "network.safetensors"
    dtype = network.layers[0].weight.dtype
    size = 36 if name == "convolutional" else 6
    x = 2 * torch.rand(7, size, dtype=dtype, generator=torch.Generator().manual_seed(1))
    network(x)
    before = torch.get_rng_state()
    hybrid.save(network, path)
    loaded = hybrid.load(path)
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn"
    assert not loaded.training
    assert repr(loaded) == repr(network)
    assert type(loaded) is type(network)
    network.eval()
    activity = network(x)
    assert all(window.z.mean() > 0.02 for window in activity.windows)
    assert torch.equal(loaded(x).output, activity.output)
    for own in (network, loaded):
        torch.manual_seed(2)  # of dropout
        own.train()(x).output.square().sum().backward()
    for a, b in zip(network.parameters(), loaded.parameters(), strict=True):
        assert a.dtype == b.dtype
        assert a.stride() == b.stride()
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.equal(a.grad, b.grad)
    for a, b in zip(network.buffers(), loaded.buffers(), strict=True):
        assert torch.equal(a, b)
    hybrid.save(loaded, tmp_path / "again")


def test_layers_and_other_networks_come_back(tmp_path: Path) -> None:
    path = tmp_path / "it"
    x = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(1)) * 2
    for kind in (HybridLinear, HybridRecurrent):
        layer = kind(6, 4, neuron=NEURON, rule=RULE, returns="spikes", initial_meta=META).eval()
        hybrid.save(layer, path)
        assert torch.equal(hybrid.load(path)(x), layer(x))
        assert layer(x).any()

    sizes = (6, 9, 8, 3)
    gated = ContextGated(sizes, neuron=NEURON, rule=RULE, steps=3, tau=50.0, initial_meta=META)
    masks = random_masks(sizes, 0.5, torch.Generator().manual_seed(0))
    hybrid.save(gated, path)
    assert torch.equal(hybrid.load(path)(x[0], masks).output, gated(x[0], masks).output)

    drawings = torch.rand(5, 1, 8, 8)
    ways = torch.tensor([[0, 1]])
    episode = (drawings, torch.tensor([[0, 1]]), ways, torch.tensor([[2, 3, 4]]))
    embedding = Embedding((4, 3), image=(1, 8, 8), length=3.0)
    binding = LIF(decay=0.2, v_th=0.5, reset="zero")
    rule = Hebbian(trace_decay=0.99, post="softmax")
    heads = (FewShotReadOut(12, 2, neuron=binding, rule=rule), Prototypes(0.3))
    for head in heads:
        few = FewShot(embedding, head)
        hybrid.save(few, path)
        assert torch.equal(hybrid.load(path)(*episode), few(*episode))


def test_other_programs_find_the_weights(tmp_path: Path) -> None:
    network, path = fully(), tmp_path / "network.safetensors"
    hybrid.save(network, path)
    found = safetensors.torch.load_file(path)
    assert found.keys() == network.state_dict().keys()
    assert torch.equal(found["layers.0.weight"], network.layers[0].weight)


@dataclass(frozen=True, kw_only=True)
class Covariance(Hebbian):
    """A rule that the package lacks."""

    mean: float = 0.1


class Small(FullyConnected):
    """A network that the package lacks, with a constructor of its own."""

    def __init__(self, hidden: int) -> None:
        parts: dict[str, Any] = {"neuron": NEURON, "rule": Covariance(trace_decay=0.9)}
        super().__init__((6, hidden, 3), readout=Rate(), steps=4, **parts)


def test_classes_of_ones_own_are_given_to_both(tmp_path: Path) -> None:
    path, own = tmp_path / "it", [Small, Covariance]
    with pytest.raises(ValueError, match=r"Small is a class that this package lacks: say kinds=\["):
        hybrid.save(Small(5), path)
    with pytest.raises(ValueError, match="Covariance is a class that this package lacks"):
        hybrid.save(fully(rule=Covariance(trace_decay=0.9)), path)
    assert not path.exists()
    hybrid.save(Small(5), path, kinds=own)
    loaded = hybrid.load(path, kinds=own)
    assert loaded.built_with == {"hidden": 5}
    with pytest.raises(ValueError, match="kind 'Small' are unknown"):
        hybrid.load(path)


def test_a_class_with_a_known_name_is_not_taken_for_it(tmp_path: Path) -> None:
    namesake = dataclass(frozen=True, kw_only=True)(type("Hebbian", (Hebbian,), {}))
    with pytest.raises(ValueError, match="Hebbian is a class that this package lacks"):
        hybrid.save(fully(rule=namesake(trace_decay=0.9)), tmp_path / "it")


def doubled(value: Tensor, steps: int) -> Tensor:
    return value * 2


def test_what_a_file_cannot_say_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "it"
    with pytest.raises(ValueError, match=r"doubled.* cannot be written down: .* a frozen data"):
        hybrid.save(fully(encode=doubled), path)
    with pytest.raises(ValueError, match="Linear does not know what it was built with"):
        hybrid.save(nn.Linear(2, 2), path)  # type: ignore[arg-type]
    for name, value in (
        ("encode", Poisson()),
        ("tau", 3.0),
        ("gain", tuple(0.5 * g for g in fully().gain)),
    ):
        other = fully()
        setattr(other, name, value)
        with pytest.raises(ValueError, match=f"{name} of this FullyConnected changed"):
            hybrid.save(other, path)
    other = fully()
    other.layers[0].bias = None
    with pytest.raises(ValueError, match="bias of this FullyConnected changed"):
        hybrid.save(other, path)
    changed = fully()
    changed.readout = Rate()
    with pytest.raises(ValueError, match="readout of this FullyConnected changed after"):
        hybrid.save(changed, path)
    assert not path.exists()


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "it"
    save_tensors(path, {"w": torch.ones(3)}, {"trial": "a"})
    with pytest.raises(ValueError, match="holds tensors alone"):
        hybrid.load(path)
    safetensors.torch.save_file({"w": torch.ones(3)}, path)
    with pytest.raises(DamagedFileError, match=r"or hybrid\.save has not written it"):
        hybrid.load(path)
    hybrid.save(fully(encode=InParts(), tau=3.0), path)
    tensors, about = load_tensors(path)
    save_tensors(path, tensors, {**about, "hybrid": "0.1.7"})
    with pytest.raises(
        ValueError, match=r"written by hybrid 0\.1\.7.*: install hybrid 0\.1, or tr"
    ):
        hybrid.load(path)


def test_a_damaged_file_with_a_right_checksum_is_named(tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    hybrid.save(fully(), path)
    tensors, about = load_tensors(path)
    few = dict(list(tensors.items())[1:])
    short = {name: tensor.flatten()[:1] for name, tensor in tensors.items()}
    described = about["network"]
    damages: list[tuple[dict[str, Tensor], Any]] = [
        (few, about),
        (short, about),
        (tensors, {"network": described}),
        (tensors, {**about, "hybrid": 2}),
        (tensors, {**about, "network": None}),
        (tensors, {**about, "network": {**described, "sizes": "many"}}),
        (tensors, {**about, "network": {**described, "sizes": [6, -8, 3]}}),
        (tensors, {**about, "network": {**described, "steps": None}}),
    ]
    for weights, says in damages:
        save_tensors(path, weights, says)
        with pytest.raises((DamagedFileError, ValueError), match=r"it\.safetensors"):
            hybrid.load(path)
    save_tensors(path, tensors, about)
    mended = path.read_bytes().replace(b"F32", b"F9x")
    path.write_bytes(resealed(mended))
    with pytest.raises(DamagedFileError, match=r"it\.safetensors is damaged, or hybrid\.save"):
        hybrid.load(path)
    with pytest.raises(FileNotFoundError):
        hybrid.load(tmp_path / "nothing")


def resealed(content: bytes) -> bytes:
    """Return a file of tensors with the checksum of what it says now."""
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    given = json.loads(json.loads(header)["__metadata__"]["about"])
    blank = content.replace(given["checksum"].encode(), UNSIGNED.encode(), 1)
    return blank.replace(UNSIGNED.encode(), hashlib.sha256(blank).hexdigest().encode(), 1)


def test_lists_are_as_good_as_tuples(tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    hybrid.save(
        ContextGated([5, 6, 6, 2], neuron=NEURON, rule=RULE, steps=3, tau=50.0, initial_meta=META),
        path,
    )
    assert hybrid.load(path).sizes == (5, 6, 6, 2)
