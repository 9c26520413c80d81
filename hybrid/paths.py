"""Where files of the project lie: in a checkout, or in the installed package."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path:
    """Return the folder that holds `data/` and `figures/`: the checkout, or the working folder."""
    checkout = _PACKAGE.parent
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def shipped(name: str) -> Path:
    """Return a file of the project's `data/`: in the checkout, or as the package brings it."""
    checkout = _PACKAGE.parent / "data" / name
    return checkout if checkout.exists() else _PACKAGE / "shipped" / name


def results_folder(profile: str) -> Path:
    """Return where the records of a profile lie."""
    return project_root() / "data" / "results" / profile


def named_object(place: str) -> Any:
    """Return what a Python file of the user's defines, by its place `file.py:name`.

    The file is run once in each process; other files beside it can be imported from it.

    Raises:
        ValueError: if there is no such file or name, or the file cannot be run.
    """
    file, _, name = place.rpartition(":")
    path = Path(file).expanduser().resolve()
    if not file or not name or not path.is_file():
        raise ValueError(f"{place!r}: give a Python file and a name in it, such as my_data.py:make")
    key = f"hybrid_user_{path}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, path)
        if spec is None or spec.loader is None:
            raise ValueError(f"{path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        sys.path.insert(0, str(path.parent))
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[key]
            raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(str(path.parent))
    if not hasattr(sys.modules[key], name):
        raise ValueError(f"{path} defines no {name!r}")
    return getattr(sys.modules[key], name)


def package_sources() -> dict[str, str]:
    """Return the package's own Python sources by path."""
    files = sorted(_PACKAGE.rglob("*.py"))
    return {file.relative_to(_PACKAGE).as_posix(): file.read_text("utf-8") for file in files}
