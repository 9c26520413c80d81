"""Training: it learns, resumes bit for bit, stops at NaN; evaluation leaves no mark."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hybrid.learning.checkpoint import BestState, load_checkpoint
from hybrid.learning.evaluation import accuracy
from hybrid.learning.fitting import NonFiniteLossError
from hybrid.learning.iteration import Split
from hybrid.learning.schedule import Schedule
from hybrid.learning.training import train
from hybrid.model.coding import LastMembrane
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import FullyConnected, HybridNetwork
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.runs.seeds import torch_stream

SCHEDULE = Schedule(epochs=4, batch_size=20, lr_weight=5e-3, lr_meta=5e-3)


def network(method: str = "HP", rule: Hebbian | None = None) -> FullyConnected:
    rule = rule or Hebbian(trace_decay=0.95, trace_clip=4.0, nominal_batch=20)
    made = FullyConnected(
        (12, 30, 3),
        neuron=LIF(decay=0.4, v_th=0.35),
        rule=None if method == "GP" else rule,
        readout=LastMembrane(ceiling=1.1),
        steps=5,
        tau=40.0,
        initial_meta=InitialMeta.up_to(0.1),
        generator=torch.Generator().manual_seed(0),
    )
    made.layers[0].requires_grad_(method != "LP")
    return made


def convolutional_network() -> Convolutional:
    """Sees the 12 inputs as an image of 3 x 4 pixels."""
    return Convolutional(
        (1, 3, 4),
        [Convolution(channels=6), Convolution(channels=5, dropout=0.1)],
        [Dense(size=20, plastic=True), Dense(size=3)],
        neuron=LIF(decay=0.4, v_th=0.35),
        rule=Hebbian(trace_decay=0.95, trace_clip=4.0),
        readout=LastMembrane(ceiling=1.1),
        steps=4,
        generator=torch.Generator().manual_seed(0),
    )


def split(count: int, seed: int) -> Split:
    """Three noisy prototypes."""
    g = torch.Generator().manual_seed(seed)
    prototypes = torch.eye(3).repeat_interleave(4, dim=1)
    labels = torch.randint(0, 3, (count,), generator=g)
    return Split((prototypes[labels] + 0.3 * torch.rand(count, 12, generator=g)) / 1.3, labels)


DATA, HELD_OUT = split(200, 1), split(100, 2)


def order(epoch: int) -> torch.Generator:
    return torch_stream(0, "order", epoch)


def accuracy_of(net: HybridNetwork) -> float:
    """Fraction of held-out samples that a network answers correctly, in batches of 20."""
    net.eval()
    return accuracy(lambda inputs: net(inputs).output.argmax(-1), *HELD_OUT, 20)


@pytest.mark.parametrize("method", ["LP", "GP", "HP"])
def test_every_method_learns(method: str) -> None:
    net = network(method)
    before = accuracy_of(net)
    logs = train(net, DATA, HELD_OUT, SCHEDULE, order)
    assert len(logs) == 4
    assert logs[-1].loss < logs[0].loss
    assert logs[-1].validation > max(0.9, before)
    assert logs[-1].validation == accuracy_of(net)


def test_lp_trains_its_read_out_alone() -> None:
    net = network("LP")
    frozen = {n: p.clone() for n, p in net.named_parameters() if n.startswith("layers.0")}
    trace = net.layers[0].trace.clone()
    train(net, DATA, HELD_OUT, SCHEDULE, order)
    assert all(torch.equal(net.get_parameter(name), value) for name, value in frozen.items())
    assert not torch.equal(net.layers[0].trace, trace), "its hidden trace lives"


def test_two_timescales() -> None:
    """Weights and θ have their own rates: with a tiny one for θ only the weights move."""
    net = network()
    start = {name: p.clone() for name, p in net.named_parameters()}
    schedule = Schedule(epochs=1, batch_size=20, lr_weight=1e-2, lr_meta=1e-12)
    train(net, DATA, HELD_OUT, schedule, order)
    moved = {name: (p - start[name]).abs().max().item() for name, p in net.named_parameters()}
    assert moved["layers.0.weight"] > 1e-2
    assert moved["layers.0.theta.local_gain"] < 1e-9
    assert len(net.weight_parameters()) == 4
    assert len(net.meta_parameters()) == 6


@pytest.mark.parametrize("stop", [1, 3])
def test_training_resumes_bit_for_bit(tmp_path: Path, stop: int) -> None:
    whole, path = network(), tmp_path / "trial.safetensors"
    expected = train(whole, DATA, HELD_OUT, SCHEDULE, order)

    class KilledError(Exception):
        pass

    def killed_at(epoch: int) -> torch.Generator:
        if epoch == stop:
            raise KilledError
        return order(epoch)

    with pytest.raises(KilledError):
        train(network(), DATA, HELD_OUT, SCHEDULE, killed_at, checkpoint=path)
    resumed, replayed = network(), []

    def watched(epoch: int) -> torch.Generator:
        replayed.append(epoch)
        return order(epoch)

    logs = train(resumed, DATA, HELD_OUT, SCHEDULE, watched, checkpoint=path)
    assert replayed == list(range(stop, 4))
    assert logs == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_damaged_checkpoint_is_reported_and_training_starts_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "trial.safetensors"
    expected = train(network(), DATA, HELD_OUT, SCHEDULE, order, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert train(network(), DATA, HELD_OUT, SCHEDULE, order, checkpoint=path) == expected
    assert "training starts anew" in caplog.text


def test_a_non_finite_loss_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    path = tmp_path / "trial.safetensors"

    def loss(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        value = torch.nn.functional.cross_entropy(output, labels)
        return value * float("nan") if len(calls) == 25 else value

    calls: list[int] = []
    with pytest.raises(NonFiniteLossError) as error:
        train(network(), DATA, HELD_OUT, SCHEDULE, order, checkpoint=path, loss=loss)
    for part in (
        "loss became nan",
        "epoch 3, batch 5 (last good state: ",
        f"epoch 2, kept in {path}",
        "Lower",
    ):
        assert part in str(error.value)
    restored = network()
    optimisers = [
        torch.optim.Adam(params, 1e-3)
        for params in (restored.weight_parameters(), restored.meta_parameters())
    ]
    assert len(load_checkpoint(path, restored, optimisers)["epochs"]) == 2
    assert all(torch.isfinite(value).all() for value in restored.state_dict().values())


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": "sgd", "weight_decay": 1e-8, "lr_weight": 0.2, "decay": "cosine"},
        {"decay": "steps", "milestones": (1, 3), "decay_meta": True},
    ],
)
@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_every_schedule_learns_and_resumes_bit_for_bit(
    kind: str, change: dict, tmp_path: Path
) -> None:
    """Momenta in any layout, falling rates, augmentation, draws within the network, best state."""

    def augment(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return inputs + 0.01 * torch.rand(inputs.shape, generator=generator)

    def build() -> HybridNetwork:
        if kind == "convolutional":
            return convolutional_network()
        net = network()
        net.encode = lambda x, steps: torch.nn.functional.dropout(x, 0.1, net.training)
        return net

    schedule, path = replace(SCHEDULE, **change), tmp_path / "trial.safetensors"
    arguments = {"augment": augment, "checkpoint": path}
    whole, best, best_resumed = build(), BestState(), BestState()
    before = torch.get_rng_state()
    expected = train(whole, DATA, HELD_OUT, schedule, order, augment=augment, best=best)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers are its own"
    learned = 0.8 if kind == "dense" else 0.97  # the convolutional one is there for its layout
    assert expected[-1].loss < learned * expected[0].loss

    def killing(epoch: int) -> torch.Generator:
        if epoch == 2:
            raise KeyboardInterrupt
        return order(epoch)

    with pytest.raises(KeyboardInterrupt):
        train(build(), DATA, HELD_OUT, schedule, killing, best=BestState(), **arguments)
    resumed = build()
    logs = train(resumed, DATA, HELD_OUT, schedule, order, best=best_resumed, **arguments)
    assert logs == expected
    assert (
        best_resumed.epoch
        == best.epoch
        == 1 + [e.validation for e in logs].index(max(e.validation for e in logs))
    )
    for ours, theirs in (
        (whole.state_dict(), resumed.state_dict()),
        (best.state, best_resumed.state),
    ):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]), name


def test_rates_fall_as_announced() -> None:
    steps = replace(SCHEDULE, epochs=101, decay="steps", milestones=(40, 80))
    cosine = replace(SCHEDULE, epochs=120, decay="cosine")
    assert [steps.share(e) for e in (0, 39, 40, 79, 80)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert [cosine.share(e) for e in (0, 60, 119)] == pytest.approx([1, 0.5, 0], abs=2e-4)
    net = network()
    for decay_meta, expected in ((False, 5e-3), (True, 5e-4)):
        schedule = replace(steps, decay_meta=decay_meta)
        optimisers = schedule.optimisers(net.weight_parameters(), net.meta_parameters())
        schedule.set_rates(optimisers, 50)
        rates = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
        assert rates == pytest.approx([5e-4, expected])


@pytest.mark.parametrize("mixed", [True, False])
def test_mixed_precision_acts_and_is_off_by_default(mixed: bool) -> None:
    assert not SCHEDULE.mixed_precision
    net, kinds = network(), set()

    def watch(x: torch.Tensor, steps: int) -> torch.Tensor:
        kinds.add((net.training, (x @ x.mT).dtype))
        return x

    net.encode = watch
    logs = train(net, DATA, HELD_OUT, replace(SCHEDULE, mixed_precision=mixed), order)
    assert logs[-1].validation > 0.8
    training = torch.bfloat16 if mixed else torch.float32
    assert kinds == {(True, training), (False, torch.float32)}
    assert all(value.dtype == torch.float32 for value in net.state_dict().values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimiser": "lion"}, "optimiser = 'lion': it must be one of adam, sgd"),
        ({"decay": "linear"}, "decay = 'linear': it must be one of none, steps, cosine"),
        ({"decay": "steps"}, r"milestones = \(\): it must be given with decay = 'steps'"),
        ({"milestones": (3,)}, "given with decay = 'steps' alone"),
    ],
)
def test_impossible_choices_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SCHEDULE, **change)


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("batch_size", 0), ("lr_weight", 0.0), ("lr_meta", -1.0)]
)
def test_impossible_schedules_are_named(field: str, value: float) -> None:
    arguments = {"epochs": 1, "batch_size": 1, "lr_weight": 1.0, "lr_meta": 1.0, field: value}
    with pytest.raises(ValueError, match=f"{field} = {value}"):
        Schedule(**arguments)


def test_samples_without_labels_are_named() -> None:
    with pytest.raises(ValueError, match=r"200 samples but \[100\] labels"):
        train(network(), Split(DATA.inputs, HELD_OUT.labels), HELD_OUT, SCHEDULE, order)


@pytest.mark.parametrize(
    "change",
    [
        {"neuron": LIF(decay=0.41, v_th=0.3)},
        {"rule": Hebbian(trace_decay=0.5)},
        {"steps": 5},
        {"lr_weight": 1e-3},
        {"optimiser": "sgd"},
        {"decay": "cosine"},
        {"sizes": (8, 13, 3)},
    ],
    ids=str,
)
def test_a_checkpoint_of_another_training_is_refused(change: dict, tmp_path: Path) -> None:
    """A sweep that names one file for all its points would train the first of them alone."""
    path = tmp_path / "kept.safetensors"

    def point(**own: object) -> HybridNetwork:
        options = {"neuron": LIF(decay=0.4, v_th=0.3), "rule": Hebbian(trace_decay=0.9)}
        options |= {"steps": 4, "readout": LastMembrane(), **own}
        return FullyConnected(options.pop("sizes", (8, 12, 3)), **options)

    ofs = {"lr_weight", "optimiser", "decay"} & set(change)
    generator = torch.Generator().manual_seed(0)
    data = Split(torch.rand(40, 8, generator=generator), torch.arange(40) % 3)
    short = replace(SCHEDULE, epochs=1)
    train(point(), data, data, short, order, checkpoint=str(path))
    longer = train(point(), data, data, replace(short, epochs=2), order, checkpoint=path)
    assert len(longer) == 2, "more epochs may follow"
    other = point() if ofs else point(**change)
    with pytest.raises(ValueError, match=r"kept.safetensors keeps the training of another network"):
        train(other, data, data, replace(short, **change) if ofs else short, checkpoint=path)
