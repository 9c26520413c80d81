"""Networks of one's own on the simulated chip, by command: any file that hybrid.save wrote."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import hybrid
from hybrid import cli
from hybrid.model.coding import Rank, Rate
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import STDP, Hebbian


def network(**options: Any) -> FullyConnected:
    options = {"rule": Hebbian(trace_decay=0.9), "readout": Rate(), "steps": 4, **options}
    draw = torch.Generator().manual_seed(0)
    neuron = LIF(decay=0.6, v_th=0.3)
    meta = InitialMeta.up_to(0.1)
    return FullyConnected((30, 40, 5), neuron=neuron, initial_meta=meta, generator=draw, **options)


def tianjic(path: Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["tianjic", str(path)])
    return done.exit_code, " ".join(done.output.split())


def test_a_saved_network_is_brought_to_the_chip(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    own = network()
    own(torch.rand(8, 30))
    hybrid.save(own, path)
    code, text = tianjic(path)
    assert code == 0, text
    for part in ("no data are known", "chip, own trace; did not fit: none", "occupied of 156"):
        assert part in text
    same = re.findall(r"([\d.]+) % of the answers are those of floating point", text)
    assert len(same) == 2
    assert min(map(float, same)) > 80.0


def test_without_traces_there_is_one_form(tmp_path: Path) -> None:
    hybrid.save(network(rule=None), tmp_path / "own.safetensors")
    code, text = tianjic(tmp_path / "own.safetensors")
    assert code == 0, text
    assert "chip, frozen" in text
    assert "own trace" not in text


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: network(readout=Rank()), "Rank is no read-out of the chip"),
        (lambda: network(rule=STDP(trace_decay=0.9)), "STDP"),
        (
            lambda: Convolutional(
                (1, 4, 4),
                [Convolution(channels=2)],
                [Dense(size=3)],
                neuron=LIF(decay=0.5, v_th=0.2),
                rule=None,
                readout=Rate(),
                steps=3,
            ),
            "Convolutional cannot be quantised",
        ),
    ],
)
def test_what_the_chip_cannot_take_is_named(build: Any, words: str, tmp_path: Path) -> None:
    hybrid.save(build(), tmp_path / "own.safetensors")
    code, text = tianjic(tmp_path / "own.safetensors")
    assert code == 1
    assert words in text
