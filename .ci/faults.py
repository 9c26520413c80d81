"""Run the whole campaign of faults and print its figures: `make faults`."""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from hybrid.runs.instructions import ENVIRONMENT  # noqa: E402 (found through the line above)

os.environ.update(ENVIRONMENT)  # before torch is loaded: trials run in the process that is killed
from tests.faults import inputs, sweeps  # noqa: E402 (found through the line above)

OUT = ROOT / "build" / "faults.json"


def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweeps.sweep(folder / "undisturbed")
        expected = sweeps.outcome(folder / "undisturbed")
        record = next((folder / "undisturbed").rglob("*.json"))
        campaign: dict[str, Callable[[Path], dict]] = {
            "kill -9": lambda own: sweeps.kills(own, expected, 60),
            "full disk": lambda own: sweeps.full_disk(own, expected),
            "store that cannot be written": sweeps.read_only,
            "damaged records": lambda own: sweeps.damaged_records(own, record),
            "eight writers at once": sweeps.writers,
            "clock that goes backwards": lambda own: sweeps.backward_clock(own, expected),
            "NaN in the data": sweeps.nan_injection,
            "damaged inputs": lambda own: inputs.fuzz(own, 14_000),
        }
        figures = {}
        for number, (title, run) in enumerate(campaign.items()):
            own = folder / str(number)
            own.mkdir()
            figures[title] = run(own)
            print(
                f"{title}: {', '.join(f'{k} {v}' for k, v in figures[title].items())}", flush=True
            )
    bad = ("records lost", "wrong records believed", "other errors", "wrong data believed")
    assert not any(found.get(name) for found in figures.values() for name in bad), figures
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
