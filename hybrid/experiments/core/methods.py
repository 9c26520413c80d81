"""Methods: ways to learn, as all experiments name them."""

from dataclasses import dataclass
from typing import Literal

from hybrid.described import as_json
from hybrid.learning.evaluation import PROTOCOLS, Protocol
from hybrid.runs.store import Json


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to learn; its colour is that of its name in `hybrid.report.figures.COLOURS`."""

    name: str
    about: str  # one sentence for tables and legends
    local: bool  # has traces
    hidden_trained: bool = True  # hidden layers learn by gradients
    pool: Literal["batch", "sample"] = "batch"
    protocols: tuple[Protocol, ...] = ("frozen",)  # how it can be tested

    def request(self) -> Json:
        """Return what distinguishes this method's results, for the hash of a trial."""
        request: Json = as_json(self)
        del request["about"]
        return request


LP = Method(
    name="LP",
    about="hidden layer: fixed random weights and local plasticity; read-out trained by gradients",
    local=True,
    hidden_trained=False,
    protocols=PROTOCOLS,
)
GP = Method(
    name="GP",
    about="weights trained by gradients; no local plasticity",
    local=False,
)
HP = Method(
    name="HP",
    about="weights and meta-local parameters trained by gradients; traces live by the local rule",
    local=True,
    protocols=PROTOCOLS,
)
HP_SAMPLE = Method(
    name="HP-sample",
    about="HP with a trace of its own for each sample, in training and test, from zero each time",
    local=True,
    pool="sample",
    protocols=("sample",),
)
