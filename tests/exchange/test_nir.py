"""NIR against its readers: snnTorch and norse spike as we do at every step, or we refuse."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hybrid
from hybrid.model.coding import InParts, LastMembrane, Rate
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import ContextGated, FullyConnected, HybridNetwork
from hybrid.model.neurons import IF, LIF, AdaptiveLIF
from hybrid.model.plasticity import Hebbian
from tests.exchange.peers import peer

nir = peer("nir")
norse = peer("norse.torch")
snntorch = peer("snntorch")
import_from_nir = peer("snntorch.import_nir").import_from_nir
export_to_nir = peer("snntorch.export_nir").export_to_nir

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # nirtorch's, in norse

STEPS = 12
NEURON = LIF(decay=0.6, v_th=0.3, reset="zero")
RULE = Hebbian(trace_decay=0.9)


def fully(**options: Any) -> FullyConnected:
    options = {
        "neuron": NEURON,
        "rule": None,
        "readout": Rate(),
        "steps": STEPS,
        "initial_meta": InitialMeta.up_to(0.5),
        "generator": torch.Generator().manual_seed(0),
        **options,
    }
    return FullyConnected((20, 40, 30, 6), **options).eval()


def convolutional(**options: Any) -> Convolutional:
    options = {
        "neuron": LIF(decay=0.5, v_th=0.15, reset="zero"),
        "rule": None,
        "readout": Rate(),
        "steps": STEPS,
        "initial_meta": InitialMeta.up_to(0.5),
        "generator": torch.Generator().manual_seed(0),
        **options,
    }
    convolutions = [
        Convolution(channels=6, pooled=True),
        Convolution(channels=5, dropout=0.3),
        Convolution(channels=8, pooled=True),
    ]
    dense = [Dense(size=30, plastic=True), Dense(size=6, neuron=IF(v_th=0.2, reset="zero"))]
    return Convolutional((2, 9, 10), convolutions, dense, **options).eval()


def images(network: HybridNetwork) -> Tensor:
    size = (2, 9, 10) if isinstance(network, Convolutional) else (20,)
    return 2 * torch.rand(16, *size, generator=torch.Generator().manual_seed(1))


def in_snntorch(graph: Any) -> nn.Module:
    module: nn.Module = import_from_nir(graph)
    return module


def in_norse(graph: Any) -> nn.Module:
    module: nn.Module = norse.from_nir(graph, dt=1e-4)
    return module


READERS = (in_snntorch, in_norse)


@torch.no_grad()
def spikes(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return the output of a module of another library for each of T inputs [T, N, *]."""
    state, shown = None, []
    for x in inputs:
        z, state = module(x, state)
        shown.append(z)
    return torch.stack(shown)


def repeated(x: Tensor) -> Tensor:
    return x.expand(STEPS, *x.shape)


NETWORKS: dict[str, Callable[[], HybridNetwork]] = {
    "LIF": fully,
    "no memory": lambda: fully(neuron=LIF(decay=0.0, v_th=0.1, reset="zero")),
    "no leak": lambda: fully(neuron=IF(v_th=0.9, reset="zero")),
    "each its own": lambda: fully(
        neuron=[NEURON, LIF(decay=0.9, v_th=0.5, reset="zero"), IF(v_th=0.2, reset="zero")]
    ),
    "convolutional": convolutional,
}


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_are_the_same_at_every_step(name: str, read: Any, tmp_path: Path) -> None:
    """Through a file, of images that are shown again and again."""
    network = NETWORKS[name]()
    nir.write(tmp_path / "it.nir", hybrid.to_nir(network))
    expected = network(images(network)).windows
    assert all(0.03 < window.z.mean() < 0.97 for window in expected)
    found = spikes(read(nir.read(tmp_path / "it.nir")), repeated(images(network)))
    assert torch.equal(found, expected[-1].z)


@pytest.mark.parametrize("read", READERS)
def test_inputs_of_their_own_at_each_step(read: Any) -> None:
    network = fully()
    x = (torch.rand(STEPS, 16, 20, generator=torch.Generator().manual_seed(2)) < 0.4).float()
    expected = network(x).windows[-1].z
    assert expected.mean() > 0.05
    assert torch.equal(spikes(read(hybrid.to_nir(network)), x), expected)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("build", [fully, convolutional])
def test_traces_stay_as_they_are_on_request(build: Any, read: Any) -> None:
    network = build(rule=RULE)
    network.train()
    for _ in range(3):
        network(images(network))
    network.eval()
    assert max(layer.trace.abs().max() for layer in network.layers if layer.rule) > 0.1
    before = network(images(network), adapt=False).windows[-1].z
    plain = build()
    plain.load_state_dict(network.state_dict(), strict=False)
    assert not torch.equal(before, plain(images(plain)).windows[-1].z), "traces matter"
    graph = hybrid.to_nir(network, frozen=True)
    assert torch.equal(spikes(read(graph), repeated(images(network))), before)


