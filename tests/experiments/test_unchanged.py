"""What the redesign of the house (version 0.2.0) left as it was at commit e392522.

Settings, rows, claims and panels were written anew; records kept their results and run times,
figures their numbers. Whoever computes an experiment anew changes the numbers themselves: then its
lines in these vectors go.
"""

import hashlib
import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from hybrid.experiments.core.records import label_of
from hybrid.experiments.event_tolerance import gestures
from hybrid.experiments.registry import EXPERIMENTS
from hybrid.paths import project_root
from hybrid.report import figures as saved
from tests.drawn import Floats, drawn
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


@pytest.fixture(scope="module")
def before() -> dict[str, Floats]:
    with np.load(FOLDER / "panels_e392522.npz") as file:
        return {name: file[name] for name in file.files}


def figures_of(name: str) -> Iterator[tuple[str, Figure]]:
    if name == "model":
        yield "fig1", of_notebook("01_model")
    elif name == "gestures":
        yield "fig3_gestures", gestures.draw(gestures.load())
    else:
        experiment = EXPERIMENTS[name]
        for title, (figure, _) in experiment.draw(experiment.load("laptop"), 0).items():
            yield title, figure


def of_notebook(name: str) -> Figure:
    """The one figure that a notebook shows, of its code cells run here."""
    shown: list[Figure] = []
    cells = json.loads((project_root() / "notebooks" / f"{name}.ipynb").read_text("utf-8"))["cells"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved, "show", lambda figure, *rest: shown.append(figure))
        names: dict[str, object] = {"__name__": "__main__"}
        usual = torch.get_default_dtype()
        for cell in cells:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), name, "exec"), names)
        torch.set_default_dtype(usual)
    (figure,) = shown
    return figure


@pytest.mark.parametrize("name", ["model", *EXPERIMENTS, "gestures"])
def test_every_panel_of_a_laptop_figure_receives_the_same_numbers(
    name: str, before: dict[str, Floats]
) -> None:
    own = {}
    for title, figure in figures_of(name):
        own |= {f"{title}/{key}": numbers for key, numbers in drawn(figure).items()}
    titles = {key.split("/")[0] for key in own}
    kept = {key: numbers for key, numbers in before.items() if key.split("/")[0] in titles}
    assert kept
    for key, numbers in kept.items():
        for one, other in ((numbers, own[key]), (own[key], numbers)):
            nearest = np.abs(one[:, None] - other[None, :]).min(axis=1)
            assert (nearest <= 1e-9 * np.maximum(1.0, np.abs(one))).all(), key
