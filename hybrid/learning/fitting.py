"""The loop over epochs that all gradient-based training shares: order, checkpoints, logs."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from hybrid.learning.checkpoint import BestState, load_checkpoint, save_checkpoint
from hybrid.learning.lease import LeaseOverError, Watch, over
from hybrid.learning.schedule import Schedule
from hybrid.runs.files import sha256

# Trains for one epoch on what a generator draws; yields the loss of each step before acting on it,
# or, where nobody waits for a loss, all of them at the end.
Steps = Callable[[torch.Generator], Iterator[float]]


@dataclass(frozen=True)
class EpochLog:
    """What one epoch came to."""

    loss: float  # mean training loss
    validation: float  # accuracy on the validation split, in [0, 1]


class NonFiniteLossError(ArithmeticError):
    """Training left the range of finite numbers; the message says when and what to do."""


def fit(
    network: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    schedule: Schedule,
    steps: Steps,
    validate: Callable[[], float],
    order: Callable[[int], torch.Generator],
    *,
    checkpoint: Path | None = None,
    title: str = "training",
    best: BestState | None = None,
    steps_per_epoch: int | None = None,
    recorded: bool = False,
) -> list[EpochLog]:
    """Train a network in place and return one log per epoch.

    Args:
        network: what is trained.
        optimisers: its optimisers, kept in the checkpoint with their moments.
        schedule: number of epochs, and the rates of each.
        steps: trains for one epoch.
        validate: returns the accuracy on held-out data, once per epoch.
        order: gives the generator of epoch e, so that any epoch can be replayed: `steps` draws
            from it, and torch's global generator, for dropout and spike codes, follows from it.
        checkpoint: file that keeps the state after each epoch. If it exists, training goes on
            from it and ends, on a CPU, bit for bit where an uninterrupted run would have.
        title: label of the progress bar.
        best: is told of every epoch, and kept in the checkpoint too.
        steps_per_epoch: if it is known; for those who measure what an epoch takes.
        recorded: whether steps are recorded in the first epoch, which makes that one longer.

    Raises:
        ValueError: if the checkpoint is of another network or schedule.
        LeaseOverError: if a `lease` has no time for another epoch; the checkpoint holds the last.
            A training without one goes on to its end.
        NonFiniteLossError: if the loss, a weight or a trace is NaN or infinite. The checkpoint
            still holds the last whole epoch.
    """
    logs: list[EpochLog] = []
    trained = _description(network, optimisers, schedule)
    if checkpoint is not None:
        about = load_checkpoint(checkpoint, network, optimisers, best, of=trained)
        logs = [EpochLog(**entry) for entry in about["epochs"]] if about else []

    # Shown in terminals only: bars of parallel trials would pile up in a notebook.
    epochs = range(len(logs), schedule.epochs)
    bar = tqdm(epochs, desc=title, unit="epoch", leave=False, disable=None)
    watch = Watch(schedule.epochs - len(logs), steps_per_epoch, recorded=recorded)
    for epoch in bar:
        if checkpoint is not None:
            _require_time(watch.longest, epoch, schedule)
        watch.begin()
        schedule.set_rates(optimisers, epoch)
        generator = order(epoch)
        # May draw from it before torch's global generator is seeded.
        losses_of_epoch = steps(generator)
        with seeded(generator):
            losses: list[float] = []
            for loss in losses_of_epoch:
                losses.append(loss)
                if not math.isfinite(loss):
                    what = f"the loss became {loss} in epoch {epoch + 1}, batch {len(losses)}"
                    raise _not_finite(what, epoch, schedule, checkpoint)
                watch.step(len(losses))
            if not losses:
                raise ValueError(
                    f"no samples in epoch {epoch + 1}: give data that can be read anew"
                )
            # A spike of a potential that is NaN is 0: the loss alone does not tell.
            for name, values in _learned(network):
                if not bool(values.isfinite().all()):
                    what = f"{name} is no longer finite after epoch {epoch + 1}"
                    raise _not_finite(what, epoch, schedule, checkpoint)
            logs.append(EpochLog(sum(losses) / len(losses), validate()))
        bar.set_postfix(loss=f"{logs[-1].loss:.4f}", validation=f"{logs[-1].validation:.3f}")
        if best is not None:
            best.see(epoch + 1, logs[-1].validation, network)
        if checkpoint is not None:
            about = {"epochs": [vars(log) for log in logs], "of": trained}
            save_checkpoint(checkpoint, network, optimisers, about, best)
        watch.end()
    if checkpoint is not None:
        _require_time(0.0, len(logs), schedule)  # what follows, such as tests, takes time too
    return logs


def _require_time(seconds: float, epoch: int, schedule: Schedule) -> None:
    """Raise LeaseOverError if there is no time for what took so many seconds before."""
    if over(seconds):
        raise LeaseOverError(f"stopped after epoch {epoch} of {schedule.epochs}")


def _description(
    network: nn.Module, optimisers: list[torch.optim.Optimizer], schedule: Schedule
) -> str:
    """Return what is trained, and how, in words that are the same in each process.

    More epochs may follow, but for rates that fall to zero with the last of them.
    """
    own = schedule if schedule.decay == "cosine" else replace(schedule, epochs=1)
    shapes = [f"{name} {list(value.shape)}" for name, value in network.state_dict().items()]
    kinds = [type(optimiser).__name__ for optimiser in optimisers]
    whole = f"{network}\n{shapes}\n{kinds}\n{own}"
    return sha256(re.sub(r" at 0x[0-9a-f]+", "", whole))


def _learned(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters and traces; other buffers may hold what is not known yet."""
    yield from network.named_parameters()
    for name, values in network.named_buffers():
        if name.rsplit(".", 1)[-1] == "trace":
            yield name, values


def _not_finite(
    what: str, epoch: int, schedule: Schedule, checkpoint: Path | None
) -> NonFiniteLossError:
    kept = f"epoch {epoch}, kept in {checkpoint}" if checkpoint and epoch else "none"
    return NonFiniteLossError(
        f"{what} (last good state: {kept}). Lower lr_weight = {schedule.lr_weight} or lr_meta = "
        f"{schedule.lr_meta}, or check the inputs for NaN."
    )


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Let torch's global generator follow from `generator` within the block, and no longer."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