def test_constants_of_each_neuron(tmp_path: Path) -> None:
    """norse has them, snnTorch says that it has not; and they come back."""
    decay, v_th = torch.linspace(0.2, 0.9, 6), nn.Parameter(torch.linspace(0.1, 0.4, 6))
    network = fully(neuron=[NEURON, NEURON, LIF(decay=decay, v_th=v_th, reset="zero")])
    graph = hybrid.to_nir(network)
    expected = network(images(network)).windows[-1].z
    assert torch.equal(spikes(in_norse(graph), repeated(images(network))), expected)
    with pytest.raises(AssertionError, match="v_threshold must be same for all neurons"):
        in_snntorch(graph)
    back = hybrid.from_nir(graph, readout=Rate(), steps=STEPS)
    assert torch.equal(back(images(network)).windows[-1].z, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_come_back(name: str, tmp_path: Path) -> None:
    network, path = NETWORKS[name](), tmp_path / "it.nir"
    nir.write(path, hybrid.to_nir(network))
    back = hybrid.from_nir(path, readout=LastMembrane(), steps=STEPS).eval()
    assert type(back) is type(network)
    ours, theirs = network(images(network)), back(images(network))
    for a, b in zip(ours.windows, theirs.windows, strict=True):
        assert torch.equal(a.z, b.z)
    for a, b in zip(network.parameters(), back.parameters(), strict=True):
        assert torch.equal(a, b)
    learning = hybrid.from_nir(str(path), readout=Rate(), steps=3, rule=RULE, lifetime="call")
    assert any(layer.rule is RULE for layer in learning.layers)


@pytest.mark.parametrize("beta", [0.8, 0.0])
def test_networks_of_snntorch_come_in(beta: float) -> None:
    """By its own export; its neurons are reset a step later, which is the same."""
    torch.manual_seed(0)

    def leaky(size: int, beta: float, threshold: float) -> nn.Module:
        constants = torch.full((size,), beta), torch.full((size,), threshold)
        module: nn.Module = snntorch.Leaky(*constants, init_hidden=True, reset_mechanism="zero")
        return module

    second = nn.Linear(30, 6, bias=False)
    module = nn.Sequential(nn.Linear(20, 30), leaky(30, beta, 0.4), second, leaky(6, 0.7, 0.2))
    graph = export_to_nir(module, torch.zeros(20))
    network = hybrid.from_nir(graph, readout=Rate(), steps=STEPS).eval()
    x = 2 * torch.rand(16, 20)
    with torch.no_grad():
        expected = torch.stack([module(x) for _ in range(STEPS)])
    assert expected.mean() > 0.05
    assert torch.equal(network(x).windows[-1].z, expected)


MASKED: dict[str, Any] = {"neuron": NEURON, "rule": None, "initial_meta": InitialMeta.up_to(0.1)}
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "soft reset": (
        lambda: fully(neuron=[NEURON, LIF(decay=0.5, v_th=0.3), NEURON]),
        r"layers\.1: NIR neurons are reset to zero, and LIF\.reset = 'subtract'.*reset='zero'",
    ),
    "no reset": (
        lambda: fully(neuron=IF(v_th=0.3, reset="none")),
        r"layers\.0: .*IF\.reset = 'none'",
    ),
    "adaptive": (
        lambda: fully(neuron=AdaptiveLIF(decay=0.5, v_th=0.3, reset="zero")),
        r"layers\.0: NIR has no AdaptiveLIF, use LIF or IF",
    ),
    "traces": (
        lambda: fully(rule=[None, RULE, None]),
        r"layers\.1: its trace learns while it answers, by Hebbian.*say frozen=True",
    ),
    "plastic part": (lambda: convolutional(rule=RULE), r"layers\.0: its trace learns"),
    "fading": (lambda: fully(tau=4.0), "NIR cannot say that a drive fades.*tau=None"),
    "normalised": (lambda: fully(normalise=True), r"layers\.0: a batch normalisation"),
    "encoder": (lambda: fully(encode=InParts()), r"FullyConnected\.encode = InParts\(\): a chain"),
    "masks": (
        lambda: ContextGated((20, 8, 8, 3), steps=3, tau=None, **MASKED),
        "ContextGated: give a FullyConnected or Convolutional network",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nir_cannot_say_is_refused(name: str) -> None:
    build, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        hybrid.to_nir(build())


def lif(size: int = 3, **changed: Any) -> Any:
    values = {"tau": 2e-4, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.3, "v_reset": 0.0, **changed}
    return nir.LIF(**{name: np.full(size, value) for name, value in values.items()})


def dense(inputs: int = 4, outputs: int = 3) -> Any:
    return nir.Linear(weight=np.ones((outputs, inputs), dtype=np.float32))


def convolution(size: int = 3, padding: int = 1) -> list[Any]:
    weight = np.ones((2, 1, size, size), dtype=np.float32)
    convolve = nir.Conv2d((8, 8), weight, 1, padding, 1, 1, np.zeros(2, dtype=np.float32))
    return [convolve, lif((2, 8, 8))]  # type: ignore[arg-type]


def after_convolution(**changed: Any) -> list[Any]:
    weight = np.ones((2, 2, 3, 3), dtype=np.float32)
    convolve = nir.Conv2d((8, 8), weight, 1, 1, 1, 1, np.zeros(2, dtype=np.float32))
    return [convolve, lif((2, 8, 8), **changed)]  # type: ignore[arg-type]


def pooled(kernel: int) -> list[Any]:
    side = 8 // kernel
    pool = nir.SumPool2d(*(np.array([n, n]) for n in (kernel, kernel, 0)))
    features = 2 * side * side
    flat = nir.Flatten(np.array((2, side, side)), 0, -1)
    return [*convolution(), pool, flat, dense(features), lif()]


FOREIGN: dict[str, tuple[Callable[[], list[Any]], str]] = {
    "no neurons": (lambda: [dense(), dense(3)], "Linear - Linear: networks here are Affine - LIF"),
    "other neurons": (
        lambda: [dense(), nir.IF(r=np.ones(3), v_threshold=np.ones(3))],
        "Linear - IF: networks here",
    ),
    "leak": (lambda: [dense(), lif(v_leak=0.1)], "lif: v_leak and v_reset must be zero"),
    "reset": (lambda: [dense(), lif(v_reset=0.1)], "lif: v_leak and v_reset must be zero"),
    "step": (
        lambda: [dense(), lif(tau=5e-5)],
        r"lif: tau is not finite, or shorter than dt = 0\.0",
    ),
    "endless": (lambda: [dense(), lif(tau=np.inf)], "lif: tau is not finite"),
    "several neurons": (
        lambda: [*convolution(), *after_convolution(tau=4e-4), *pooled(1)[-3:]],
        "convolutional layers share one neuron model here",
    ),
    "kernel": (
        lambda: [*convolution(5, 2), nir.Flatten(np.array((2, 8, 8)), 0, -1), dense(128), lif()],
        r"conv2d: weights \[2, 1, 5, 5\]; here are 3 x 3 alone",
    ),
    "pool": (lambda: pooled(4), r"sumpool2d: kernel_size = \[4, 4\].*here are kernel_size = 2"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_graphs_of_other_networks_are_refused(name: str) -> None:
    build, words = FOREIGN[name]
    with pytest.raises(ValueError, match=words):
        hybrid.from_nir(nir.NIRGraph.from_list(*build()), readout=Rate(), steps=3)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "it.nir"
    nir.write(path, hybrid.to_nir(fully()))
    whole = path.read_bytes()
    for damaged in (b"", b"no graph", whole[: len(whole) // 2], whole.replace(b"nodes", b"nodez")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"it\.nir is damaged, or no NIR graph"):
            hybrid.from_nir(path, readout=Rate(), steps=3)
    with pytest.raises(FileNotFoundError):
        hybrid.from_nir(tmp_path / "nothing", readout=Rate(), steps=3)


def test_recurrent_graphs_are_refused() -> None:
    graph = nir.NIRGraph.from_list(dense(), lif())
    graph.nodes["back"] = dense(3)
    graph.edges += [("lif", "back"), ("back", "lif")]
    with pytest.raises(ValueError, match="the graph is no chain"):
        hybrid.from_nir(graph, readout=Rate(), steps=3)


@pytest.mark.parametrize("kind", [nir.SumPool2d, nir.AvgPool2d])
def test_sums_and_means_are_told_apart(kind: Any) -> None:
    parts = pooled(2)
    parts[2] = kind(*(np.array([n, n]) for n in (2, 2, 0)))
    network = hybrid.from_nir(nir.NIRGraph.from_list(*parts), readout=Rate(), steps=3)
    assert torch.all(network.layers[0].weight == (4.0 if kind is nir.SumPool2d else 1.0))


def test_without_nir_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ImportError, match=r"pip install 'hybrid-plasticity\[nir\]'"):
        hybrid.to_nir(fully())
