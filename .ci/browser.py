"""Open every page of the site in headless Chromium, on a phone and on a wide screen.

Run as `python .ci/browser.py` after `make site`; needs the program chromium. A page must show its
pictures and formulas, load all it asks for, lead nowhere that is not there, and be no wider than
the screen, and dark mode must work. Then the search must find a word, and the synapse to play with
must do what the package does.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote

import torch
from bs4 import BeautifulSoup, Tag

import hybrid

SITE = Path(__file__).resolve().parents[1] / "build" / "site"
WIDTHS = (390, 1920)
_OURS = "watched-"  # files that are written for a look, and removed
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
    "--window-size=2000,1100",
)
# What a page says of itself once it is there; then somebody asks for dark mode.
_WATCH = """<script>window.failed = [];
window.addEventListener('error', e => { window.failed.push(
  e.message || e.target.src || e.target.href || 'something'); }, true);
window.addEventListener('unhandledrejection', e => window.failed.push(String(e.reason)));
window.addEventListener('load', () => setTimeout(() => {
  const root = document.documentElement;
  const seen = {
    pictures: [...document.querySelectorAll('article img')].map(i => i.naturalWidth),
    silent: [...document.querySelectorAll('article img')].filter(i => !i.alt).length,
    formulas: [...document.querySelectorAll('article math')].map(m => m.getBoundingClientRect().width),
    raw: [...document.querySelectorAll('article p, article li')].map(p => {
      const prose = p.cloneNode(true);
      prose.querySelectorAll('code, math').forEach(part => part.remove());
      return prose.textContent;
    }).filter(text => /[$\\\\]/.test(text)),
    width: window.innerWidth,
    over: root.scrollWidth - window.innerWidth,
  };
  document.querySelector('.theme-switch-button').click();
  document.querySelector('.theme-change-button[data-mode="dark"]').click();
  seen.dark = root.dataset.theme === 'dark';
  seen.shade = getComputedStyle(document.body).backgroundColor;
  seen.failed = window.failed;
  parent.postMessage(JSON.stringify(seen), '*');
}, 1000)); </script>"""  # noqa: E501
# A frame is as narrow as a phone; the browser's own window is not.
_FRAMES = """<script>const all = []; window.onmessage = e => {
  all.push(JSON.parse(e.data)); document.documentElement.dataset.seen = JSON.stringify(all);
}; </script>""" + "".join(
    f'<iframe src="PAGE" style="width: {width}px; height: 1000px; border: 0"></iframe>'
    for width in WIDTHS
)


_CHOSEN = {"gain": 0.8, "rate": 0.05, "threshold": 0.25, "decay": 0.9}
_MOVE = """<script>window.addEventListener('load', () => setTimeout(() => {
  for (const [name, value] of Object.entries(CHOSEN)) {
    const slider = document.querySelector(`#synapse input[name=${name}]`);
    slider.value = value;
    slider.dispatchEvent(new Event('input', {bubbles: true}));
  }
  document.documentElement.dataset.said = document.querySelector('#synapse output').textContent;
}, 500)); </script>""".replace("CHOSEN", json.dumps(_CHOSEN))


def dom(browser: str, address: str) -> Tag:
    """Return a page as the browser has it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [browser, *_FLAGS, f"--user-data-dir={folder}", "--dump-dom", address]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    root = BeautifulSoup(done.stdout, "html.parser").html
    assert root is not None, f"{address}: the browser shows nothing: {done.stderr[-500:]}"
    return root


