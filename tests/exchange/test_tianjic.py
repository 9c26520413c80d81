"""Networks of one's own on the simulated chip, by command: any file that hybrid.save wrote."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import hybrid
from hybrid import cli
from hybrid.exchange.nir import to_nir
from hybrid.experiments.deployment.space import front
from hybrid.model.coding import Rank, Rate
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import STDP, Hebbian
from hybrid.tianjic.chip import load_chip


def network(**options: Any) -> FullyConnected:
    options = {"rule": Hebbian(trace_decay=0.9), "readout": Rate(), "steps": 4, **options}
    draw = torch.Generator().manual_seed(0)
    options = {"neuron": LIF(decay=0.6, v_th=0.3), **options}
    meta = InitialMeta.up_to(0.1)
    sizes = options.pop("sizes", (30, 40, 5))
    return FullyConnected(sizes, initial_meta=meta, generator=draw, **options)


def tianjic(path: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["tianjic", str(path), *options])
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "own.safetensors"
    hybrid.save(network(), path)
    return path


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


def convolutional() -> Convolutional:
    draw = torch.Generator().manual_seed(2)
    made = Convolutional(
        (1, 12, 12),
        [Convolution(channels=6, pooled=True)],
        [Dense(size=5)],
        neuron=LIF(decay=0.5, v_th=0.2, reset="zero"),
        rule=None,
        readout=Rank(fraction=0.8),
        steps=4,
        generator=draw,
    )
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(2.0)
    return made


def test_convolutions_and_pools_come_too(tmp_path: Path) -> None:
    """A network of this package; and the same as a NIR graph."""
    nir = pytest.importorskip("nir")
    own = tmp_path / "own.safetensors"
    hybrid.save(convolutional(), own)
    nir.write(tmp_path / "own.nir", to_nir(convolutional()))
    for code, text in (tianjic(own), tianjic(tmp_path / "own.nir", "--steps", "4")):
        assert code == 0, text
        assert "chip, frozen; did not fit: none" in text
        (same,) = re.findall(r"([\d.]+) % of the answers are those of floating point", text)
        assert float(same) > 75.0
    numbers = json.loads(CliRunner().invoke(cli.app, ["tianjic", str(own), "--json"]).output)
    assert 3 < numbers["forms"]["chip, frozen"]["cores"] < 20


def test_another_rule_runs_frozen(tmp_path: Path) -> None:
    hybrid.save(network(rule=STDP(trace_decay=0.9)), tmp_path / "own.safetensors")
    code, text = tianjic(tmp_path / "own.safetensors")
    assert code == 0, text
    assert "chip, own trace: not there, as STDP" in text
    assert "chip, frozen; did not fit: none" in text


def test_what_the_chip_cannot_take_is_named(tmp_path: Path) -> None:
    own = network(neuron=LIF(decay=0.6, v_th=torch.full((40,), 0.3)), sizes=(30, 40))
    hybrid.save(own, tmp_path / "own.safetensors")
    code, text = tianjic(tmp_path / "own.safetensors")
    assert code == 1
    assert "all neurons of a layer share their constants" in text


def test_networks_in_double_precision_come_too(tmp_path: Path) -> None:
    for own in (network().double(), convolutional().double()):
        hybrid.save(own, tmp_path / "own.safetensors")
        code, text = tianjic(tmp_path / "own.safetensors")
        assert code == 0, text


def test_numbers_are_printed_for_other_programs(saved: Path) -> None:
    code, text = tianjic(saved, "--json")
    assert code == 0, text
    found = json.loads(text)
    assert set(found["forms"]) == {"chip, frozen", "chip, own trace"} == set(found["agreement"])
    frozen, own = found["forms"]["chip, frozen"], found["forms"]["chip, own trace"]
    assert frozen["cores"] < own["cores"]
    assert 1e-5 < frozen["latency"] < own["latency"] < 1e-2
    for form in (frozen, own):
        energy = {name: values["median"] for name, values in form["energy"].items()}
        assert energy["naive"] < energy["gated"] < energy["busy"]
        assert form["phase"]["clocks"] >= form["phase"]["last packet"]["worst"]


def test_a_chip_of_ones_own_reaches_everything(saved: Path, tmp_path: Path) -> None:
    """Bits of potentials, cores, the length of a phase: in answers, mapping and time."""
    text = Path(load_chip.__code__.co_filename).with_name("chip.toml").read_text("utf-8")
    other = tmp_path / "mine.toml"

    def found(*changes: tuple[str, str]) -> dict[str, Any]:
        changed = text
        for name, value in changes:
            changed = re.sub(rf"(\[{name}\]\nvalue = )\S+", rf"\g<1>{value}", changed)
        other.write_text(changed, "utf-8")
        code, output = tianjic(saved, "--json", "--chip", str(other))
        assert code == 0, output
        return json.loads(output)

    plain = found()
    assert plain == json.loads(tianjic(saved, "--json")[1])
    slow = found(("phase_clocks", "10100"))
    for form, numbers in slow["forms"].items():
        assert numbers["latency"] == pytest.approx(2 * plain["forms"][form]["latency"])
    narrow = found(("potential_bits", "16"))
    assert narrow["forms"]["chip, frozen"]["did not fit"]
    assert narrow["agreement"] != plain["agreement"]
    coarse = found(("weight_bits", "2"))
    assert coarse["agreement"]["chip, frozen"] < plain["agreement"]["chip, frozen"]
    small = found(("fan_in", "16"))
    assert small["forms"]["chip, frozen"]["cores"] > plain["forms"]["chip, frozen"]["cores"]
    code, output = tianjic(saved, "--chip", str(tmp_path / "absent.toml"))
    assert (code, "absent.toml" in output) == (1, True)


def test_strictly_what_does_not_fit_is_an_error(saved: Path, tmp_path: Path) -> None:
    assert tianjic(saved, "--strict")[0] == 0
    text = Path(load_chip.__code__.co_filename).with_name("chip.toml").read_text("utf-8")
    other = tmp_path / "mine.toml"
    other.write_text(re.sub(r"(\[potential_bits\]\nvalue = )28", r"\g<1>16", text), "utf-8")
    code, output = tianjic(saved, "--strict", "--chip", str(other))
    assert code == 1
    assert "numbers that did not fit" in output
    assert "layer 1: potentials" in output
    tiny = re.sub(r"(\[core_sram\]\nvalue = )22000", r"\g<1>10", text)
    other.write_text(tiny, "utf-8")
    code, output = tianjic(saved, "--chip", str(other))
    assert code == 1
    assert "rule 'memory', layer 'layer 1'" in output


def test_a_nir_graph_is_brought_to_the_chip(tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    neuron = LIF(decay=0.6, v_th=0.3, reset="zero")
    own, path = network(rule=None, neuron=neuron, tau=None), tmp_path / "graph.nir"
    nir.write(path, hybrid.to_nir(own))
    code, text = tianjic(path, "--steps", "4", "--json")
    assert code == 0, text
    hybrid.save(own, tmp_path / "own.safetensors")
    expected = json.loads(tianjic(tmp_path / "own.safetensors", "--json")[1])
    (found,), (saved,) = (x["forms"].values() for x in (json.loads(text), expected))
    assert (found["cores"], found["latency"]) == (saved["cores"], saved["latency"])
    assert found["operations"]["acs"] == pytest.approx(saved["operations"]["acs"], rel=0.01)
    assert found["operations"]["acs"] > 0.0, "bare spikes between its layers"
    code, text = tianjic(path)
    assert (code, "give --steps" in text) == (1, True)
    assert tianjic(tmp_path / "other.nir", "--steps", "4")[0] == 1


def test_designs_are_compared_in_one_picture(saved: Path, tmp_path: Path) -> None:
    picture = tmp_path / "space.png"
    code, text = tianjic(saved, "--space", str(picture), "--json")
    assert code == 0, text
    assert picture.stat().st_size > 10_000
    points = json.loads(text)
    assert {point["bits"] for point in points} == {8, 6, 4, 3, 2}
    assert {point["memory"] for point in points} == {"wide", "narrow"}
    assert {point["cores of a chip"] for point in points} == {156, 64, 25}
    best = front(points)
    for point in points:
        assert any(
            one["energy"] <= point["energy"] and one["accuracy"] >= point["accuracy"]
            for one in best
        )
    code, text = tianjic(saved, "--space", str(picture))
    assert "best" in text
    code, text = tianjic(saved, "--space", str(tmp_path / "absent" / "space.png"))
    assert (code, "no folder" in text) == (1, True)
    code, text = tianjic(saved, "--space", str(picture), "--strict")
    assert (code, "--strict goes without --space" in text) == (1, True)


def test_designs_that_hold_no_network_are_left_out(tmp_path: Path) -> None:
    """At two bits the threshold of this one is less than a unit of its potentials."""
    own, path = network(neuron=LIF(decay=0.6, v_th=0.2), tau=None, rule=None), tmp_path / "own"
    with torch.no_grad():
        own.layers[1].weight[0, 0] = 0.7
    hybrid.save(own, path.with_suffix(".safetensors"))
    code, text = tianjic(path, "--space", str(tmp_path / "space.png"), "--json")
    assert code == 0, text
    assert 2 not in {point["bits"] for point in json.loads(text)}
