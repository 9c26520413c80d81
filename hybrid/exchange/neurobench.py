"""NeuroBench: its harness measures a frozen network.

Source: Yik et al., Nat. Commun. 16:1545 (2025).
"""

from importlib import import_module
from typing import Any

from torch import Tensor

from hybrid.exchange.frozen import Frozen, Neurons
from hybrid.model.networks import HybridNetwork


def neurobench_model(network: HybridNetwork) -> Any:
    """Return a frozen network as the model that `neurobench.benchmarks.Benchmark` takes.

    Its inputs are [N, *], shown at each step, or [N, T, *]; its answers the outputs [N, classes].
    Activations are the spikes of all layers. Connections are counted as they act: weights with the
    traces in them, an image anew at each step.

    Args:
        network: a `FullyConnected` or `Convolutional` network, see `Frozen`.

    Returns:
        A `neurobench.models.NeuroBenchModel`.

    Raises:
        ImportError: if neurobench is not installed.
        ValueError: see `Frozen`.
    """
    try:
        base: Any = import_module("neurobench.models").NeuroBenchModel
    except ImportError as error:
        raise ImportError("the harness is a package: pip install neurobench") from error
    frozen = Frozen(network)

    class Model(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.add_activation_module(Neurons)

        def __call__(self, batch: Tensor) -> Tensor:
            output: Tensor = frozen(batch if batch.ndim == frozen.dims else batch.transpose(0, 1))
            return output

        def __net__(self) -> Frozen:
            return frozen

    return Model()