def check(page: Path, browser: str) -> str:
    """Raise AssertionError for a page with something missing; return what it has."""
    name, text = str(page.relative_to(SITE)), page.read_text("utf-8")
    assert "Traceback (most recent call last)" not in text, name
    copy, frame = (page.with_name(f"{_OURS}{kind}.html") for kind in ("page", "frame"))
    copy.write_text(text.replace("<head>", f"<head>{_WATCH}", 1), "utf-8")
    try:
        frame.write_text(_FRAMES.replace("PAGE", copy.name), "utf-8")
        screens = json.loads(str(dom(browser, frame.as_uri()).get("data-seen", "[]")))
        assert {seen["width"] for seen in screens} == {*WIDTHS}, name
        for seen in screens:
            assert not seen["failed"], f"{name}: {seen['failed']}"
            assert seen["over"] <= 0, f"{name} is {seen['over']} pixels wider than {seen['width']}"
            assert min(seen["pictures"], default=200) > 100, f"{name}: a picture does not show"
            assert not seen["silent"], f"{name}: a picture has no words"
            assert all(seen["formulas"]), f"{name}: a formula does not show"
            assert not seen["raw"], f"{name}: a formula was not set: {seen['raw']}"
            assert seen["dark"], f"{name}: no dark mode"
            assert seen["shade"] != "rgb(255, 255, 255)", f"{name}: dark mode is white"
            assert len(seen["pictures"]) > 0 or not name.startswith("notebooks/"), name
            counts = f"{len(seen['pictures'])} pictures, {len(seen['formulas'])} formulas"
    finally:
        copy.unlink()
        frame.unlink(missing_ok=True)
    for link in BeautifulSoup(text, "html.parser").select("a[href]"):
        target, _, place = str(link["href"]).partition("#")
        if ":" in target:
            continue
        there = page.parent / unquote(target) if target else page
        assert there.exists(), f"{name} leads to {target}"
        if place and there.suffix == ".html":
            assert f'id="{place}"' in there.read_text("utf-8"), f"{name} leads to {target}#{place}"
    return counts


def play(browser: str) -> str:
    """Move the sliders of the synapse; return what it says, which must be what the package says."""
    page = SITE / "docs" / "play.html"
    copy = page.with_name(f"{_OURS}play.html")
    copy.write_text(page.read_text("utf-8").replace("<head>", f"<head>{_MOVE}", 1), "utf-8")
    try:
        said = str(dom(browser, copy.as_uri()).get("data-said"))
    finally:
        copy.unlink()
    assert said == in_the_package(**_CHOSEN), said
    return said


def in_the_package(gain: float, rate: float, threshold: float, decay: float) -> str:
    """Return what a synapse of the package comes to, in the words of the page."""
    torch.set_default_dtype(torch.float64)
    theta = hybrid.MetaLocal(torch.tensor(gain), torch.tensor([rate]), torch.tensor([threshold]))
    synapse = hybrid.Synapse(torch.tensor([[0.5]]), None, theta)
    neuron, rule = hybrid.LIF(decay=0.4, v_th=1.0), hybrid.Hebbian(trace_decay=decay)
    state, current = hybrid.LayerState(), torch.zeros(1, 1)
    for step in range(60):
        x = torch.full((1, 1), float(step < 20 or step >= 40))
        current = hybrid.synaptic_current(x, state.trace, synapse)
        state = hybrid.plastic_step(x, state, synapse, neuron, rule)
    trace = state.trace
    assert trace is not None
    return f"At the end the trace is {trace.item():.4f}, and the current {current.item():.4f}."


def main() -> int:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    pages = [
        page
        for page in sorted(SITE.rglob("*.html"))
        if "_static" not in page.parts and page.name != "index.html"  # which is README
    ]
    if browser is None or not pages:
        print("needs chromium on the PATH, and the pages of `make site`", file=sys.stderr)
        return 1
    for page in [page for page in pages if not page.name.startswith(_OURS)]:
        print(f"{page.relative_to(SITE)}: {check(page, browser)}")
    print(f"play: {play(browser)}")
    found = dom(browser, f"{(SITE / 'search.html').as_uri()}?q=homeostatic")
    results = {str(link["href"]).partition("?")[0] for link in found.select("#search-results a")}
    assert any("glossary" in result for result in results), f"the search finds {results}"
    print(f"search: {len(results)} pages with `homeostatic`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
