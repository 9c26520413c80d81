"""Files that are whole, on the disk, and as others expect them."""

import inspect
import logging
import os
import pickle
import pkgutil
import stat
import threading
import time
from importlib import import_module
from pathlib import Path
from unittest import mock

import pytest
import safetensors.torch
import torch

import hybrid
from hybrid.locks import alone
from hybrid.runs import files
from hybrid.runs.files import (
    ABANDONED,
    DamagedFileError,
    load_tensors,
    read_sealed,
    sealed,
    tensor_bytes,
    write_atomically,
    write_together,
)


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "it", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o640


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "it").write_bytes(b"old")
    (tmp_path / "it").symlink_to(tmp_path / "elsewhere" / "it")
    write_atomically(tmp_path / "it", b"new")
    assert (tmp_path / "it").is_symlink()
    assert (tmp_path / "elsewhere" / "it").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["it"]


def test_names_of_files_and_of_new_folders_reach_the_disk(tmp_path: Path) -> None:
    """Each folder that got a new name is synchronised, after the name was given."""
    done: list[tuple[str, object]] = []
    real_sync, real_replace = os.fsync, os.replace

    def synchronise(handle: int) -> None:
        done.append(("fsync", os.path.realpath(f"/proc/self/fd/{handle}")))
        real_sync(handle)

    def replace(source: Path, target: Path) -> None:
        done.append(("replace", str(target)))
        real_replace(source, target)

    path = tmp_path / "a" / "b" / "it"
    with mock.patch("os.fsync", synchronise), mock.patch("os.replace", replace):
        write_atomically(path, b"1")
    moved = done.index(("replace", str(path)))
    assert done[0][0] == "fsync", "the content before the name"
    after = {place for _, place in done[moved + 1 :]}
    assert after == {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")}


def test_files_are_replaced_together_or_not_at_all(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("f.png", "f.pdf", "f.json")]
    write_together(dict.fromkeys(paths, b"old"))
    real = os.fsync
    for number in range(3):
        calls = iter(range(9))

        def full(handle: int, number: int = number, calls: object = calls) -> None:
            if next(calls) == number:  # type: ignore[call-overload]
                raise OSError(28, "No space left on device")
            real(handle)

        with mock.patch("os.fsync", full), pytest.raises(OSError, match="free space"):
            write_together(dict.fromkeys(paths, b"new"))
        assert [path.read_bytes() for path in paths] == [b"old"] * 3
        assert len(list(tmp_path.iterdir())) == 3


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    """Only of the same file, and only once nobody can be writing it any more."""
    old, new, other = (
        tmp_path / f".{n}.tmp" for n in ("it.00000001", "it.00000002", "other.00000003")
    )
    for path in (old, new, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (time.time() - ABANDONED - 60.0,) * 2)
    write_atomically(tmp_path / "it", b"1")
    assert {path.name for path in tmp_path.iterdir()} == {"it", new.name, other.name}


def test_leftovers_of_others_hinder_nobody(tmp_path: Path) -> None:
    old = tmp_path / ".it.00000001.tmp"
    old.write_bytes(b"half")
    os.utime(old, (0.0, 0.0))
    with mock.patch.object(Path, "unlink", side_effect=PermissionError(1, "not yours")):
        write_atomically(tmp_path / "it", b"1")
    assert (tmp_path / "it").read_bytes() == b"1"


def test_a_name_that_is_too_long_is_named_with_advice(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot write to .* \(File name too long\)"):
        write_atomically(tmp_path / (300 * "x"), b"1")


def test_those_who_wait_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    order: list[str] = []
    holds = threading.Event()

    def first() -> None:
        with alone(tmp_path / "it", "is at"):
            holds.set()
            time.sleep(1.3)
            order.append("first")

    working = threading.Thread(target=first)
    working.start()
    holds.wait(5.0)
    with caplog.at_level(logging.WARNING), alone(tmp_path / "it", "is at"):
        order.append("second")
    working.join()
    assert order == ["first", "second"]
    assert "another process is at" in caplog.text


def test_sealed_files_are_believed_as_they_were_written_alone(tmp_path: Path) -> None:
    path, body = tmp_path / "it.json", {"rows": [{"ms": 1.5}, {"ms": 2.0}], "about": {"a": None}}
    text = sealed(body)
    path.write_text(text, "utf-8")
    assert read_sealed(path) == body
    for wrong in (text.replace("1.5", "1.6"), text[:-4], "[]", "{}", "[" * 100_000):
        path.write_text(wrong, "utf-8")
        with pytest.raises(DamagedFileError, match=r"it\.json is damaged"):
            read_sealed(path)


def test_tensors_sealed_by_somebody_else_are_damaged(tmp_path: Path) -> None:
    """A right checksum over a header that says something else than what follows."""
    sound = tensor_bytes({"w": torch.arange(4.0)}, {})
    path = tmp_path / "w.safetensors"
    digest = safetensors.torch.load(sound)["w"]
    assert digest.tolist() == [0.0, 1.0, 2.0, 3.0]
    given = sound[sound.index(b'checksum\\":\\"') + 13 :][:64].decode()
    for before, after in ((b"[0,16]", b"[0,17]"), (b'"F32"', b'"F99"'), (b"[4]", b"[9]")):
        assert sound.count(before) == 1
        changed = sound.replace(before, after).replace(given.encode(), files.UNSIGNED.encode())
        resealed = files._checksum(changed, files.UNSIGNED).encode()
        path.write_bytes(changed.replace(files.UNSIGNED.encode(), resealed))
        with pytest.raises(DamagedFileError, match="cannot be read"):
            load_tensors(path)


def errors() -> list[type[BaseException]]:
    """Return every class of errors that the package defines."""
    found = set()
    for module in pkgutil.walk_packages(hybrid.__path__, "hybrid."):
        if module.name != "hybrid.__main__":
            for value in vars(import_module(module.name)).values():
                if isinstance(value, type) and issubclass(value, BaseException):
                    found.add(value)
    return sorted((e for e in found if e.__module__.startswith("hybrid")), key=lambda e: e.__name__)


@pytest.mark.parametrize("kind", errors(), ids=lambda kind: kind.__name__)
def test_errors_come_back_from_worker_processes(kind: type[BaseException]) -> None:
    """They are pickled there, and say the same here."""
    own = inspect.signature(kind.__init__).parameters if "__init__" in vars(kind) else ("self", "0")
    made = kind(*(f"word {number}" for number in range(len(own) - 1)))
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is kind
    assert str(again) == str(made)
    assert vars(again) == vars(made)
