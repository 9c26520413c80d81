"""What commands share: the application, options with one meaning, and errors of one line."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from hybrid.learning.lease import LeaseOverError
from hybrid.paths import results_folder
from hybrid.runs.files import DamagedFileError
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


def one_of(*profiles: str) -> Callable[[str | None], str | None]:
    def known(profile: str | None) -> str | None:
        if profile is not None and profile not in profiles:
            raise typer.BadParameter(f"{profile!r} is unknown: choose one of {', '.join(profiles)}")
        return profile

    return known


Cluster = Annotated[
    str | None,
    typer.Option(help="Dask scheduler such as tcp://host:8786 that work is sent to."),
]


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
def plainly() -> Iterator[None]:
    """Turn errors that name their remedy into one line and exit code 1."""
    try:
        yield
    except LeaseOverError as error:
        typer.echo(error)
        raise typer.Exit(UNFINISHED) from error
    except (ValueError, OSError, ArithmeticError, ImportError, DamagedFileError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(1) from error


def has_records(profile: str, experiment: str) -> bool:
    """Return whether a profile has records of an experiment."""
    return any((results_folder(profile) / experiment).glob("*.json"))
