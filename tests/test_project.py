"""The project itself: pins, notebooks, and what lies at its top."""

import ast
import base64
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import papermill
import pytest
import ready
import yaml

import hybrid
from environment import ROOT, direct_dependencies, environment, pins
from hybrid.described import as_json
from hybrid.experiments.core.experiment import BEST
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.runs.files import sha256
from notebooks import NOTEBOOKS, scrub

PARAMETERS = {"profile": '"best"', "seed": "0", "device": '"auto"', "out_dir": '"../figures"'}


def test_environment_yml_holds_the_pins_of_the_lock() -> None:
    text = (ROOT / "environment.yml").read_text()
    assert text == environment(), "run `make lock`"
    (pip,) = [d["pip"] for d in yaml.safe_load(text)["dependencies"] if isinstance(d, dict)]
    assert "torch==2.13.0" in pip


def test_the_lock_pins_every_dependency() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    missing = set(direct_dependencies((ROOT / "pyproject.toml").read_text())) - set(pins(lock))
    assert missing == {"torch"}, "which has builds of one version that differ"
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not [entry for entry in entries if re.match("torch==|nvidia|triton", entry)]
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {re.split("[<>=]", name)[0] for name in built} <= set(pins(lock))


def test_this_environment_lacks_nothing() -> None:
    """Asks the real one, if the tests run in it."""
    if Path(sys.prefix) == ready.ROOT / ".venv":
        assert ready.missing(ready.ROOT) == []
    pins = ready.pinned((ready.ROOT / "requirements.lock").read_text("utf-8"))
    assert any(pin.startswith("numpy==") for pin in pins)
    assert not any("--hash" in pin for pin in pins)


def test_actions_and_hooks_are_named_by_commit() -> None:
    """A tag can be moved to other code, a commit cannot."""
    workflows = [path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    used = re.findall(r"uses: (\S+)", "\n".join(workflows))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    used += [f"{hook['repo']}@{hook['rev']}" for hook in hooks if hook["repo"] != "local"]
    assert len(used) > 5
    assert not [name for name in used if not re.search(r"@[0-9a-f]{40}$", name)]


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
    for cell in code:
        if "nbval-skip" in cell.metadata.get("tags", []):
            continue  # to play with
        shows = re.search(r"\bdisplay\((?!Markdown)|\.show\(", cell.source)
        seen = any("image/png" in output.get("data", {}) for output in cell.outputs)
        assert bool(shows) == seen, cell.source
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    sources = [cell.source.splitlines() for cell in code]
    assert max(map(len, sources)) <= 30, "lines of a cell"
    statements = [node for cell in code for node in ast.walk(ast.parse(cell.source))]
    imports = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in imports)
    assert lines <= 10, "lines that import"
    assert set(notebook.metadata) == {"kernelspec"}


def test_notebooks_carry_no_run_dependent_metadata() -> None:
    done = scrub("--verify")
    assert done.returncode == 0, f"run `make notebooks`: {done.stdout}{done.stderr}"


def test_the_top_level_holds_what_the_design_says() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = {line.split("/")[0] for line in listed.stdout.splitlines()}
    folders = {"notebooks", "hybrid", "data", "figures", "tests", "docs", ".ci", ".github"}
    files = {"environment.yml", "README.md", "pyproject.toml", "requirements.lock", "Makefile"}
    files |= {"LICENSE", "CITATION.cff", ".gitignore", ".pre-commit-config.yaml"}
    assert names == folders | files


MAKEFILE = (ROOT / "Makefile").read_text()

# Each room of the house and its floor; a module may import from its own room and from below.
FLOORS = {
    "checks": 0,
    "described": 0,
    "locks": 0,
    "version": 0,
    "paths": 0,
    "model": 1,
    "data": 1,
    "runs": 1,
    "exchange": 2,
    "learning": 2,
    "report": 2,
    "tianjic": 2,
    "experiments": 3,
    "cli": 4,
    "__main__": 5,
}
PACKAGE = ROOT / "hybrid"


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports() -> dict[str, set[str]]:
    """What each module imports of the package, when it is imported itself."""
    modules = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    found = {}
    for name, path in modules.items():
        nodes = list(ast.parse(path.read_text("utf-8")).body)
        targets = set()
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hybrid"):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    targets.add(whole if whole in modules else str(node.module))
            elif isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names if alias.name in modules}
        found[name] = targets - {name, "hybrid"}
    return found


