"""Where files of the project lie: in a checkout, or in the installed package."""

from pathlib import Path

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


def package_sources() -> dict[str, str]:
    """Return the package's own Python sources by path."""
    files = sorted(_PACKAGE.rglob("*.py"))
    return {file.relative_to(_PACKAGE).as_posix(): file.read_text("utf-8") for file in files}
