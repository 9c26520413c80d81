"""Notebooks whose kernels die, hang, or belong to somebody else: one line says so."""

import json
import sys
from pathlib import Path

import nbformat
import pytest

from hybrid.runs import notebooks
from hybrid.runs.notebooks import Page, execute
from tests.faults.trees import page


def test_a_killed_kernel_is_one_line_with_the_remedy() -> None:
    done = execute(page("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"))
    assert done.failed is not None
    assert "kernel was killed" in done.failed
    assert "run again with fewer" in done.failed
    assert "\n" not in done.failed
    assert nbformat.reads(done.content.decode(), as_version=4).cells


def test_a_kernel_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    done = execute(page("1"))
    assert done.failed is not None
    assert "its kernel did not start" in done.failed


def test_a_cell_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "_LONGEST", 1)
    done = execute(page("while True:\n    pass"))
    assert done.failed is not None
    assert "a cell took more than" in done.failed


def test_the_kernel_is_this_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kernel of the same name in the user's own folders does not run the notebooks."""
    foreign = tmp_path / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["/bin/false"], "display_name": "Python 3", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    done = execute(page("import sys\nprint(sys.executable)"))
    assert done.failed is None
    (cell,) = (c for c in nbformat.reads(done.content.decode(), as_version=4).cells if c.outputs)
    assert cell.outputs[0].text.strip() == sys.executable


@pytest.mark.parametrize("content", [b"<<<<<<< HEAD", b"", b"[]", b'{"cells": []}'])
def test_what_is_no_notebook_is_one_line_and_ends_no_other(content: bytes) -> None:
    done = execute(Page("it.ipynb", content, {}))
    assert done.failed is not None
    assert done.failed.startswith("cannot be run: ")
    assert "\n" not in done.failed
    assert done.content == content
