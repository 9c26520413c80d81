"""The reference: one page of everything that `import hybrid` offers, from the docstrings."""

import html
import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>hybrid: reference</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
pre {{ white-space: pre-wrap; font: 14px/1.45 monospace; }}
h2 {{ border-top: 1px solid #cccccc; padding-top: 0.6em; }}
code, a {{ color: #0072B2; text-decoration: none; overflow-wrap: anywhere; }}
section {{ margin-left: 1.5em; }}
</style></head><body>
<h1>hybrid {version}: reference</h1>
<p>What <code>import hybrid</code> offers, by the module that it is in.</p>
{contents}
{body}
</body></html>
"""


def page(offered: Mapping[str, Any], version: str) -> str:
    """Return the page as HTML.

    Args:
        offered: what the package offers, by name.
        version: of the package.
    """
    rooms: dict[str, list[str]] = {}
    for name in sorted(offered):
        rooms.setdefault(_room(offered[name]), []).append(name)
    contents: list[str] = []
    body: list[str] = []
    for room, names in sorted(rooms.items()):
        links = ", ".join(f'<a href="#{name}">{name}</a>' for name in names)
        contents.append(f"<p><code>{html.escape(room)}</code>: {links}</p>")
        body.extend(part for name in names for part in _entry(name, offered[name], "h2"))
    return _PAGE.format(version=version, contents="\n".join(contents), body="\n".join(body))


def _room(offered: Any) -> str:
    """Return the module that something is defined in."""
    if isinstance(offered, ModuleType):
        return "modules"
    return str(getattr(offered, "__module__", "constants")).removeprefix("hybrid.")


def _entry(name: str, offered: Any, level: str) -> Iterator[str]:
    """Yield one entry: name, signature, docstring, and those of public methods."""
    anchor = name.replace(" ", "")
    yield f'<{level} id="{anchor}"><code>{html.escape(name + _signature(offered))}</code></{level}>'
    text = inspect.getdoc(offered) if callable(offered) or inspect.ismodule(offered) else None
    yield f"<pre>{html.escape(text or repr(offered))}</pre>"
    if isinstance(offered, type):
        yield "<section>"
        for method, own in vars(offered).items():
            if not method.startswith("_") and inspect.isfunction(own):
                yield from _entry(f"{name}.{method}", getattr(offered, method), "h3")
        yield "</section>"


def _signature(offered: Any) -> str:
    if not callable(offered):
        return ""
    try:
        return str(inspect.signature(offered))
    except ValueError:  # of classes of C
        return "(...)"
