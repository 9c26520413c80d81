"""Commands that look after files: checkpoint, data, fsck."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from hybrid.cli.common import app, plainly
from hybrid.data import files
from hybrid.experiments.core.trials import source_sha256
from hybrid.paths import project_root
from hybrid.runs import parcels
from hybrid.runs.fsck import WRONG, examine
from hybrid.runs.fsck import prune as prune_temporaries

checkpoint_app = typer.Typer(
    help="Records and unfinished trials, to go on with on another machine.", no_args_is_help=True
)
app.add_typer(checkpoint_app, name="checkpoint")
data_app = typer.Typer(help="Data sets: what is here, fetch the rest.", no_args_is_help=True)
app.add_typer(data_app, name="data")
Sets = Annotated[list[str] | None, typer.Argument(help="Names of data sets; all by default.")]


@app.command()
def fsck(
    store: Annotated[
        Path | None, typer.Argument(help="Folder of records; by default all in data/results.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what killed runs had begun to write.")
    ] = False,
) -> None:
    """Say which files of a store are damaged, stale, stray or temporary; fail if any is bad.

    Damaged files fail their checksum, and stray ones are not what their names say: move them away,
    and run what they were of again. Stale ones were made by another state of the code: records
    stand, a trial that goes on begins anew. Temporary ones were left by a killed run ten minutes
    ago or earlier, and do no harm: --prune removes them.
    """
    folder = (store or project_root() / "data" / "results").resolve()
    with plainly():
        removed = prune_temporaries(folder) if prune else []
        for path in removed:
            typer.echo(f"removed    {path}")
        counted: Counter[str] = Counter()
        for found in examine(folder, source_sha256()):
            counted[found.state] += 1
            if found.state != "sound":
                line = f"{found.state:10s} {found.path.relative_to(folder)} {found.why}"
                typer.echo("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line).rstrip())
        number = ", ".join(f"{n:,} {state}" for state, n in counted.items())
        typer.echo(f"{folder}: {number or 'no files'}")
        bad = sum(counted[state] for state in WRONG)
        if bad:
            raise ValueError(
                f"{bad} files are damaged or stray: move them away, and run what they were of again"
            )


@checkpoint_app.command()
def pack(
    store: Annotated[Path, typer.Argument(help="Folder of records, data/results/paper.")],
    folder: Annotated[Path, typer.Argument(help="Of the parts.")],
    megabytes: Annotated[float, typer.Option(help="Largest size of a part.")] = 15.0,
) -> None:
    """Write records, and what unfinished trials came to, into parts of limited size."""
    with plainly():
        for path in parcels.pack(store, folder, megabytes):
            typer.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


@checkpoint_app.command()
def unpack(
    folder: Annotated[Path, typer.Argument(help="Of the parts.")],
    store: Annotated[Path, typer.Argument(help="Folder of records, data/results/paper.")],
) -> None:
    """Put packed records and checkpoints into a store, but for those that are behind its own."""
    with plainly():
        new = parcels.unpack(folder, store)
        typer.echo("\n".join([*map(str, new), f"new in {store}: {len(new)}"]))


@data_app.command("list")
def list_data(names: Sets = None) -> None:
    """Say which files are here, without looking into them."""
    with plainly():
        _states(names, verify=False)


@data_app.command(name="verify")
def verify_data(names: Sets = None) -> None:
    """Compute the checksums of the files that are here; fail if one is damaged."""
    with plainly():
        damaged = _states(names, verify=True)
        if damaged:
            raise ValueError(f"{', '.join(damaged)}: delete what is damaged and fetch it anew")


def _states(names: list[str] | None, *, verify: bool) -> list[str]:
    """Print the state of files, and return the names of damaged ones."""
    typer.echo(f"data directory: {files.data_directory()}")
    damaged = []
    for entry in files.entries(names, verify=verify):
        size = f"{entry.size / 1e6:10.1f} MB" if entry.size else " " * 13
        typer.echo(f"{entry.name:50s} {size}  {entry.state}")
        if entry.state == "damaged":
            damaged.append(entry.name)
    return damaged


@data_app.command()
def fetch(names: Sets = None) -> None:
    """Fetch what is missing; a download that was stopped goes on.

    Without names, all that a mirror has: `hybrid data list` tells which files none has.
    Without a network: copy the files into the data directory by hand, or set HYBRID_DATA to a
    folder that has them. `hybrid data list` shows the names.
    """
    failed = []
    with plainly():
        for name, error in files.fetch_all(names):
            typer.echo(f"{name:50s} {'here' if error is None else f'failed: {error}'}")
            failed += [name] if error is not None else []
        if failed:
            raise ValueError(f"{len(failed)} files could not be had: {', '.join(failed)}")
