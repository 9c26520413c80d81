"""Run the whole campaign of faults and write what it found: `make faults`.

It takes about 25 minutes. The figures go to `data/results/faults.json` and into the page
`docs/faults.md`, kind by kind; each says which code it attacked. `python .ci/faults.py NAME` runs
the kinds with this in their names alone.
"""

import logging
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from hybrid.runs.instructions import ENVIRONMENT  # noqa: E402 (found through the line above)

os.environ.update(ENVIRONMENT)  # before torch is loaded: trials run in the process that is killed
from hybrid.experiments.core.trials import source_sha256  # noqa: E402
from hybrid.report.scoreboard import between_markers  # noqa: E402
from hybrid.runs.files import read_sealed, sealed, write_atomically  # noqa: E402
from tests.faults import campaign  # noqa: E402
from tests.faults.tally import as_line  # noqa: E402

OUT = ROOT / "data" / "results" / "faults.json"
MARKS = "<!-- faults: begin -->", "<!-- faults: end -->"
PAGE = ROOT / "docs" / "faults.md"


def main(part: str = "") -> None:
    """Run the kinds with a part in their names, and keep the figures of those that are survived."""
    logging.disable(logging.WARNING)
    try:
        kept = read_sealed(OUT)["kinds"]
    except FileNotFoundError:
        kept = {}
    bad = list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(campaign.KINDS):
            if part not in name:
                continue
            tally = campaign.run(name, Path(folder) / str(number), quick=False)
            print(as_line(name, tally), flush=True)
            bad += tally.bad
            if not tally.bad and tally.tried:
                kept[name] = {**tally.figures(), "code": source_sha256()[:16]}
                write(kept)
    if bad:
        sys.exit(f"{len(bad)} attacks were not survived")


def write(kept: dict) -> None:
    """Keep figures, and show them on the page."""
    record = {"kinds": {name: kept[name] for name in campaign.KINDS if name in kept}}
    write_atomically(OUT, sealed(record).encode())
    text = between_markers(PAGE.read_text("utf-8"), campaign.as_table(record), *MARKS)
    write_atomically(PAGE, text.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