def test_arrows_only_point_down() -> None:
    for module, targets in imports().items():
        for target in targets if module != "hybrid" else ():
            room, other = module.split(".")[1], target.split(".")[1]
            assert room == other or FLOORS[other] < FLOORS[room], f"{module} imports {target}"


def circle_in(arrows: dict[str, set[str]]) -> list[str]:
    """Return a circle of arrows, or nothing."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for target in arrows.get(name, ()):
            if circle := follow(target, [*path, name]):
                return circle
        done.add(name)
        return []

    return next((circle for name in arrows if (circle := follow(name, []))), [])


def test_no_arrow_runs_in_a_circle() -> None:
    """Neither between modules, nor between the folders of a room, such as experiments."""
    modules = imports()
    assert circle_in(modules) == []
    files = {name_of(p) for p in PACKAGE.rglob("*.py") if p.stem != "__init__"}
    for room in ("experiments", "model", "data"):
        folders: dict[str, set[str]] = {}
        for module, targets in modules.items():
            if module.startswith(f"hybrid.{room}."):
                own = ".".join(module.split(".")[:3])
                # A file beside the folders stands for itself: it may lie above or below them.
                others = {".".join(t.split(".")[:3]) for t in targets if f"hybrid.{room}." in t}
                if own not in files:
                    others -= files
                folders.setdefault(own, set()).update(others - {own})
        assert circle_in(folders) == [], room


def test_no_file_name_does_the_work_of_a_folder() -> None:
    """No two files of a folder begin with the same word."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    folders: dict[str, list[str]] = {}
    for line in listed.stdout.splitlines():
        if line.endswith(".py") and not line.startswith("data/results"):
            folder, _, file = line.rpartition("/")
            folders.setdefault(folder, []).append(file.removesuffix(".py"))
    for folder, names in folders.items():
        words = [name.split("_")[0] for name in names if not name.startswith(("_", "test_"))]
        twice = {word for word in words if words.count(word) > 1}
        assert not twice, f"{folder}: {sorted(twice)}"


def test_tonic_is_imported_in_one_file_and_inside_functions() -> None:
    users = {
        name_of(path)
        for path in PACKAGE.rglob("*.py")
        if 'import_module(f"tonic.' in path.read_text("utf-8")
    }
    assert users == {"hybrid.data.events.recordings"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in getattr(node, "names", [])]
            names.append(getattr(node, "module", None) or "")
            assert not any(name.split(".")[0] == "tonic" for name in names), path


def test_one_palette() -> None:
    """Colours are named in one file, and one method never has another's colour."""
    for path in PACKAGE.rglob("*.py"):
        if path.name != "figures.py":
            found = re.findall(r"\"#[0-9A-Fa-f]{6}\"", path.read_text("utf-8"))
            assert not found, path
    colours = hybrid.figures.COLOURS
    for experiment in EXPERIMENTS.values():
        names = [method.name for method in experiment.methods]
        assert len({colours[name] for name in names}) == len(names), experiment.name
    codes = ("membrane", "rate", "first spike", "first spike (batch)", "Poisson")
    assert not {colours[name] for name in codes} & {colours[name] for name in ("LP", "GP", "HP")}


def test_no_test_functions_in_the_package() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            assert not str(getattr(node, "name", "")).startswith("test_"), path


def test_the_face_offers_what_it_names() -> None:
    for name in hybrid.__all__:
        assert getattr(hybrid, name) is not None
    assert {"LIF", "Hebbian", "HybridLinear", "quantize", "figures"} <= set(dir(hybrid))
    with pytest.raises(AttributeError, match="No hybrid attribute LFI"):
        hybrid.LFI  # noqa: B018 (the access is what fails)


def test_everything_offered_says_what_it_is() -> None:
    """Each name of the face, and each public method of its classes, has a docstring of its own."""
    for name in hybrid.__all__:
        offered = getattr(hybrid, name)
        if isinstance(offered, type) or inspect.isfunction(offered) or inspect.ismodule(offered):
            assert (offered.__doc__ or "").strip(), name
        if not isinstance(offered, type):
            continue
        for method, own in vars(offered).items():
            if method.startswith("_") or not inspect.isfunction(own):
                continue
            assert inspect.getdoc(getattr(offered, method)), f"{name}.{method}"


