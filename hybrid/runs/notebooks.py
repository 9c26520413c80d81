"""Notebooks run headless with papermill, here or on a cluster.

Whoever runs a notebook sends back the bytes of what it became and of the figures it wrote: nothing
has to be shared but the code and what the notebook reads.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from hybrid.runs.fanout import fan_out
from hybrid.runs.files import write_atomically

KERNEL = "python3"
_FIGURES = "figures"  # beside the notebook, wherever it runs
_LONGEST = 1800  # seconds for a cell


class Page(NamedTuple):
    """A notebook to be run.

    Attributes:
        name: of its file.
        content: bytes of its file.
        parameters: of papermill; "out_dir" is added.
    """

    name: str
    content: bytes
    parameters: dict[str, Any]


class NotebookError(ValueError):
    """Cells have failed; the message names them and where the notebooks lie."""


class Executed(NamedTuple):
    """A notebook that was run."""

    name: str
    content: bytes
    figures: dict[str, bytes]  # by path below the folder of figures
    seconds: float
    failed: str | None  # what went wrong in which cell


def execute(page: Page) -> Executed:
    """Run one notebook, up to a cell that fails.

    Raises:
        ValueError: if papermill is not installed.
    """
    try:
        import papermill  # slow to import, and of no use to other commands
        from nbclient.exceptions import CellTimeoutError, DeadKernelError
    except ImportError as error:
        raise ValueError(
            "notebooks need papermill and Jupyter: in a checkout, `pip install '.[notebooks]'`"
        ) from error

    failed = None
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, target = folder / page.name, folder / f"done-{page.name}"
        source.write_bytes(page.content)
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = str(_own_kernel(folder))
        try:
            papermill.execute_notebook(
                source,
                target,
                parameters={**page.parameters, "out_dir": _FIGURES},
                cwd=folder,
                kernel_name=KERNEL,
                execution_timeout=_LONGEST,
                progress_bar=False,
            )
        except papermill.PapermillExecutionError as error:
            failed = f"cell {error.exec_count} raised {error.ename}: {_shortened(error.evalue)}"
        except DeadKernelError:
            failed = (
                "its kernel was killed, most often for want of memory: run again with fewer "
                "notebooks at a time"
            )
        except CellTimeoutError:
            failed = f"a cell took more than {_LONGEST // 60:.0f} minutes: is the machine busy?"
        except RuntimeError as error:  # as a kernel that does not start raises
            why = _shortened(str(error))
            failed = f"its kernel did not start ({why}): run again with fewer notebooks at a time"
        except Exception as error:  # it is no notebook, or one that papermill cannot run
            failed = f"cannot be run: {type(error).__name__}: {_shortened(str(error))}"
        finally:
            del os.environ["JUPYTER_PATH"]
            if before is not None:
                os.environ["JUPYTER_PATH"] = before
        figures = {
            path.relative_to(folder / _FIGURES).as_posix(): path.read_bytes()
            for path in sorted((folder / _FIGURES).rglob("*"))
            if path.is_file()
        }
        seconds = time.perf_counter() - began
        content = target.read_bytes() if target.exists() else page.content
        return Executed(page.name, content, figures, seconds, failed)


def _shortened(text: str) -> str:
    """Return a message in one line of no great length."""
    return " ".join(text.split())[:300]


def _own_kernel(folder: Path) -> Path:
    """Return a folder for JUPYTER_PATH whose kernel is this interpreter, whatever the user has."""
    own = folder / "jupyter" / "kernels" / KERNEL
    own.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "Python 3 (ipykernel)", "language": "python"}
    (own / "kernel.json").write_text(json.dumps(spec), "utf-8")
    return folder / "jupyter"


def execute_all(
    pages: list[Page], *, folder: Path, figures: Path, jobs: int, title: str
) -> list[Executed]:
    """Run notebooks, and keep what they become and what they draw.

    Args:
        pages: to run.
        folder: for the notebooks.
        figures: folder that figures go to, below it as the notebooks have it.
        jobs: how many at a time.
        title: of the progress bar.

    Raises:
        NotebookError: if cells failed, after all notebooks; those with the errors are kept, too.
    """
    found = []
    for _, done in fan_out(execute, pages, jobs=jobs, title=title, unit="notebook"):
        write_atomically(folder / done.name, done.content)
        for name, content in done.figures.items():
            write_atomically(figures / name, content)
        found.append(done)
    failed = [f"{folder / done.name}: {done.failed}" for done in found if done.failed]
    if failed:
        raise NotebookError("\n".join(failed))
    return sorted(found, key=lambda page: page.name)
