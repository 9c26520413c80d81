"""The command line: what each command prints, and how it fails."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hybrid import __version__, cli
from hybrid.data import files
from hybrid.experiments.core.experiment import Group
from hybrid.experiments.fault_tolerance import plans
from hybrid.model.convolutional import Dense
from hybrid.runs.files import load_tensors, save_tensors
from hybrid.runs.store import Store

COMMANDS = ("run", "figures", "scoreboard", "tianjic", "data")


def call(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, list(arguments))
    return done.exit_code, done.output


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(
        plans.SMOKE,
        validation=4_000,
        dense=(Dense(size=24, plastic=True), Dense(size=10, plastic=True)),
        steps=3,
        schedule=replace(plans.SMOKE.schedule, epochs=1),
        faults=(("gaussian", (0.0, 0.06)),),
    )
    group = Group(settings=(settings,), methods=("LP", "GP", "HP"), seeds=2)
    monkeypatch.setitem(plans.PLANS, "smoke", (group,))


def test_help_names_every_command_and_teaches() -> None:
    code, text = call("--help")
    assert code == 0
    assert {line.split()[1] for line in text.splitlines() if line.startswith("│")} >= {*COMMANDS}
    for name in ("smoke", "laptop", "--dry-run", "Exit codes"):
        assert name in text
    for name in COMMANDS:
        code, text = call(name, "--help")
        assert code == 0
        assert f"Usage: hybrid {name}" in text.replace("root", "hybrid")
    assert "Examples" in call("run", "--help")[1]
    assert call("--version") == (0, f"hybrid {__version__}\n")


@pytest.mark.usefixtures("small")
def test_a_dry_run_lists_trials_and_computes_nothing(tmp_path: Path) -> None:
    code, text = call(
        "run", "fault_tolerance", "--dry-run", "--seeds", "1", "--store", str(tmp_path)
    )
    assert code == 0
    assert "digits-HP-seed1" in text
    assert "digits-HP-seed2" not in text
    assert "3 trials, 3 to run" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small")
def test_a_kept_network_is_brought_to_the_chip(tmp_path: Path) -> None:
    arguments = ("--method", "HP", "--seeds", "1", "--jobs", "1", "--store", str(tmp_path))
    code, _ = call("run", "fault_tolerance", *arguments)
    assert code == 0
    (weights,) = tmp_path.rglob("*.safetensors")
    code, text = call("tianjic", str(weights), "--tested", "50")
    assert code == 0, text
    for part in ("a simulator", "float, frozen", "chip, own trace", "occupied of 156", "at least"):
        assert part in text
    code, text = call("tianjic", str(tmp_path / "absent.safetensors"))
    assert code == 1
    assert "absent.safetensors is not there" in text
    tensors, _ = load_tensors(weights)
    whole = weights.read_bytes()
    save_tensors(weights, tensors, {"trial": "digits-GP-seed7"})
    code, text = call("tianjic", str(weights))
    assert code == 1
    assert "holds digits-GP-seed7, not digits-HP-seed1" in " ".join(text.split())
    weights.write_bytes(whole[:-1])
    code, text = call("tianjic", str(weights))
    assert code == 1
    assert "damaged" in text


def test_networks_that_the_chip_cannot_take_are_named(tmp_path: Path) -> None:
    request = {"experiment": "classification", "label": "it", "settings": {}, "method": {}}
    store = Store(tmp_path)
    store.save(request, {}, {})
    code, text = call("tianjic", str(store.path(request)))
    assert code == 1
    assert "committed without weights" in text
    store.weights_path(request).write_bytes(b"")
    code, text = call("tianjic", str(store.weights_path(request)))
    assert code == 1
    assert "'classification'" in text
    request["experiment"] = "fault_tolerance"
    store.save(request, {}, {})
    store.weights_path(request).write_bytes(b"")
    code, text = call("tianjic", str(store.weights_path(request)))
    assert code == 1
    assert "settings of kind None are unknown: other code has made them" in text


def test_data_are_listed_verified_and_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.SETTING, str(tmp_path))
    code, text = call("data", "list", "mnist")
    assert code == 0
    assert text.count("missing") == 4
    assert str(tmp_path) in text
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    assert "here" in call("data", "list", "mnist")[1]
    code, text = call("data", "verify", "mnist")
    assert code == 1
    assert "damaged" in text
    assert "fetch it anew" in text
    code, text = call("data", "fetch", "nmnist_small")
    assert code == 1
    assert "2 files could not be had" in text
    code, text = call("data", "fetch", "absent")
    assert code == 1
    assert "data set 'absent' is unknown" in text


def test_a_wheel_says_that_it_has_no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that nothing was reproduced."""
    monkeypatch.setattr(cli.pages, "has_records", lambda profile, name: False)
    code, text = call("scoreboard")
    assert code == 1
    assert "committed beside the package, in a checkout of the project, and not in a wheel" in (
        " ".join(text.split())
    )


def test_the_scoreboard_is_printed_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = call("scoreboard")
    assert code == 0
    assert "reproduced" in text
    assert call("scoreboard", "--check")[0] == 0
    root = cli.pages.project_root()
    monkeypatch.setattr(cli.pages, "project_root", lambda: tmp_path)
    (tmp_path / "docs").mkdir()
    pages = {name: (root / name).read_text("utf-8") for name in ("README.md", "docs/scoreboard.md")}
    for edited in pages:
        for name, page in pages.items():
            begin, _, table = page.partition("<!-- scoreboard: begin -->")
            table = table.replace("undecided", "proven", name == edited)
            (tmp_path / name).write_text(f"{begin}<!-- scoreboard: begin -->{table}", "utf-8")
        code, text = call("scoreboard", "--check")
        assert code == 1
        assert "hybrid scoreboard --write" in text
        assert call("scoreboard", "--write")[0] == 0
        assert {name: (tmp_path / name).read_text("utf-8") for name in pages} == pages
    old = pages["README.md"].replace("undecided", "proven")
    (tmp_path / "README.md").write_text(old, "utf-8")
    (tmp_path / "docs" / "scoreboard.md").write_text("no place for it", "utf-8")
    code, text = call("scoreboard", "--write")
    assert code == 1
    assert "scoreboard.md: the text needs one line" in " ".join(text.split())
    assert (tmp_path / "README.md").read_text("utf-8") == old, "all pages, or none"


def test_wrong_names_are_answered_with_the_right_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = call("run", "faults")
    assert code == 2
    assert "fault_tolerance" in text
    code, text = call("run", "continual", "--label", "absent", "--dry-run")
    assert code == 1
    assert "label 'absent' is unknown: choose one of digits" in text
    assert call("figures", "--profile", "large")[0] == 2
    assert call("figures", "--only", "99")[0] == 2
    monkeypatch.setattr("hybrid.runs.cluster._PATIENCE", 0.5)
    code, text = call("run", "deployment", "--cluster", "tcp://127.0.0.1:1")
    assert code == 1
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:1'" in text


def test_notebooks_run_headless_and_leave_their_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scoreboard's, because it is quick."""
    source = cli.pages.project_root() / "notebooks" / "07_scoreboard.ipynb"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(cli.pages, "project_root", lambda: tmp_path)
    code, text = call("figures", "--only", "07", "--out", str(tmp_path / "f"))
    assert code == 0, text
    assert "07_scoreboard:" in text
    assert (tmp_path / "build" / "notebooks" / source.name).exists()
    assert (tmp_path / "f" / "scoreboard.png").exists()
