"""The code of the pages in docs/ runs as it is printed there."""

import re
import shlex
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from typer.testing import CliRunner

from hybrid.cli import app
from hybrid.data.own import made_at
from hybrid.paths import project_root

# Blocks of `py` and `bash` are of work that takes hours, or other machines.
_BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [
    page
    for page in sorted((project_root() / "docs").glob("*.md"))
    if _BLOCK.search(page.read_text("utf-8"))
]
_LONGEST = 15  # lines of code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order and in one folder: files are written, commands exit with 0, the rest is one program.

    No block is longer than a reader wants to type.
    """
    monkeypatch.chdir(tmp_path)
    made_at.cache_clear()
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "page"}
    blocks = _BLOCK.findall(page.read_text("utf-8"))
    for language, text in blocks:
        lines = [line for line in text.splitlines() if line.strip()]
        first = lines[0]
        if language == "sh":
            program, *arguments = shlex.split(text)
            assert program == "hybrid"
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, f"{text}\n{done.output}\n{done.exception!r}"
        elif re.fullmatch(r"# \w+\.py", first):
            (tmp_path / first[2:]).write_text(text)
        else:
            exec(compile(text, str(page), "exec"), names)
        assert len(lines) - first.startswith("# ") <= _LONGEST, text
    plt.close("all")


def test_the_page_of_ones_own_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The module of the page is right on nearly all of its images after ten epochs."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    text = (project_root() / "docs" / "own.md").read_text("utf-8")
    blocks = [code for language, code in _BLOCK.findall(text) if language == "python"]
    (model,) = (code for code in blocks if "class Model(" in code)
    (training,) = (code for code in blocks if "train(Model()" in code)
    exec(model + training, {"__name__": "page"})
    assert float(capsys.readouterr().out.rpartition(": ")[2]) > 0.9
