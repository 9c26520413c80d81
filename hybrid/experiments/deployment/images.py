"""A fault-tolerance network on the chip: faults, bits, and forms of the local module."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.network import flat, images_for, plastic_layers, split_numbers
from hybrid.experiments.core.trials import Trial
from hybrid.experiments.deployment.record import cpu_seconds, layer_rates, shapes_as_json
from hybrid.experiments.deployment.settings import DeploymentSettings
from hybrid.experiments.fault_tolerance.run import faulty_images
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.learning.evaluation import accuracy
from hybrid.learning.training import Split, train
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected
from hybrid.runs.seeds import torch_stream
from hybrid.runs.store import Json
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cores import Limits, Local, Outcome, run
from hybrid.tianjic.fixed import scale_of, signed_range
from hybrid.tianjic.quantize import DEFAULT, ChipNetwork, Options, largest_trace, quantize

_AT_ONCE = 500  # images
_HEADROOM = 2.0  # of a host that rewrites synapses
_REWRITTEN_AT_ONCE = 20  # each has synapses of its own


@torch.no_grad()
def deploy_images(
    settings: DeploymentSettings, trained: Trial[FaultSettings, Method], network: FullyConnected
) -> Json:
    """Return what a trained network does on the chip, beside what it does in floating point."""
    network.eval()
    sets, labels = _sets(settings, trained)
    lost: Json = {}
    forms = _forms(network, lost)
    accuracy: Json = {}
    noted: Json = {"rates": {}, "shapes": {}, "cpu": {}}
    for name, form in forms.items():
        accuracy[name] = {}
        for fault, levels in sets.items():
            accuracy[name][fault] = [_right(form, x, labels) for x in levels]
    sound = next(iter(sets.values()))[0]
    for name, (chip, local) in _chips(network).items():
        outcome = run(chip.layers, chip.encode(sound[:_AT_ONCE]), local=local)
        noted["rates"][name] = layer_rates(outcome)
        noted["shapes"][name] = shapes_as_json(chip.shapes())
        one = forms[name.replace("chip", "float")]
        noted["cpu"][name] = cpu_seconds(partial(one, sound[:1]))
    return {
        "accuracy": accuracy,
        "levels": [[name, list(levels)] for name, levels in settings.faults],
        "tested": len(labels),
        "bits": _bits(settings, trained, network, sound, labels),
        "narrower": _narrower(settings, trained, network, sound, labels),
        "histories": _histories(settings, network, sound, labels),
        "steps": network.steps,
        **noted,
        "overflows": lost,
        "largest_trace": _largest_traces(network),
    }


def _sets(
    settings: DeploymentSettings, trained: Trial[FaultSettings, Method]
) -> tuple[dict[str, Tensor], Tensor]:
    """Return faulty test images [levels, N, in] by fault, and the labels."""
    images = images_for(trained.settings)
    versions = faulty_images(images, settings.faults, trained.seed)[:, : settings.tested]
    counts = [len(levels) for _, levels in settings.faults]
    parts = dict(zip([name for name, _ in settings.faults], versions.split(counts), strict=True))
    return parts, torch.from_numpy(images.test_labels[: settings.tested])


Form = Callable[[Tensor], Tensor]


def _forms(network: FullyConnected, lost: Json) -> dict[str, Form]:
    """Return ways to answer images [N, in]: in floating point, and on the chip.

    Numbers that do not fit are counted in `lost`, by form and place.
    """
    forms: dict[str, Form] = {"float, frozen": lambda x: network(x, adapt=False).output.argmax(-1)}
    if plastic_layers(network):
        forms["float, own trace"] = lambda x: network(x, pool="sample").output.argmax(-1)
    for name, (chip, local) in _chips(network).items():
        forms[name] = _answer(chip, local, lost.setdefault(name, {}))
    return forms


def _largest_traces(network: FullyConnected) -> list[list[float | None]]:
    """Return, for each layer with a trace, a bound of |P| for a sample's own, and the clip."""
    return [
        [round(largest_trace(layer, network.steps), 4), layer.rule.trace_clip]
        for layer in plastic_layers(network)
        if layer.rule is not None
    ]


def _chips(network: FullyConnected) -> dict[str, tuple[ChipNetwork, Local]]:
    """Return a network on the chip: traces as they are, or one of its own for each sample."""
    chips: dict[str, tuple[ChipNetwork, Local]] = {
        "chip, frozen": (quantize(network).frozen(), "off")
    }
    if plastic_layers(network):
        own = quantize(network, Options(carried="separate"))
        chips["chip, own trace"] = (own, "history")
    return chips


def _answer(
    chip: ChipNetwork, local: Local, lost: Json | None = None, limits: Limits | None = None
) -> Form:
    limits = limits or Limits.of(tianjic())

    def answer(x: Tensor) -> Tensor:
        outcome: Outcome = run(chip.layers, chip.encode(x), local=local, limits=limits)
        for place, count in outcome.overflows.items():
            if lost is not None:
                lost[place] = lost.get(place, 0) + count
        return chip.answers(outcome)

    return answer


def _right(form: Form, images: Tensor, labels: Tensor, at_once: int = _AT_ONCE) -> float:
    """Return the share of right answers."""
    return round(accuracy(form, images, labels, at_once), 5)


