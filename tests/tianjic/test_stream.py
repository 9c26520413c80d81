"""Images that come one by one, on a chip whose synapses a host rewrites between them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hybrid.model.networks import FullyConnected
from hybrid.model.plasticity import Hebbian
from hybrid.model.streams import run_stream
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cores import Limits, run
from hybrid.tianjic.fixed import Overflows
from hybrid.tianjic.layer import HOSTED
from hybrid.tianjic.machine import run_mapped
from hybrid.tianjic.mapping import map_network
from hybrid.tianjic.quantize import ChipNetwork, quantize
from hybrid.tianjic.stream import HostTrace, answer_stream, rewriting
from tests.tianjic.test_cores import images, network

STRICT = Limits(strict=True)


def streaming(*, clip: float | None = None, batch: int = 100) -> FullyConnected:
    rule = Hebbian(trace_decay=0.9, nominal_batch=batch, trace_clip=clip)
    return network(rule=rule, largest_meta=0.05, trace=0.02)


def moved(chip: ChipNetwork, shown: Tensor) -> list[Tensor]:
    """Return the synapses after a stream, written down as the rule is: image by image, by steps."""
    traces = [HostTrace(layer) for layer in chip.layers]
    kept = [layer.host.start.double() for layer in chip.layers if layer.host is not None]
    seen: dict[str, tuple[Tensor, list[Tensor]]] = {}
    for image in shown:
        now = [t.synapses(Overflows(strict=True)) for t in traces]
        run(
            [replace(layer, weight=w) for layer, w in zip(chip.layers, now, strict=True)],
            chip.encode(image[None]),
            local="off",
            watch=lambda layer, x, steps: seen.update({layer.name: (x, [s.v for s in steps])}),
        )
        for i, layer in enumerate(chip.layers):
            rule = layer.host
            assert rule is not None
            module = rule.module
            decay = rule.trace_decay ** (1.0 / rule.nominal_batch)
            for x, v in zip(*seen[layer.name], strict=True):
                post = module.post(v, Overflows(), layer.name)[0].double()
                added = torch.outer(rule.rate.double() * x[0], post) / rule.nominal_batch
                kept[i] = decay * kept[i] + added
            if rule.clip is not None:
                kept[i] = kept[i].clamp(-rule.clip, rule.clip)
            traces[i]._trace = kept[i].float()
    return [t.synapses(Overflows(strict=True)) for t in traces]


@pytest.mark.parametrize("clip", [None, 0.03])
def test_a_host_moves_the_trace_as_the_rule_says(clip: float | None) -> None:
    chip, shown = quantize(streaming(clip=clip, batch=4), HOSTED), images(6)
    expected = moved(chip, shown)
    traces = {layer.name: HostTrace(layer) for layer in chip.layers}
    begun = [t.synapses(Overflows()) for t in traces.values()]
    for image in shown:
        layers = [replace(x, weight=traces[x.name].synapses(Overflows())) for x in chip.layers]
        run(
            layers,
            chip.encode(image[None]),
            local="off",
            watch=lambda layer, x, steps: traces[layer.name].learn(x, steps, Overflows()),
        )
    for trace, written, first in zip(traces.values(), expected, begun, strict=True):
        assert (trace.synapses(Overflows()).int() - written.int()).abs().max() <= 1
        assert (written != first).any()


def test_answers_follow_those_of_a_stream_in_floats() -> None:
    """An untrained network: a little rounding changes what it answers, a still trace far more."""
    trained, shown = streaming(), images(200)
    floats = run_stream(trained, shown[None]).outputs[0].argmax(-1)
    chip = quantize(trained, HOSTED)
    found = answer_stream(chip, shown, limits=STRICT)
    frozen = run(chip.layers, chip.encode(shown), local="off")
    assert (found.classes == floats).float().mean() > 0.75
    assert (chip.answers(frozen) == floats).float().mean() < 0.65
    assert found.rewritings == 199
    assert not found.overflows


def test_rarer_rewriting_writes_less_and_answers_nearly_alike() -> None:
    trained, shown = streaming(), images(120)
    chip = quantize(trained, HOSTED)
    often, seldom = (answer_stream(chip, shown, every=n, limits=STRICT) for n in (1, 10))
    assert (often.rewritings, seldom.rewritings) == (119, 11)
    assert 0 < seldom.written < often.written
    assert (often.classes == seldom.classes).float().mean() > 0.8
    adds = [rewriting(found, tianjic()) for found in (often, seldom)]
    assert adds[0]["seconds"] > adds[1]["seconds"] > 0.0


def test_what_a_host_adds_is_counted_by_hand() -> None:
    """Two images: outer products of what is not zero, decays, rates; bytes that it reads."""
    chip, shown = quantize(streaming(), HOSTED), images(2)
    found = answer_stream(chip, shown, limits=STRICT)
    active = {}
    plain = [replace(x, weight=HostTrace(x).synapses(Overflows())) for x in chip.layers]
    first = run(plain, chip.encode(shown[:1]), local="off")
    active = {name: int(layer.active_in.sum()) for name, layer in first.layers.items()}
    again = answer_stream(chip, shown[:1], limits=STRICT)
    sizes = {layer.name: layer.weight.shape for layer in chip.layers}
    done = sum(2 * a * b + active[n] * b + 2 * a * b for n, (a, b) in sizes.items())
    assert again.operations == done
    assert again.sent == 6 * (40 + 10) + active["layer 2"]
    adds = rewriting(found, tianjic())
    assert adds["synapses"] == found.written / 2
    assert adds["bytes"] == (found.sent + 3 * found.written) / 2
    assert adds["packets"] == (found.sent / tianjic().packet_bytes + found.written / 2) / 2


@pytest.mark.parametrize("steps", [1, 300])
def test_a_host_needs_no_history(steps: int) -> None:
    """One step has none; of three hundred a core would hold too few."""
    rule = Hebbian(trace_decay=0.9)
    chip = quantize(network(rule=rule, steps=steps, sizes=(30, 20, 5)), HOSTED)
    assert answer_stream(chip, images(3, 30), every=2, limits=STRICT).rewritings == 1
    if steps == 300:
        with pytest.raises(ValueError, match="more lags than a core holds"):
            run(chip.layers, chip.encode(images(1, 30)), local="history")


def test_several_images_are_learned_as_one_after_the_other() -> None:
    chip, shown = quantize(streaming(batch=4), HOSTED), images(7)
    layer, seen = chip.layers[0], []
    run(
        chip.layers,
        chip.encode(shown),
        local="off",
        watch=lambda own, x, steps: seen.append((x, steps)) if own is layer else None,
    )
    (x, steps) = seen[0]
    at_once, by_one = HostTrace(layer), HostTrace(layer)
    at_once.learn(x, steps, Overflows())
    for n in range(7):
        own = [step._replace(v=step.v[n : n + 1]) for step in steps]
        by_one.learn(x[:, n : n + 1], own, Overflows())
    assert at_once._trace.abs().max() > 0.05
    torch.testing.assert_close(at_once._trace, by_one._trace, rtol=0.0, atol=1e-6)


def test_somas_of_a_hosted_layer_also_send_what_the_rule_makes_of_potentials() -> None:
    """Copies beside the sums, and nothing of a history; cores alone give the same spikes."""
    chip, shown = quantize(streaming(), HOSTED), images(4)
    mapping = map_network(chip.shapes(), tianjic())
    assert mapping.count(role="copies") == 2
    assert not mapping.count(role="coincidences")
    whole = run(chip.layers, chip.encode(shown), local="off")
    ran = run_mapped(mapping, chip.layers, chip.encode(shown))
    assert torch.equal(ran.counts, whole.counts)
    assert whole.layers["layer 1"].active_out.sum() > 0


def test_images_between_two_rewritings_meet_the_same_synapses() -> None:
    chip, shown = quantize(streaming(), HOSTED), images(20)
    at_once = answer_stream(chip, shown, every=20, limits=STRICT)
    traces = {layer.name: HostTrace(layer) for layer in chip.layers}
    layers = [replace(x, weight=traces[x.name].synapses(Overflows())) for x in chip.layers]
    still = run(layers, chip.encode(shown), local="off")
    assert torch.equal(at_once.classes, chip.answers(still))
    assert at_once.rewritings == at_once.written == 0


def test_what_cannot_stream_is_refused() -> None:
    shown = images(2)
    with pytest.raises(ValueError, match="needs a local rule"):
        answer_stream(quantize(network()), shown, limits=STRICT)
    with pytest.raises(ValueError, match="give them as"):
        answer_stream(quantize(streaming(), HOSTED), images(6).view(6, 1, 300), limits=STRICT)
    with pytest.raises(ValueError, match="codebook"):
        replace(HOSTED, codebook=4)
    for every, few in ((0, shown), (1, shown[:0])):
        with pytest.raises(ValueError, match=f"every = {every}, {len(few)} images"):
            answer_stream(quantize(streaming(), HOSTED), few, every=every, limits=STRICT)
    with pytest.raises(ValueError, match="carried='none'"):
        HostTrace(quantize(streaming()).layers[0])