USER = """
import torch
from hybrid import LIF, FullyConnected, Hebbian, LastMembrane, Monitor, Oja, experiment

network = FullyConnected(
    (20, 30, 2),
    neuron=LIF(decay=0.4, v_th=0.35),
    rule=[Hebbian(trace_decay=0.95), Oja(trace_decay=0.9)],
    readout=LastMembrane(),
    steps=10,
)
with Monitor(network) as seen:
    output: torch.Tensor = network(torch.rand(3, 20)).output
z: torch.Tensor = seen["layers.0"].z
label: str = experiment("fault_tolerance").plans["smoke"][0].settings[0].label
"""


def test_a_users_file_passes_strict_type_checks(tmp_path: Path) -> None:
    """And a wrong one does not: the face has types."""
    (tmp_path / "right.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(USER + "decay: str = LIF(decay='no', v_th=1.0).reset\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "right.py", "wrong.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout
    assert errors[0].startswith("wrong.py")
    assert 'to "LIF" has incompatible type "str"' in errors[0]


def test_a_run_starts_with_few_packages() -> None:
    """It starts fast, and trains on a machine that has little but torch."""
    code = "import sys, hybrid.cli; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pandas", "scipy", "sklearn", "skimage", "matplotlib", "PIL", "nbformat", "tonic"}
    assert "torch" in done.stdout.split()
    assert not heavy & set(done.stdout.split())


def test_a_clone_that_was_not_installed_imports(tmp_path: Path) -> None:
    """A checkout on sys.path, its distribution's metadata hidden."""
    code = (
        "import importlib.metadata as m, sys\n"
        "def hidden(name): raise m.PackageNotFoundError(name)\n"
        "m.version = hidden\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import hybrid; from hybrid import LIF, HybridLinear; print(hybrid.__version__)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hybrid.__version__
    command = [sys.executable, "-m", "hybrid", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"hybrid {hybrid.__version__}"
    assert (PACKAGE / "py.typed").exists()


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


FIGURES = {
    "fig2": "classification",
    "fig3": "fault_tolerance",
    "fig3_events": "event_tolerance",
    "fig4": "few_shot",
    "fig5": "continual",
    "fig6": "deployment",
}


@pytest.mark.parametrize(("figure", "name"), FIGURES.items())
def test_committed_figures_are_of_the_best_records(figure: str, name: str) -> None:
    about = json.loads((ROOT / "figures" / f"{figure}.json").read_text("utf-8"))
    records = EXPERIMENTS[name].load(BEST)
    assert about["profile"] == records.profile
    known = [as_json(records.planned[label]) for label in records.labels]
    assert about["settings"]
    assert all(settings in known for settings in about["settings"])


# Of networks that are trained where it is drawn: on another processor `make figures` draws others.
LIVE = ("fig3_mechanism",)


def test_notebooks_embed_the_pictures_that_lie_in_figures() -> None:
    """Each picture of `figures/` is the one that a notebook shows, has its page and its origin.

    And words for readers who cannot see it: the titles of its panels.
    """
    shown = {}
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", ()):
                if "image/png" in output.get("data", {}):
                    words = output["metadata"].get("image/png", {}).get("alt", "")
                    shown[base64.b64decode(output["data"]["image/png"])] = words
    pictures = sorted((ROOT / "figures").glob("*.png"))
    assert len(pictures) > 10
    kept = [path for path in pictures if path.stem not in LIVE]
    assert not [path.name for path in kept if path.read_bytes() not in shown]
    for picture in pictures:
        told = json.loads(picture.with_suffix(".json").read_text("utf-8"))
        files = {kind: picture.with_suffix(f".{kind}").read_bytes() for kind in ("png", "pdf")}
        digests = {kind: sha256(content) for kind, content in files.items()}
        assert told["sha256"] == digests, picture
        assert told["alt"].startswith(f"{picture.stem}: "), picture
        assert len(told["alt"]) > len(picture.stem) + 20, "titles are missing"
        if picture in kept:
            assert shown[files["png"]] == told["alt"], picture
    names = {path.relative_to(ROOT / "figures") for path in (ROOT / "figures").rglob("*.*")}
    assert names == {Path(f"{p.stem}.{kind}") for p in pictures for kind in ("png", "pdf", "json")}
