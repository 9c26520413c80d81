"""A fault-tolerance network on chips with defects, worked around or not."""

from typing import get_args

import torch
from torch import Tensor

from hybrid.experiments.deployment.chip import MOST_CHIPS
from hybrid.experiments.deployment.settings import Defect, DeploymentSettings
from hybrid.runs.store import Json
from hybrid.tianjic.chip import tianjic
from hybrid.tianjic.cores import Outcome
from hybrid.tianjic.defects import Defects, dead_cores
from hybrid.tianjic.machine import Machine
from hybrid.tianjic.mapping import Mapping, map_network
from hybrid.tianjic.placement import placed
from hybrid.tianjic.quantize import ChipNetwork
from hybrid.tianjic.rules import RuleError

# What can be known before a network is loaded, and worked around.
AVOIDABLE: tuple[Defect, ...] = ("dead cores", "stuck bits")
PLAIN, AROUND = "as mapped", "mapped around"
_DRAWS = 4


@torch.no_grad()
def on_broken_chips(
    settings: DeploymentSettings, chip: ChipNetwork, images: Tensor, labels: Tensor, seed: int
) -> Json:
    """Return shares of right answers by kind of defect: levels, as mapped, and mapped around.

    None stands where too few cores are left to map around dead ones.

    Args:
        settings: kinds and levels.
        chip: a network, its local modules working if it has any.
        images, labels: what it is asked.
        seed: of the defects, the same for networks to compare.
    """
    mapping = placed(map_network(chip.shapes(), tianjic(), most_chips=MOST_CHIPS))
    inputs = chip.encode(images)

    def right(own: Mapping, defects: Defects) -> float:
        ran = Machine(own, chip.layers, defects).run(inputs)
        outcome = Outcome(ran.potentials, ran.counts, len(images), len(inputs), {}, {}, ran.trail)
        return round(float((chip.answers(outcome) == labels).float().mean()), 5)

    def around(kind: Defect, level: float) -> float | None:
        if kind == "stuck bits":
            return right(mapping, Defects(stuck=level, known=True, seed=seed))
        dead = dead_cores(tianjic(), mapping.chips, int(level), seed)
        try:
            return right(placed(mapping, avoid=dead), Defects(dead=dead))
        except RuleError:
            return None

    def plain(kind: Defect, level: float) -> float:
        if kind == "dead cores":  # few cores are hit by luck: several draws, and their mean
            every = [
                right(mapping, Defects(dead=dead_cores(tianjic(), mapping.chips, int(level), draw)))
                for draw in range(seed * _DRAWS, seed * _DRAWS + (_DRAWS if level else 1))
            ]
            return round(sum(every) / len(every), 5)
        defects = Defects(
            stuck=level if kind == "stuck bits" else 0.0,
            flipped=level if kind == "flipped bits" else 0.0,
            lost=level if kind == "lost packets" else 0.0,
            seed=seed,
        )
        return right(mapping, defects)

    found: Json = {}
    for kind in get_args(Defect):
        levels = dict(settings.defects).get(kind, ())
        if not levels:
            continue
        found[kind] = {"levels": list(levels), PLAIN: [plain(kind, level) for level in levels]}
        if kind in AVOIDABLE:
            found[kind][AROUND] = [around(kind, level) for level in levels]
    return found
