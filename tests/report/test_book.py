"""The book: pages, figures and links; `.ci/browser.py` opens it in a browser."""

import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

import hybrid
from hybrid.paths import project_root
from hybrid.report.book import write
from hybrid.report.reference import page
from notebooks import NOTEBOOKS


def test_a_page_for_each_notebook_with_figures_and_links(tmp_path: Path) -> None:
    chosen = [path for path in NOTEBOOKS if path.stem[:2] in ("01", "05", "07")]
    pages = write(chosen, tmp_path)
    assert [page.name for page in pages] == ["index.html", *(f"{p.stem}.html" for p in chosen)]
    index, *chapters = [BeautifulSoup(page.read_text("utf-8"), "html.parser") for page in pages]
    assert [a["href"] for a in index.select("li a")] == [page.name for page in pages[1:]]
    for notebook, chapter in zip(chosen, chapters, strict=True):
        title = nbformat.read(notebook, 4).cells[0].source.splitlines()[0][2:]
        assert title in chapter.get_text()
        images = [image["src"] for image in chapter.find_all("img")]
        assert images
        assert all(str(source).startswith("data:image/png;base64,") for source in images)
        links = [str(a["href"]) for a in chapter.select(".book-nav a")]
        assert links[0] == "index.html"
        assert all((tmp_path / link).exists() for link in links)
        assert f"{notebook.stem}.html" not in links


def test_pages_of_text_and_the_reference_are_chapters(tmp_path: Path) -> None:
    """Of Markdown a page like the others; of the package each name with signature and docstring."""
    text = project_root() / "docs" / "own.md"
    offered = {name: getattr(hybrid, name) for name in hybrid.__all__}
    pages = write([text], tmp_path, page(offered, hybrid.__version__))
    index, own, reference = [
        BeautifulSoup(p.read_text("utf-8"), "html.parser")
        for p in [*pages[:1], tmp_path / "own.html", tmp_path / "reference.html"]
    ]
    assert [a["href"] for a in index.select("li a")] == ["own.html", "reference.html"]
    assert own.find("h1").get_text().startswith("Your own data")  # type: ignore[union-attr]
    assert "hybrid run fault_tolerance --data my_data.py:make" in own.get_text()
    assert {a["href"][1:] for a in reference.select("p a")} == set(offered)
    anchors = {heading["id"]: heading.get_text() for heading in reference.select("h2, h3")}
    assert set(offered) <= set(anchors)
    assert "LIF(*, decay: " in anchors["LIF"]
    assert "HybridLinear.forward" in anchors
    assert "Leaky integrate-and-fire neuron" in reference.get_text()


def test_a_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    chosen = [path for path in NOTEBOOKS if path.stem.startswith("01")]
    page = BeautifulSoup(write(chosen, tmp_path)[1].read_text("utf-8"), "html.parser")
    assert not page.find_all("script")
    assert not page.find_all(src=re.compile("^http"))
    assert not page.select("head link[href]")
    formulas = page.find_all("math")
    assert len(formulas) > 15
    assert {formula["display"] for formula in formulas} == {"inline", "block"}
    prose = [cell.get_text() for cell in page.select(".jp-RenderedMarkdown")]
    assert not [text for text in prose if "$" in text or "\\" in text]
    assert [image["alt"] for image in page.find_all("img")] == ["Picture of the section “Figure 1”"]


def test_scripts_that_a_notebook_brings_along_do_not_run(tmp_path: Path) -> None:
    """The page forbids them in its head, before anything that a notebook holds."""
    notebook = nbformat.v4.new_notebook()
    bad = "<script>document.title = 'foreign'</script>"
    output = nbformat.v4.new_output("display_data", {"text/html": bad})
    notebook.cells = [
        nbformat.v4.new_markdown_cell(f"# Title\n\n{bad}"),
        nbformat.v4.new_code_cell("1", outputs=[output], execution_count=1),
    ]
    path = tmp_path / "it.ipynb"
    nbformat.write(notebook, path)
    text = write([path], tmp_path / "book")[1].read_text("utf-8")
    head = text[: text.index("</head>")]
    policy = BeautifulSoup(head, "html.parser").find("meta", {"http-equiv": re.compile("^Content")})
    assert policy is not None
    assert "default-src 'none'" in str(policy["content"])
    assert "script-src" not in str(policy["content"])
    assert "foreign" not in head


def test_notebooks_that_were_not_run_or_failed_are_refused(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_markdown_cell("# It"), nbformat.v4.new_code_cell("1 / 0")]
    path = tmp_path / "09_it.ipynb"
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match="cells that were not run"):
        write([path], tmp_path / "book")
    notebook.cells[1].execution_count = 1
    failed = nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
    notebook.cells[1].outputs = [failed]
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match="a cell that failed"):
        write([path], tmp_path / "book")
    with pytest.raises(ValueError, match="run `hybrid notebooks` first"):
        write([], tmp_path / "book")
    assert not (tmp_path / "book").exists()
