"""The fully connected networks against the authors' code: values, traces, every gradient."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hybrid.model.coding import LastMembrane, Rank
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.drive import Static, drive_decay, fade
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import ContextGated, FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian, MetaLocal, Synapse
from hybrid.model.window.choice import Evaluation, run_window
from hybrid.model.window.sparse import SparseMask
from tests.golden import DEVICE, Golden, assert_gradient, assert_value

EVALUATIONS = ["recurrent", "factored", "auto"]
FULLY_CONNECTED = [
    "fc_simple_example_hp_T10",
    "fc_simple_example_gp_T10",
    "fc_simple_example_lp_T10",
    "fc_fault_tolerance_hp_T5",
]
AUTHORS = {"beta": "local_rate", "eta": "sliding_threshold", "alpha": "local_gain"}


def one_hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels, 10).to(torch.float32)


def our_name(authors: str) -> str | None:
    """Translate `fc1.weight` or `alpha1` to the name of our parameter; None if it is unused."""
    if authors.startswith("fc"):
        index, kind = authors[2:].split(".")
        return f"layers.{int(index) - 1}.{kind}"
    role = AUTHORS.get(authors[:-1])
    return None if role is None else f"layers.{int(authors[-1]) - 1}.theta.{role}"


def build(golden: Golden) -> FullyConnected:
    """Rebuild the authors' network with the parameters of the vector."""
    config, kind = golden.config, golden.config["kind"]
    neuron = LIF(decay=config["decay"], v_th=config["v_th"])
    rule = Hebbian(trace_decay=config["trace_decay"], trace_clip=config["trace_clamp"])
    network = FullyConnected(
        (784, golden["trace1_in"].shape[1], 10),
        neuron=neuron,
        rule=None if kind == "gp" else rule,
        readout=LastMembrane(ceiling=1.1),
        steps=config["T"],
        tau=config["input_tau"],
        generator=torch.Generator(),
    )
    network.layers[0].requires_grad_(kind != "lp")
    values = {}
    for name in golden.names("param_"):
        ours = our_name(name.removeprefix("param_"))
        if ours in dict(network.named_parameters()):
            values[ours] = golden[name].reshape(network.get_parameter(ours).shape)
    if kind != "gp":
        values |= {f"layers.{i}.trace": golden[f"trace{i + 1}_in"] for i in (0, 1)}
    network.load_state_dict(values)
    return network.to(DEVICE)


@pytest.mark.parametrize("evaluation", EVALUATIONS)
@pytest.mark.parametrize("name", FULLY_CONNECTED)
def test_fully_connected_agrees_with_the_authors(name: str, evaluation: Evaluation) -> None:
    golden = Golden(name)
    network = build(golden)
    activity = network(golden["x"], evaluation=evaluation)
    loss = F.mse_loss(activity.output, one_hot(golden["y"]))
    loss.backward()

    assert_value(activity.output, golden["output"])
    assert_value(loss, golden["loss"])
    counts = activity.spike_counts()
    assert counts[0].sum() > 0
    if golden.config["kind"] != "lp":  # the authors never summed layer 1's spikes there
        assert_value(counts[0], golden["spike_count1"])
    assert_value(counts[1], golden["spike_count2"])
    if golden.config["kind"] != "gp":
        for i in (0, 1):
            assert_value(network.layers[i].trace, golden[f"trace{i + 1}_out"])

    ours = dict(network.named_parameters())
    expected = {our_name(n.removeprefix("grad_")): golden[n] for n in golden.names("grad_")}
    assert expected
    for parameter_name, gradient in expected.items():
        assert_gradient(ours.pop(parameter_name).grad, gradient)
    assert all(p.grad is None for p in ours.values()), "gradients where the authors have none"


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("evaluation", EVALUATIONS)
@pytest.mark.parametrize("kind", ["hp", "gp"])
def test_masked_layers_agree_with_the_authors(
    kind: str, evaluation: Evaluation, sparse: bool
) -> None:
    """Two masked layers and the masked linear read-out of the continual-learning network."""
    golden = Golden(f"continual_{kind}_T3")
    config = golden.config
    parameters = {
        name.removeprefix("param_"): golden[name].clone().requires_grad_()
        for name in golden.names("param_")
    }
    neuron = LIF(decay=config["decay"], v_th=config["v_th"])
    rule = Hebbian(trace_decay=config["trace_decay"]) if kind == "hp" else None
    gain = drive_decay(config["T"], config["input_tau"])

    drive = Static(golden["x"], gain)
    windows = []
    for i in (1, 2):
        meta = MetaLocal(
            parameters[f"alpha{i}"].squeeze(),
            parameters[f"beta{i}"].squeeze(),
            parameters[f"eta{i}"].squeeze(),
        )
        mask = golden[f"mask{i}"]
        synapse = Synapse(parameters[f"fc{i}.weight"], None, meta, None if sparse else mask)
        few = SparseMask.of(mask) if sparse else None
        windows.append(
            run_window(drive, synapse, neuron, rule, evaluation=evaluation, sparse_mask=few)
        )
        drive = fade([state.z for state in windows[-1].states], gain)
    v = windows[-1].states[-1].v
    output = v @ (parameters["fc3.weight"].mT * golden["mask3"])
    loss = F.mse_loss(output, one_hot(golden["y"]))
    loss.backward()

    assert_value(output, golden["output"])
    assert_value(windows[0].states[-1].v, golden["u1_last"])
    assert_value(loss, golden["loss"])
    if kind == "hp":
        for i in (1, 2):
            assert_value(windows[i - 1].final.trace, golden[f"trace{i}_out"])
    for name in golden.names("grad_"):
        assert_gradient(parameters[name.removeprefix("grad_")].grad, golden[name])


