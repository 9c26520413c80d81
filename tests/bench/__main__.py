"""Run all benchmarks: medians of interleaved repeats in one process, and ratios.

Prints a table and writes `build/bench.json`. Absolute times depend on the machine and on whatever
else runs on it; ratios within one run are what counts.
"""

import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hybrid.experiments.classification import EXPERIMENT
from hybrid.experiments.classification.plans import GP, HP, MNIST_NETWORK
from hybrid.experiments.core.trials import Trial
from hybrid.learning.training import one_hot_mse
from hybrid.model.coding import LastMembrane, Rate
from hybrid.model.networks import FullyConnected, HybridNetwork
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.runs.files import sealed
from tests.bench import chip, continual, few_shot, frames
from tests.bench.baselines import Materialised, PlainLoop
from tests.bench.peers import PEERS, Peer

REPEATS = 9
SAMPLES = 100
# Name: steps, threshold, trace decay of the authors' simple-example and fault-tolerance networks.
SETTINGS = {"T=10": (10, 0.35, 0.95), "T=5": (5, 0.4, 0.99)}
OUT = Path(__file__).resolve().parents[2] / "build" / "bench.json"


def network(setting: str, local: bool) -> FullyConnected:
    steps, v_th, trace_decay = SETTINGS[setting]
    return FullyConnected(
        (784, 512, 10),
        neuron=LIF(decay=0.4, v_th=v_th),
        rule=Hebbian(trace_decay=trace_decay, trace_clip=4.0) if local else None,
        readout=LastMembrane(ceiling=1.1),
        steps=steps,
        tau=40.0,
        generator=torch.Generator().manual_seed(0),
    )


def iteration(net: HybridNetwork, forward: Callable[[Tensor], Tensor], fused: bool) -> Callable:
    """Return one whole training iteration: forward, backward, both optimisers."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(SAMPLES, 784, generator=generator)
    x = x * (torch.rand(SAMPLES, 784, generator=generator) < 0.5)
    labels = torch.randint(0, 10, (SAMPLES,), generator=generator)
    groups = [p for p in (net.weight_parameters(), net.meta_parameters()) if p]
    optimisers = [torch.optim.Adam(parameters, 1e-3, fused=fused) for parameters in groups]

    def run() -> float:
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss = one_hot_mse(forward(x), labels)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        return loss.item()

    return run


def ours(setting: str, local: bool) -> Callable:
    net = network(setting, local)
    return iteration(net, lambda x: net(x).output, fused=True)


def baseline(setting: str, kind: type[nn.Module], local: bool) -> Callable:
    net = network(setting, local)
    return iteration(net, kind(net), fused=False)


def peer(setting: str, own: Peer) -> Callable:
    net = network(setting, local=False)
    return iteration(net, own(net), fused=True)


def interleaved(work: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Return the median time of each piece of work in ms, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, run in work.items():
            run()  # warms caches that the previous piece of work has filled
            began = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in times.items()}


def compare(threads: int) -> list[dict]:
    """Time everything with a number of threads."""
    torch.set_num_threads(threads)
    rows = []
    for setting in SETTINGS:
        work = {
            "HP, [N, in, out] materialised": baseline(setting, Materialised, local=True),
            "HP, ours": ours(setting, local=True),
            "GP, plain loop": baseline(setting, PlainLoop, local=False),
            "GP, ours": ours(setting, local=False),
            **{f"GP, {name}": peer(setting, own) for name, own in PEERS.items()},
        }
        losses = {name: run() for name, run in work.items()}
        assert abs(losses["HP, ours"] - losses["HP, [N, in, out] materialised"]) < 1e-5
        assert abs(losses["GP, ours"] - losses["GP, plain loop"]) < 1e-5
        times = interleaved(work, REPEATS)
        base = times["HP, [N, in, out] materialised"]
        for name, ms in times.items():
            rows.append(
                {
                    "threads": threads,
                    "work": f"784-512-10, {setting}: {name}",
                    "ms": round(ms, 2),
                    "speed-up": round(base / ms, 1),
                    "of GP, ours": round(ms / times["GP, ours"], 2),
                }
            )
    return rows


def compare_convolutional(threads: int) -> list[dict]:
    """Time the authors' MNIST network at full width, for four steps: where most batches stop."""
    torch.set_num_threads(threads)
    settings = replace(MNIST_NETWORK, readout=Rate(), steps=4)
    networks = {m.name: Trial(EXPERIMENT, settings, m, 1).build() for m in (GP, HP)}
    work = {
        f"{name}, ours": iteration(net, lambda x, net=net: net(x).output, fused=True)
        for name, net in networks.items()
    }
    times = interleaved(work, 5)
    return [
        {
            "threads": threads,
            "work": f"128C3-256C3-256C3-512-10, T=4: {name}",
            "ms": round(ms, 1),
            "of GP, ours": round(ms / times["GP, ours"], 2),
        }
        for name, ms in times.items()
    ]


