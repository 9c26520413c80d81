"""Networks of plastic layers, each layer processing its whole window before the next begins."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hybrid.model.built import Built
from hybrid.model.coding import Encode, ReadOut
from hybrid.model.drive import (
    Control,
    Drive,
    Source,
    Static,
    as_drive,
    checked_source,
    drive_decay,
    fade,
    time_first,
)
from hybrid.model.layers import (
    HybridLinear,
    InitialMeta,
    Lifetime,
    ThetaForm,
    meta_parameters,
    uniform_parameter,
    weight_parameters,
)
from hybrid.model.neurons import Constant, Neuron, NeuronState
from hybrid.model.plasticity import (
    LayerState,
    LocalRule,
    contract,
    global_weight,
    hybrid_weight,
    mapped,
)
from hybrid.model.pooling import Pool
from hybrid.model.rules import Rewarded
from hybrid.model.window.choice import Evaluation, Window
from hybrid.model.window.sparse import Mask, Masks, SparseMask


class Activity(NamedTuple):
    """What a network did with a batch."""

    output: Tensor  # read-out [N, classes]
    windows: tuple[Window, ...]  # one per layer

    @property
    def final(self) -> tuple[LayerState, ...]:
        """The state that each layer ended in, as `start` takes it."""
        return tuple(window.final for window in self.windows)

    def spike_counts(self) -> tuple[Tensor, ...]:
        """Return each layer's spikes per neuron, summed over the window [N, *neurons]."""
        return tuple(window.z.sum(0) for window in self.windows)

    def spikes(self) -> Tensor:
        """Return the spikes of each layer at each step for each sample [layers, T, N]."""
        return torch.stack([window.z.flatten(2).sum(-1) for window in self.windows])


class MetaLearner(Built):
    """A network whose parameters are of two kinds: global ones, and meta-local ones θ."""

    weight_parameters = weight_parameters
    meta_parameters = meta_parameters


class HybridNetwork(MetaLearner):
    """What networks share that answer with spiking neurons: a read-out and T steps."""

    readout: ReadOut
    gain: tuple[float, ...]  # of the fading drive, T values
    layers: nn.ModuleList  # dense layers, those that may be plastic

    @property
    def steps(self) -> int:
        """T, the longest window."""
        return len(self.gain)

    @property
    def v_th(self) -> Constant:
        """Threshold of the output neurons."""
        neuron: Neuron = self.layers[-1].neuron  # type: ignore[assignment]
        return neuron.v_th

    def extra_repr(self) -> str:
        """Return what `print` shows of the network, above its layers."""
        return f"T={self.steps}, readout={self.readout},"

    def reset(self) -> None:
        """Forget: all stored traces and memories are as at the beginning; weights and θ stay."""
        for layer in self.layers:
            layer.reset()  # type: ignore[operator]

    def stored(self) -> tuple[LayerState, ...]:
        """Return the states that a call starts from, see `HybridLinear.stored`."""
        return tuple(layer.stored() for layer in self.layers)  # type: ignore[operator]

    def reward(self, reward: float) -> None:
        """Reward all layers whose rule waits for it, see `Rewarded`; ValueError if none does."""
        waiting = [layer for layer in self.layers if isinstance(layer.rule, Rewarded)]
        if not waiting:
            raise ValueError("no layer waits for a reward: give one a rule Rewarded(rule=...)")
        for layer in waiting:
            layer.reward(reward)  # type: ignore[operator]


