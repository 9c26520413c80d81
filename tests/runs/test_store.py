"""Records: found only by what produced them, whole or not at all, never used when damaged."""

import json
import logging
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from hybrid.experiments.core.experiment import Experiment
from hybrid.experiments.core.methods import GP
from hybrid.experiments.core.settings import Settings
from hybrid.experiments.core.trials import Begun, Place, Trial, run_all
from hybrid.learning.schedule import Schedule
from hybrid.runs.fanout import fan_out
from hybrid.runs.files import (
    DamagedFileError,
    load_tensors,
    save_tensors,
    tensor_bytes,
    write_atomically,
)
from hybrid.runs.seeds import numpy_stream, torch_stream
from hybrid.runs.store import Json, Store, read_record

REQUEST = {"experiment": "toy", "label": "a-seed1", "settings": {"x": 0.1}, "seed": 1}
RESULT = {"accuracy": [0.5, 0.25], "name": "ä"}


def test_a_record_is_found_by_its_whole_request(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(REQUEST, RESULT, {"seconds": 1.0})
    assert store.load(REQUEST)["result"] == RESULT
    for change in ({"seed": 2}, {"settings": {"x": 0.2}}, {"version": "2"}):
        assert store.load({**REQUEST, **change}) is None


def toy(result: Json, calls: list[int]) -> Trial[Any, Any]:
    """A trial that comes to `result`, and counts how often it was computed."""

    def begin(trial: Trial[Any, Any], place: Place) -> Begun:
        calls.append(trial.seed)
        return Begun(None, lambda logs: (result, trial.build()))

    experiment: Experiment[Any, Any] = Experiment(
        name="toy",
        notebook="",
        methods=(GP,),
        plans={},
        data_sha256=lambda settings: "hash of data",
        build=lambda trial: nn.Linear(1, 1),
        begin=begin,
        read_by="",
    )
    schedule = Schedule(epochs=1, batch_size=1, lr_weight=1.0, lr_meta=1.0)
    settings = Settings(label="a", dataset="none", validation=1, schedule=schedule)
    return Trial(experiment, settings, GP, 1)


def run(trial: Trial[Any, Any], store: Store) -> Json:
    """Return the record of a trial, as every run gets it."""
    device = torch.device("cpu")
    (record,) = run_all([trial], store=store, jobs=1, device=device, title="toy")
    return record


def test_a_finished_trial_is_not_computed_again(tmp_path: Path) -> None:
    calls: list[int] = []
    trial = toy(RESULT, calls)
    first = run(trial, Store(tmp_path))
    assert first["result"] == RESULT
    assert run(trial, Store(tmp_path)) == first
    assert len(calls) == 1
    run(trial, Store(tmp_path, recompute=True))
    assert len(calls) == 2


def test_a_label_too_long_for_a_file_is_refused_before_training(tmp_path: Path) -> None:
    calls: list[int] = []
    trial, room = toy(RESULT, calls), 201 - len("-GP-seed1")
    long = replace(trial, settings=replace(trial.settings, label="ä" * (room // 2)))
    assert run(long, Store(tmp_path))["result"] == RESULT
    save_tensors(Store(tmp_path).checkpoint_path(long.request()), {"a": torch.ones(1)}, {})
    longer = replace(trial, settings=replace(trial.settings, label="a" * (room + 1)))
    with pytest.raises(ValueError, match="too long for the name of a file, give at most 201"):
        run(longer, Store(tmp_path))
    assert len(calls) == 1


@pytest.mark.parametrize("damage", ["truncated", "edited", "emptied", "not json", "part missing"])
def test_a_damaged_record_is_reported_and_replaced(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, trial = Store(tmp_path), toy(RESULT, [])
    run(trial, store)
    path = store.path(trial.request())
    text = path.read_text()
    damaged = {
        "truncated": text[: len(text) // 2],
        "edited": text.replace("0.25", "0.99"),
        "emptied": "",
        "not json": "\x00\xff" * 10,
        "part missing": json.dumps({"sha256": "0", "result": RESULT}),
    }[damage]
    assert damaged != text
    path.write_text(damaged)
    with pytest.raises(DamagedFileError, match=r"a-GP-seed1.* is damaged"):
        read_record(path)
    with caplog.at_level(logging.WARNING):
        record = run(trial, store)
    assert "computed again" in caplog.text
    assert record["result"] == RESULT
    assert read_record(path) == record


def _write_many(folder: str, value: int) -> None:
    for _ in range(50):
        Store(Path(folder)).save(REQUEST, {"value": [value] * 1_000}, {})


def test_two_processes_on_one_store_do_no_harm(tmp_path: Path) -> None:
    """While two processes write the same record, every reader sees a whole one."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(str(tmp_path), i)) for i in (1, 2)]
    for writer in writers:
        writer.start()
    path, seen = Store(tmp_path).path(REQUEST), 0
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            values = read_record(path)["result"]["value"]
            assert values in ([1] * 1_000, [2] * 1_000)
            seen += 1
    assert seen > 0
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [file.name for file in path.parent.iterdir()] == [path.name], "no temporary files left"


def test_a_read_only_store_is_named_with_the_remedy(tmp_path: Path) -> None:
    # A file where the folder should be stops even a superuser.
    (tmp_path / "toy").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write to .*toy.* make the folder writable"):
        Store(tmp_path).save(REQUEST, RESULT, {})


def test_a_full_disk_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*free space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_come_back_bit_for_bit_and_damage_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    tensors = {"a": torch.randn(3, 4).mT, "b": torch.tensor(1.5)}
    save_tensors(path, tensors, {"epochs": [1, 2]})
    loaded, about = load_tensors(path)
    assert about == {"epochs": [1, 2]}
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    for content in (path.read_bytes()[:-7], b"", path.read_bytes()[:-40] + b"x" * 40):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match="delete it"):
            load_tensors(path)


def test_every_flipped_bit_of_a_tensor_file_is_seen(tmp_path: Path) -> None:
    """Of the header, its padding, the checksum itself, and the data; and every byte too many."""
    path = tmp_path / "t.safetensors"
    save_tensors(path, {"a": torch.arange(5.0), "b": torch.ones(2, dtype=torch.bfloat16)}, {"n": 1})
    sound = path.read_bytes()
    for place in range(8 * len(sound)):
        changed = bytearray(sound)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(DamagedFileError, match="delete it"):
            load_tensors(path)
    for changed in (sound + b"\0", b"", sound[:20], json.dumps([]).encode()):
        path.write_bytes(changed)
        with pytest.raises(DamagedFileError, match="delete it"):
            load_tensors(path)


def test_the_library_of_the_format_opens_tensor_files(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    tensors = {"a": torch.randn(3, 4), "none": torch.zeros(0, 2), "flags": torch.tensor([True])}
    save_tensors(path, tensors, {"epochs": [1, 2], "name": "ä"})
    loaded = safetensors.torch.load_file(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    with safetensors.safe_open(path, "pt") as opened:
        assert json.loads(opened.metadata()["about"])["content"]["epochs"] == [1, 2]
    assert tensor_bytes(tensors, {"epochs": [1, 2], "name": "ä"}) == path.read_bytes()


def test_streams_depend_on_their_name_alone() -> None:
    first = torch.rand(3, generator=torch_stream(1, "order", 0))
    numpy_stream(1, "another consumer").random(100)
    assert torch.equal(first, torch.rand(3, generator=torch_stream(1, "order", 0)))
    others = [torch_stream(1, "order", 1), torch_stream(2, "order", 0), torch_stream(1, "noise", 0)]
    assert all(not torch.equal(first, torch.rand(3, generator=other)) for other in others)
    assert not np.array_equal(numpy_stream(1, "a").random(3), numpy_stream(1, "b").random(3))
    with pytest.raises(ValueError, match="seed = -1"):
        torch_stream(-1, "order")


def _square_and_threads(task: int) -> tuple[int, int]:
    return task**2, torch.get_num_threads()


@pytest.mark.parametrize("jobs", [1, 2])
def test_fan_out_keeps_order_and_uses_one_thread(jobs: int) -> None:
    before = torch.get_num_threads()
    found = dict(fan_out(_square_and_threads, range(5), jobs=jobs, title="squares"))
    outcomes = [found[i] for i in range(5)]
    assert outcomes == [(i**2, 1) for i in range(5)]
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="jobs = 0"):
        fan_out(_square_and_threads, [1], jobs=0, title="none")


_KEPT: list[bytes] = []


def _grow(task: int) -> int:
    _KEPT.append(b"1" * 350_000_000)
    time.sleep(1.2)  # the pool looks at memory once a second
    return task


def test_a_process_that_grew_is_replaced_and_nothing_waits_for_ever() -> None:
    """The pool warns of it in its own thread, which a warning made an error would end."""
    assert sorted(dict(fan_out(_grow, range(5), jobs=2, title="growing"))) == list(range(5))


def _die(task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_named_with_a_remedy() -> None:
    with pytest.raises(ChildProcessError, match=r"was killed.*run again with fewer jobs"):
        list(fan_out(_die, range(2), jobs=2, title="dying"))
    # and the next ones work
    assert len(list(fan_out(_square_and_threads, range(2), jobs=2, title="squares"))) == 2
