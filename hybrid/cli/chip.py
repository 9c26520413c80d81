"""The command that brings networks to the simulated chip: tianjic."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hybrid.cli.common import app, plainly


@app.command()
def tianjic(
    network: Annotated[Path, typer.Argument(help="Weights that a run has kept, or your own.")],
    tested: Annotated[int, typer.Option(help="Test images, or episodes.", min=1)] = 500,
    chip: Annotated[
        Path | None, typer.Option(help="Constants of another chip, a TOML file.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of a NIR graph.", min=1)] = None,
    strict: Annotated[bool, typer.Option(help="Fail if a number does not fit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print numbers, in SI units.")] = False,
    space: Annotated[
        Path | None, typer.Option(help="Draw accuracy, energy and time of many designs.")
    ] = None,
) -> None:
    """Bring a trained network to the simulated chip: accuracy, cores, time, energy.

    NETWORK is a .safetensors file beside its record, as `hybrid run` leaves them: of
    fault_tolerance, few_shot or continual. Or a fully connected network that hybrid.save has
    written, or a NIR graph: without data, there is no accuracy to tell. --chip takes a file such as
    hybrid/tianjic/chip.toml. --space tries bits of weights, both readings of the memory, numbers of
    cores and, for convolutions, folds.
    """
    from hybrid.experiments.deployment.inspect import in_words, inspect
    from hybrid.experiments.deployment.space import as_table, draw_space, explored
    from hybrid.tianjic.chip import load_chip

    with plainly():
        own = None if chip is None else load_chip(chip)
        if space is not None:
            if strict or not space.parent.is_dir():
                problem = "--strict goes without --space" if strict else f"no folder {space.parent}"
                raise ValueError(problem)
            points = explored(network, tested, chip=own, steps=steps)
            typer.echo(json.dumps(points, indent=1) if as_json else as_table(points))
            draw_space(points, space)
            return
        found = inspect(network, tested, chip=own, strict=strict, steps=steps)
        if as_json:
            kept = {name: found.get(name) for name in ("name", "accuracy", "agreement", "forms")}
            typer.echo(json.dumps(kept, indent=1))
        else:
            typer.echo(in_words(found, own))