@pytest.mark.parametrize("kind", ["hp", "gp"])
def test_context_gated_network_agrees_with_the_authors(kind: str) -> None:
    golden = Golden(f"continual_{kind}_T3")
    config = golden.config
    network = ContextGated(
        (784, 32, 32, 10),
        neuron=LIF(decay=config["decay"], v_th=config["v_th"]),
        rule=Hebbian(trace_decay=config["trace_decay"]) if kind == "hp" else None,
        steps=config["T"],
        tau=config["input_tau"],
        initial_meta=InitialMeta.up_to(0.01),
        generator=torch.Generator(),
        meta_generator=torch.Generator(),
    )
    network.to(DEVICE)
    parameters = dict(network.named_parameters())
    authors = {our_name(n.removeprefix("param_")): n for n in golden.names("param_")}
    authors["readout_weight"] = authors.pop("layers.2.weight")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(golden[authors[name]].reshape(parameter.shape))
    masks = [SparseMask.of(golden[f"mask{i}"]) for i in (1, 2, 3)]
    output = network(golden["x"], masks).output
    loss = F.mse_loss(output, one_hot(golden["y"]))
    loss.backward()

    assert_value(output, golden["output"])
    assert_value(loss, golden["loss"])
    for name, parameter in parameters.items():
        assert_gradient(parameter.grad, golden[authors[name].replace("param", "grad")])


# What the vectors' own constants do not say: pooling, where the trace lies, its clip, the ceiling
# of the output, and the CIFAR-10 network's read-out that no spike resets.
POOLED = {"mnist": (1, 1, 1), "fashion": (1, 1, 1), "cifar10": (0, 1, 1, 0, 0)}
CLIP = {"mnist": 2.0, "fashion": 4.0, "cifar10": None}
CEILING = {"mnist": None, "fashion": 1.1, "cifar10": 1.1}


def convolutional(golden: Golden, name: str) -> Convolutional:
    """Rebuild the authors' convolutional network with the parameters of the vector."""
    config, cifar10 = golden.config, name == "cifar10"
    neuron = LIF(decay=config["decay"], v_th=config["v_th"], reset=config["reset"])
    sizes = [len(golden[key]) for key in sorted(golden.names("param_fc")) if "bias" in key]
    plastic = 1 if cifar10 else 0
    dense = [
        Dense(
            size=size,
            plastic=i == plastic,
            faded=not (cifar10 and i == plastic),
            neuron=replace(neuron, reset="none") if cifar10 and i == 2 else None,
        )
        for i, size in enumerate(sizes)
    ]
    network = Convolutional(
        tuple(golden["x"].shape[1:]),
        [
            Convolution(channels=len(golden[f"param_conv{i + 1}.bias"]), pooled=bool(pooled))
            for i, pooled in enumerate(POOLED[name])
        ],
        dense,
        neuron=neuron,
        rule=Hebbian(
            trace_decay=config["trace_decay"], post="identity", sign=-1, trace_clip=CLIP[name]
        ),
        readout=Rank(fraction=config["rank_stop_fraction"], ceiling=CEILING[name]),
        steps=config["T"],
        tau=config["input_tau"],
        nonnegative_rate=name == "fashion",
        generator=torch.Generator(),
    )
    values = {f"layers.{plastic}.trace": golden[f"trace{plastic + 1}_in"]}
    for key in golden.names("param_"):
        ours = our_convolutional_name(key.removeprefix("param_"))
        if ours in dict(network.named_parameters()):
            values[ours] = golden[key].reshape(network.get_parameter(ours).shape)
    network.load_state_dict(values)
    return network.to(DEVICE)


def our_convolutional_name(authors: str) -> str:
    """Translate `conv1.weight`, `fc1.bias` or `alpha1` to the name of our parameter."""
    if authors.startswith("conv"):
        index, kind = authors.removeprefix("conv").split(".")
        return f"convolutions.{int(index) - 1}.{kind}"
    return str(our_name(authors))


@pytest.mark.parametrize("name", ["mnist", "fashion", "cifar10"])
def test_convolutional_agrees_with_the_authors(name: str) -> None:
    """Outputs, trace, the step at which the batch stopped, and every gradient."""
    golden = Golden(f"conv_{name}_T6")
    network = convolutional(golden, name)
    activity = network(golden["x"])
    loss = F.mse_loss(activity.output, one_hot(golden["y"]))
    loss.backward()

    assert_value(activity.output, golden["output"])
    assert_value(loss, golden["loss"])
    (trace,) = golden.names("trace1_out") + golden.names("trace2_out")
    assert_value(network.get_buffer(f"layers.{int(trace[5]) - 1}.trace"), golden[trace])
    if name != "fashion":  # the vector does not hold it
        assert len(activity.windows[0].states) - 1 == int(golden["last_step"])
    assert all(count.sum() > 0 for count in activity.spike_counts())

    ours = dict(network.named_parameters())
    expected = {
        our_convolutional_name(n.removeprefix("grad_")): golden[n] for n in golden.names("grad_")
    }
    for parameter_name, gradient in expected.items():
        assert_gradient(ours.pop(parameter_name).grad, gradient)
    assert all(p.grad is None for p in ours.values()), "gradients where the authors have none"
