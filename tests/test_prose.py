"""Numbers in the text of notebooks are those that code has, or that it prints from records."""

import re
from pathlib import Path

import nbformat
import pytest

from hybrid.experiments.registry import EXPERIMENTS
from hybrid.paths import project_root
from hybrid.report.scoreboard import load_claims
from notebooks import NOTEBOOKS

_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
_NOT_PROSE = re.compile(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|<[^>]*>", re.DOTALL)
# Of papers, of data sets, and steps of a calculation by hand.
_EXCEPTIONS = {
    "01_model": {
        "13": "of the journal",
        "65": "of the journal",
        "2022": "a year",
        "0.45": "by hand",
        "512": "an example",
    },
    "03b_event_cameras": {
        "1,100": "recordings at hand",
        "0.95": "the margin that was set",
        "200": "ms",
        "500": "recordings",
        "90": "of the recordings that chose neuron and rule",
        "59,000": "digits of MNIST without a real recording here",
        "128": "pixels of the sensor",
        "1.45": "seconds of a recording",
    },
    "04_few_shot": {
        "400": "episodes of the authors",
        "1,623": "characters of Omniglot",
        "17": "of an equation",
    },
    "05_continual": {"2018": "a year"},
    "07_scoreboard": {"5,000": "images held out"},
}


def numbers(text: str) -> dict[str, float]:
    """Return the numbers in a text, as written and as they are."""
    return {
        found.rstrip(","): float(found.replace(",", "")) for found in _NUMBER.findall(text) if found
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_number_in_the_text_of_a_notebook_is_backed(path: Path) -> None:
    """By its code, by what it printed, or by the claims that it is about; few are excepted."""
    cells = nbformat.read(path, as_version=4).cells
    known = []
    for claim in load_claims():
        if EXPERIMENTS[claim.id.split("/")[0]].notebook == path.stem:
            known += [claim.text, f"{claim.reported} {claim.rerun} {claim.low}"]
    if path.stem == "06_tianjic":
        known.append((project_root() / "hybrid" / "tianjic" / "chip.toml").read_text("utf-8"))
    for cell in cells:
        if cell.cell_type == "code":
            known.append(cell.source)
            for output in cell.outputs:
                known += [output.get("text", ""), output.get("data", {}).get("text/markdown", "")]
    values = set(numbers("\n".join(known)).values())
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    said = numbers(_NOT_PROSE.sub(" ", prose))
    excepted = _EXCEPTIONS.get(path.stem, {})
    assert {number for number, value in said.items() if value not in values} == set(excepted)
