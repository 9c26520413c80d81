"""Networks of plastic layers, each layer processing its whole window before the next begins."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hybrid.model.coding import Encode, ReadOut
from hybrid.model.drive import Drive, Source, drive_decay, fade
from hybrid.model.layers import (
    HybridLinear,
    InitialMeta,
    Lifetime,
    meta_parameters,
    weight_parameters,
)
from hybrid.model.neurons import Neuron
from hybrid.model.plasticity import LocalRule, Pool
from hybrid.model.window.choice import Evaluation, Window


class Activity(NamedTuple):
    """What a network did with a batch."""

    output: Tensor  # read-out [N, classes]
    windows: tuple[Window, ...]  # one per layer

    def spike_counts(self) -> tuple[Tensor, ...]:
        """Return each layer's spikes per neuron, summed over the window [N, *neurons]."""
        return tuple(window.z.sum(0) for window in self.windows)

    def spikes(self) -> Tensor:
        """Return the spikes of each layer at each step for each sample [layers, T, N]."""
        return torch.stack([window.z.flatten(2).sum(-1) for window in self.windows])


class MetaLearner(nn.Module):
    """A network whose parameters are of two kinds: global ones, and meta-local ones θ."""

    def weight_parameters(self) -> list[nn.Parameter]:
        """Return the trained global parameters: weights and biases."""
        return weight_parameters(self)

    def meta_parameters(self) -> list[nn.Parameter]:
        """Return the trained meta-local parameters θ of all layers."""
        return meta_parameters(self)


class HybridNetwork(MetaLearner):
    """What networks share that answer with spiking neurons: a read-out and T steps."""

    neuron: Neuron
    readout: ReadOut
    gain: tuple[float, ...]  # of the fading drive, T values
    layers: nn.ModuleList  # dense layers, those that may be plastic

    @property
    def steps(self) -> int:
        """T, the longest window."""
        return len(self.gain)

    @property
    def v_th(self) -> float:
        """Threshold of the output neurons."""
        neuron: Neuron = self.layers[-1].neuron  # type: ignore[assignment]
        return neuron.v_th


class FullyConnected(HybridNetwork):
    """Fully connected hybrid network (authors' simple example and fault-tolerance networks).

    It runs all T steps, whatever the read-out: samples that have their answer go on.

    Args:
        sizes: neurons per layer, input first, for example (784, 512, 10).
        neuron: neuron model of all layers.
        rule: local rule of all plastic layers; None for a network that learns by gradients alone.
        readout: how the last layer becomes the output.
        steps: T.
        tau: time constant of the fading drive in steps, applied to each layer's input; or None.
        generator, meta_generator: sources of the initial weights and of the initial θ.
        lifetime, pool, initial_meta: see `HybridLinear`.
        plastic: which layers have a local module; None for all.
        encode: turns inputs [N, *] into what the first layer is shown; None shows them as they are.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        neuron: Neuron,
        rule: LocalRule | None,
        readout: ReadOut,
        steps: int,
        generator: torch.Generator,
        meta_generator: torch.Generator | None = None,
        tau: float | None = None,
        lifetime: Lifetime = "carry",
        pool: Pool = "batch",
        initial_meta: InitialMeta = InitialMeta.up_to(0.01),  # noqa: B008 (immutable)
        plastic: Sequence[bool] | None = None,
        encode: Encode | None = None,
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes = {tuple(sizes)}: give at least two sizes, all >= 1")
        layers = len(sizes) - 1
        plastic = (True,) * layers if plastic is None else tuple(plastic)
        if len(plastic) != layers:
            raise ValueError(f"plastic = {plastic}: give one entry per layer, here {layers}")
        self.neuron, self.readout, self.gain = neuron, readout, drive_decay(steps, tau)
        self.encode = encode
        self.layers = nn.ModuleList(
            HybridLinear(
                inputs,
                outputs,
                neuron=neuron,
                rule=rule if has_trace else None,
                generator=generator,
                meta_generator=meta_generator,
                lifetime=lifetime,
                pool=pool,
                initial_meta=initial_meta,
            )
            for (inputs, outputs), has_trace in zip(pairwise(sizes), plastic, strict=True)
        )

    def forward(
        self,
        source: Source,
        *,
        pool: Pool | None = None,
        evaluation: Evaluation = "auto",
        adapt: bool = True,
    ) -> Activity:
        """Show a batch for T steps.

        Args:
            source: images [N, in] shown at each step, or T inputs [N, in] (spikes, events); with
                `encode`, what that takes.
            pool, evaluation, adapt: see `run_window`.

        Returns:
            Output [N, out] and the windows of all layers.
        """
        if self.encode is not None:
            if not isinstance(source, Tensor):
                raise ValueError("a network that encodes its inputs needs one tensor [N, *]")
            source = self.encode(source, self.steps)
        drive: Drive = fade(source, self.gain)
        windows: list[Window] = []
        for layer in self.layers:
            if windows:
                drive = fade([state.z for state in windows[-1].states], self.gain)
            windows.append(layer(drive, pool=pool, evaluation=evaluation, adapt=adapt))
        return Activity(self.readout(windows[-1].states, self.v_th), tuple(windows))
