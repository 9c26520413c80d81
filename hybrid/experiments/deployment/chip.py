"""What a record keeps of a network on the chip, and what that tells of it without running it.

Its cores, its time and its energy.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hybrid.runs.store import Json
from hybrid.tianjic.chip import Chip, in_use, tianjic
from hybrid.tianjic.cores import Outcome
from hybrid.tianjic.cost import Cost, as_text, cost, energy_range
from hybrid.tianjic.cost import deciding as shares_of_spread
from hybrid.tianjic.machine import Machine
from hybrid.tianjic.mapping import Mapping, map_network
from hybrid.tianjic.placement import placed
from hybrid.tianjic.quantize import ChipNetwork
from hybrid.tianjic.rules import Memory
from hybrid.tianjic.schedule import arrivals
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, LocalShape, Shape

MOST_CHIPS = 8
_DRAWS = 200
# Of a processor, where it can be read.
_COUNTER = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
_LEAST = 0.2  # seconds that are timed at least


def mapping(result: Json, form: str, memory: Memory = "wide") -> Mapping:
    """Return the network of a result on cores, in one form: "chip, frozen" for example."""
    return _mapped(shapes_in(result["shapes"][form]), tianjic(), memory)


@cache
def _mapped(shapes: tuple[Shape, ...], chip: Chip, memory: Memory) -> Mapping:
    return placed(map_network(shapes, chip, most_chips=MOST_CHIPS, memory=memory))


def rates(result: Json, form: str) -> dict[str, NDArray[np.float64]]:
    """Return how often each layer's inputs were active."""
    known = result["rates"].get(form) or result["rates"][form.split(",")[0]]
    return {name: np.array(values) for name, values in known.items()}


def spent(result: Json, form: str, memory: Memory = "wide") -> Cost:
    """Return what an inference takes."""
    asked = json.dumps([result["shapes"][form], result["rates"], result["steps"], form])
    return _spent(asked, tianjic(), memory)


@cache
def _spent(asked: str, chip: Chip, memory: Memory) -> Cost:
    shapes, active, steps, form = json.loads(asked)
    result = {"shapes": {form: shapes}, "rates": active}
    with in_use(chip):
        return cost(mapping(result, form, memory), rates(result, form), steps)


def energies(result: Json, form: str) -> dict[str, tuple[float, float, float]]:
    """Return (5 %, median, 95 %) of each energy in J, over what is uncertain."""
    source = np.random.default_rng(0)
    return energy_range(spent(result, form), tianjic(), draws=_DRAWS, source=source)


def report(result: Json, form: str) -> str:
    """Return in words what a network takes."""
    text = as_text(spent(result, form), rates(result, form), energies(result, form))
    if (real := result.get("last packets", {}).get(form)) is not None:
        text = (
            f"{text}\n    {real['images']} real images, one by one: the busiest step is done by "
            f"clock {real['median']:,} (median), {real['most']:,} (most)"
        )
    if (shown := result.get("support")) is not None:
        text = f"{text}\n{_support(result, form, shown)}"
    kept = result.get("homeostatic")
    if kept is None or form != "chip, frozen":
        return text
    return (
        f"{text}\n    to keep the currents of training, a host adds for each image: "
        f"{kept['operations']:,.0f} operations, {kept['bytes']:,.0f} bytes in "
        f"{kept['packets']:,.0f} packets, {1e6 * kept['seconds']:.1f} µs through all ports; "
        f"{kept['axons']} axons; not counted above"
    )


def deciding(result: Json, form: str) -> dict[str, float]:
    """Return how much of an energy's spread each uncertain constant makes, from 0 to 1."""
    return shares_of_spread(spent(result, form), tianjic())


def shown_support(result: Json, form: str) -> Cost:
    """Return what it takes to show the support of an episode, step by step, before any query."""
    mapped = mapping(result, form)
    shapes = [
        replace(shape, local=replace(shape.local, filled=False))
        if isinstance(shape, DenseShape) and shape.local is not None
        else shape
        for shape in mapped.shapes
    ]
    shown = replace(mapped, shapes=tuple(shapes))
    return cost(shown, rates(result, form), result["support"])


def _support(result: Json, form: str, shown: int) -> str:
    """Return in words what an episode's support takes, on the chip and by its host."""
    found, host = shown_support(result, form), result["host"]
    return (
        f"    that is a query; to show the support before, {shown} samples: "
        f"{found.timing.phases} phases, {1e6 * found.timing.latency:.0f} µs, "
        f"{1e6 * found.energy.gated:.2f} µJ (fitted)\n"
        f"    a host adds, for the support and a query: {host['operations']:,.0f} operations, "
        f"{host['bytes']:,.0f} bytes in {host['packets']:,.0f} packets, "
        f"{1e6 * host['seconds']:.1f} µs through all ports; not counted above"
    )


