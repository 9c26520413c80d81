"""The site: README, the pages of this folder, the notebooks as committed, and the reference.

`make site` writes it to build/site. It needs no network, neither to be built nor to be read.
"""

import hashlib
import inspect
import json
import re
import shutil
from contextlib import suppress
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

import hybrid

project, version = "hybrid", hybrid.__version__
author = project_copyright = "The hybrid maintainers"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "README"
include_patterns = ["README.md", "docs/*.md", "notebooks/*.ipynb", "data/CHANGES.md"]
nb_execution_mode = "off"  # pages show what is committed, which tests keep current
nb_merge_streams = True
nb_output_stderr = "warn"  # and a warning ends the build
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
default_role = "code"
html_theme = "sphinx_book_theme"
html_title = "hybrid: global and local learning in one spiking network"
html_math_renderer = "mathml"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_show_sourcelink = html_use_index = html_domain_indices = False
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # one field to search in is enough
}

# The table of contents, appended to README.
CONTENTS = """
```{toctree}
:hidden:
:caption: Notebooks
:glob:

notebooks/*
```

```{toctree}
:hidden:
:caption: Results
docs/findings
docs/scoreboard
data/CHANGES
```

```{toctree}
:hidden:
:caption: Use
docs/play
docs/own
docs/running
docs/faults
docs/glossary
docs/reference
```
"""


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the contents to README, and to the reference all that `import hybrid` offers."""
    if page == "README":
        source[0] += CONTENTS
    if page == "docs/reference":
        rooms: dict[str, list[str]] = {}
        for name in sorted(hybrid.__all__):
            offered = getattr(hybrid, name)
            if inspect.ismodule(offered):
                room, entry = offered.__name__, f"automodule:: {offered.__name__}\n   :members:"
            elif inspect.isclass(offered):
                room = offered.__module__
                entry = f"autoclass:: {room}.{name}\n   :members:"
            elif inspect.isfunction(offered):
                room = offered.__module__
                entry = f"autofunction:: {room}.{name}"
            else:  # a dictionary
                keys = ", ".join(f"`{key}`" for key in offered)
                room, entry = "hybrid", f"py:data:: hybrid.{name}\n\n   By name: {keys}."
            rooms.setdefault(room, []).append(f".. {entry}\n")
        for room, entries in sorted(rooms.items()):
            body = "\n".join(entries)
            source[0] += f"\n## {room}\n\n```{{eval-rst}}\n{body}\n```\n"


def escape(
    app: Sphinx, what: str, name: str, it: object, options: object, lines: list[str]
) -> None:
    """Let stars and bars of docstrings stand for themselves: shapes and magnitudes, no markup."""
    parts = re.split(r"(`[^`]*`)", "\n".join(lines))
    parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")


def describe(app: Sphinx, doctree: nodes.document) -> None:
    """Give each picture words for readers who cannot see it.

    A figure says what its panels show, in the file beside it. Other pictures: the caption behind,
    which begins with a letter in bold, for a panel, or with a figure's number; or their section.
    """
    figures = [
        json.loads(path.read_text("utf-8")) for path in Path(app.srcdir).glob("figures/*.json")
    ]
    alt = {figure["sha256"]["png"]: figure.get("alt") for figure in figures}
    words = ""
    for node in reversed(list(doctree.findall())):
        if isinstance(node, nodes.title):
            words = ""  # captions do not reach over a heading
        elif isinstance(node, nodes.paragraph):
            begin = next((child.astext() for child in node if child.astext()), "")
            if re.fullmatch(r"[a-z]|Fig\. .*", begin):
                words = node.astext()
        elif isinstance(node, nodes.image) and not node.get("alt"):
            section: nodes.Element = node
            shown = b""  # of a picture that is not a file here
            with suppress(OSError):
                shown = Path(app.srcdir, node["uri"].lstrip("/")).read_bytes()
            while not isinstance(section, nodes.section | nodes.document):
                section = section.parent
            title = section.next_node(nodes.title)
            place = title.astext() if title is not None else app.config.project
            known = alt.get(hashlib.sha256(shown).hexdigest())
            node["alt"] = known or words or f"{place}: a picture"


def set_formula(translator: nodes.NodeVisitor, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers set without a script."""
    block = isinstance(node, nodes.math_block)
    formula = convert(node.astext(), display="block" if block else "inline")
    if "\\" in formula:
        logging.getLogger(__name__).warning("unknown command in the formula %s", node.astext())
    translator.body.append(f"<p class='wide'>{formula}</p>" if block else formula)
    raise nodes.SkipNode


def begin_with_readme(app: Sphinx, error: Exception | None) -> None:
    """Let the site begin where a server, or a reader, looks first."""
    if error is None:
        shutil.copyfile(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    """Tell Sphinx of all this."""
    app.add_html_math_renderer("mathml", (set_formula, None), (set_formula, None))
    app.connect("source-read", complete)
    app.connect("autodoc-process-docstring", escape, priority=100)  # before napoleon's markup
    app.connect("doctree-read", describe)
    app.connect("build-finished", begin_with_readme)
