"""What `hybrid fsck` says of every kind of file that can lie in a store."""

import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hybrid.cli import app
from hybrid.experiments.core.trials import source_sha256
from hybrid.runs.files import ABANDONED, save_tensors, sealed
from hybrid.runs.fsck import examine, prune
from hybrid.runs.store import Store

NOW = "0123456789abcdef" * 4
REQUEST = {"experiment": "it", "label": "a-GP-seed1", "data": "d"}
OTHER = {**REQUEST, "label": "b-GP-seed1"}


def weights(path: Path, request: dict, made: str) -> None:
    about = {"trial": request["label"], "by": f"{Store.key(request)} {made[:16]}"}
    save_tensors(path, {"w": torch.ones(3)}, about)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    store.save(REQUEST, {"accuracy": 0.5}, {"source": NOW[:16]})
    weights(store.weights_path(REQUEST), REQUEST, NOW)
    return store


def states(store: Store) -> dict[str, str]:
    return {found.path.name: found.state for found in examine(store.folder, NOW)}


def test_a_store_as_a_run_leaves_it_is_sound(store: Store) -> None:
    (store.folder / "it" / ".a.lock").touch()
    (store.folder / "figures").mkdir()
    (store.folder / "figures" / "fig.png").touch()
    assert set(states(store).values()) == {"sound"}


def test_it_does_not_matter_from_where(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.folder / "it")
    assert {found.state for found in examine(Path(), NOW)} == {"sound"}


def test_every_kind_of_file_is_told(store: Store) -> None:
    folder, record = store.folder / "it", store.path(REQUEST)
    store.save(OTHER, {"accuracy": 0.5}, {"source": "another"})
    weights(store.checkpoint_path(OTHER), OTHER, NOW)  # though its record is there
    weights(store.weights_path(OTHER), REQUEST, NOW)
    unfinished = {**REQUEST, "label": "c-GP-seed1"}
    weights(store.checkpoint_path(unfinished), unfinished, "another" + NOW)
    (folder / "copy.json").write_bytes(record.read_bytes())
    (folder / "cut.json").write_bytes(record.read_bytes()[:-9])
    (folder / "cut.safetensors").write_bytes(store.weights_path(REQUEST).read_bytes()[:-9])
    (folder / "notes.txt").touch()
    (folder / "side.json").write_text(sealed({"pictures": [1]}), "utf-8")
    for name, age in (
        (".old.json.01234567.tmp", ABANDONED + 60.0),
        (".new.json.01234567.tmp", 0.0),
    ):
        (folder / name).touch()
        os.utime(folder / name, (folder.stat().st_mtime - age,) * 2)
    assert states(store) == {
        record.name: "sound",
        store.weights_path(REQUEST).name: "sound",
        "side.json": "sound",
        store.path(OTHER).name: "stale",
        store.checkpoint_path(OTHER).name: "stray",
        store.weights_path(OTHER).name: "stray",
        store.checkpoint_path(unfinished).name: "stale",
        "copy.json": "stray",
        "cut.json": "damaged",
        "cut.safetensors": "damaged",
        "notes.txt": "other",
        ".old.json.01234567.tmp": "temporary",
        ".new.json.01234567.tmp": "being written",
    }
    assert [path.name for path in prune(store.folder)] == [".old.json.01234567.tmp"]
    assert "temporary" not in states(store).values()


def test_links_are_followed_to_look_and_not_to_remove(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / f"{tmp_path.name} elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".it.01234567.tmp").touch()
    os.utime(elsewhere / ".it.01234567.tmp", (0.0, 0.0))
    (store.folder / "linked").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(store.folder)
    assert states(store)[".it.01234567.tmp"] == "temporary"
    assert prune(store.folder) == []


def test_what_cannot_be_read_is_told_and_not_waited_for(store: Store) -> None:
    folder = store.folder / "it"
    os.mkfifo(folder / "pipe.json")
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "folder.json").mkdir()
    (folder / "list.json").write_text(
        sealed({"request": ["x"], "result": {}, "about": {}}), "utf-8"
    )
    (folder / "number.json").write_text(
        sealed({"request": {"experiment": 3, "label": "x"}, "result": {}, "about": {}}), "utf-8"
    )
    found = states(store)
    assert [found[f"pipe.{kind}"] for kind in ("json", "safetensors")] == ["damaged"] * 2
    assert [found[f"{name}.json"] for name in ("list", "number")] == ["sound"] * 2, "no records"
    os.remove(store.path(REQUEST))
    os.mkfifo(store.path(REQUEST))
    assert store.load(REQUEST) is None


def test_the_command_fails_for_what_is_bad_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(REQUEST, {}, {"source": source_sha256()[:16]})
    store.save(OTHER, {}, {"source": "an earlier one"})
    done = CliRunner().invoke(app, ["fsck", str(tmp_path)])
    assert done.exit_code == 0
    assert "1 sound, 1 stale" in done.output
    store.path(OTHER).write_text("{}", "utf-8")
    done = CliRunner().invoke(app, ["fsck", str(tmp_path)])
    assert done.exit_code == 1
    assert "1 files are damaged or stray: move them away" in done.output
    assert "damaged    it/b-GP-seed1" in done.output
    assert CliRunner().invoke(app, ["fsck", str(tmp_path / "none")]).exit_code == 1


def test_the_committed_records_are_what_their_names_say() -> None:
    folder = Path(__file__).resolve().parents[2] / "data" / "results"
    found = {state for _, state, _ in examine(folder, source_sha256())}
    assert found <= {"sound", "stale"}
