"""The project itself: pins, notebooks, and what lies at its top."""

import ast
import json
import subprocess
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

from hybrid.experiments import (
    classification_plans,
    continual_plans,
    deployment_plans,
    event_plans,
    fault_tolerance,
    few_shot_plans,
)
from tests.environment import ROOT, direct_dependencies, environment, pins
from tests.notebooks import NOTEBOOKS, scrub

PARAMETERS = {"profile": '"smoke"', "seed": "0", "device": '"auto"', "out_dir": '"../figures"'}


def test_environment_yml_holds_the_pins_of_the_lock() -> None:
    text = (ROOT / "environment.yml").read_text()
    assert text == environment(), "run `make lock`"
    (pip,) = [d["pip"] for d in yaml.safe_load(text)["dependencies"] if isinstance(d, dict)]
    assert "torch==2.13.0" in pip


def test_the_lock_pins_every_dependency() -> None:
    locked = pins((ROOT / "requirements.lock").read_text())
    assert locked["torch"] == "2.13.0"
    missing = set(direct_dependencies((ROOT / "pyproject.toml").read_text())) - set(locked)
    assert not missing


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_the_same_four_parameters(path: Path) -> None:
    found = papermill.inspect_notebook(path)
    assert {name: entry["default"] for name, entry in found.items()} == PARAMETERS
    assert all(entry["help"] for entry in found.values()), "each has a comment"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_with_outputs_and_a_check(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "nbval-check-output" in code[-1].metadata.get("tags", [])
    assert code[-1].outputs
    assert any("image/png" in o.get("data", {}) for cell in code for o in cell.outputs)
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    lines = [len(cell.source.splitlines()) for cell in code]
    assert max(lines[:-2]) <= 60
    assert set(notebook.metadata) == {"kernelspec"}


def test_notebooks_carry_no_run_dependent_metadata() -> None:
    done = scrub("--verify")
    assert done.returncode == 0, f"run `make notebooks`: {done.stdout}{done.stderr}"


def test_the_top_level_holds_what_the_design_says() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = {line.split("/")[0] for line in listed.stdout.splitlines()}
    folders = {"notebooks", "hybrid", "data", "figures", "tests", ".ci", ".github"}
    files = {"environment.yml", "README.md", "pyproject.toml", "requirements.lock", "Makefile"}
    files |= {"LICENSE", "CITATION.cff", ".gitignore", ".pre-commit-config.yaml"}
    assert names == folders | files


# Each room of the house and its floor; a module may import from its own room and from below.
FLOORS = {
    "model": 1,
    "data": 1,
    "runs": 1,
    "learning": 2,
    "report": 2,
    "tianjic": 2,
    "experiments": 3,
    "cli": 4,
}


def test_arrows_only_point_down() -> None:
    package = ROOT / "hybrid"
    for path in package.rglob("*.py"):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.module if isinstance(node, ast.ImportFrom) else None
            if name and name.startswith("hybrid."):
                target = name.split(".")[1]
                below = FLOORS[target] < FLOORS[room]
                assert target == room or below, f"{path} imports {name}"
            modules = [name or ""] + [a.name for a in getattr(node, "names", [])]
            assert not any(m.split(".")[0] == "tonic" for m in modules) or path.stem == "events"


def test_no_pickle_is_ever_loaded() -> None:
    """Neither by name nor through torch, numpy or joblib, whose loaders read pickles."""
    for path in (ROOT / "hybrid").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in getattr(node, "names", [])]
            module = getattr(node, "module", None) or ""
            assert not (module.split(".")[0] in {"torch", "joblib"} and "load" in names), path
            for name in [*names, module]:
                assert name.split(".")[0] not in {"pickle", "dill", "cloudpickle", "shelve"}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = getattr(node.func.value, "id", "")
                assert (owner, node.func.attr) not in {("torch", "load"), ("joblib", "load")}, path
                wanted = {keyword.arg for keyword in node.keywords}
                assert "allow_pickle" not in wanted, path


@pytest.mark.parametrize(
    ("figure", "config"),
    [
        ("fig2", [c.as_json() for g in classification_plans.PLANS["smoke"] for c in g.configs]),
        ("fig3", fault_tolerance.PLANS["smoke"].configs[0].as_json()),
        ("fig3_events", event_plans.PLANS["smoke"][0].configs[0].as_json()),
        ("fig4", [c.as_json() for g in few_shot_plans.PLANS["smoke"] for c in g.configs]),
        ("fig5", [c.as_json() for g in continual_plans.PLANS["smoke"] for c in g.configs]),
        ("fig6", deployment_plans.PLANS["smoke"][0].configs[0].as_json()),
    ],
)
def test_committed_smoke_figures_are_of_the_present_constants(figure: str, config: object) -> None:
    about = json.loads((ROOT / "figures" / "smoke" / f"{figure}.json").read_text("utf-8"))
    assert about["config"] == config
