"""torch's transformations: functional calls, vmap over seeds, compilation, export, processes."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.parallel import DistributedDataParallel

from hybrid.model.coding import LastMembrane, Rank
from hybrid.model.layers import HybridLinear, InitialMeta
from hybrid.model.networks import ContextGated, FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import STDP, Hebbian, LocalRule
from hybrid.model.rules import BCM, Oja, Rewarded
from hybrid.model.window.sparse import random_masks

RULES: tuple[LocalRule | None, ...] = (
    None,
    Hebbian(trace_decay=0.9),
    Hebbian(trace_decay=0.9, trace_clip=0.05),
    STDP(trace_decay=0.9),
    Oja(trace_decay=0.9),
    BCM(trace_decay=0.9),
    Rewarded(rule=STDP(trace_decay=0.9)),
)


def network(seed: int = 0, rule: LocalRule | None = None, **options: Any) -> FullyConnected:
    options = {"neuron": LIF(decay=0.5, v_th=0.2), "readout": LastMembrane(), "steps": 4, **options}
    return FullyConnected(
        (6, 8, 3),
        rule=rule,
        initial_meta=InitialMeta.up_to(0.5),
        generator=torch.Generator().manual_seed(seed),
        **options,
    ).double()


def images(samples: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return 2 * torch.rand(samples, 6, generator=generator, dtype=torch.float64)


# torch's own tracing makes an instance of a function, and warns of itself.
traced = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


class Output(nn.Module):
    """A network whose call returns its output alone."""

    def __init__(self, network: nn.Module, **how: Any) -> None:
        super().__init__()
        self.network, self.how = network, how

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.network(*inputs, **self.how).output
        return output


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("training", [True, False])
def test_several_seeds_in_one_call_are_one_at_a_time(
    rule: LocalRule | None, training: bool
) -> None:
    """Outputs, gradients and the traces that training leaves."""
    networks = [network(seed, rule).train(training) for seed in range(3)]
    for own in networks:  # what is stored differs between seeds
        own(images(4) * (1 + own.layers[0].weight.mean()))
    # In-place changes of stacked buffers stay in the stack: no network sees another's.
    parameters, buffers = stack_module_state([copy.deepcopy(own) for own in networks])  # type: ignore[arg-type]
    skeleton = copy.deepcopy(networks[0])
    x = images()

    def loss(parameters: Any, buffers: Any, x: Tensor) -> Any:
        state = {**parameters, **buffers}
        output = functional_call(skeleton, state, (x,)).output
        return output.square().sum(), (output, {name: state[name] for name in buffers})

    together = vmap(grad(loss, has_aux=True), in_dims=(0, 0, None))
    gradients, (outputs, left) = together(parameters, buffers, x)
    for s, own in enumerate(networks):
        activity = own(x)
        activity.output.square().sum().backward()
        assert torch.allclose(outputs[s], activity.output, atol=1e-12)
        assert activity.windows[0].z.mean() > 0.05
        for name, parameter in own.named_parameters():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert torch.allclose(gradients[name][s], expected, atol=1e-10), name
        if not training:
            continue
        for name, value in own.named_buffers():
            assert torch.allclose(left[name][s], value, atol=1e-12), name


def test_training_under_vmap_needs_buffers_of_each() -> None:
    """Else one layer would be left with a trace that is several, and never work again."""
    own = network(1, RULES[1])
    shown = images(10).view(5, 2, 6)
    with pytest.raises(ValueError, match="give functional_call the buffers of each"):
        vmap(lambda x: own(x).output)(shown)
    own.eval()
    assert vmap(lambda x: own(x).output)(shown).shape == (5, 2, 3)
    assert own(shown[0]).output.shape == (2, 3)


def test_a_memory_under_vmap_needs_one_for_each_as_well() -> None:
    own = HybridLinear(5, 6, neuron=LIF(decay=0.5, v_th=0.2), rule=BCM(trace_decay=0.9))
    shown, traces = torch.ones(4, 3, 5), {"trace": torch.zeros(2, 5, 6)}
    with pytest.raises(ValueError, match="give functional_call the buffers of each"):
        vmap(lambda kept: functional_call(own, kept, (shown,)).v)(traces)
    assert own.eval()(shown).v.shape == (4, 3, 6)


@pytest.mark.parametrize("rule", RULES)
def test_a_functional_gradient_leaves_plain_traces(rule: LocalRule | None) -> None:
    """What training stores can be copied and saved, and is what a plain call stores."""
    own, other = network(1, rule), network(1, rule)
    parameters = dict(own.named_parameters())
    grad(lambda p: functional_call(own, p, (images(),)).output.sum())(parameters)
    other(images())
    for a, b in zip(copy.deepcopy(own).buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b)
        assert not torch._C._functorch.is_gradtrackingtensor(a)


@traced
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("training", [True, False])
def test_a_window_compiles_as_one_graph(rule: LocalRule | None, training: bool) -> None:
    """Same output, gradients and traces; nothing breaks the graph."""
    plain, other = (network(1, rule, steps=3).train(training) for _ in range(2))
    compiled = torch.compile(Output(other), backend="aot_eager", fullgraph=True)
    for _ in range(2):
        expected, found = plain(images()).output, compiled(images())
        assert torch.allclose(found, expected, atol=1e-12)
    expected.sum().backward()
    found.sum().backward()
    for mine, own in zip(other.parameters(), plain.parameters(), strict=True):
        if own.grad is not None:
            assert mine.grad is not None
            assert torch.allclose(mine.grad, own.grad, atol=1e-10)
    for a, b in zip(other.buffers(), plain.buffers(), strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    torch.compiler.reset()


@traced
@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("rule", [None, RULES[1], RULES[2]])
def test_networks_export(rule: LocalRule | None, adapt: bool) -> None:
    """As torch.export wants it, first step of ONNX and of runtimes on devices."""
    own = network(1, rule)
    own(images())
    model = Output(own.eval(), adapt=adapt)
    exported = torch.export.export(model, (images(),)).module()
    assert torch.allclose(exported(images()), model(images()), atol=1e-12)


def test_the_meta_device_knows_shapes() -> None:
    """A network without memory: its size, and the shape of what it would answer."""
    for rule in RULES:
        with torch.device("meta"):
            own = FullyConnected(
                (600, 800, 30),
                neuron=LIF(decay=0.5, v_th=0.2),
                rule=rule,
                readout=LastMembrane(),
                steps=3,
            )
        assert sum(p.numel() for p in own.parameters()) > 500_000
        assert own(torch.empty(2, 600, device="meta"), evaluation="recurrent").output.shape == (
            2,
            30,
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sparse_masks_of_half_precision(dtype: torch.dtype) -> None:
    """torch has no such sparse products: they are computed in single, and agree with dense ones."""
    own = ContextGated(
        (20, 16, 16, 5),
        neuron=LIF(decay=0.8, v_th=0.2),
        rule=Hebbian(trace_decay=0.8),
        steps=3,
        tau=50.0,
        initial_meta=InitialMeta.up_to(0.01),
        generator=torch.Generator().manual_seed(0),
    )
    masks = random_masks((20, 16, 16, 5), 0.3, torch.Generator().manual_seed(0))
    x = torch.rand(8, 20, generator=torch.Generator().manual_seed(1))
    expected = own(x, masks).output
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(own(x, masks).output.float(), expected, atol=0.05)
    own = own.to(dtype)
    found = own(x.to(dtype), masks).output
    assert found.dtype == dtype
    assert torch.allclose(found.float(), expected, atol=0.05)
    found.sum().backward()
    assert all(weight.grad is not None for weight in own.weights)


def test_a_share_of_a_batch_is_counted_exactly() -> None:
    """Without double precision, which some devices lack: each share of each batch size."""
    for samples in (1, 3, 7, 10, 100):
        for fired in range(samples + 1):
            v = torch.zeros(samples, 1)
            v[:fired] = 1.0
            states = [type("State", (), {"v": v})()]
            for fraction in (0.0, 0.29, 0.5, 0.57, 0.7, 0.99):
                asked = Rank(earliest=0, fraction=fraction)
                found = asked.answered(states, 0.5)  # type: ignore[arg-type]
                assert bool(found.all()) == (fired / samples > fraction)


def train_part(rank: int, folder: str, rule: LocalRule, size: int) -> None:
    """Train one step on a share of the batch, in one of `size` processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    own = network(1, rule, pool="ranks")
    parallel = DistributedDataParallel(Output(own))
    for _ in range(2):
        own.zero_grad()
        parallel(images(6).chunk(size)[rank]).square().mean().backward()
    if rank == 0:
        gradients = {name: p.grad for name, p in own.named_parameters()}
        torch.save({"gradients": gradients, "buffers": dict(own.named_buffers())}, f"{folder}/left")
    try:
        network(1, rule, pool="batch")(images(3))
    except ValueError as error:
        if rank == 0:
            Path(folder, "refused").write_text(str(error))
    dist.barrier()  # nobody leaves while another is still at work
    dist.destroy_process_group()


