"""Write `environment.yml` from the lock: the same pins for conda and mamba users.

`python .ci/environment.py` renews the file; a test compares it with what the lock says.
"""

import re
import tomllib
from pathlib import Path

from packaging.markers import Marker
from ready import pinned, project_of, torch_pin

ROOT = Path(__file__).resolve().parents[1]
_PYTHON = {"python_version": "3.11", "python_full_version": "3.11.0"}

HEADER = """\
# For conda and mamba users: conda env create -f environment.yml
# Generated from requirements.lock by `make lock`; the same versions that `make` installs with pip.
name: hybrid
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def pins(lock: str) -> dict[str, str]:
    """Return package -> version for Python 3.11 from a lock with markers; torch is not in it."""
    found = {}
    for line in pinned(lock):
        match = re.match(r"([A-Za-z0-9_.\\-]+)==([^ ;]+)(?: ; (.*))?", line)
        if match and (match[3] is None or Marker(match[3]).evaluate(_PYTHON)):
            found[match[1].lower()] = match[2]
    return found


def direct_dependencies(project: str) -> list[str]:
    """Return the names that `pyproject.toml` asks for, extras included."""
    table = tomllib.loads(project)["project"]
    extras = table["optional-dependencies"].values()
    wanted = [*table["dependencies"], *(name for extra in extras for name in extra)]
    return sorted({re.split(r"[<>=]", name)[0].lower() for name in wanted})


def environment() -> str:
    """Return the text of `environment.yml`."""
    locked = pins((ROOT / "requirements.lock").read_text())
    locked["torch"] = torch_pin(project_of(ROOT)).partition("==")[2]
    names = direct_dependencies((ROOT / "pyproject.toml").read_text())
    lines = [f"      - {name}=={locked[name]}\n" for name in names]
    return HEADER + "".join(lines) + "      - --editable .\n"


if __name__ == "__main__":
    (ROOT / "environment.yml").write_text(environment())
