"""Trained networks under test: protocols, streams, and labels that are none."""

import pytest
import torch

from hybrid.learning.evaluation import PROTOCOLS, evaluate
from hybrid.learning.training import one_hot_mse, train
from hybrid.model.coding import InParts
from hybrid.model.networks import FullyConnected
from hybrid.model.plasticity import Hebbian, LayerState
from hybrid.model.streams import run_stream
from tests.learning.test_training import DATA, HELD_OUT, SCHEDULE, network, order


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int64])
def test_labels_of_any_whole_type_and_none_out_of_range(
    trained: FullyConnected, dtype: torch.dtype
) -> None:
    """Own data often number their classes from 1."""
    output, labels = torch.rand(30, 3), torch.arange(30) % 3
    assert one_hot_mse(output, labels.to(dtype)) == one_hot_mse(output, labels)
    sets = torch.rand(1, 30, trained.layers[0].weight.shape[1])
    found = evaluate(trained, sets, labels.to(dtype), "frozen", 10)
    torch.testing.assert_close(found, evaluate(trained, sets, labels, "frozen", 10))
    message = "labels from 1 to 3 for 3 classes: number the classes from 0 to 2"
    for ask in (
        lambda wrong: one_hot_mse(output, wrong),
        lambda wrong: evaluate(trained, sets, wrong, "frozen", 10),
    ):
        with pytest.raises(ValueError, match=message):
            ask((labels + 1).to(dtype))
        with pytest.raises(ValueError, match=r"labels of dtype torch.float32: give whole"):
            ask(labels.float())
        with pytest.raises(ValueError, match="no samples: give at least one"):
            evaluate(trained, sets[:, :0], labels[:0], "frozen", 10)
    assert one_hot_mse(output[:0], labels[:0]).isnan(), "no sample, no mean"


@pytest.fixture(scope="module")
def trained() -> FullyConnected:
    net = network()
    train(net, DATA, HELD_OUT, SCHEDULE, order)
    return net


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_evaluation_leaves_no_mark(trained: FullyConnected, protocol: str) -> None:
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    sets = torch.stack([HELD_OUT.inputs, HELD_OUT.inputs * 0.5])
    first = evaluate(trained, sets, HELD_OUT.labels, protocol, 20)
    again = evaluate(trained, sets, HELD_OUT.labels, protocol, 20)
    assert torch.equal(first.confusion, again.confusion)
    assert first.confusion.sum((1, 2)).tolist() == [100, 100]
    assert first.confusion.sum(2)[0].tolist() == HELD_OUT.labels.bincount().tolist()
    assert (first.rates > 0).all()
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_protocols_that_keep_samples_apart(trained: FullyConnected) -> None:
    """Only under "batch" may an answer depend on the other samples of its batch."""
    inputs = HELD_OUT.inputs[:20]
    strange = torch.cat([inputs[:1], torch.rand(19, 12, generator=torch.Generator())])
    trained.eval()
    with torch.no_grad():
        for options, apart in (
            ({"pool": "sample"}, True),
            ({"adapt": False}, True),
            ({"pool": "batch"}, False),
        ):
            a, b = trained(inputs, **options).output[0], trained(strange, **options).output[0]
            assert torch.allclose(a, b, atol=1e-6) == apart


def plain_stream(net: FullyConnected, values: torch.Tensor) -> torch.Tensor:
    """What `run_stream` computes, one image and one layer at a time, recurrently."""
    traces, outputs = [layer.trace for layer in net.layers], []
    with torch.no_grad():
        for x in values:
            shown = [x.unsqueeze(0)] * net.steps
            if net.encode is not None:
                shown = net.encode(x.unsqueeze(0), net.steps)
            drive = [gain * step for gain, step in zip(net.gain, shown, strict=True)]
            for i, layer in enumerate(net.layers):
                window = layer(
                    drive, LayerState(trace=traces[i]), pool="stream", evaluation="recurrent"
                )
                traces[i] = window.final.trace
                drive = [g * s.z for g, s in zip(net.gain, window.states, strict=True)]
            outputs.append(net.readout(window.states, net.neuron.v_th)[0])
    return torch.stack(outputs)


def clipped(trained: FullyConnected, clip: float) -> FullyConnected:
    """Return a copy of a trained network whose rule has a clip, its traces within it."""
    net = network(rule=Hebbian(trace_decay=0.95, trace_clip=clip, nominal_batch=20))
    net.load_state_dict(trained.state_dict())
    for layer in net.layers:
        layer.trace.clamp_(-clip, clip)
    return net


@pytest.mark.parametrize("chunk", [1, 7, 100])
@pytest.mark.parametrize("clip", [4.0, 0.05])
def test_streams_side_by_side_equal_one_after_the_other(
    trained: FullyConnected, chunk: int, clip: float
) -> None:
    """Chunked and factored = plain, with the clip out of reach and with the clip acting."""
    net = clipped(trained, clip)
    net.double().eval()
    values = torch.stack([HELD_OUT.inputs[:23], HELD_OUT.inputs[23:46]]).double()
    streamed = run_stream(net, values, chunk=chunk)
    for s in range(2):
        torch.testing.assert_close(streamed.outputs[s], plain_stream(net, values[s]))


@pytest.mark.parametrize("chunk", [1, 4, None])
@pytest.mark.parametrize("clip", [4.0, 0.05])
def test_streams_of_inputs_that_change_equal_one_after_the_other(
    trained: FullyConnected, chunk: int | None, clip: float
) -> None:
    """As above, for inputs that differ from step to step, such as frames of events."""
    net = clipped(trained, clip)
    net.encode = InParts()
    net.double().eval()
    generator = torch.Generator().manual_seed(5)
    values = torch.rand(2, 9, 12 * net.steps, generator=generator, dtype=torch.float64)
    streamed = run_stream(net, values, chunk=chunk)
    assert streamed.rates.min() > 0.0
    for s in range(2):
        torch.testing.assert_close(streamed.outputs[s], plain_stream(net, values[s]))


def test_a_stream_needs_traces_and_three_axes() -> None:
    with pytest.raises(ValueError, match="a stream needs a local rule"):
        run_stream(network("GP"), torch.zeros(1, 2, 12))
    with pytest.raises(ValueError, match=r"shape \[S, L, in\], none of them 0, got \[2, 12\]"):
        run_stream(network(), torch.zeros(2, 12))


def test_unknown_protocol() -> None:
    with pytest.raises(ValueError, match="'episode' is unknown: choose one of batch, frozen"):
        evaluate(network(), HELD_OUT.inputs[None], HELD_OUT.labels, "episode", 20)
