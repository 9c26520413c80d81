"""A network that gives each task a few synapses of its own (authors' continual learning)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hybrid.model.drive import Drive, Static, drive_decay, fade
from hybrid.model.layers import HybridLinear, InitialMeta, uniform_parameter
from hybrid.model.networks import Activity, MetaLearner
from hybrid.model.neurons import Neuron
from hybrid.model.plasticity import LocalRule, Pool
from hybrid.model.window.choice import Evaluation, Window
from hybrid.model.window.sparse import SparseMask

Masks = Sequence[SparseMask]


class ContextGated(MetaLearner):
    """Spiking layers and a linear read-out of the last potential, all seen through a task's masks.

    With the masks M_k of task k, the global weights act as W ∘ M_k and the trace as
    local_gain · P ∘ (1 - M_k); the read-out is masked, too, but not plastic. Nothing has a bias,
    and each call starts at rest with empty traces.

    Args:
        sizes: neurons per layer, input first; the authors': (784, 1024, 1024, 10).
        neuron: neuron model; the authors': LIF(decay=0.8, v_th=0.5).
        rule: local rule of the spiking layers, or None; the authors': Hebbian(trace_decay=0.8).
        steps, tau: length of a window and time constant of the fading drive; the authors': 3, 50.
        initial_meta: where θ starts.
        generator, meta_generator: sources of the initial weights and of the initial θ.

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
        generator: torch.Generator,
        meta_generator: torch.Generator,
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
            masks: one for each layer and one for the read-out; None leaves all synapses to the
                global weights, and the trace none.
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
        v = windows[-1].states[-1].v
        output = (
            masks[-1].product(v, masks[-1].take(self.readout_weight))
            if masks
            else v @ self.readout_weight.T
        )
        return Activity(output, tuple(windows))
