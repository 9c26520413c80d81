"""Commands that draw and judge: figures, scoreboard."""

from pathlib import Path
from typing import Annotated

import typer

from hybrid.cli.common import Cluster, app, has_records, one_of, plainly
from hybrid.experiments.core.experiment import BEST, PROFILES
from hybrid.experiments.core.trials import source_sha256
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.paths import project_root
from hybrid.runs.cluster import connected
from hybrid.runs.files import write_atomically

Profile = Annotated[
    str,
    typer.Option(
        help="Whose records are drawn: best (paper where it is whole, else laptop), laptop, paper.",
        callback=one_of(BEST, "laptop", "paper"),
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(help="Only notebooks with this in their name, such as 03; may be repeated."),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of figures; `figures`, or build/figures for a profile by name."),
]


@app.command()
def figures(
    profile: Profile = BEST,
    only: Only = None,
    out: Out = None,
    jobs: Annotated[int, typer.Option(help="Notebooks at a time.")] = 2,
    cluster: Cluster = None,
) -> None:
    """Run the notebooks headless with papermill, into build/notebooks, and write all figures.

    Each computes a small experiment here and now, and draws its figures from committed records.
    Notebooks of experiments without records of the profile are skipped.
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
        if profile != BEST and shown and not any(has_records(profile, n) for n in shown):
            typer.echo(f"{source.stem}: skipped, {profile} has no records to draw")
        else:
            pages.append(Page(source.name, source.read_bytes(), {"profile": profile}))
    with plainly(), connected(cluster, source_sha256):
        done = execute_all(
            pages,
            folder=root / "build" / "notebooks",
            figures=out or root / ("figures" if profile == BEST else "build/figures"),
            jobs=jobs,
            title="notebooks",
        )
    for page in done:
        typer.echo(f"{page.name.removesuffix('.ipynb')}: {page.seconds:.0f} s")


@app.command()
def scoreboard(
    write: Annotated[
        bool, typer.Option("--write", help="Put it into README.md and docs/scoreboard.md.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Fail unless both have it as it is.")
    ] = False,
) -> None:
    """Judge every claim of the paper by the committed records.

    Verdicts are computed: `data/paper.toml` says what counts as reproducing a claim.
    """
    from hybrid.experiments.scoreboard.rows import rows as scoreboard_rows
    from hybrid.report import scoreboard as claims

    with plainly():
        if not any(has_records(profile, known) for profile in PROFILES for known in EXPERIMENTS):
            raise ValueError(
                f"there are no records below {project_root()}: they are committed beside the "
                "package, in a checkout of the project, and not in a wheel; run the command there, "
                "or compute records by `hybrid run`"
            )
        rows = scoreboard_rows()
        tables = {
            project_root() / "README.md": claims.as_summary(rows),
            project_root() / "docs" / "scoreboard.md": claims.as_markdown(
                rows, claims.load_unavailable()
            ),
        }
        if not write and not check:
            typer.echo(claims.as_text(rows))
            return
        changed = {}
        for page, table in tables.items():
            before = page.read_text("utf-8")
            try:
                changed[page] = after = claims.between_markers(before, table)
            except ValueError as error:
                raise ValueError(f"{page}: {error}") from error
            if check and after != before:
                raise ValueError(
                    f"the scoreboard in {page} is not what the records say: run "
                    "`hybrid scoreboard --write`"
                )
        if write:
            for page, after in changed.items():
                write_atomically(page, after.encode())
            typer.echo(f"{' and '.join(map(str, tables))} show {len(rows)} claims")
