"""Commands that compute: run, plan, verify."""

import os
from pathlib import Path
from typing import Annotated

import typer

from hybrid.cli.common import Cluster, app, one_of, plainly
from hybrid.experiments.core import dry_run as preview
from hybrid.experiments.core import leases
from hybrid.experiments.core.experiment import PROFILES
from hybrid.experiments.core.trials import choose_device, source_sha256
from hybrid.experiments.core.verification import verify
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.experiments.registry import experiment as experiment_of
from hybrid.paths import named_object, results_folder
from hybrid.runs.cluster import connected
from hybrid.runs.store import Store

AnyProfile = Annotated[
    str,
    typer.Option(
        help=f"{', '.join(PROFILES)}; some experiments also have controls, or search.",
        callback=one_of(*PROFILES, "controls", "search"),
    ),
]
Methods = Annotated[list[str] | None, typer.Option(help="Only this; may be repeated.")]
Labels = Annotated[
    list[str] | None,
    typer.Option(help="Only settings of this label, such as a data set; may be repeated."),
]
Seeds = Annotated[int | None, typer.Option(help="How many, instead of the plan's number.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
SideBySide = Annotated[
    bool,
    typer.Option(
        "--side-by-side",
        help="Seeds of one kind train in one call; for a GPU, and networks without convolutions.",
    ),
]


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help=f"One of: {', '.join(EXPERIMENTS)}.")],
    profile: AnyProfile = "smoke",
    method: Methods = None,
    label: Labels = None,
    seed: Annotated[int, typer.Option(min=0, help="Added to the seeds, 1 ... n.")] = 0,
    seeds: Seeds = None,
    jobs: Annotated[int, typer.Option(help="Processes of one thread each.")] = os.cpu_count() or 1,
    device: Device = "auto",
    store: Annotated[Path | None, typer.Option(help="Folder of records.")] = None,
    recompute: Annotated[bool, typer.Option(help="Ignore and replace finished records.")] = False,
    cluster: Cluster = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="This processor's instructions: not the same bits.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Stop in time, after an epoch; run again to go on.")
    ] = None,
    side_by_side: SideBySide = False,
    untested: Annotated[
        bool, typer.Option(help="Only train; the same without it, elsewhere, tests.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Only list what would be run.")] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Data of your own: a function in a file, my_data.py:make."),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(help="Settings of your own: a name in a file, my_sweep.py:points."),
    ] = None,
) -> None:
    """Run an experiment, or what is left of it, and keep its records.

    A run that was stopped goes on from its last finished epochs when it is started again, on a
    cluster from its last finished trials.

    Examples: `hybrid run continual` (smoke, seconds); `hybrid run fault_tolerance --profile laptop
    --label mnist --method HP --seeds 1`; the same with `--dry-run` to see how long that takes.

    With `--data` or `--settings` all else is the profile's. Records then are kept in ./results,
    with the figures drawn of them; a table of accuracies is printed.
    """
    try:
        chosen = experiment_of(experiment)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    own = data is not None or settings is not None
    folder = store or (Path("results") if own else results_folder(profile))
    kept = Store(folder, recompute=recompute)
    with plainly():
        if settings is not None:
            given = named_object(settings)
            chosen = chosen.with_settings(profile, given() if callable(given) else given)
        if data is not None:
            chosen = chosen.with_data(profile, data)
        if dry_run:
            trials = chosen.trials(profile, seed=seed, seeds=seeds, methods=method, labels=label)
            typer.echo(preview.as_text(preview.planned(trials, kept), jobs))
            return
        with connected(cluster, source_sha256):
            records = chosen.run(
                profile,
                seed=seed,
                seeds=seeds,
                methods=method,
                labels=label,
                store=kept,
                jobs=jobs,
                device=device,
                fast=fast,
                minutes=minutes,
                side_by_side=side_by_side,
                untested=untested,
            )
    typer.echo(f"records are in {folder}")
    if own:
        with plainly():
            typer.echo(records.table())
            try:
                drawn = records.figures(folder / "figures" / profile, seed)
            except KeyError as missing:  # of a part of the methods
                typer.echo(f"no figure: {missing.args[0]}")
                return
            for path in drawn:
                typer.echo(f"drawn: {path}")
            if not drawn:
                typer.echo("no figure: it takes records of more methods")


@app.command()
def plan(
    experiment: Annotated[str, typer.Argument(help=f"One of: {', '.join(EXPERIMENTS)}.")],
    profile: AnyProfile = "paper",
    minutes: Annotated[float, typer.Option(help="For which a machine is lent.")] = 9.0,
    method: Methods = None,
    label: Labels = None,
    seeds: Seeds = None,
    device: Device = "auto",
    seconds: Annotated[float, typer.Option(help="For which each kind is watched.")] = 10.0,
    side_by_side: SideBySide = False,
) -> None:
    """Measure, here and now, how long trials take and how much of them fits into a lease.

    One trial of each kind begins to train and is watched for some seconds; nothing is kept. Tests
    after the training are not measured.
    """
    with plainly():
        chosen = experiment_of(experiment)
        trials = chosen.trials(profile, seeds=seeds, methods=method, labels=label)
        where = choose_device(device)
        found = leases.measure(trials, where, minutes, seconds, side_by_side=side_by_side)
        typer.echo(leases.as_text(found, minutes))


@app.command(name="verify")
def verify_records(
    records: Annotated[list[Path], typer.Argument(help="Files of records.")],
    jobs: Annotated[int, typer.Option(help="Processes of one thread each.")] = os.cpu_count() or 1,
) -> None:
    """Compute records again and compare every number to the last bit; fail if one differs.

    It takes as long as the trials did. Records name the instructions that they were computed with:
    those of "AVX2, fixed" repeat on any x86-64 processor that has AVX2.
    """
    with plainly():
        others = 0
        for path, found in verify(records, EXPERIMENTS, jobs):
            typer.echo(f"{path.name}: {found or 'equal to the last bit'}")
            others += found is not None
        if others:
            raise ValueError(f"{others} of {len(records)} records differ")
