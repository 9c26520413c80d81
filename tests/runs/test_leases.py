"""Machines that are lent for minutes: trials stop in time, move to another store, and go on."""

import hashlib
import io
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hybrid.cli import app
from hybrid.experiments.core.leases import as_text, measure
from hybrid.experiments.core.samples import images_of
from hybrid.experiments.core.splits import CARRIED, carried_to, split_numbers
from hybrid.experiments.core.trials import Trial, run_all
from hybrid.experiments.registry import experiment
from hybrid.learning import fitting
from hybrid.learning.lease import LeaseOverError, lease, over
from hybrid.runs.files import DamagedFileError, load_tensors, save_tensors, tensor_bytes
from hybrid.runs.parcels import pack, unpack
from hybrid.runs.store import Store


def trial(name: str) -> Trial[Any, Any]:
    """Return a small trial of an experiment, with traces."""
    own = experiment(name)
    settings: Any = own.plans["smoke"][0].settings[0]
    epochs = settings.epochs * 2 if name == "continual" else 3
    changes: dict[str, Any] = {"schedule": replace(settings.schedule, epochs=epochs)}
    changes |= {"tasks": 2} if name == "continual" else {}
    return Trial(own, replace(settings, **changes), own.method("HP"), 1)


def run(own: Trial[Any, Any], store: Store, **how: Any) -> Any:
    (record,) = run_all([own], store=store, jobs=1, device=torch.device("cpu"), title="", **how)
    return record["result"], store.weights_path(own.request()).read_bytes()


@pytest.mark.parametrize("name", ["classification", "continual", "few_shot"])
def test_a_trial_cut_after_any_epoch_ends_elsewhere_in_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = trial(name)
    whole = run(own, Store(tmp_path / "whole"))
    epochs = len(whole[0]["epochs"])
    for cut in {0, 1, epochs - 1, epochs}:
        here, away = tmp_path / f"here{cut}", tmp_path / f"away{cut}"
        asked = iter(range(100))
        monkeypatch.setattr(fitting, "over", lambda _, cut=cut, a=asked: next(a) == cut)
        with pytest.raises(LeaseOverError, match=f"stopped after epoch {cut} of {epochs}"):
            run(own, Store(here), minutes=1.0)
        monkeypatch.setattr(fitting, "over", lambda _: False)
        if cut:
            parts = pack(here, tmp_path / f"parts{cut}", 0.05)[0].parent
            assert len(unpack(parts, away)) == 1
            assert unpack(parts, away) == [], "it is as far already"
        assert run(own, Store(away)) == whole
        assert not list(away.rglob("*.checkpoint.safetensors"))


def test_trained_on_one_machine_and_tested_on_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same record in the end, which says who trained and adds up the time."""
    own = trial("fault_tolerance")
    whole = run(own, Store(tmp_path / "whole"))
    here, away = tmp_path / "here", Store(tmp_path / "away")
    where = {"cpu": "a CPU", "gpu": "a borrowed GPU", "instructions": "AVX512"}
    monkeypatch.setattr(fitting, "processor", lambda device: where)
    for _ in range(2):  # it goes on waiting
        with pytest.raises(LeaseOverError, match="HP-seed1 is trained and waits for its tests"):
            run(own, Store(here), untested=True)
    unpack(pack(here, tmp_path / "parts")[0].parent, away.folder)
    assert run(own, away) == whole
    record = away.load(own.request())
    assert record is not None
    (leg,) = record["about"]["legs"]
    assert leg["machine"] == "a borrowed GPU"
    assert record["about"]["instructions"] == "of several", "its bits need not repeat"
    assert record["about"]["seconds"] > leg["seconds"] > 0.0
    with pytest.raises(ValueError, match="takes a store on this machine"):
        run_all([own], store=None, jobs=1, device=torch.device("cpu"), title="", untested=True)


def test_splits_can_be_carried_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a machine without scikit-learn; what is missing there is said."""
    own, path = trial("fault_tolerance"), tmp_path / "splits.npz"
    images = images_of(own.settings.dataset)
    with carried_to(path):
        expected = split_numbers(own.settings, 1, images)
    monkeypatch.setenv(CARRIED, str(path))
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)
    assert all(map(np.array_equal, split_numbers(own.settings, 1, images), expected))
    other = replace(own.settings, validation=own.settings.validation + 1)
    for settings, seed in ((own.settings, 2), (other, 1)):
        with pytest.raises(ValueError, match=f"holds no split of digits for seed {seed}"):
            split_numbers(settings, seed, images)
    monkeypatch.delenv(CARRIED)
    with pytest.raises(ImportError):
        split_numbers(own.settings, 1, images)


def test_time_is_over_when_an_epoch_no_longer_fits() -> None:
    assert not over(1e9)
    with lease(time.time() + 100.0):
        assert not over(50.0)
        assert over(99.0), "with something to spare"
        with lease(None):
            assert not over(1e9)
    assert over(until=time.time() - 1.0)