def compare_few_shot(threads: int) -> tuple[list[dict], float]:
    """Time training episodes one at a time and side by side, at full width."""
    torch.set_num_threads(threads)
    work, episodes, difference = few_shot.work()
    each = {name: ms / episodes[name] for name, ms in interleaved(work, 5).items()}
    base = next(iter(each.values()))
    rows = [
        {
            "threads": threads,
            "work": f"few-shot, 4 x 128 channels, 5-way 1-shot: {name}",
            "ms": round(ms, 2),
            "speed-up": round(base / ms, 1),
        }
        for name, ms in each.items()
    ]
    return rows, difference


def compare_continual(threads: int) -> list[dict]:
    """Time the continual-learning network at the paper's size, T = 3, with 3 % masks."""
    torch.set_num_threads(threads)
    work = {name: continual.iteration(name) for name in continual.FORMS}
    losses = {name: run() for name, run in work.items()}
    first = losses["HP, [N, in, out] materialised"]
    assert abs(losses["HP, ours"] - first) < 1e-5
    assert abs(losses["HP, dense masks"] - first) < 1e-5
    times = interleaved(work, 5)
    base = times["HP, [N, in, out] materialised"]
    return [
        {
            "threads": threads,
            "work": f"784-1024-1024-10, T=3, masks: {name}",
            "ms": round(ms, 1),
            "speed-up": round(base / ms, 1),
        }
        for name, ms in times.items()
    ]


def compare_frames() -> list[dict]:
    """Time frames of 1,000 recordings."""
    times = interleaved(frames.work(), 5)
    base = times["tonic, ToFrame"]
    return [
        {
            "threads": 1,
            "work": f"{frames.RECORDINGS:,} recordings to {frames.STEPS} frames: {name}",
            "ms": round(ms, 1),
            "speed-up": round(base / ms, 1),
        }
        for name, ms in times.items()
    ]


def compare_chip(threads: int) -> list[dict]:
    """Time the simulated chip: synaptic events per second."""
    torch.set_num_threads(threads)
    work = {f"simulated chip, 784-512-10, T=10: {n}": own for n, own in chip.work().items()}
    work["SANA-FE's Loihi, 784-512-10: one after the other"] = chip.sana_fe()
    times = interleaved({name: call for name, (call, _) in work.items()}, 5)
    return [
        {
            "threads": threads,
            "work": name,
            "ms": round(times[name], 1),
            "events per s": round(count / times[name] * 1e3),
        }
        for name, (_, count) in work.items()
    ]


def resident_peak() -> float:
    """Return this process's peak resident memory in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage, not inherited from the parent process
        (line,) = [row for row in status.read_text().splitlines() if row.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def peak_memory(which: str) -> float:
    """Return the peak memory in MB that ten iterations add to a process that holds the model."""
    code = (
        "import torch; from tests.bench import __main__ as b; torch.set_num_threads(1);"
        f"run = {which}; before = b.resident_peak();"
        "[run() for _ in range(10)]; print(b.resident_peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return round(float(done.stdout), 1)


def main() -> None:
    cores = os.cpu_count() or 1
    rows = [row for threads in sorted({1, min(2, cores)}) for row in compare(threads)]
    rows += compare_convolutional(min(2, cores))
    rows += [row for threads in sorted({1, min(2, cores)}) for row in compare_continual(threads)]
    few_shot_rows, difference = compare_few_shot(min(2, cores))
    rows += few_shot_rows
    rows += compare_frames()
    rows += compare_chip(min(2, cores))
    memory = {
        "HP, [N, in, out] materialised": peak_memory("b.baseline('T=10', b.Materialised, True)"),
        "HP, ours": peak_memory("b.ours('T=10', True)"),
    }
    memory |= {
        f"continual {name}": peak_memory(f"b.continual.iteration({name!r})")
        for name in continual.FORMS
    }
    memory["masks of 50 tasks"] = continual.mask_megabytes()
    width = max(len(row["work"]) for row in rows)
    print(f"{'one training iteration, batch 100':{width}s} threads       ms  speed-up  of GP, ours")
    for row in rows:
        speed_up = f"{row['speed-up']:8.1f}x" if "speed-up" in row else " " * 9
        of_gp = f"{row['of GP, ours']:10.2f}x" if "of GP, ours" in row else ""
        if "events per s" in row:
            of_gp = f"  {row['events per s']:.1e} synaptic events per s"
        line = f"{row['work']:{width}s} {row['threads']:7d} {row['ms']:8.1f} {speed_up} {of_gp}"
        print(line.rstrip())
    print("few-shot: ms are those of one episode; scores side by side and one at a time differ")
    print(f"by at most {difference:.1e}")
    print("peak memory beyond the model (MB):")
    for name, megabytes in memory.items():
        print(f"  {name}: {megabytes}")
    report = {
        "rows": rows,
        "memory_MB": memory,
        "few_shot_difference": difference,
        "machine": f"{platform.processor() or platform.machine()}, {cores} cores",
        "torch": torch.__version__,
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(sealed(report), "utf-8")
    print(f"written to {OUT}")


if __name__ == "__main__":
    main()
