"""A static HTML book of executed notebooks, for readers without Jupyter."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hybrid.runs.files import write_atomically

if TYPE_CHECKING:
    from nbformat import NotebookNode

TITLE = "Global-local learning: a companion in notebooks"


class Chapter(NamedTuple):
    """One notebook of the book."""

    notebook: "NotebookNode"
    file: str  # of its page
    title: str


def write(notebooks: Sequence[Path], out: Path, reference: str | None = None) -> list[Path]:
    """Write one page for each executed notebook, figures included, and an index.

    Args:
        notebooks: with their outputs, in the order of chapters; files of Markdown among them.
        out: folder of the pages.
        reference: a page of HTML that the index names last, see `hybrid.report.reference`.

    Returns:
        All pages, the index first.

    Raises:
        ValueError: if there is no notebook, or one has cells that were not run or failed.
    """
    if not notebooks:
        raise ValueError("there is no executed notebook: run `hybrid notebooks` first")
    from hybrid.report.pages import as_html  # needs Jupyter

    chapters = [_chapter(path) for path in notebooks]
    named = [(chapter.file, chapter.title) for chapter in chapters]
    pages = {}
    if reference is not None:
        named.append(("reference.html", "Reference: everything that the package offers"))
        pages["reference.html"] = reference
    pages = {"index.html": _index(named), **pages}
    for number, chapter in enumerate(chapters):
        around = chapters[max(number - 1, 0) : number + 2]
        links = [("index.html", "Contents"), *((c.file, c.title) for c in around if c != chapter)]
        pages[chapter.file] = as_html(chapter.notebook, chapter.title, links)
    for name, text in pages.items():
        write_atomically(out / name, text.encode())
    return [out / name for name in pages]


def _chapter(path: Path) -> Chapter:
    import nbformat  # part of Jupyter, which only notebooks need

    if path.suffix == ".md":
        cell = nbformat.v4.new_markdown_cell(path.read_text("utf-8"))
        notebook = nbformat.v4.new_notebook(cells=[cell])
    else:
        notebook = nbformat.read(path, as_version=4)
    heading = f"# {path.stem}"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = [line for line in cell.source.splitlines() if line.startswith("#")]
            heading = (headings or [heading])[-1]
        cell.metadata["alt"] = f"Picture of the section “{heading.lstrip('# ')}”"
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            raise ValueError(f"{path} has cells that were not run: execute it first")
        if any(output.output_type == "error" for output in cell.get("outputs", ())):
            raise ValueError(f"{path} has a cell that failed: mend it and execute it again")
    lines = notebook.cells[0].source.splitlines()
    heading = next((line for line in lines if line.startswith("# ")), f"# {path.stem}")
    return Chapter(notebook, f"{path.stem}.html", heading[2:])


def _index(named: Sequence[tuple[str, str]]) -> str:
    items = "\n".join(
        f'<li><a href="{file}">{html.escape(title)}</a></li>' for file, title in named
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{TITLE}</title>
<style>body {{ font: 16px sans-serif; max-width: 46em; margin: 3em auto; line-height: 1.6 }}
a {{ color: #0072B2 }}</style></head>
<body>
<h1>{TITLE}</h1>
<p>Notebooks of the companion to Wu et al., <em>Nature Communications</em> 13:65 (2022), as they
were run.</p>
<ul>
{items}
</ul>
</body>
</html>
"""
