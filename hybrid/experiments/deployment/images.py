"""A fault-tolerance network on the chip: faults, bits, and forms of the local module."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hybrid.experiments.core.methods import Method
from hybrid.experiments.core.network import (
    plastic_layers,
)
from hybrid.experiments.core.samples import (
    flat,
    images_for,
)
from hybrid.experiments.core.splits import split_numbers
from hybrid.experiments.core.trials import Trial
from hybrid.experiments.deployment.broken import on_broken_chips
from hybrid.experiments.deployment.chip import (
    count_lost,
    cpu_seconds,
    last_packets,
    layer_rates,
    shapes_as_json,
)
from hybrid.experiments.deployment.settings import DeploymentSettings
from hybrid.experiments.deployment.streams import on_stream
from hybrid.experiments.fault_tolerance.run import faulty_images
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.learning.correction import (
    Rates,
    Reference,
    answer_corrected,
    reference,
    running_gain,
)
from hybrid.learning.evaluation import accuracy
from hybrid.learning.iteration import Split
from hybrid.learning.training import train
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected
from hybrid.runs.seeds import torch_stream
from hybrid.runs.store import Json
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cores import Limits, Local, dendrite, run
from hybrid.tianjic.fixed import Overflows, scale_of, signed_range
from hybrid.tianjic.homeostasis import adjusted, axons, upkeep, weights
from hybrid.tianjic.layer import FROZEN, HOSTED, Options, largest_trace
from hybrid.tianjic.quantize import ChipNetwork, quantize

_AT_ONCE = 500  # images
_CALIBRATED = 300
_ONE_BY_ONE = 10  # that cores and packets run
_REWRITTEN_AT_ONCE = 20  # each has synapses of its own

Form = Callable[[Tensor], Tensor]  # images [N, in] to answers [N]


class _Subject(NamedTuple):
    """A trained network, and the sound images that it is asked about."""

    settings: DeploymentSettings
    trained: Trial[FaultSettings, Method]
    network: FullyConnected
    images: Tensor
    labels: Tensor
    seen: Tensor  # training images, from which ranges are taken

    def right(self, form: Form, at_once: int = _AT_ONCE) -> float:
        """Return the share of right answers."""
        return _right(form, self.images, self.labels, at_once)


@torch.no_grad()
def deploy_images(
    settings: DeploymentSettings, trained: Trial[FaultSettings, Method], network: FullyConnected
) -> Json:
    """Return what a trained network does on the chip, beside what it does in floating point."""
    network.eval()
    images = images_for(trained.settings)
    labels = torch.from_numpy(images.test_labels[: settings.tested])
    versions = faulty_images(images, settings.faults, trained.seed)[:, : settings.tested]
    parts = versions.split([len(levels) for _, levels in settings.faults])  # [levels, N, in] each
    sets = {name: part for (name, _), part in zip(settings.faults, parts, strict=True)}
    seen = flat(trained.settings, images.train[:_CALIBRATED])
    own = _Subject(settings, trained, network, versions[0], labels, seen)
    # Ways to answer, in floating point and on the chip; what does not fit is counted by place.
    forms: dict[str, Form] = {"float, frozen": lambda x: network(x, adapt=False).output.argmax(-1)}
    chips: dict[str, tuple[ChipNetwork, Local]] = {
        "chip, frozen": (quantize(network, FROZEN), "off")
    }
    if plastic_layers(network):
        forms["float, own trace"] = partial(_with_own_trace, network)
        own_trace = quantize(network, Options(carried="separate"), seen)
        chips["chip, own trace"] = (own_trace, "history")
    lost: Json = {name: {} for name in chips}
    forms |= {name: _answer(*made, lost[name]) for name, made in chips.items()}
    noted: Json = {"rates": {}, "shapes": {}, "cpu": {}, "last packets": {}}

    def tested(form: Form, at_once: int) -> Json:
        return {n: [_right(form, x, labels, at_once) for x in levels] for n, levels in sets.items()}

    accuracy = {name: tested(form, _AT_ONCE) for name, form in forms.items()}
    if settings.homeostatic and trained.method.pool == "batch":  # else weights alone are nothing
        known = reference(network, flat(trained.settings, images.train))
        written: list[int] = []
        lost["chip, homeostatic"] = {}
        asked = known, trained.settings.rates, written, lost["chip, homeostatic"]
        for name, form in _homeostatic(network, *asked).items():
            accuracy[name] = tested(form, len(labels))  # one image after the other
        noted["homeostatic"] = upkeep(len(known.mean), max(written), tianjic())
        noted["homeostatic"]["axons"] = max(written)
    if settings.streamed and plastic_layers(network) and trained.method.pool == "batch":
        few = {name: levels[:, : settings.in_stream] for name, levels in sets.items()}
        streamed = on_stream(settings, network, few, labels[: settings.in_stream])
        accuracy |= streamed.pop("accuracy")
        lost |= streamed.pop("overflows")
        noted |= streamed
    broken: Json = {}
    if settings.defects:
        count = settings.on_defects
        chip = chips["chip, own trace" if trained.method.pool == "sample" else "chip, frozen"][0]
        broken["defects"] = on_broken_chips(
            settings, chip, own.images[:count], own.labels[:count], trained.seed
        )
    for name, (chip, local) in chips.items():
        outcome = run(chip.layers, chip.encode(own.images[:_AT_ONCE]), local=local)
        noted["rates"][name] = layer_rates(outcome)
        noted["shapes"][name] = shapes_as_json(chip.shapes())
        noted["last packets"][name] = last_packets(chip, own.images[:_ONE_BY_ONE])
        one = forms[name.replace("chip", "float")]
        noted["cpu"][name] = cpu_seconds(partial(one, own.images[:1]))
    return {
        "accuracy": accuracy,
        "levels": [[name, list(levels)] for name, levels in settings.faults],
        "tested": len(labels),
        "bits": _bits(own),
        "narrower": _narrower(own),
        "histories": _histories(own),
        "steps": network.steps,
        **noted,
        **broken,
        "overflows": lost,
        "largest_trace": [  # of a sample's own, for each layer with a trace; and its clip
            [round(largest_trace(layer, network.steps), 4), layer.rule.trace_clip]
            for layer in plastic_layers(network)
            if layer.rule is not None
        ],
    }


def _homeostatic(
    network: FullyConnected, known: Reference, rates: Rates, written: list[int], lost: Json
) -> dict[str, Form]:
    """Return how a network answers all images of a set if it keeps the currents of training.

    Args:
        network, known, rates: see `answer_corrected`.
        written: collects how many axons offsets take on the chip.
        lost: counts numbers that did not fit.
    """
    chip, limits = quantize(network, FROZEN), Limits.of(tianjic())
    first, *others = chip.layers

    def plainly(images: Tensor) -> Tensor:
        found = answer_corrected(network, images[None], "currents-stream", known, 1, rates)
        return found.classes[0]

    def on_chip(images: Tensor) -> Tensor:
        inputs, answers = chip.encode(images), []
        # The first step is undiminished: what a host reads after it is what the image brings.
        read = dendrite(inputs[0], first.weight, limits, Overflows(), first.name) * first.unit
        factor, shift = running_gain(read, read.square(), known, rates.currents)
        for part in torch.arange(len(images)).split(_AT_ONCE):
            own = factor[part], shift[part]
            written.append(axons(weights(first, *own)))
            layers = [adjusted(first, *own, chip.gain), *others]
            outcome = run(layers, [x[part] for x in inputs], local="off", limits=limits)
            count_lost(lost, outcome)
            answers.append(chip.answers(outcome))
        return torch.cat(answers)

    return {"float, homeostatic": plainly, "chip, homeostatic": on_chip}


def _with_own_trace(network: FullyConnected, images: Tensor) -> Tensor:
    return network(images, pool="sample").output.argmax(-1)


def _answer(
    chip: ChipNetwork, local: Local, lost: Json | None = None, limits: Limits | None = None
) -> Form:
    limits = limits or Limits.of(tianjic())

    def answer(x: Tensor) -> Tensor:
        outcome = run(chip.layers, chip.encode(x), local=local, limits=limits)
        if lost is not None:
            count_lost(lost, outcome)
        return chip.answers(outcome)

    return answer


def _right(form: Form, images: Tensor, labels: Tensor, at_once: int = _AT_ONCE) -> float:
    return round(accuracy(form, images, labels, at_once), 5)


def _bits(own: _Subject) -> list[list[float]]:
    """Return, for each number of bits, accuracies of three networks on the chip.

    As it was trained; after some more epochs; after as many with rounded weights.
    """
    settings, trained, network = own.settings, own.trained, own.network
    options, local = _as_trained(trained)
    if not settings.bits:
        return []
    longer = fine_tuned(network, trained, None, settings.fine_tuned)
    table = []
    for bits in settings.bits:
        rounded = fine_tuned(network, trained, bits, settings.fine_tuned)
        narrow = replace(options, weight_bits=bits)
        made = (quantize(kind, narrow, own.seen) for kind in (network, longer, rounded))
        table.append([bits, *(own.right(_answer(chip, local)) for chip in made)])
    return table


def _narrower(own: _Subject) -> Json:
    """Return accuracies on the chip with less room: weights from a codebook, partial sums."""
    options, local = _as_trained(own.trained)
    count = own.settings.codebook
    coded = quantize(own.network, replace(options, codebook=count), own.seen)
    found: Json = {f"{count} weights to choose from": own.right(_answer(coded, local))}
    whole = quantize(own.network, options, own.seen)
    for bits in own.settings.sums:
        limits = replace(Limits.of(tianjic()), partial_sum_bits=bits, partial_sum_shift=None)
        found[f"partial sums of {bits} bits"] = own.right(_answer(whole, local, limits=limits))
    return found


def _as_trained(trained: Trial[FaultSettings, Method]) -> tuple[Options, Local]:
    """Return how a network is brought to the chip with its traces as they were in training."""
    if trained.method.pool == "sample":
        return Options(carried="separate"), "history"
    return FROZEN, "off"


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


def _histories(own: _Subject) -> Json:
    """Return accuracy with each sample's own trace, in several forms, on the same images."""
    network, settings, count = own.network, own.settings, own.settings.rewritten
    if not plastic_layers(network):
        return {}
    few = own._replace(images=own.images[:count], labels=own.labels[:count])
    separate, lost = Options(carried="separate"), dict[str, int]()
    whole = quantize(network, separate, own.seen)
    host = quantize(network, HOSTED)
    forms: dict[str, Form] = {
        "float": partial(_with_own_trace, network),
        "history": _answer(whole, "history"),
        "rewritten": _answer(host, "write-back", lost),
        "no local current": _answer(whole, "off"),
    }
    others = {f"{lags} lags": replace(separate, lags=lags) for lags in settings.lags}
    others |= {f"without newest {n}": replace(separate, delay=n) for n in settings.delays}
    for name, options in others.items():
        forms[name] = _answer(quantize(network, options, own.seen), "history")
    found: Json = {name: few.right(form, _REWRITTEN_AT_ONCE) for name, form in forms.items()}
    return found | {"images": len(few.images), "synapses that did not fit": sum(lost.values())}
