"""Keep committed notebooks clean and current: outputs stay, metadata that depends on the run goes.

`python .ci/notebooks.py` scrubs them after they were run in place; a test verifies with the same
arguments. `python .ci/notebooks.py FOLDER` compares what they print with notebooks run anew.
"""

import re
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
_DROPPED = (
    "metadata.papermill metadata.language_info metadata.widgets cell.metadata.papermill "
    "cell.metadata.execution"
)
_DIFFERENT = {"nbval-ignore-output", "injected-parameters"}
_NUMBER = re.compile(r"[-+]?\d[\d,.]*| +|─+")


def scrub(*options: str) -> subprocess.CompletedProcess[str]:
    """Run nbstripout on all notebooks; outputs, counts and names of cells stay."""
    kept = ("--keep-output", "--keep-count", "--keep-id", f"--extra-keys={_DROPPED}")
    command = [sys.executable, "-m", "nbstripout", *kept, *options, *map(str, NOTEBOOKS)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def printed(path: Path) -> list[str]:
    """Return what the cells of a notebook print, but for those that differ from run to run.

    Networks trained on another processor differ in their last digits: numbers count only where a
    notebook trains nothing, as the scoreboard, and in what is set from records: cards and verdicts.
    """
    texts = []
    for cell in nbformat.read(path, as_version=4).cells:
        tags = {*cell.metadata.get("tags", ())}
        if cell.cell_type == "code" and not tags & _DIFFERENT:
            outputs = [o.text for o in cell.outputs if o.output_type == "stream"]
            text = "".join(outputs)
            texts.append(text if "scoreboard" in path.stem else _NUMBER.sub("#", text))
            texts += [
                o.data["text/markdown"]
                for o in cell.outputs
                if "text/markdown" in o.get("data", ())
            ]
    return texts


def stale(folder: Path) -> list[str]:
    """Return the names of committed notebooks that print something else than those in a folder."""
    return [path.name for path in NOTEBOOKS if printed(path) != printed(folder / path.name)]


if __name__ == "__main__":
    if sys.argv[1:]:
        old = stale(Path(sys.argv[1]))
        sys.exit(f"run `make notebooks`: {', '.join(old)} print what is no longer so" if old else 0)
    sys.exit(scrub().returncode)
