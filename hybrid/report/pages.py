"""Notebooks as pages that need nothing else: no network, no scripts; formulas as MathML."""

from typing import Any

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

# Browsers run no script and ask for nothing from elsewhere, whatever a notebook brings along.
POLICY = "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'"

# Jupyter's page without the scripts that it would ask a network for, with our links, and with
# words in place of pictures for readers who cannot see them.
_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}
<meta http-equiv="Content-Security-Policy" content="{{ resources.policy | e }}">
<style>
.book-nav { font: 14px sans-serif; padding: 8px 24px; background: #f2f2f2; }
.book-nav a { margin-right: 16px; color: #0072B2; text-decoration: none; }
.jp-RenderedMarkdown .highlight { background: #f5f5f5; padding: 6px 12px; margin: 8px 0; }
.jp-RenderedMarkdown .highlight pre { background: none; }
</style>
{%- endblock -%}
{%- block data_png scoped -%}
<div class="jp-RenderedImage jp-OutputArea-output">
<img src="data:image/png;base64,{{ output.data['image/png'] }}" alt="{{ cell.metadata.alt | e }}"
{%- set width = output | get_metadata('width', 'image/png') -%}
{%- if width %} width="{{ width }}"{% endif %}>
</div>
{%- endblock -%}
{%- block body_header -%}
{{ super() }}
<nav class="book-nav">
{%- for file, title in resources.links -%}<a href="{{ file }}">{{ title | e }}</a>{%- endfor -%}
</nav>
{%- endblock -%}
"""


class _Renderer(IPythonRenderer):
    """Markdown as Jupyter shows it, with formulas set here and now."""

    def inline_math(self, body: str) -> str:
        return convert(body)

    def block_math(self, body: str) -> str:
        return convert(body, display="block")


class _Exporter(HTMLExporter):
    raw_template = _TEMPLATE
    exclude_input_prompt = True

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)


def as_html(notebook: NotebookNode, title: str, links: list[tuple[str, str]]) -> str:
    """Return an executed notebook as a page of HTML.

    Args:
        notebook: cells with pictures have in their metadata, as `alt`, what these show.
        title: of the page.
        links: to other pages, (file, title), shown above it.
    """
    page, _ = _Exporter().from_notebook_node(
        notebook, {"metadata": {"name": title}, "links": links, "policy": POLICY}
    )
    return page
