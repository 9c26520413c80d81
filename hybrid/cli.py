"""The command line: run experiments, rebuild figures."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from hybrid.experiments import (
    classification,
    continual,
    deployment,
    event_tolerance,
    fault_tolerance,
    few_shot,
)
from hybrid.experiments.base import PROFILES, project_root, results_folder
from hybrid.runs.files import DamagedFileError
from hybrid.runs.store import Store

app = typer.Typer(
    help="Brain-inspired global-local learning: the paper's experiments.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)

EXPERIMENTS: dict[str, Callable[..., object]] = {
    classification.EXPERIMENT.name: classification.run,
    fault_tolerance.EXPERIMENT.name: fault_tolerance.run,
    event_tolerance.EXPERIMENT.name: event_tolerance.run,
    few_shot.EXPERIMENT.name: few_shot.run,
    continual.EXPERIMENT.name: continual.run,
    deployment.EXPERIMENT.name: deployment.run,
}
# Notebooks that are not named after the experiment that they show.
_NAMED_OTHERWISE = {"tianjic": deployment.EXPERIMENT.name}


@app.callback()
def _logging() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help=f"One of: {', '.join(EXPERIMENTS)}.")],
    profile: Annotated[str, typer.Option(help="smoke, laptop or paper.")] = "smoke",
    method: Annotated[list[str] | None, typer.Option(help="Only this; may be repeated.")] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(help="Only this, by its label such as a data set; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Trials use seeds SEED + 1 ... SEED + n.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes of one thread each.")] = os.cpu_count() or 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    store: Annotated[Path | None, typer.Option(help="Folder of records.")] = None,
    recompute: Annotated[bool, typer.Option(help="Ignore and replace finished records.")] = False,
) -> None:
    """Run an experiment, or what is left of it, and keep its records.

    A run that was stopped goes on from its last finished epochs when it is started again.
    """
    if experiment not in EXPERIMENTS:
        names = ", ".join(EXPERIMENTS)
        raise typer.BadParameter(f"{experiment!r} is unknown: choose one of {names}")
    folder = store or results_folder(profile)
    try:
        EXPERIMENTS[experiment](
            profile,
            seed=seed,
            methods=method,
            configs=config,
            store=Store(folder, recompute=recompute),
            jobs=jobs,
            device=device,
        )
    except (ValueError, OSError, ArithmeticError, DamagedFileError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"records are in {folder}")


@app.command()
def notebooks(
    profile: Annotated[str, typer.Option(help="smoke, laptop or paper.")] = "smoke",
    out: Annotated[Path | None, typer.Option(help="Folder of figures.")] = None,
) -> None:
    """Run all notebooks headless with papermill, into build/notebooks/<profile>.

    Smoke computes here and now; the other profiles are drawn from records, and notebooks of
    experiments without any are skipped. They write their figures to <out>/<profile>, by default
    figures/<profile>.
    """
    import papermill  # slow to import, and of no use to the other commands

    if profile not in PROFILES:
        names = ", ".join(PROFILES)
        raise typer.BadParameter(f"profile {profile!r} is unknown: choose one of {names}")
    root = project_root()
    folder = root / "build" / "notebooks" / profile
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted((root / "notebooks").glob("*.ipynb"))
    if not sources:
        raise typer.BadParameter(f"no notebooks in {root / 'notebooks'}: run this in a checkout")
    for source in sources:
        name = source.stem.split("_", 1)[1]
        experiment = _NAMED_OTHERWISE.get(name, name)
        drawn = profile != "smoke" and experiment in EXPERIMENTS
        if drawn and not _has_records(profile, experiment):
            typer.echo(f"{source.stem} ({profile}): skipped, there are no records to draw")
            continue
        began = time.perf_counter()
        papermill.execute_notebook(
            source,
            folder / source.name,
            parameters={"profile": profile, "out_dir": str((out or root / "figures").resolve())},
            cwd=folder,
            progress_bar=False,
        )
        typer.echo(f"{source.stem} ({profile}): {time.perf_counter() - began:.0f} s")


@app.command()
def figures(
    out: Annotated[Path | None, typer.Option(help="Folder of figures.")] = None,
) -> None:
    """Rebuild all figures: smoke computed here and now, the others from committed records."""
    for profile in PROFILES:
        if profile == "smoke" or any(_has_records(profile, name) for name in EXPERIMENTS):
            notebooks(profile, out)


def _has_records(profile: str, experiment: str) -> bool:
    return any((results_folder(profile) / experiment).glob("*.json"))
