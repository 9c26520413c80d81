"""The environment of `make`: believed only if it was made here, whole, and for this lock."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ready

PROJECT = """\
[project]
scripts = { it = "it:main" }
[tool.uv]
constraint-dependencies = ["torch==2.13.0"]
"""
LOCK = "numpy==2.4.6 ; sys_platform == 'linux' \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n"


class Made:
    """A project whose environment is pretended: what pip would install is a set of names."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.commands, self.fails = root, [], 0
        (root / "requirements.lock").write_text(LOCK, "utf-8")
        (root / "pyproject.toml").write_text(PROJECT, "utf-8")
        monkeypatch.setattr(ready.subprocess, "run", self.run)

    def run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        """Stand in for processes: venv, pip, and the question what is missing."""
        environment, code, said = self.root / ".venv", 0, ""
        if command[1:3] == ["-m", "venv"]:
            self.commands.append("venv")
            environment.mkdir()
        elif command[1:3] == ["-m", "pip"]:
            self.commands.append("pip")
            code = int(self.commands.count("pip") == self.fails)
            (environment / "bin").mkdir(exist_ok=True)
            if "-e" in command and not code:
                (environment / "bin" / "it").touch()
                (environment / "numpy").touch()
        else:
            said = "" if (environment / "numpy").exists() else "numpy\n"
        return subprocess.CompletedProcess(command, code, said, "")

    def ensure(self) -> list[str]:
        """Return what was run."""
        self.commands.clear()
        ready.ensure(self.root)
        return self.commands


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(tmp_path / "here", monkeypatch)


ANEW = ["venv", "pip", "pip", "pip"]


def test_it_is_made_once(made: Made) -> None:
    assert made.ensure() == ANEW
    assert made.ensure() == []
    os.utime(made.root / "pyproject.toml", (4e9, 4e9))  # dated in the future
    assert made.ensure() == []


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_change_that_asks_for_nothing_new_runs_no_pip(made: Made, name: str) -> None:
    made.ensure()
    path = made.root / name
    path.write_text(path.read_text("utf-8") + "# more\n", "utf-8")
    assert made.ensure() == []
    assert made.ensure() == []


def test_what_is_missing_is_installed(made: Made) -> None:
    made.ensure()
    (made.root / "requirements.lock").write_text(LOCK + "# newer\n", "utf-8")
    (made.root / ".venv" / "numpy").unlink()
    assert made.ensure() == ["pip"] * 3


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_an_interrupted_one_is_made_anew(made: Made, phase: int) -> None:
    """However much of it is there: killed between a package's files, pip takes it for whole."""
    made.fails = phase
    with pytest.raises(SystemExit, match="could not be installed: see above"):
        made.ensure()
    made.fails = 0
    (made.root / ".venv" / "numpy").touch()
    (made.root / ".venv" / "bin").mkdir(exist_ok=True)
    (made.root / ".venv" / "bin" / "it").touch()
    assert made.ensure()[0] == "venv"
    assert made.ensure() == []


def test_a_copy_does_not_run_the_original(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.ensure()
    shutil.copytree(made.root, tmp_path / "there")
    copy = Made(tmp_path / "there", monkeypatch)
    assert copy.ensure() == ANEW


def test_a_moved_one_is_made_anew(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.ensure()
    made.root.rename(tmp_path / "there")
    assert Made(tmp_path / "there", monkeypatch).ensure() == ANEW


def test_another_interpreter_makes_it_anew(made: Made) -> None:
    made.ensure()
    path = made.root / ".venv" / ".ready"
    path.write_text(json.dumps({**json.loads(path.read_text()), "interpreter": "3.14"}), "utf-8")
    assert made.ensure() == ANEW


def test_a_damaged_mark_makes_it_anew(made: Made) -> None:
    made.ensure()
    (made.root / ".venv" / ".ready").write_text("", "utf-8")
    assert made.ensure() == ANEW


def test_this_environment_lacks_nothing() -> None:
    """Asks the real one, if the tests run in it."""
    if Path(sys.prefix) == ready.ROOT / ".venv":
        assert ready.missing(ready.ROOT) == []
    pins = ready.pinned((ready.ROOT / "requirements.lock").read_text("utf-8"))
    assert any(pin.startswith("numpy==") for pin in pins)
    assert not any("--hash" in pin for pin in pins)
