"""One kept network on the chip, in words or numbers: `hybrid tianjic NETWORK`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hybrid.data.augment import Jitter
from hybrid.described import from_json
from hybrid.exchange.nir import from_nir
from hybrid.exchange.saved import PARTS, load
from hybrid.experiments.continual.settings import ContinualSettings, Penalty
from hybrid.experiments.core.network import plastic_layers
from hybrid.experiments.core.trials import Trial, with_weights
from hybrid.experiments.deployment.chip import (
    count_lost,
    layer_rates,
    report,
    shapes_as_json,
    summary,
)
from hybrid.experiments.deployment.run import BASES
from hybrid.experiments.deployment.settings import DeploymentSettings
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.experiments.few_shot.settings import FewShotSettings
from hybrid.learning.bilevel import Bilevel
from hybrid.learning.correction import Rates
from hybrid.learning.episodic import Objective
from hybrid.learning.schedule import Schedule
from hybrid.model.coding import Rank, Rate
from hybrid.model.networks import FullyConnected
from hybrid.runs.seeds import torch_stream
from hybrid.runs.store import Json, read_record
from hybrid.tianjic.chip import Chip, in_use, tianjic
from hybrid.tianjic.cores import Limits, Local, run
from hybrid.tianjic.cost import HEADER
from hybrid.tianjic.layer import FROZEN, Options
from hybrid.tianjic.quantize import ChipNetwork, quantize

# What the settings of a deployable network are made of.
KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(FaultSettings, FewShotSettings, ContinualSettings, Penalty),
        *(*PARTS, Schedule, Objective, Bilevel, Jitter, Rates),
    )
}
# Of a network that came without data: how many inputs tell how active it is.
_INPUTS = 500


def inspect(
    checkpoint: Path,
    tested: int,
    *,
    chip: Chip | None = None,
    strict: bool = False,
    steps: int | None = None,
) -> Json:
    """Return what a trained network does on the chip, and what it takes.

    Args:
        checkpoint: its weights, beside its record, in the store of a run; or a fully connected
            network of your own, as `hybrid.save` leaves it, or as a NIR graph.
        tested: test images, episodes, or images of each task, of a run.
        chip: that is simulated; None for Tianjic.
        strict: whether numbers that do not fit are an error.
        steps: of a NIR graph, which says nothing of them.

    Raises:
        FileNotFoundError: if weights or record are not there.
        DamagedFileError: if one is damaged.
        ValueError: if it is of another experiment, its settings of another state of the code, or a
            number does not fit and `strict` is set.
        RuleError: if the chip cannot hold it.
    """
    with in_use(chip or tianjic()):
        found = _of_any(checkpoint, tested, steps)
        lost = {form: places for form, places in found["overflows"].items() if places}
        if strict and lost:
            raise ValueError(f"{checkpoint}: numbers that did not fit: {lost}")
        return found | {"forms": {form: summary(found, form) for form in found["shapes"]}}


def in_words(found: Json, chip: Chip | None = None) -> str:
    """Return the same in words, if it was asked on that chip."""
    lines = [HEADER, "", found["name"], *found["notes"]]
    for form, parts in found["accuracy"].items():
        for part, values in parts.items():
            shares = values if isinstance(values, list) else [values]
            lines.append(f"{form}, {part}: {100 * sum(shares) / len(shares):.1f} % right")
    with in_use(chip or tianjic()):
        for form in found["shapes"]:
            lines.append(f"{form}; did not fit: {found['overflows'].get(form) or 'none'}")
            lines.append(report(found, form))
    return "\n".join(lines)


def _of_any(checkpoint: Path, tested: int, steps: int | None) -> Json:
    if checkpoint.suffix == ".nir":
        if not checkpoint.exists():
            raise FileNotFoundError(f"{checkpoint} is not there")
        if steps is None:
            raise ValueError("a NIR graph does not say how many steps it is run for: give --steps")
        network = from_nir(checkpoint, steps=steps, readout=Rate())
        return _of_ones_own(str(checkpoint), network.eval().requires_grad_(False))
    checkpoint = checkpoint.with_suffix(".safetensors")
    if not checkpoint.exists():
        raise FileNotFoundError(
            f"{checkpoint} is not there. Records are committed without weights: `hybrid run` an "
            "experiment with `--store` and a folder of your own, and give a .safetensors file that "
            "it leaves there beside its record, or one that hybrid.save has written."
        )
    if not checkpoint.with_suffix(".json").exists():
        return _of_ones_own(str(checkpoint), load(checkpoint))
    request = read_record(checkpoint.with_suffix(".json"))["request"]
    bases = {base.experiment.name: base for base in BASES.values()}
    if request["experiment"] not in bases:
        known = ", ".join(bases)
        raise ValueError(f"a network of {request['experiment']!r}: the chip takes those of {known}")
    experiment, _, deploy = bases[request["experiment"]]
    own: Any = from_json(request["settings"], KINDS)
    method = experiment.method(request["method"]["name"])
    trained = Trial(experiment, own, method, request["seed"])
    kept = with_weights(trained, checkpoint, request)
    settings = DeploymentSettings(  # without trying what else the network could be
        label=own.label,
        trained=own,
        tested=tested,
        faults=(("gaussian", (0.0,)),) if isinstance(own, FaultSettings) else (),
        bits=(),
        sums=(),
        lags=(),
        delays=(),
        rewritten=1,
    )
    return {"name": trained.name, "notes": []} | deploy(settings, trained, kept)


@torch.no_grad()
def _of_ones_own(name: str, network: Any) -> Json:
    """Return what a network takes on inputs that are made up, and how often it answers alike."""
    frozen, source = quantize(network, FROZEN), torch_stream(0, "made-up inputs")
    chips: dict[str, tuple[ChipNetwork, Local]] = {"chip, frozen": (frozen, "off")}
    x = torch.rand(_INPUTS, len(frozen.layers[0].weight), generator=source)
    x = x.to(next(network.parameters()).dtype)
    without = ""
    if isinstance(network.readout, Rank):  # a chip asks each sample on its own
        network.readout = replace(network.readout, fraction=None)
    if plastic_layers(network) and isinstance(network, FullyConnected):
        try:
            own_trace = quantize(network, Options(carried="separate"), x)
        except ValueError as error:  # of another rule: frozen it runs all the same
            without = f"chip, own trace: not there, as {error}"
        else:
            chips["chip, own trace"] = (own_trace, "history")
    found: Json = {"name": name, "steps": network.steps, "accuracy": {}}
    found |= {"rates": {}, "shapes": {}, "overflows": {}, "agreement": {}}
    found["notes"] = [
        f"no data are known: activity, and with it energy, is that of {_INPUTS} inputs drawn "
        "evenly from 0 to 1"
    ]
    found["notes"] += [without] if without else []
    for form, (chip, local) in chips.items():
        outcome = run(chip.layers, chip.encode(x), local=local, limits=Limits.of(tianjic()))
        count_lost(found["overflows"].setdefault(form, {}), outcome)
        found["rates"][form] = layer_rates(outcome)
        found["shapes"][form] = shapes_as_json(chip.shapes())
        plainly = network(x, adapt=False) if local == "off" else network(x, pool="sample")
        same = float((chip.answers(outcome) == plainly.output.argmax(-1)).float().mean())
        found["agreement"][form] = round(same, 5)
        found["notes"].append(
            f"{form}: {100 * same:.1f} % of the answers are those of floating point"
        )
    return found
