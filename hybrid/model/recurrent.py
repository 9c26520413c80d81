"""A plastic layer whose neurons also see each other's spikes of the step before."""

from typing import Any

import torch
from torch import Tensor

from hybrid.checks import choose
from hybrid.model.drive import Drive
from hybrid.model.layers import HybridLinear
from hybrid.model.plasticity import LayerState, Synapse, plastic_step
from hybrid.model.pooling import POOLS, Pool
from hybrid.model.window.choice import EVALUATIONS, Window, check_shapes


class HybridRecurrent(HybridLinear):
    """A `HybridLinear` with plastic synapses from its inputs and from its own neurons.

        x_t = (input_t, z_{t-1}),   weights [out, in + out], trace [in + out, out]

    Spikes of the step before are inputs like all others: they drive weight and trace alike, and θ
    has a local rate for each of them. Windows run step by step.

    Args:
        in_features: inputs from outside.
        out_features: neurons.
        options: see `HybridLinear`.
    """

    def __init__(self, in_features: int, out_features: int, **options: Any) -> None:
        super().__init__(in_features + out_features, out_features, **options)
        if self.norm is not None:
            raise ValueError("normalise = True is for layers without recurrence")
        self.in_features = in_features

    def step(
        self, x: Tensor, state: LayerState, *, pool: Pool | None = None, adapt: bool = True
    ) -> LayerState:
        """See `HybridLinear.step`; x is the input from outside [N, in]."""
        return super().step(self._beside(x, state), state, pool=pool, adapt=adapt)

    def _beside(self, x: Tensor, state: LayerState) -> Tensor:
        """Return inputs from outside, and beside them the spikes of the step before."""
        own = x.new_zeros(len(x), self.out_features) if state.neuron is None else state.neuron.z
        return torch.cat([x, own], dim=-1)

    def _window(self, drive: Drive, start: LayerState, *, synapse: Synapse, **how: Any) -> Window:
        refused = ("sparse_mask", "control")
        if synapse.mask is not None or any(how[name] is not None for name in refused):
            raise ValueError("a recurrent layer takes no mask and no control")
        if choose("evaluation", how["evaluation"], EVALUATIONS) == "factored":
            raise ValueError("evaluation = 'factored': recurrence runs step by step, use 'auto'")
        choose("pool", how["pool"], POOLS)
        samples, inputs = drive.shape
        size = torch.Size((samples, inputs + self.out_features))
        check_shapes(size, synapse, start, how["pool"])
        rule, pool = self.rule if how["adapt"] else None, how["pool"]
        neuron, state, states = self.neuron, start, []
        for t in range(drive.steps):
            x = self._beside(drive.at(t), state)
            state = plastic_step(x, state, synapse, neuron, rule, pool)
            assert state.neuron is not None
            states.append(state.neuron)
        return Window(tuple(states), state)
