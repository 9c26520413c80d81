"""Convolutional spiking networks with plastic dense layers (authors' classification networks).

All layers advance together, step by step, because the read-out decides when to stop: with a
first-spike code most windows end long before T, and no layer works beyond. Where work must not
depend on data (`without_values`) all T steps are run, and the same stop ends the traces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid.checks import require
from hybrid.model.coding import Encode, ReadOut
from hybrid.model.drive import as_drive, drive_decay
from hybrid.model.embedding import convolution
from hybrid.model.layers import HybridLinear, InitialMeta, Lifetime
from hybrid.model.networks import Activity, HybridNetwork
from hybrid.model.neurons import Neuron, NeuronState, require_numbers, without_values
from hybrid.model.plasticity import LayerState, LocalRule
from hybrid.model.pooling import Pool
from hybrid.model.window.choice import Window


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """One convolutional layer: 3 x 3, stride 1, padded. Raises ValueError if invalid."""

    channels: int
    pooled: bool = False  # 2 x 2 mean of its spikes
    dropout: float = 0.0  # share of its inputs dropped at each step of training

    def __post_init__(self) -> None:
        require(self, "channels", self.channels >= 1, ">= 1")
        require(self, "dropout", 0.0 <= self.dropout < 1.0, "in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Dense:
    """One dense layer. Raises ValueError if invalid."""

    size: int
    plastic: bool = False  # has a local module, in networks that have a rule
    faded: bool = True  # its input fades with the drive
    dropout: float = 0.0
    neuron: Neuron | None = None  # None: the network's

    def __post_init__(self) -> None:
        require(self, "size", self.size >= 1, ">= 1")
        require(self, "dropout", 0.0 <= self.dropout < 1.0, "in [0, 1)")


class Convolutional(HybridNetwork):
    """Convolutional layers, then dense ones, some of them plastic.

    The image is shown unfaded at each step, so the first convolution is computed once a window, or
    for all steps together, where `encode` makes a sequence of the input. Dropout draws from torch's
    global generator, anew at each step.

    Args:
        image: shape of the images (channels, height, width).
        convolutions, dense: layers, input first; the last dense layer is the output.
        neuron: neuron model of all layers that bring none of their own.
        rule: local rule of the plastic layers; None for a network that learns by gradients alone.
        readout: how the last layer becomes the output, and when a sample has its answer.
        steps: T, the longest window.
        tau: time constant of the fading drive in steps; or None.
        generator, meta_generator: sources of the initial weights and of the initial θ.
        lifetime, pool, initial_meta, nonnegative_rate: see `HybridLinear`.
        encode: turns inputs [N, *] into T images, one for each step; None shows one image.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        convolutions: Sequence[Convolution],
        dense: Sequence[Dense],
        *,
        neuron: Neuron,
        rule: LocalRule | None,
        readout: ReadOut,
        steps: int,
        generator: torch.Generator | None = None,
        meta_generator: torch.Generator | None = None,
        tau: float | None = None,
        lifetime: Lifetime = "carry",
        pool: Pool = "batch",
        initial_meta: InitialMeta = InitialMeta.up_to(0.01),  # noqa: B008 (immutable)
        nonnegative_rate: bool = False,
        encode: Encode | None = None,
    ) -> None:
        super().__init__()
        if not convolutions or not dense:
            raise ValueError("give at least one convolutional and one dense layer")
        if convolutions[0].dropout:
            raise ValueError("the first convolution sees the image, once a window: no dropout")
        require_numbers(neuron, "Convolutional")
        self.image, self.neuron, self.readout = image, neuron, readout
        self.gain, self._convolutions, self._dense = drive_decay(steps, tau), convolutions, dense
        self.encode = encode
        channels, *size = image
        self.convolutions = nn.ModuleList()
        for spec in convolutions:
            self.convolutions.append(convolution(channels, spec.channels, generator))
            channels = spec.channels
            size = [side // 2 for side in size] if spec.pooled else size
        # Channels last in memory: the same numbers, a fifth faster.
        self.convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        features = channels * size[0] * size[1]
        if features == 0:
            raise ValueError(f"nothing is left of images {image} after so much pooling")
        self.layers = nn.ModuleList()
        for layer in dense:
            self.layers.append(
                HybridLinear(
                    features,
                    layer.size,
                    neuron=layer.neuron or neuron,
                    rule=rule if layer.plastic else None,
                    generator=generator,
                    meta_generator=meta_generator,
                    lifetime=lifetime,
                    pool=pool,
                    initial_meta=initial_meta,
                    nonnegative_rate=nonnegative_rate,
                )
            )
            features = layer.size

    def forward(self, images: Tensor, *, pool: Pool | None = None, adapt: bool = True) -> Activity:
        """Show a batch until the read-out has all answers, at most T steps.

        Dense layers no longer see a sample that has its answer: it moves no trace that others
        share.

        Args:
            images: [N, channels, height, width], or flat [N, channels · height · width]; with
                `encode`, what that takes.
            pool, adapt: see `run_window`.

        Returns:
            Output [N, out] and the windows of all layers, as long as the batch ran.

        Raises:
            ValueError: if the images do not have the network's shape.
        """
        currents = self._first_currents(images)
        neurons: list[NeuronState | None] = [None] * len(self.convolutions)
        layers = [layer.stored() for layer in self.layers]  # type: ignore[operator]
        history: list[list[NeuronState]] = [[] for _ in (*neurons, *layers)]
        unanswered: Tensor | None = None
        whole, runs = without_values(), None
        for first, gain in zip(currents, self.gain, strict=True):
            z = self._convolve(first, gain, neurons).flatten(1)
            before = tuple(layers)
            with torch.autocast(z.device.type, enabled=False):  # is for convolutions alone
                self._connect(z, unanswered, gain, layers, pool, adapt)
            if runs is not None:
                # Neurons go on, which the read-out does not see; traces do not.
                layers = [
                    LayerState(new.neuron, *_until(runs, new[1:], old[1:]))
                    for new, old in zip(layers, before, strict=True)
                ]
            for states, state in zip(history, [*neurons, *(s.neuron for s in layers)], strict=True):
                assert state is not None
                states.append(state)
            answered = self.readout.answered(history[-1], self.v_th)
            if not whole and answered.all():
                break
            if whole or answered.any():
                unanswered = (~answered).unsqueeze(1).to(z.dtype)
            runs = ~answered.all() if whole else None
        for module, state in zip(self.layers, layers, strict=True):
            module.finish(state, pool=pool, adapt=adapt)  # type: ignore[operator]
        finals = [*(LayerState(state) for state in neurons), *layers]
        windows = [Window(tuple(s), final) for s, final in zip(history, finals, strict=True)]
        return Activity(self.readout(history[-1], self.v_th), tuple(windows))

    def _first_currents(self, images: Tensor) -> Sequence[Tensor]:
        """Return the currents of the first convolution at each step."""
        if self.encode is None:
            return (_current(self.convolutions[0], self._shaped(images)),) * self.steps
        shown = as_drive(self.encode(images, self.steps))
        if shown.steps != self.steps:
            raise ValueError(f"{shown.steps} images for {self.steps} steps: make them equal")
        parts = [self._shaped(shown.at(t)) for t in range(self.steps)]
        return _current(self.convolutions[0], torch.cat(parts)).chunk(self.steps)

    def _shaped(self, images: Tensor) -> Tensor:
        if images.ndim == 2 and images.shape[1] == torch.Size(self.image).numel():
            images = images.unflatten(1, self.image)
        if images.shape[1:] != self.image:
            raise ValueError(f"images must have shape [N, {self.image}], got {list(images.shape)}")
        return images

    def _convolve(self, first: Tensor, gain: float, neurons: list[NeuronState | None]) -> Tensor:
        """Advance the convolutional layers one step and return the last one's pooled spikes."""
        z = first
        for i, (spec, convolve) in enumerate(
            zip(self._convolutions, self.convolutions, strict=True)
        ):
            current = _current(convolve, gain * self._drop(z, spec.dropout)) if i else first
            state = self.neuron.step(current, neurons[i])
            neurons[i] = state
            z = F.avg_pool2d(state.z, 2) if spec.pooled else state.z
        return z

    def _connect(
        self,
        z: Tensor,
        unanswered: Tensor | None,
        gain: float,
        layers: list[LayerState],
        pool: Pool | None,
        adapt: bool,
    ) -> None:
        """Advance the dense layers one step; inputs of samples with an answer are zero."""
        for i, (spec, layer) in enumerate(zip(self._dense, self.layers, strict=True)):
            x = self._drop(z if unanswered is None else z * unanswered, spec.dropout)
            layers[i] = layer.step(  # type: ignore[operator]
                gain * x if spec.faded else x, layers[i], pool=pool, adapt=adapt
            )
            z = layers[i].neuron.z  # type: ignore[union-attr]

    def _drop(self, x: Tensor, share: float) -> Tensor:
        return F.dropout(x, share) if self.training and share else x


def _current(convolve: nn.Module, x: Tensor) -> Tensor:
    """Return what a convolution makes of its input, in the precision of its weights."""
    current: Tensor = convolve(x)
    return current.to(convolve.get_parameter("weight").dtype)


def _until(runs: Tensor, after: Any, before: Any) -> Any:
    """Return what a layer keeps of a step that counts only while a batch `runs` (0-dim)."""
    if isinstance(after, Tensor):
        return torch.where(runs, after, before)
    if after is None or before is None:
        return after
    parts = [_until(runs, *pair) for pair in zip(after, before, strict=True)]
    return tuple(parts) if type(after) is tuple else type(after)(*parts)
