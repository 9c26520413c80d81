"""Networks that learn from labelled samples: their settings, how they are built and trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybrid.checks import require
from hybrid.described import LATER
from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.samples import Samples, flat, images_for
from hybrid.experiments.core.settings import Levels, Settings, SettingsT
from hybrid.experiments.core.splits import split_numbers
from hybrid.experiments.core.trials import Begun, MethodT, Place, Trial, learned_theta
from hybrid.learning.checkpoint import BestState
from hybrid.learning.correction import Correction, Rates, answer_corrected, reference
from hybrid.learning.evaluation import PROTOCOLS, SILENT, Answers, answer, confusion, packed
from hybrid.learning.evaluation import Protocol as Protocols
from hybrid.learning.fitting import EpochLog, Training, fit
from hybrid.learning.iteration import Split
from hybrid.learning.training import Augment, prepared
from hybrid.model.coding import Encode, ReadOut
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import HybridLinear, InitialMeta
from hybrid.model.networks import FullyConnected, HybridNetwork
from hybrid.model.neurons import Neuron
from hybrid.model.plasticity import LocalRule
from hybrid.runs.seeds import torch_stream
from hybrid.runs.store import Json

ThetaUse = Literal["learned", "fixed", "unit-gain"]
THETA_USES: tuple[ThetaUse, ...] = ("learned", "fixed", "unit-gain")


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """One network that learns from labelled samples.

    Args:
        neuron, rule, readout, steps, tau, initial_meta, nonnegative_rate: see `FullyConnected` and
            `Convolutional`; methods without traces have no rule.
        convolutions: in front of the dense layers; () for a fully connected network.
        dense: layers, the read-out last; one that is plastic has a local module.
        encode: how an input becomes T steps; None shows it as it is at each step.
        theta: θ learned by gradients; fixed at its random start; or all but a gain of always 1.
        readout_scale: factor of the read-out's initial weights.
        test_each_epoch: whether test accuracy is logged after each epoch, to see what choosing an
            epoch by it would gain; nothing is chosen by it.

    Raises ValueError, naming the field, for values that make no sense.
    """

    neuron: Neuron
    rule: LocalRule
    readout: ReadOut
    steps: int
    tau: float | None
    convolutions: tuple[Convolution, ...] = ()
    dense: tuple[Dense, ...]
    initial_meta: InitialMeta = InitialMeta.up_to(0.01)  # noqa: RUF009 (immutable)
    nonnegative_rate: bool = False
    encode: Encode | None = None
    theta: ThetaUse = "learned"
    readout_scale: float = 1.0
    test_each_epoch: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.steps, int) and self.steps >= 1
        require(self, "steps", whole, "a whole number >= 1")
        require(self, "tau", self.tau is None or self.tau > 0.0, "> 0, or None")
        require(self, "dense", len(self.dense) >= 1, "at least one layer, the read-out")
        require(self, "theta", self.theta in THETA_USES, f"one of {', '.join(THETA_USES)}")
        require(self, "readout_scale", self.readout_scale > 0.0, "> 0")
        ordered = all(low <= high for low, high in self.initial_meta)
        require(self, "initial_meta", ordered, "pairs (low, high) with low <= high")
        if not self.convolutions:  # refuse what would be ignored
            plain = all(d.faded and not d.dropout and d.neuron is None for d in self.dense)
            require(self, "dense", plain, "faded, without dropout and neurons unless convolved")
            require(self, "nonnegative_rate", not self.nonnegative_rate, "False unless convolved")


def build_network(
    settings: NetworkSettings,
    method: Method,
    seed: int,
    image: tuple[int, int, int],
    **form: Any,
) -> HybridNetwork:
    """Return the untrained network of a trial.

    Args:
        image: (channels, height, width) of what a convolutional network is shown at each step; of
            a fully connected one the product counts.
        form: what else `FullyConnected` takes.
    """
    shared: dict[str, Any] = {
        "neuron": settings.neuron,
        "rule": settings.rule if method.local else None,
        "readout": settings.readout,
        "steps": settings.steps,
        "tau": settings.tau,
        "lifetime": "call" if method.pool == "sample" else "carry",
        "pool": method.pool,
        "initial_meta": settings.initial_meta,
        "encode": settings.encode,
        "generator": torch_stream(seed, "initial values"),
        "meta_generator": torch_stream(seed, "initial meta-local values"),
    }
    network: HybridNetwork
    if settings.convolutions:
        rate = settings.nonnegative_rate
        network = Convolutional(
            image, settings.convolutions, settings.dense, nonnegative_rate=rate, **shared
        )
    else:
        sizes = (int(np.prod(image)), *(layer.size for layer in settings.dense))
        shared["rule"] = [shared["rule"] if layer.plastic else None for layer in settings.dense]
        network = FullyConnected(sizes, **shared, **form)
    if not method.hidden_trained:
        network.requires_grad_(False)
        network.layers[-1].requires_grad_(True)
    with torch.no_grad():
        network.layers[-1].weight.mul_(settings.readout_scale)  # type: ignore[operator]
    for layer in plastic_layers(network):
        if settings.theta == "fixed":
            layer.theta.requires_grad_(False)
        elif settings.theta == "unit-gain":
            torch.nn.init.ones_(layer.theta.local_gain).requires_grad_(False)
    return network


def plastic_layers(network: HybridNetwork) -> list[HybridLinear]:
    """Return the layers of a network that have a local rule."""
    return [
        layer
        for layer in network.layers
        if isinstance(layer, HybridLinear) and layer.rule is not None
    ]


def unchanged(trial: Trial[Any, Any]) -> Augment | None:
    """Train on samples as they are."""
    return None


class Trained(NamedTuple, Generic[SettingsT, MethodT]):
    """A trained network, and what it is to be tested on."""

    trial: Trial[SettingsT, MethodT]
    network: HybridNetwork
    samples: Any
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class Labelled(Generic[SettingsT, MethodT]):
    """How an experiment on labelled samples trains and tests a network.

    Args:
        test: what the tests of a trained network add to the result of its record.
        examine: what else is measured of the network of the last epoch.
        selects: whether the network of the best validation epoch is tested, too.
        samples: settings to what is learned from and tested on.
        inputs: (settings, samples) to inputs of the network [N, *].
        augment: trial to the random change of training batches, or None.
    """

    test: Callable[[Trained[SettingsT, MethodT]], Json]
    examine: Callable[[Trained[SettingsT, MethodT]], Json] | None = None
    selects: bool = False
    samples: Callable[[SettingsT], Samples] = images_for
    inputs: Callable[[SettingsT, Any], Tensor] = flat
    augment: Callable[[Trial[SettingsT, MethodT]], Augment | None] = unchanged

    def begin(self, trial: Trial[SettingsT, MethodT], place: Place) -> Begun:
        """Prepare training and testing one network; see `fit` for what a checkpoint does."""
        best = BestState() if self.selects else None
        training = self.training(trial, place, best)
        return Begun(training, lambda logs: self._finish(trial, place, training, logs))

    def _finish(
        self,
        trial: Trial[SettingsT, MethodT],
        place: Place,
        training: Training,
        logs: list[EpochLog],
    ) -> tuple[Json, HybridNetwork]:
        """Test a trained network; return the result of its record, and the network."""
        network, best = training.network, training.best
        assert isinstance(network, HybridNetwork)
        trained = Trained(trial, network, self.samples(trial.settings), place.device)
        result: Json = {"epochs": [log.record() for log in logs], "meta": learned_theta(network)}
        tests = self.test(trained)
        result |= tests
        if self.examine is not None:
            result |= self.examine(trained)
        if best is not None:
            if best.epoch < len(logs):
                last = {name: value.clone() for name, value in network.state_dict().items()}
                network.load_state_dict(best.state)
                tests = self.test(trained)
                network.load_state_dict(last)
            result["selected"] = {"epoch": best.epoch, **tests}
        return result, network

    def train(
        self, trial: Trial[SettingsT, MethodT], place: Place
    ) -> tuple[HybridNetwork, list[EpochLog]]:
        """Train one network, and do not test it."""
        training = self.training(trial, place)
        logs = fit(training)
        assert isinstance(training.network, HybridNetwork)
        return training.network, logs

    def training(
        self, trial: Trial[SettingsT, MethodT], place: Place, best: BestState | None = None
    ) -> Training:
        """Return the training of one network, as `begin` has it."""
        network = trial.build().to(place.device)
        samples = self.samples(trial.settings)
        kept, held_out = split_numbers(trial.settings, trial.seed, samples)
        inputs = self.inputs(trial.settings, samples.train).to(place.device)
        labels = torch.from_numpy(samples.train_labels).to(place.device)
        tested = isinstance(trial.settings, NetworkSettings) and trial.settings.test_each_epoch
        return prepared(
            network,
            Split(inputs[kept], labels[kept]),
            Split(inputs[held_out], labels[held_out]),
            trial.settings.schedule,
            lambda epoch: torch_stream(trial.seed, "order", epoch),
            checkpoint=place.checkpoint,
            title=trial.name,
            augment=self.augment(trial),
            best=best,
            test=self._test_samples(trial.settings, samples, place) if tested else None,
        )

    def _test_samples(self, settings: SettingsT, samples: Samples, place: Place) -> Split:
        inputs = self.inputs(settings, samples.test).to(place.device)
        return Split(inputs, torch.from_numpy(samples.test_labels).to(place.device))


# How a network answers test sets [S, N, *], in batches of some size.
Answer = Callable[[Tensor, int], Answers]


def ways_to_answer(
    network: HybridNetwork,
    protocols: Sequence[Protocols],
    corrections: Sequence[Correction],
    rates: Rates,
    learned: Callable[[], Tensor],
) -> dict[str, Answer]:
    """Return the protocols and corrections that a network is tested with, by name.

    Args:
        network: trained network.
        protocols: of its method.
        corrections, rates: see `answer_corrected`; only of fully connected networks.
        learned: gives training inputs, held-out ones among them, where a correction asks for them.
    """

    def tested(protocol: Protocols) -> Answer:
        return lambda sets, size: answer(network, sets, protocol, size)

    ways = {str(protocol): tested(protocol) for protocol in protocols}
    if not corrections:
        return ways
    assert isinstance(network, FullyConnected)
    known = reference(network, learned())

    def corrected(name: Correction) -> Answer:
        return lambda sets, size: answer_corrected(network, sets, name, known, size, rates)

    return ways | {str(name): corrected(name) for name in corrections}


def score(
    ways: Mapping[str, Answer],
    sets: Tensor,
    labels: Tensor,
    faults: Levels,
    *,
    size: int,
    classes: int,
    each: bool = False,
) -> dict[str, Json]:
    """Return what each way to answer comes to at each level of each fault.

    Confusion counts for protocols, right answers for corrections; the answers that no output
    neuron gave, if there are any; and firing rates of the layers.

    Args:
        ways: see `ways_to_answer`.
        sets: [S, N, *], a set for each level of each fault, in order.
        labels: [N].
        faults: their names and levels.
        size: samples of a batch.
        classes: that a network can answer.
        each: keep which samples were answered rightly, as bits in hexadecimal.
    """
    found: dict[str, Json] = {}
    for name, way in ways.items():
        answers, rates = way(sets, size)
        parts = [len(levels) for _, levels in faults]
        found[name] = {
            fault: _counted(own, labels, own_rates, classes if name in PROTOCOLS else None)
            | ({"each": [packed(row == labels) for row in own]} if each else {})
            for (fault, _), own, own_rates in zip(
                faults, answers.split(parts), rates.split(parts), strict=True
            )
        }
    return found


def _counted(answers: Tensor, labels: Tensor, rates: Tensor, classes: int | None) -> Json:
    """Return counts at each level: confusions of so many classes, or right answers alone."""
    kept: Json = {"rates": [[round(rate, 6) for rate in row] for row in rates.tolist()]}
    if classes is not None:
        kept["confusion"] = [confusion(row, labels, classes).tolist() for row in answers]
    else:
        kept |= {"right": (answers == labels).sum(-1).tolist(), "of": len(labels)}
    silent = (answers == SILENT).sum(-1)
    return kept | ({"silent": silent.tolist()} if silent.any() else {})
