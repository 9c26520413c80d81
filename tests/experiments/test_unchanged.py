"""What the redesign of the house (version 0.2.0) left as it was; and what figures show.

Settings, rows and claims were written anew; records kept the results and run times that they had at
commit e392522. Whoever computes an experiment anew changes the numbers themselves: then its lines
in these vectors go.
"""

import hashlib
import json

import numpy as np
import pytest
from matplotlib.lines import Line2D

from hybrid.experiments.core.records import label_of
from hybrid.experiments.registry import EXPERIMENTS
from tests.golden import FOLDER


def test_every_committed_record_has_the_result_and_the_time_it_had() -> None:
    digests = json.loads((FOLDER / "results_e392522.json").read_text("utf-8"))
    assert len(digests) == 332
    found = {}
    for profile, experiment in {tuple(name.split("/")[:2]) for name in digests}:
        for record in EXPERIMENTS[experiment].load(profile).records:
            request = record["request"]
            method, seed = request["method"]["name"], request["seed"]
            kept = {part: record[part] for part in ("result", "about")}
            text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
            name = f"{profile}/{experiment}/{label_of(record)}/{method}/{seed}"
            found[name] = hashlib.sha256(text.encode()).hexdigest()
    assert {name: found.get(name) for name in digests} == digests, "others were added since"


@pytest.mark.parametrize("name", ["fault_tolerance", "classification", "few_shot", "continual"])
def test_every_line_of_a_figure_shows_means_over_seeds_of_its_records(name: str) -> None:
    """Of a column of the frame, or of HP minus GP; computed here by another way, from all rows."""
    experiment = EXPERIMENTS[name]
    records = experiment.load("laptop")
    frame = records.frame
    by = ["label", "method", "protocol", "condition", "level"]
    numbers = frame.select_dtypes("number").columns.difference([*by, "seed"])
    known = [frame.groupby(by)[list(numbers)].mean().to_numpy().ravel()]
    usual = frame[frame["usual"]].pivot_table("accuracy", ["label", "condition", "level"], "method")
    known.append((usual["HP"] - usual["GP"]).to_numpy())
    means = np.concatenate(known)
    seen = 0
    for title, (draw, _) in experiment.draw(records, 0).items():
        for axes in draw().axes:
            for line in axes.get_legend_handles_labels()[0]:
                if not isinstance(line, Line2D) or line.get_label() in ("authors", "rerun"):
                    continue
                for value in np.asarray(line.get_ydata(orig=False), dtype=float):
                    assert np.nanmin(np.abs(means - value)) < 1e-9, (title, line.get_label())
                    seen += 1
    assert seen > 10
