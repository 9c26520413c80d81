"""Where files of the project lie: in a checkout, or in the installed package."""

import importlib
import importlib.util
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pooch

_PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path:
    """Return the folder that holds `data/` and `figures/`: the checkout, or the working folder."""
    checkout = _PACKAGE.parent
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def shipped(name: str) -> Path:
    """Return a file of the project's `data/`: in the checkout, or as the package brings it."""
    checkout = _PACKAGE.parent / "data" / name
    return checkout if checkout.exists() else _PACKAGE / "shipped" / name


def folder_of(setting: str, default: str = "") -> Path:
    """Return the folder that an environment variable names, or one below the user's cache.

    Args:
        setting: name of the variable.
        default: path below the user's cache folder of the package.

    Raises:
        ValueError: if neither can be told: there is no home.
    """
    named = os.environ.get(setting)
    try:
        return Path(named).expanduser() if named else Path(pooch.os_cache("hybrid")) / default
    except RuntimeError as error:
        raise ValueError(
            f"the user has no home folder: set {setting} to a folder for files"
        ) from error


def results_folder(profile: str) -> Path:
    """Return where the records of a profile lie."""
    return project_root() / "data" / "results" / profile


def named_object(place: str) -> Any:
    """Return what a Python file of the user's defines, by its place `file.py:name`.

    The file is run once in each process; other files beside it can be imported from it, there and
    afterwards.

    Raises:
        ValueError: if there is no such file or name, or the file cannot be run.
    """
    file, _, name = place.rpartition(":")
    path = Path(file).expanduser().resolve()
    if not file or not name or not path.is_file():
        raise ValueError(f"{place!r}: give a Python file and a name in it, such as my_data.py:make")
    if path.suffix != ".py":
        raise ValueError(f"{path} is no Python file: give one whose name ends in .py")
    try:
        module = importlib.import_module(_PREFIX + str(path).encode().hex())
    except Exception as error:
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ValueError(f"{path} defines no {name!r}")
    return getattr(module, name)


_PREFIX = "hybrid_user_"


class UserFiles(MetaPathFinder):
    """Finds files of the user's, as modules whose names say where they are.

    So what such a file defines, a rule for example, can be sent to another process, which finds
    the file again, and what lies beside it.
    """

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        """Return what Python needs to run a file; None for other modules."""
        if not fullname.startswith(_PREFIX):
            return None
        path = Path(bytes.fromhex(fullname.removeprefix(_PREFIX)).decode())
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))  # as of a script
        return importlib.util.spec_from_file_location(fullname, path)


sys.meta_path.append(UserFiles())


def package_sources() -> dict[str, str]:
    """Return what decides in the package's own files by path: Python sources, and constants."""
    kinds = ("*.py", "tianjic/*.toml")
    files = sorted(path for kind in kinds for path in _PACKAGE.rglob(kind))
    return {file.relative_to(_PACKAGE).as_posix(): file.read_text("utf-8") for file in files}