@pytest.mark.parametrize("rule", [RULES[1], RULES[4], RULES[5]])
def test_processes_share_the_trace_of_the_whole_batch(rule: LocalRule, tmp_path: Path) -> None:
    """Two processes with half a batch each are one with the whole: gradients, traces, θ of BCM."""
    mp.spawn(train_part, args=(str(tmp_path), rule, 2), nprocs=2)  # type: ignore[no-untyped-call]
    left = torch.load(tmp_path / "left", weights_only=True)
    alone = network(1, rule)
    for _ in range(2):
        alone.zero_grad()
        alone(images(6)).output.square().mean().backward()
    for name, value in alone.named_buffers():
        assert value.abs().max() > 0
        assert torch.allclose(left["buffers"][name], value, atol=1e-12), name
    for name, parameter in alone.named_parameters():
        assert torch.allclose(left["gradients"][name], parameter.grad, atol=1e-10), name
    assert "use pool='ranks'" in (tmp_path / "refused").read_text()


def test_ranks_without_processes_are_named() -> None:
    with pytest.raises(ValueError, match=r"pool = 'ranks' needs torch\.distributed"):
        network(1, RULES[1], pool="ranks")(images())
    assert HybridLinear(3, 2, neuron=LIF(decay=0.5, v_th=0.2), rule=RULES[1]).pool == "batch"
