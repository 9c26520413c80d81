"""A static HTML book of executed notebooks, for readers without Jupyter."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid.runs.files import write_atomically

TITLE = "Global-local learning: a companion in notebooks"
_STYLE = """
.book-nav { font: 14px sans-serif; padding: 8px 24px; background: #f2f2f2; }
.book-nav a { margin-right: 16px; color: #0072B2; text-decoration: none; }
"""


class Chapter(NamedTuple):
    """One notebook of the book."""

    file: str  # of its page
    title: str
    page: str  # HTML


def write(notebooks: Sequence[Path], out: Path) -> list[Path]:
    """Write one page for each executed notebook, figures included, and an index.

    Args:
        notebooks: with their outputs, in the order of chapters.
        out: folder of the pages.

    Returns:
        All pages, the index first.

    Raises:
        ValueError: if there is no notebook, or one has cells that were not run or failed.
    """
    if not notebooks:
        raise ValueError("there is no executed notebook: run `hybrid notebooks` first")
    chapters = [_chapter(path) for path in notebooks]
    pages = {"index.html": _index(chapters)}
    for number, chapter in enumerate(chapters):
        around = chapters[max(number - 1, 0) : number + 2]
        links = [("index.html", "Contents"), *((c.file, c.title) for c in around if c != chapter)]
        pages[chapter.file] = _with_navigation(chapter.page, links)
    for name, text in pages.items():
        write_atomically(out / name, text.encode())
    return [out / name for name in pages]


def _chapter(path: Path) -> Chapter:
    import nbformat  # part of Jupyter, which only notebooks need
    from nbconvert import HTMLExporter

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            raise ValueError(f"{path} has cells that were not run: execute it first")
        if any(output.output_type == "error" for output in cell.get("outputs", ())):
            raise ValueError(f"{path} has a cell that failed: mend it and execute it again")
    lines = notebook.cells[0].source.splitlines()
    heading = next((line for line in lines if line.startswith("# ")), f"# {path.stem}")
    exporter = HTMLExporter(template_name="lab", exclude_input_prompt=True)
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": heading[2:]}})
    return Chapter(f"{path.stem}.html", heading[2:], page)


def _with_navigation(page: str, links: Sequence[tuple[str, str]]) -> str:
    anchors = "".join(f'<a href="{file}">{html.escape(title)}</a>' for file, title in links)
    bar = f'<nav class="book-nav">{anchors}</nav>'
    head, body = page.split("</head>", 1)
    opening, rest = body.split(">", 1)  # of the body's tag
    return f"{head}<style>{_STYLE}</style></head>{opening}>{bar}{rest}"


def _index(chapters: Sequence[Chapter]) -> str:
    items = "\n".join(
        f'<li><a href="{chapter.file}">{html.escape(chapter.title)}</a></li>'
        for chapter in chapters
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{TITLE}</title>
<style>body {{ font: 16px sans-serif; max-width: 46em; margin: 3em auto; line-height: 1.6 }}
a {{ color: #0072B2 }}</style></head>
<body>
<h1>{TITLE}</h1>
<p>Notebooks of the companion to Wu et al., <em>Nature Communications</em> 13:65 (2022), as they
were run. Formulas need a network: they are set by MathJax.</p>
<ul>
{items}
</ul>
</body>
</html>
"""
