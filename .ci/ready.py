"""Make `.venv` what the lock says, or leave it alone if it is: `make` begins with this.

`.venv/.ready` says for which folder, interpreter, lock and project the environment was made. One
that was copied, moved, or interrupted while it was made says something else, or nothing, and is
made anew. A lock or project that changed installs only what the environment lacks, and needs no
network if it lacks nothing.
"""

import json
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 (before what an older one lacks)
    sys.exit("Python >= 3.11 is needed: set PYTHON=...")
import tomllib

ROOT = Path(__file__).resolve().parents[1]

# Prints what is missing: run by the environment's own interpreter, which has `packaging`.
MISSING = """\
import re, sys
from importlib.metadata import distributions
from packaging.markers import Marker
from packaging.utils import canonicalize_name
here = {canonicalize_name(d.metadata["Name"]): d.version for d in distributions()}
for line in sys.stdin:
    name, version, marker = re.match(r"([^=]+)==([^ ;]+)(?: ; (.*))?", line.strip()).groups()
    if marker is None or Marker(marker).evaluate():
        if here.get(canonicalize_name(name), "").partition("+")[0] != version:
            print(name)
"""


def pinned(lock: str) -> list[str]:
    """Return the lines of a lock without their hashes: name==version, perhaps with a marker."""
    lines = [line.removesuffix(" \\") for line in lock.splitlines()]
    return [line for line in lines if re.match(r"[A-Za-z0-9]", line)]


def torch_pin(project: dict) -> str:
    """Return torch's requirement, which the lock lacks: its builds for one version differ."""
    (pin,) = project["tool"]["uv"]["constraint-dependencies"]
    return str(pin)


def project_of(root: Path) -> dict:
    """Return what `pyproject.toml` says."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))


def wanted(root: Path) -> dict[str, str]:
    """Return what an environment must have been made for."""
    files = {"lock": "requirements.lock", "project": "pyproject.toml"}
    return {
        "folder": str(root),
        "interpreter": f"{Path(sys.executable).resolve()} {sys.version}",
        **{name: sha256((root / file).read_bytes()).hexdigest() for name, file in files.items()},
    }


def missing(root: Path) -> list[str]:
    """Return the packages that the environment lacks or has in another version."""
    project = project_of(root)
    pins = [*pinned((root / "requirements.lock").read_text("utf-8")), torch_pin(project)]
    asked = subprocess.run(
        [python(root), "-c", MISSING], input="\n".join(pins), capture_output=True, text=True
    )
    if asked.returncode:
        return ["packaging"]  # cannot even be asked
    folder = root / ".venv" / "bin"
    commands = [name for name in project["project"]["scripts"] if not (folder / name).exists()]
    return asked.stdout.split() + commands


def python(root: Path) -> str:
    """Return the environment's interpreter."""
    return str(root / ".venv" / "bin" / "python")


def install(root: Path) -> None:
    """Install the lock, each file by its hash, then torch by its version, then this package.

    torch comes last of what is fetched: its CUDA build brings libraries that the CPU build does
    not have, and no lock can hold the hashes of both.
    """
    project = project_of(root)
    pip = [python(root), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for what in (
        ["--require-hashes", "--no-deps", "-r", str(root / "requirements.lock")],
        ["--no-warn-conflicts", torch_pin(project)],
        ["--no-deps", "--no-build-isolation", "-e", str(root)],
    ):
        if subprocess.run([*pip, *what]).returncode:
            sys.exit(
                "the environment could not be installed: see above. With a network, run again; "
                "what pip has fetched, it keeps"
            )


def ensure(root: Path = ROOT) -> None:
    """Leave the environment as it is, complete it, or make it anew."""
    environment = root / ".venv"
    ready, now = environment / ".ready", wanted(root)
    try:
        before = dict(json.loads(ready.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        before = {}
    whole = Path(python(root)).exists()
    if before == now and whole:
        return
    if environment.exists() and not ready.exists():
        sys.exit(f"{environment} was not made by `make`: move it away, and run again")
    if not whole or any(before.get(name) != now[name] for name in ("folder", "interpreter")):
        if environment.is_symlink():
            environment.unlink()  # what it leads to may be somebody else's
        elif environment.exists():
            shutil.rmtree(environment)
        environment.mkdir()
        ready.touch()  # empty: if this is interrupted, the next one begins anew
        if subprocess.run([sys.executable, "-m", "venv", str(environment)]).returncode:
            sys.exit(f"{sys.executable} can make no environment: see above, or set PYTHON=...")
    lacking = missing(root)
    if lacking:
        ready.write_text("", "utf-8")
        print(f"installing into {environment}: a few minutes, once", flush=True)
        install(root)
    ready.write_text(json.dumps(now), "utf-8")


def main() -> None:
    """Make the environment, one process at a time; with "torch", print what pins torch."""
    if sys.argv[1:] == ["torch"]:
        print(torch_pin(project_of(ROOT)))
        return
    import fcntl  # which Windows lacks

    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ensure()


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as problem:
        sys.exit(f"error: {problem}")
