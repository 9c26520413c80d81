"""Who lives on when the parent of a run is killed, and whether the same command goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

_WITHIN = 10.0  # seconds after which nobody may be left
_COMMAND = "run", "fault_tolerance", "--method", "GP", "--seeds", "4", "--jobs", "2"


def begun(store: Path, *command: str) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, by which its processes are found."""
    arguments = [sys.executable, "-m", "hybrid", *command, "--store", str(store)]
    null = subprocess.DEVNULL
    return subprocess.Popen(arguments, start_new_session=True, stdout=null, stderr=null)


def alive(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            own = os.getsid(process.pid) == session
        except (ProcessLookupError, PermissionError):  # gone meanwhile, or another user's
            continue
        if own and process.info["status"] not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            found.append(process.pid)
    return found


def working(store: Path, within: float) -> bool:
    """Wait until a trial has finished an epoch; return whether it has in time."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if list(store.rglob("*.checkpoint.safetensors")):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGHUP"])
def test_nobody_outlives_the_parent(name: str, tmp_path: Path) -> None:
    parent = begun(tmp_path, *_COMMAND)
    try:
        assert working(tmp_path, 60.0)
        assert len(alive(parent.pid)) >= 3, "the command and two workers"
        os.kill(parent.pid, getattr(signal, name))  # the parent alone
        code = parent.wait(_WITHIN)
        end = time.monotonic() + _WITHIN
        while alive(parent.pid) and time.monotonic() < end:
            time.sleep(0.1)
        assert not alive(parent.pid)
    finally:
        for process in alive(parent.pid):
            os.kill(process, signal.SIGKILL)
    number = getattr(signal, name)
    assert code == (-number if name == "SIGKILL" else 128 + number)
    again = begun(tmp_path, *_COMMAND)
    assert again.wait(120.0) == 0
    assert len(list(tmp_path.rglob("*GP-seed*.json"))) == 4
    assert not list(tmp_path.rglob("*.checkpoint.safetensors"))