class FullyConnected(HybridNetwork):
    """Fully connected hybrid network (authors' simple example and fault-tolerance networks).

    It runs all T steps, whatever the read-out: samples that have their answer go on.

    Args:
        sizes: neurons per layer, input first, for example (784, 512, 10).
        neuron: neuron model of all layers, or one for each.
        rule: local rule of all layers, or one for each; None for a layer, or a network, that learns
            by gradients alone.
        readout: how the last layer becomes the output.
        steps: T.
        tau: time constant of the fading drive in steps, applied to each layer's input; or None.
        generator, meta_generator: sources of the initial weights and of the initial θ, see
            `HybridLinear`.
        lifetime, pool, initial_meta: see `HybridLinear`.
        encode: turns inputs [N, *] into what the first layer is shown; None shows them as they are.
        normalise: whether the weighted inputs of hidden layers are batch-normalised.
        theta_form: see `HybridLinear`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        neuron: Neuron | Sequence[Neuron],
        rule: LocalRule | Sequence[LocalRule | None] | None,
        readout: ReadOut,
        steps: int,
        generator: torch.Generator | None = None,
        meta_generator: torch.Generator | None = None,
        tau: float | None = None,
        lifetime: Lifetime = "carry",
        pool: Pool = "batch",
        initial_meta: InitialMeta = InitialMeta.up_to(0.01),  # noqa: B008 (immutable)
        encode: Encode | None = None,
        normalise: bool = False,
        theta_form: ThetaForm = "free",
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes = {tuple(sizes)}: give at least two sizes, all >= 1")
        layers = len(sizes) - 1
        self.readout, self.gain, self.encode = readout, drive_decay(steps, tau), encode
        self.tau = tau
        self.layers = nn.ModuleList(
            HybridLinear(
                inputs,
                outputs,
                neuron=own_neuron,
                rule=own_rule,
                generator=generator,
                meta_generator=meta_generator,
                lifetime=lifetime,
                pool=pool,
                initial_meta=initial_meta,
                normalise=normalise and number < layers,
                theta_form=theta_form,
            )
            for number, ((inputs, outputs), own_neuron, own_rule) in enumerate(
                zip(
                    pairwise(sizes),
                    _for_each("neuron", neuron, layers),
                    _for_each("rule", rule, layers),
                    strict=True,
                ),
                start=1,
            )
        )

    @property
    def neuron(self) -> Neuron:
        """The neuron model of the output layer."""
        neuron: Neuron = self.layers[-1].neuron  # type: ignore[assignment]
        return neuron

    def forward(
        self,
        source: Source,
        start: Sequence[LayerState] | None = None,
        *,
        pool: Pool | None = None,
        evaluation: Evaluation = "auto",
        adapt: bool = True,
        control: Control | None = None,
        lengths: Tensor | None = None,
        batch_first: bool = False,
    ) -> Activity:
        """Show a batch for T steps.

        Args:
            source: images [N, in] shown at each step, or T inputs [N, in] (spikes, events); with
                `encode`, what that takes.
            start: state of each layer to start from, such as `stored()` first and the `final` of
                the activity before then; None for `stored()`.
            pool, evaluation, adapt: see `run_window`.
            control: of the first layer, see `run_window`.
            lengths: steps of each sample [N], for inputs of another number of steps than T, or that
                end at different steps: each sample is answered as if it came alone (see
                `run_ragged` for traces that are shared).
            batch_first: whether a tensor with steps is [N, T, in], as of a DataLoader. (In
                training and tests: `encode=InParts()`, and x.flatten(1).)

        Returns:
            Output [N, out] and the windows of all layers.

        Raises:
            ValueError: if inputs have another shape, or as of `run_window`.
        """
        if batch_first and self.encode is not None:
            raise ValueError(
                "batch_first = True: a network that encodes its inputs makes the steps"
            )
        if start is not None and len(start) != len(self.layers):
            raise ValueError(f"{len(start)} states to start from for {len(self.layers)} layers")
        source = time_first(source) if batch_first else source
        drive = self.shown(source, any_length=lengths is not None)
        gain = self._gain(drive.steps)
        lengths = None if lengths is None else torch.as_tensor(lengths)
        windows: list[Window] = []
        for i, layer in enumerate(self.layers):
            if windows:
                spikes = [state.z for state in windows[-1].states]
                drive, control = fade(spikes, gain[: len(spikes)]), None
            how: dict[str, Any] = {"pool": pool, "evaluation": evaluation, "adapt": adapt}
            own = None if start is None else start[i]
            windows.append(layer(drive, own, control=control, lengths=lengths, **how))
        return Activity(self._read_out(windows[-1].states, lengths), tuple(windows))

    def _read_out(self, states: Sequence[NeuronState], lengths: Tensor | None) -> Tensor:
        """Return the output [N, out]; of samples that end at different steps one length by one."""
        if lengths is None:
            return self.readout(states, self.v_th)
        output = torch.empty_like(states[0].v)
        for length in torch.unique(lengths).tolist():
            rows = (lengths == length).nonzero().squeeze(1)
            chosen = partial(Tensor.index_select, dim=0, index=rows)
            own = [mapped(chosen, state) for state in states[:length]]
            output = output.index_copy(0, rows, self.readout(own, self.v_th))
        return output

    def read(self, source: Source) -> Tensor:
        """Return the weighted inputs of the first layer, without gain and bias [N, T or 1, out].

        A trace is read as it is stored. There is one for all steps where an input is repeated.
        """
        drive, layer = self.shown(source), self.layers[0]
        synapse, trace = layer.synapse(), layer.stored().trace  # type: ignore[operator]
        weight = global_weight(synapse)
        weight = weight if trace is None else hybrid_weight(weight, trace, synapse)
        steps = range(1 if drive.repeated else drive.steps)
        return torch.stack([contract(drive.value_at(t), weight) for t in steps], dim=1)

    def _gain(self, steps: int) -> tuple[float, ...]:
        """Return the gains of a window of so many steps."""
        return self.gain if steps == self.steps else drive_decay(steps, self.tau)

    def shown(self, source: Source, *, any_length: bool = False) -> Drive:
        """Return what drives the first layer, for T steps or as many as there are inputs for."""
        if any_length and (self.encode is not None or not _has_steps(source)):
            raise ValueError("lengths are of sequences: give inputs [T, N, in], and no encoder")
        if self.encode is not None:
            if not isinstance(source, Tensor):
                raise ValueError("a network that encodes its inputs needs one tensor [N, *]")
            source = self.encode(source, self.steps)
        inputs: int = self.layers[0].in_features  # type: ignore[assignment]
        source = checked_source(source, inputs, once=not any_length)
        gain = self._gain(as_drive(source).steps) if any_length else self.gain
        return fade(source, gain)


def _has_steps(source: Source) -> bool:
    """Return whether an input has steps of its own."""
    return not isinstance(source, Static) and not (isinstance(source, Tensor) and source.ndim == 2)


def _for_each(name: str, value: Any, layers: int) -> tuple[Any, ...]:
    """Return what each of so many layers has of something given once, or for each."""
    if not isinstance(value, list | tuple):
        return (value,) * layers
    if len(value) != layers:
        raise ValueError(f"{len(value)} of {name}: give one for all layers, or one each, {layers}")
    return tuple(value)


class ContextGated(MetaLearner):
    """Spiking layers and a linear read-out of the last potential, all seen through a task's masks.

    So each task has a few synapses of its own (authors' continual learning).

    With the masks M_k of task k, the global weights act as W ∘ M_k and the trace as
    local_gain · P ∘ (1 - M_k); the read-out is masked, too, but not plastic. Nothing has a bias,
    and each call starts at rest with empty traces.

    Args:
        sizes: neurons per layer, input first; the authors': (784, 1024, 1024, 10).
        neuron: neuron model; the authors': LIF(decay=0.8, v_th=0.5).
        rule: local rule of the spiking layers, or None; the authors': Hebbian(trace_decay=0.8).
        steps, tau: length of a window and time constant of the fading drive; the authors': 3, 50.
        initial_meta: where θ starts.
        generator, meta_generator: sources of the initial weights and of the initial θ, see
            `HybridLinear`.

    Raises:
        ValueError: if there are fewer than three sizes.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        neuron: Neuron,
        rule: LocalRule | None,
        steps: int,
        tau: float | None,
        initial_meta: InitialMeta,
        generator: torch.Generator | None = None,
        meta_generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if len(sizes) < 3 or min(sizes) < 1:
            raise ValueError(f"sizes = {tuple(sizes)}: give at least three sizes, all >= 1")
        self.sizes, self.gain = tuple(sizes), drive_decay(steps, tau)
        self.layers = nn.ModuleList(
            HybridLinear(
                inputs,
                outputs,
                neuron=neuron,
                rule=rule,
                bias=False,
                lifetime="call",
                initial_meta=initial_meta,
                generator=generator,
                meta_generator=meta_generator,
            )
            for inputs, outputs in pairwise(sizes[:-1])
        )
        self.readout_weight = uniform_parameter(sizes[-2], generator, sizes[-1], sizes[-2])

    @property
    def weights(self) -> list[Tensor]:
        """Global weights [out, in], of each layer and of the read-out, in the order of masks."""
        layers = [layer.get_parameter("weight") for layer in self.layers]
        return [*layers, self.readout_weight]

    def forward(
        self,
        images: Tensor,
        masks: Masks | None = None,
        *,
        pool: Pool | None = None,
        adapt: bool = True,
        evaluation: Evaluation = "auto",
    ) -> Activity:
        """Show a batch of images [N, in] to the part of the network that the masks leave.

        Args:
            masks: one for each layer and one for the read-out, sparse or dense; None leaves all
                synapses to the global weights, and the trace none.
            pool, evaluation: see `run_window`.
            adapt: False keeps all traces empty: the global weights are alone.

        Raises:
            ValueError: if the number of masks or a shape does not fit.
        """
        if masks is None:
            masks, adapt = (), False
        elif len(masks) != len(self.sizes) - 1:
            raise ValueError(f"{len(masks)} masks for {len(self.sizes) - 1} layers")
        elif tuple(masks[-1].shape) != self.sizes[-2:]:
            found, wanted = list(masks[-1].shape), list(self.sizes[-2:])
            raise ValueError(f"the read-out's mask is {found}: it must be {wanted}")
        drive: Drive = Static(images, self.gain)
        windows: list[Window] = []
        for i, layer in enumerate(self.layers):
            mask = masks[i] if masks else None
            window = layer(drive, mask=mask, pool=pool, adapt=adapt, evaluation=evaluation)
            windows.append(window)
            drive = fade([state.z for state in window.states], self.gain)
        v, weight = windows[-1].states[-1].v, self.readout_weight
        return Activity(_product(v, weight, masks[-1] if masks else None), tuple(windows))


def _product(x: Tensor, weight: Tensor, mask: Mask | None) -> Tensor:
    """Return x (W ∘ M) [N, out] for a weight [out, in]."""
    if isinstance(mask, SparseMask):
        return mask.product(x, mask.take(weight))
    return x @ (weight if mask is None else weight * mask.mT).mT