def summary(result: Json, form: str) -> Json:
    """Return what a network takes as numbers, in SI units, for other programs."""
    found = spent(result, form)
    plan, time, used = found.schedule, found.timing, found.mapping
    return {
        "cores": found.cores,
        "chips": used.chips,
        "cores within 22 KB": int(used.fits_sram().sum()),
        "phases": time.phases,
        "phase": {
            "seconds": time.phase,
            "clocks": plan.clocks,
            "stretched": round(plan.stretch, 4),
            "computing": plan.computing,
            "last packet": {"median": int(np.median(plan.typical)), "worst": plan.worst},
        },
        "latency": time.latency,
        "inferences per second": {"alone": time.unpipelined, "pipelined": time.throughput},
        "operations": found.operations._asdict(),
        "packets": found.traffic.packets * result["steps"],
        "hops": found.traffic.hops * result["steps"],
        "energy": {
            name: dict(zip(("5 %", "median", "95 %"), values, strict=True))
            for name, values in energies(result, form).items()
        },
        "did not fit": result["overflows"].get(form) or {},
    }


def last_packets(network: ChipNetwork, images: Tensor) -> Json:
    """Return when all is done in the busiest step of an image, in clocks of a phase.

    Each image runs by cores and packets alone. All packets of a step count as sent in one phase,
    which a pipeline shares among steps, and after the longest computing there can be.

    Args:
        network: that runs.
        images: some real ones [N, in], one after the other.
    """
    mapped = placed(map_network(network.shapes(), tianjic(), most_chips=MOST_CHIPS))
    machine = Machine(mapped, network.layers)
    ran = (machine.run(network.encode(image.unsqueeze(0))) for image in images)
    packets = np.array([[step.casts for step in one.steps] for one in ran])  # [N, T, multicasts]
    clocks = arrivals(mapped, packets.reshape(-1, packets.shape[-1])).reshape(len(images), -1)
    latest = clocks.max(1)
    return {
        "images": len(images),
        "median": int(np.median(latest)),
        "most": int(latest.max()),
    }


def layer_rates(outcome: Outcome) -> Json:
    """Return how often each input of each layer was active in a step; "output": the last spikes."""
    shown = outcome.samples * outcome.steps
    found = {name: rounded(layer.active_in, shown) for name, layer in outcome.layers.items()}
    last = list(outcome.layers.values())[-1]
    return found | {"output": rounded(last.active_out, shown)}


def count_lost(lost: Json, outcome: Outcome) -> None:
    """Add to what did not fit, by place."""
    for place, count in outcome.overflows.items():
        lost[place] = lost.get(place, 0) + count


def rounded(counts: Tensor, shown: int) -> list[float]:
    """Return counts as shares of what was shown."""
    return [round(value / shown, 4) for value in counts.tolist()]


def shapes_as_json(shapes: Sequence[Shape]) -> list[Json]:
    """Return shapes as JSON values."""
    return [
        {"kind": type(shape).__name__}
        | {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(shape).items()}
        for shape in shapes
    ]


def shapes_in(entries: Sequence[Json]) -> tuple[Shape, ...]:
    """Return shapes from JSON values."""
    shapes: list[Shape] = []
    for entry in entries:
        values: Json = {name: value for name, value in entry.items() if name != "kind"}
        if entry["kind"] == ConvolutionShape.__name__:
            shapes.append(ConvolutionShape(**values | {"image": tuple(values["image"])}))
        else:
            local = values["local"] and LocalShape(**values["local"])
            shapes.append(DenseShape(**values | {"local": local}))
    return tuple(shapes)


def cpu_seconds(infer: Callable[[], object]) -> Json:
    """Return what one inference takes on this processor: seconds, and J if it counts them.

    Means over many in a row; energy is of the whole package, all that runs beside included.
    """
    infer()
    count, before, began = 0, _joules(), time.perf_counter()
    while time.perf_counter() - began < _LEAST:
        infer()
        count += 1
    seconds, spent = time.perf_counter() - began, _joules() - before
    # The counter begins anew at times; NaN is no count at all.
    joules = round(spent / count, 6) if spent > 0.0 else None
    return {"seconds": round(seconds / count, 6), "joules": joules}


def _joules() -> float:
    try:
        return int(_COUNTER.read_text("ascii")) / 1e6
    except (OSError, ValueError):
        return float("nan")
