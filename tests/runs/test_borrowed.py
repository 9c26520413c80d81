"""`.ci/gpu`: trained on a bare machine, tested here, and the same record in the end."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybrid.experiments.core.trials import run_all
from hybrid.experiments.registry import experiment
from hybrid.paths import project_root
from hybrid.runs.parcels import unpack
from hybrid.runs.store import Store

SCRIPT = project_root() / ".ci" / "gpu"
MAKERS = """
from dataclasses import replace
import numpy as np
from hybrid.experiments.registry import experiment

def make():
    source = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = source.random((120, 6, 6), dtype=np.float32) * 0.3
    for image, label in zip(images, labels):
        image[2 * label : 2 * label + 2] += 0.6
    return images[:90], labels[:90], images[90:], labels[90:]

def few():
    group = experiment("fault_tolerance").plans["smoke"][0]
    own = group.settings[0]
    schedule = replace(own.schedule, epochs=3, batch_size=10)
    faults = (("gaussian", (0.0, 0.1)),)
    return replace(own, validation=30, schedule=schedule, faults=faults, corrections=())
"""
ASKED = ["fault_tolerance", "--profile", "smoke", "--method", "HP", "--seeds", "2"]
OWN = ["--data", "makers.py:make", "--settings", "makers.py:few"]
# What is there: torch, numpy, and what torch asks for.
THERE = """torch torchgen functorch numpy numpy.libs sympy mpmath networkx jinja2 markupsafe fsspec
filelock typing_extensions.py setuptools"""


def bare(folder: Path) -> Path:
    """Return the interpreter of an environment with little but torch and numpy."""
    venv.create(folder, with_pip=False)
    here, (there,) = Path(torch.__file__).parents[1], folder.glob("lib/python*/site-packages")
    infos = [
        path.name for kind in ("torch-*", "numpy-*") for path in here.glob(f"{kind}.dist-info")
    ]
    for name in [*THERE.split(), *infos]:
        if (here / name).exists():
            (there / name).symlink_to(here / name)
    return folder / "bin" / "python"


def script(python: str | Path, file: Path, *arguments: str, cwd: Path) -> Any:
    return subprocess.run(
        [python, file, *arguments], cwd=cwd, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HYBRID_DATA": str(cwd / "data")},
    )  # fmt: skip


def test_a_bare_machine_trains_and_this_one_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HP by itself, and two of GP side by side."""
    (tmp_path / "makers.py").write_text(MAKERS)
    monkeypatch.chdir(tmp_path)
    one = [*ASKED[:-1], "1", *OWN, "--store", "store"]
    gp = [*ASKED, *OWN, "--side-by-side", "--store", "store"]
    asked = [*one, "and", *("GP" if word == "HP" else word for word in gp)]
    done = script(sys.executable, SCRIPT, "prepare", "parcel", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "MiB" in done.stdout
    away = tmp_path / "elsewhere"
    shutil.move(tmp_path / "parcel", away)
    (tmp_path / "makers.py").rename(tmp_path / "hidden.py")
    going = ["--at-once", "2", "--device", "cpu", "--minutes", "5", "--out", str(tmp_path / "back")]
    done = script(bare(tmp_path / "bare"), away / "go", *going, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "HP-seed1 is trained and waits for its tests" in done.stdout
    assert "GP-seed2 is trained and waits for its tests" in done.stdout

    (tmp_path / "hidden.py").rename(tmp_path / "makers.py")
    unpack(tmp_path / "back", tmp_path / "store")
    own = experiment("fault_tolerance").with_settings("smoke", _few())
    own = own.with_data("smoke", "makers.py:make")
    options: dict[str, Any] = {"jobs": 1, "device": torch.device("cpu"), "title": ""}
    for method, seeds in (("HP", 1), ("GP", 2)):
        trials = own.trials("smoke", methods=[method], seeds=seeds)
        options["side_by_side"] = method == "GP"
        tested = run_all(trials, store=Store(tmp_path / "store"), **options)
        direct = run_all(trials, store=None, **options)
        assert [record["result"] for record in tested] == [record["result"] for record in direct]
        assert all(len(record["about"]["legs"]) == 1 for record in tested)
    # What is finished is not trained again.
    done = script(sys.executable, SCRIPT, "prepare", "again", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "again" / "store").rglob("*.json"))) == 3


def _few() -> Any:
    scope: dict[str, Any] = {}
    exec(MAKERS, scope)
    assert np.array_equal(scope["make"]()[1][:3], [0, 1, 2])
    return scope["few"]()


def test_what_cannot_work_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    for words, arguments in (
        ("holds other things", ["mine", *ASKED]),
        ("unknown", ["parcel", "nonsense"]),
        ("no_such.py", ["parcel", *ASKED, "--data", "no_such.py:make"]),
        ("sklearn is not on a bare machine; it takes what numpy alone reads", ["digits", *ASKED]),
    ):
        done = script(sys.executable, SCRIPT, "prepare", *arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert words in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "mine" / "notes").read_text() == "mine"
    (tmp_path / "home" / "go").mkdir(parents=True)
    done = script(sys.executable, SCRIPT, "prepare", "home", *ASKED, cwd=tmp_path)
    assert "holds other things" in done.stderr
    assert (tmp_path / "home" / "go").exists()
