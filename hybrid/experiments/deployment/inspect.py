"""One kept network on the chip, in words: `hybrid tianjic CHECKPOINT`."""

from pathlib import Path
from typing import Any

from hybrid.data.augment import Jitter
from hybrid.described import from_json
from hybrid.experiments.continual.settings import ContinualSettings, Penalty
from hybrid.experiments.core.trials import Trial, with_weights
from hybrid.experiments.deployment.chip import report
from hybrid.experiments.deployment.run import BASES
from hybrid.experiments.deployment.settings import DeploymentSettings
from hybrid.experiments.fault_tolerance.settings import FaultSettings
from hybrid.experiments.few_shot.settings import FewShotSettings
from hybrid.learning.bilevel import Bilevel
from hybrid.learning.correction import Rates
from hybrid.learning.episodic import Objective
from hybrid.learning.schedule import Schedule
from hybrid.model import coding, neurons
from hybrid.model.convolutional import Dense
from hybrid.model.few_shot import InitialBinding
from hybrid.model.layers import InitialMeta
from hybrid.model.plasticity import STDP, Hebbian
from hybrid.runs.store import read_record
from hybrid.tianjic.cost import HEADER

# What the settings of a deployable network are made of.
KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(FaultSettings, FewShotSettings, ContinualSettings, Penalty),
        *(neurons.LIF, neurons.IF, neurons.AdaptiveLIF),
        *(neurons.Rectangle, neurons.FastSigmoid, neurons.ArcTan),
        *(Hebbian, STDP, InitialMeta, InitialBinding, Dense),
        *(coding.Rate, coding.LastMembrane, coding.Rank),
        *(Schedule, Objective, Bilevel, Jitter, Rates),
    )
}


def inspect(checkpoint: Path, tested: int) -> str:
    """Return in words what a network that a run has kept does on the chip, and what it takes.

    Args:
        checkpoint: its weights, beside its record, in the store of a run.
        tested: test images, episodes, or images of each task.

    Raises:
        FileNotFoundError: if weights or record are not there.
        DamagedFileError: if one is damaged.
        ValueError: if it is of another experiment, or its settings of another state of the code.
    """
    checkpoint = checkpoint.with_suffix(".safetensors")
    if not checkpoint.exists():
        raise FileNotFoundError(
            f"{checkpoint} is not there. Records are committed without weights: `hybrid run` an "
            "experiment with `--store` and a folder of your own, and give a .safetensors file that "
            "it leaves there beside its record."
        )
    request = read_record(checkpoint.with_suffix(".json"))["request"]
    bases = {base.experiment.name: base for base in BASES.values()}
    if request["experiment"] not in bases:
        known = ", ".join(bases)
        raise ValueError(f"a network of {request['experiment']!r}: the chip takes those of {known}")
    experiment, _, deploy = bases[request["experiment"]]
    own: Any = from_json(request["settings"], KINDS)
    method = experiment.method(request["method"]["name"])
    trained = Trial(experiment, own, method, request["seed"])
    network = with_weights(trained, checkpoint)
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
    result = deploy(settings, trained, network)
    lines = [HEADER, "", trained.name]
    for form, parts in result["accuracy"].items():
        for part, values in parts.items():
            shares = values if isinstance(values, list) else [values]
            lines.append(f"{form}, {part}: {100 * sum(shares) / len(shares):.1f} % right")
    for form in result["shapes"]:
        lines.append(f"{form}; did not fit: {result['overflows'].get(form) or 'none'}")
        lines.append(report(result, form))
    return "\n".join(lines)