def _bits(
    settings: DeploymentSettings,
    trained: Trial[FaultSettings, Method],
    network: FullyConnected,
    sound: Tensor,
    labels: Tensor,
) -> list[list[float]]:
    """Return, for each number of bits, accuracies of three networks on the chip.

    As it was trained; after some more epochs; after as many with rounded weights.
    """
    own, local = _as_trained(trained)

    def right(made: FullyConnected, bits: int) -> float:
        options = replace(own, weight_bits=bits)
        return _right(_answer(quantize(made, options), local), sound, labels)

    if not settings.bits:
        return []
    longer = fine_tuned(network, trained, None, settings.fine_tuned)
    return [
        [
            bits,
            right(network, bits),
            right(longer, bits),
            right(fine_tuned(network, trained, bits, settings.fine_tuned), bits),
        ]
        for bits in settings.bits
    ]


def _narrower(
    settings: DeploymentSettings,
    trained: Trial[FaultSettings, Method],
    network: FullyConnected,
    sound: Tensor,
    labels: Tensor,
) -> Json:
    """Return accuracies on the chip with less room: weights from a codebook, partial sums."""
    own, local = _as_trained(trained)
    coded = quantize(network, replace(own, codebook=settings.codebook))
    found: Json = {
        f"{settings.codebook} weights to choose from": _right(_answer(coded, local), sound, labels)
    }
    whole = quantize(network, own)
    for bits in settings.sums:
        limits = replace(Limits.of(tianjic()), partial_sum_bits=bits, partial_sum_shift=None)
        narrow = _answer(whole, local, limits=limits)
        found[f"partial sums of {bits} bits"] = _right(narrow, sound, labels)
    return found


def _as_trained(trained: Trial[FaultSettings, Method]) -> tuple[Options, Local]:
    """Return how a network is brought to the chip with its traces as they were in training."""
    if trained.method.pool == "sample":
        return Options(carried="separate"), "history"
    return DEFAULT, "off"


@torch.enable_grad()
def fine_tuned(
    network: FullyConnected, trained: Trial[FaultSettings, Method], bits: int | None, epochs: int
) -> FullyConnected:
    """Return a copy of a network, trained on with weights that are rounded as on the chip.

    Gradients pass the rounding as if it were not there. Validation images are left out, as in the
    training before.

    Args:
        network: trained.
        trained: its trial.
        bits: of a weight; None trains on without rounding, to compare with.
        epochs: how long.
    """
    images = images_for(trained.settings)
    kept, held_out = split_numbers(trained.settings, trained.seed, images)
    inputs = flat(trained.settings, images.train)
    labels = torch.from_numpy(images.train_labels)
    copy = trained.build()
    assert isinstance(copy, FullyConnected)
    copy.load_state_dict(network.state_dict())
    with rounded_weights(copy, bits):
        train(
            copy,
            Split(inputs[kept], labels[kept]),
            Split(inputs[held_out], labels[held_out]),
            replace(trained.settings.schedule, epochs=epochs),
            lambda epoch: torch_stream(trained.seed, "order", "fine-tuning", epoch),
            title=f"{trained.name}, {bits or 'all'} bits",
        )
    return copy.eval()


@contextmanager
def rounded_weights(network: nn.Module, bits: int | None) -> Iterator[None]:
    """Let the layers of a network see their weights as `bits` hold them; None: as they are."""
    layers: Any = network.layers if bits is not None else ()
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", _Rounded(layer, bits or 8))
    try:
        yield
    finally:
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


class _Rounded(nn.Module):
    """Rounds what the chip holds, weight and folded trace together, with one scale.

    The gradient is that of the weights themselves.
    """

    def __init__(self, layer: HybridLinear, bits: int) -> None:
        super().__init__()
        self._layer, self._bits = [layer], bits  # in a list: no module of its own

    def forward(self, weight: Tensor) -> Tensor:
        (layer,) = self._layer
        folded = weight.detach()
        if layer.rule is not None and layer.lifetime != "call":
            folded = folded + layer.theta.local_gain.detach() * layer.trace.T
        scale, highest = scale_of(folded, self._bits), signed_range(self._bits)[1]
        rounded = (folded / scale).round().clamp(-highest, highest) * scale
        return weight + (rounded - folded)


def _histories(
    settings: DeploymentSettings, network: FullyConnected, sound: Tensor, labels: Tensor
) -> Json:
    """Return accuracy with each sample's own trace, in several forms, on the same images."""
    if not plastic_layers(network):
        return {}
    images, wanted = sound[: settings.rewritten], labels[: settings.rewritten]
    own = Options(carried="separate")
    lost: Json = {}
    forms: dict[str, Form] = {
        "float": lambda x: network(x, pool="sample").output.argmax(-1),
        "history": _answer(quantize(network, own), "history"),
        "rewritten": _answer(
            quantize(network, Options(carried="none", headroom=_HEADROOM)), "write-back", lost
        ),
        "no local current": _answer(quantize(network, own), "off"),
    }
    for lags in settings.lags:
        forms[f"{lags} lags"] = _answer(quantize(network, replace(own, lags=lags)), "history")
    for delay in settings.delays:
        forms[f"without newest {delay}"] = _answer(
            quantize(network, replace(own, delay=delay)), "history"
        )
    found: Json = {
        name: _right(form, images, wanted, _REWRITTEN_AT_ONCE) for name, form in forms.items()
    }
    return found | {"images": len(images), "synapses that did not fit": sum(lost.values())}
