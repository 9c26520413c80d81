"""Open every page of the book in headless Chromium: figures, headings, no errors.

Run as `python .ci/browser.py` after `make book`; needs the program chromium.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bs4 import BeautifulSoup

BOOK = Path(__file__).resolve().parents[1] / "build" / "book"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # pages need no network
    "--virtual-time-budget=8000",
)
# What a page says of itself once it is there.
_WATCH = """<script>window.failed = [];
window.addEventListener('error', e => { window.failed.push(
  e.message || e.target.src || e.target.href || 'something'); }, true);
window.addEventListener('load', () => { document.documentElement.dataset.seen = JSON.stringify({
  images: [...document.images].map(i => i.naturalWidth),
  formulas: [...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().width),
  failed: window.failed,
  broken: [...document.querySelectorAll('.book-nav a, li a')].map(a => a.getAttribute('href'))
}); });</script>"""


def look(page: Path, browser: str) -> tuple[BeautifulSoup, dict]:
    """Return a page as the browser shows it, and what it says of itself."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / page.name
        copy.write_text(page.read_text("utf-8").replace("<head>", f"<head>{_WATCH}", 1), "utf-8")
        command = [browser, *_FLAGS, f"--user-data-dir={name}/user", "--dump-dom", copy.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    shown = BeautifulSoup(done.stdout, "html.parser")
    assert shown.html is not None, f"{page.name}: the browser shows nothing: {done.stderr[-500:]}"
    return shown, json.loads(str(shown.html["data-seen"]))


def check(page: Path, browser: str) -> str:
    """Raise AssertionError for a page with something missing; return what it has."""
    shown, seen = look(page, browser)
    text = shown.get_text()
    headings = [heading.get_text() for heading in shown.find_all(["h1", "h2"])]
    assert headings, f"{page.name} has no headings"
    assert not seen["failed"], f"{page.name}: {seen['failed']}"
    assert "Traceback (most recent call last)" not in text, f"{page.name} shows an error"
    assert not shown.select('[data-mime-type="application/vnd.jupyter.stderr"]'), page.name
    for link in seen["broken"]:
        assert (page.parent / link).exists(), f"{page.name} leads to {link}"
    if page.name == "index.html":
        assert len(seen["broken"]) == len(list(BOOK.glob("*.html"))) - 1
        return f"{len(seen['broken'])} chapters"
    if not page.name[0].isdigit():
        return f"{len(headings)} headings"
    assert seen["images"], f"{page.name} has no figure"
    assert min(seen["images"]) > 100, f"{page.name} has a figure that does not show"
    assert all(seen["formulas"]), f"{page.name} has a formula that does not show"
    return (
        f"{len(headings)} headings, {len(seen['images'])} figures, {len(seen['formulas'])} formulas"
    )


def main() -> int:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    pages = sorted(BOOK.glob("*.html"))
    if browser is None or not pages:
        print("needs chromium on the PATH, and the pages of `make book`", file=sys.stderr)
        return 1
    for page in pages:
        print(f"{page.name}: {check(page, browser)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