def test_by_command(tmp_path: Path) -> None:
    """An exit code of its own, one line that says what is left, and parts to carry away."""
    store, parts, other = (str(tmp_path / name) for name in ("store", "parts", "other"))
    asked = ["run", "fault_tolerance", "--seeds", "1", "--method", "GP", "--store", store]
    done = CliRunner().invoke(app, [*asked, "--jobs", "1", "--minutes", "0.00001"])
    assert done.exit_code == 75, done.output
    assert "GP-seed1 not begun; run the same again to go on" in " ".join(done.output.split())
    for wrong in ("-1", "nan"):
        done = CliRunner().invoke(app, [*asked, "--minutes", wrong])
        assert done.exit_code == 1
        assert "give a number > 0" in done.output
    save_tensors(
        tmp_path / "store" / "a.checkpoint.safetensors", {"x": torch.zeros(50_000)}, {"epochs": [1]}
    )
    done = CliRunner().invoke(app, ["checkpoint", "pack", store, parts, "--megabytes", "0.1"])
    assert done.exit_code == 0, done.output
    assert "1-of-3.part" in done.output
    done = CliRunner().invoke(app, ["checkpoint", "unpack", parts, other])
    assert "new in" in done.output


def checkpoint(folder: Path, epochs: int) -> None:
    """Write a checkpoint that has some epochs behind it."""
    about = {"epochs": [{"loss": 1.0, "validation": 0.5}] * epochs}
    folder.mkdir(exist_ok=True)
    (folder / "a-1.checkpoint.safetensors").write_bytes(
        tensor_bytes({"x": torch.full((1000,), float(epochs))}, about)
    )


def test_what_is_further_stays(tmp_path: Path) -> None:
    """A record beats a checkpoint, and of two checkpoints the one with more epochs counts."""
    packed, store, parts = (tmp_path / name for name in ("packed", "store", "parts"))
    checkpoint(packed, 2)
    own = store / "a-1.checkpoint.safetensors"
    pack(packed, parts)
    for there, expected in ((1, 2.0), (3, 3.0)):
        checkpoint(store, there)
        assert bool(unpack(parts, store)) == (there == 1)
        assert expected in _values(own)
    own.write_bytes(own.read_bytes()[:-5])  # damaged: what comes is better
    assert unpack(parts, store) == [own]
    own.unlink()
    (store / "a-1.json").write_text("{}")
    assert unpack(parts, store) == [], "it is finished"
    (packed / "a-1.json").write_text("[]")
    pack(packed, tmp_path / "more")
    assert unpack(tmp_path / "more", store) == []
    assert (store / "a-1.json").read_text() == "{}"


def _values(path: Path) -> list[float]:

    tensors, _ = load_tensors(path)
    return tensors["x"].unique().tolist()


def test_parts_that_are_missing_or_damaged_change_nothing(tmp_path: Path) -> None:
    packed, store, parts = (tmp_path / name for name in ("packed", "store", "parts"))
    with pytest.raises(ValueError, match="holds no records and no checkpoints"):
        pack(packed, parts)
    with pytest.raises(ValueError, match="holds no parts"):
        unpack(packed, store)
    checkpoint(packed, 2)
    with pytest.raises(ValueError, match="give a size > 0"):
        pack(packed, parts, 0.0)
    first, second, *_ = pack(packed, parts, 0.002)
    kept = second.read_bytes()
    second.write_bytes(kept[:-1] + b"!")
    with pytest.raises(DamagedFileError, match="are damaged: bring them anew"):
        unpack(parts, store)
    second.unlink()
    with pytest.raises(ValueError, match=f"lacks {second.name}: bring all parts"):
        unpack(parts, store)
    assert not store.exists()
    second.write_bytes(kept)
    assert unpack(parts, store)
    assert first.exists()


def test_no_file_leaves_the_store(tmp_path: Path) -> None:

    whole, parts = io.BytesIO(), tmp_path / "parts"
    with tarfile.open(fileobj=whole, mode="w") as archive:
        entry = tarfile.TarInfo("../evil.json")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"{}"))
    parts.mkdir()
    key = hashlib.sha256(whole.getvalue()).hexdigest()[:16]
    (parts / f"{key}-1-of-1.part").write_bytes(whole.getvalue())
    with pytest.raises(DamagedFileError, match="does not belong into a store"):
        unpack(parts, tmp_path / "store")
    assert not (tmp_path / "evil.json").exists()


@pytest.mark.parametrize("name", ["classification", "continual", "few_shot"])
def test_an_epoch_is_measured_from_its_first_steps(name: str) -> None:
    """Watched for no time at all, or until it ends: the same, more or less."""
    own = trial(name)
    (short,), (whole,) = (measure([own], torch.device("cpu"), 9.0, s) for s in (0.0, 60.0))
    epochs = own.settings.schedule.epochs
    for kind in (short, whole):
        assert (kind.name, kind.seeds, kind.epochs) == (f"{own.settings.label}-HP", 1, epochs)
    assert 0.1 * whole.seconds < short.seconds < 10.0 * whole.seconds
    text = as_text([short._replace(seconds=2.0, epochs=100)], 3.0)
    assert text.splitlines()[1].split()[1:] == ["2.0", "100", "3.3", "60", "2", "1"]
    assert "never" in as_text([short._replace(seconds=1e4)], 3.0)
    with pytest.raises(ValueError, match="give more"):
        measure([own], torch.device("cpu"), 1.0, 0.0)


def test_what_fits_by_command() -> None:
    asked = ["plan", "fault_tolerance", "--profile", "smoke", "--method", "GP", "--seconds", "0.1"]
    done = CliRunner().invoke(app, [*asked, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "digits-GP" in done.output
    assert "leases" in done.output
