"""The command line: run experiments, draw figures, look after data, judge claims.

What only some commands need is imported in them: a run starts in a second, and on a machine that
has little but torch.
"""

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

import hybrid
from hybrid.data import files
from hybrid.experiments.core import dry_run as preview
from hybrid.experiments.core import leases
from hybrid.experiments.core.experiment import PROFILES
from hybrid.experiments.core.trials import choose_device, source_sha256
from hybrid.experiments.core.verification import verify
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.experiments.registry import experiment as experiment_of
from hybrid.learning.lease import LeaseOverError
from hybrid.paths import named_object, project_root, results_folder
from hybrid.runs import parcels
from hybrid.runs.cluster import connected
from hybrid.runs.files import DamagedFileError, write_atomically
from hybrid.runs.store import Store
from hybrid.version import __version__

UNFINISHED = 75  # as of sysexits.h: try again

app = typer.Typer(
    help="""Brain-inspired global-local learning: the paper's experiments.

    A profile says how much is computed: smoke (seconds, bundled data), laptop (real data, hours in
    all), paper (the paper's settings). Begin with `hybrid figures`, which draws all that can be
    drawn without a long run; then `hybrid run fault_tolerance --profile laptop --dry-run`.

    Exit codes: 0, all went well; 1, it did not, and the message says why and what to do; 2, the
    command was not understood; 75, the minutes given were not enough, and the same command goes
    on.""",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
checkpoint_app = typer.Typer(
    help="Records and unfinished trials, to go on with on another machine.", no_args_is_help=True
)
app.add_typer(checkpoint_app, name="checkpoint")
data_app = typer.Typer(help="Data sets: what is here, fetch the rest.", no_args_is_help=True)
app.add_typer(data_app, name="data")


def _one_of(*profiles: str) -> Callable[[str | None], str | None]:
    def known(profile: str | None) -> str | None:
        if profile is not None and profile not in profiles:
            raise typer.BadParameter(f"{profile!r} is unknown: choose one of {', '.join(profiles)}")
        return profile

    return known


_known = _one_of(*PROFILES)


Profile = Annotated[str, typer.Option(help=f"{', '.join(PROFILES)}.", callback=_known)]
AnyProfile = Annotated[
    str,
    typer.Option(
        help=f"{', '.join(PROFILES)}; some experiments also have controls, or search.",
        callback=_one_of(*PROFILES, "controls", "search"),
    ),
]
Methods = Annotated[list[str] | None, typer.Option(help="Only this; may be repeated.")]
Labels = Annotated[
    list[str] | None,
    typer.Option(help="Only settings of this label, such as a data set; may be repeated."),
]
Seeds = Annotated[int | None, typer.Option(help="How many, instead of the plan's number.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
Cluster = Annotated[
    str | None,
    typer.Option(help="Dask scheduler such as tcp://host:8786 that work is sent to."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(help="Only notebooks with this in their name, such as 03; may be repeated."),
]
Out = Annotated[Path | None, typer.Option(help="Folder of figures.")]
SideBySide = Annotated[
    bool,
    typer.Option(
        "--side-by-side",
        help="Seeds of one kind train in one call; for a GPU, and networks without convolutions.",
    ),
]
Sets = Annotated[list[str] | None, typer.Argument(help="Names of data sets; all by default.")]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hybrid {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say which one."),
    ] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP, and `nohup` ignores it
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, _: object) -> None:
    """End as if by an error: workers are ended, and what is finished is kept."""
    raise SystemExit(128 + number)


@contextmanager
def _plainly() -> Iterator[None]:
    """Turn errors that name their remedy into one line and exit code 1."""
    try:
        yield
    except LeaseOverError as error:
        typer.echo(error)
        raise typer.Exit(UNFINISHED) from error
    except (ValueError, OSError, ArithmeticError, DamagedFileError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(1) from error


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
    with _plainly():
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
        with _plainly():
            typer.echo(records.table())
            try:
                drawn = records.figures(profile, folder / "figures", seed)
            except KeyError as missing:  # of a part of the methods
                typer.echo(f"no figure: {missing.args[0]}")
                return
            for path in drawn:
                typer.echo(f"drawn: {path}")


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
    with _plainly():
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
    with _plainly():
        others = 0
        for path, found in verify(records, EXPERIMENTS, jobs):
            typer.echo(f"{path.name}: {found or 'equal to the last bit'}")
            others += found is not None
        if others:
            raise ValueError(f"{others} of {len(records)} records differ")


@app.command()
def notebooks(
    profile: Profile = "smoke",
    only: Only = None,
    out: Out = None,
    jobs: Annotated[int, typer.Option(help="Notebooks at a time.")] = 1,
    cluster: Cluster = None,
) -> None:
    """Run the notebooks headless with papermill, into build/notebooks/<profile>.

    Smoke computes here and now; the other profiles are drawn from records, and notebooks of
    experiments without any are skipped. They write their figures to <out>/<profile>, by default
    figures/<profile>.
    """
    from hybrid.runs.notebooks import Page, execute_all

    root = project_root()
    sources = [
        source
        for source in sorted((root / "notebooks").glob("*.ipynb"))
        if not only or any(part in source.stem for part in only)
    ]
    if not sources:
        raise typer.BadParameter(f"no such notebooks in {root / 'notebooks'}: is it a checkout?")
    pages = []
    for source in sources:
        shown = [name for name, entry in EXPERIMENTS.items() if entry.notebook == source.stem]
        if profile != "smoke" and shown and not any(_has_records(profile, n) for n in shown):
            typer.echo(f"{source.stem} ({profile}): skipped, there are no records to draw")
        else:
            pages.append(Page(source.name, source.read_bytes(), {"profile": profile}))
    with _plainly(), connected(cluster, source_sha256):
        done = execute_all(
            pages,
            folder=root / "build" / "notebooks" / profile,
            figures=out or root / "figures",
            jobs=jobs,
            title=f"notebooks ({profile})",
        )
    for page in done:
        typer.echo(f"{page.name.removesuffix('.ipynb')} ({profile}): {page.seconds:.0f} s")


@app.command()
def figures(
    profile: Annotated[
        str | None, typer.Option(help=f"Only one of {', '.join(PROFILES)}.", callback=_known)
    ] = None,
    only: Only = None,
    out: Out = None,
    jobs: Annotated[int, typer.Option(help="Notebooks at a time.")] = 1,
) -> None:
    """Rebuild all figures: smoke computed here and now, the others from committed records."""
    for name in PROFILES if profile is None else (profile,):
        drawn = profile is not None or any(_has_records(name, known) for known in EXPERIMENTS)
        if name == "smoke" or drawn:
            notebooks(name, only, out, jobs)


def _has_records(profile: str, experiment: str) -> bool:
    return any((results_folder(profile) / experiment).glob("*.json"))


@app.command()
def book(
    profile: Annotated[
        str | None,
        typer.Option(
            help="Notebooks as they were run with it; default: as committed.", callback=_known
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: build/book.")] = None,
) -> None:
    """Make a static HTML book of executed notebooks, for readers without Jupyter.

    With the pages of docs/, and a reference of everything that the package offers.
    """
    from hybrid.report.book import write as write_book
    from hybrid.report.reference import page as reference_page

    root = project_root()
    folder = root / "notebooks" if profile is None else root / "build" / "notebooks" / profile
    offered = {name: getattr(hybrid, name) for name in hybrid.__all__}
    with _plainly():
        chapters = sorted(folder.glob("*.ipynb"))
        chapters += sorted((root / "docs").glob("*.md")) if chapters else []
        reference = reference_page(offered, __version__)
        pages = write_book(chapters, out or root / "build" / "book", reference)
    typer.echo(f"{len(pages)} pages, begin with {pages[0]}")


@app.command()
def scoreboard(
    write: Annotated[bool, typer.Option("--write", help="Put it into README.md.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Fail unless README.md has it as it is.")
    ] = False,
) -> None:
    """Judge every claim of the paper by the committed records.

    Verdicts are computed: `data/paper.toml` says what counts as reproducing a claim.
    """
    from hybrid.experiments.scoreboard.rows import rows as scoreboard_rows
    from hybrid.report import scoreboard as claims

    with _plainly():
        if not any(_has_records(profile, known) for profile in PROFILES for known in EXPERIMENTS):
            raise ValueError(
                f"there are no records below {project_root()}: they are committed beside the "
                "package, in a checkout of the project, and not in a wheel; run the command there, "
                "or compute records by `hybrid run`"
            )
        rows = scoreboard_rows()
        table = claims.as_markdown(rows, claims.load_unavailable())
        if not write and not check:
            typer.echo(claims.as_text(rows))
            return
        readme = project_root() / "README.md"
        before = readme.read_text("utf-8")
        after = claims.between_markers(before, table)
        if check and after != before:
            raise ValueError(
                f"the scoreboard in {readme} is not what the records say: run "
                "`hybrid scoreboard --write`"
            )
        if write:
            write_atomically(readme, after.encode())
            typer.echo(f"{readme} shows {len(rows)} claims")


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

    with _plainly():
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


@checkpoint_app.command()
def pack(
    store: Annotated[Path, typer.Argument(help="Folder of records, data/results/paper.")],
    folder: Annotated[Path, typer.Argument(help="Of the parts.")],
    megabytes: Annotated[float, typer.Option(help="Largest size of a part.")] = 15.0,
) -> None:
    """Write records, and what unfinished trials came to, into parts of limited size."""
    with _plainly():
        for path in parcels.pack(store, folder, megabytes):
            typer.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


@checkpoint_app.command()
def unpack(
    folder: Annotated[Path, typer.Argument(help="Of the parts.")],
    store: Annotated[Path, typer.Argument(help="Folder of records, data/results/paper.")],
) -> None:
    """Put packed records and checkpoints into a store, but for those that are behind its own."""
    with _plainly():
        new = parcels.unpack(folder, store)
        typer.echo("\n".join([*map(str, new), f"new in {store}: {len(new)}"]))


@data_app.command("list")
def list_data(names: Sets = None) -> None:
    """Say which files are here, without looking into them."""
    with _plainly():
        _states(names, verify=False)


@data_app.command(name="verify")
def verify_data(names: Sets = None) -> None:
    """Compute the checksums of the files that are here; fail if one is damaged."""
    with _plainly():
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
    with _plainly():
        for name, error in files.fetch_all(names):
            typer.echo(f"{name:50s} {'here' if error is None else f'failed: {error}'}")
            failed += [name] if error is not None else []
        if failed:
            raise ValueError(f"{len(failed)} files could not be had: {', '.join(failed)}")
