"""The loop over epochs that all gradient-based training shares: order, checkpoints, logs."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hybrid.learning.checkpoint import BestState, load_checkpoint, save_checkpoint
from hybrid.learning.iteration import Batch, Iteration, Recorded
from hybrid.learning.lease import LeaseOverError, Leg, Watch, note_legs, over
from hybrid.learning.schedule import Schedule
from hybrid.runs.files import sha256
from hybrid.runs.instructions import processor

# Names of iterations, and batches for them.
Lessons = Iterator[tuple[str, Batch]]
Work = Iteration | Recorded


@dataclass(frozen=True)
class EpochLog:
    """What one epoch came to."""

    loss: float  # mean training loss
    validation: float  # accuracy on the validation split, in [0, 1]
    test: float | None = None  # accuracy on test samples, if they were looked at

    def record(self) -> dict[str, float]:
        """Return what is kept of it."""
        return {name: value for name, value in vars(self).items() if value is not None}


class NonFiniteLossError(ArithmeticError):
    """Training left the range of finite numbers; the message says when and what to do."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What `fit` does, prepared.

    Args:
        network: what is trained: all that a checkpoint keeps.
        optimisers: its optimisers, kept in the checkpoint with their moments.
        iterations: what may be done with a batch, by name; losses of the first one are reported.
        lessons: what is done in one epoch, drawn from a generator: names of iterations, and batches
            for them.
        validate: returns the accuracy on held-out data, once per epoch.
        test: returns that on test data, which is logged and has no influence; None: not asked.
        schedule: number of epochs, and the rates of each.
        order: gives the generator of epoch e, so that any epoch can be replayed: `lessons` draws
            from it, and torch's global generator, for dropout and spike codes, follows from it.
        checkpoint: file that keeps the state after each epoch. If it exists, training goes on
            from it and ends, on a CPU, bit for bit where an uninterrupted run would have.
        title: label of the progress bar.
        best: is told of every epoch, and kept in the checkpoint too.
        steps_per_epoch: if it is known; for those who measure what an epoch takes.
        recorded: whether iterations are recorded in the first epoch, which makes that one longer.
        objective: what else decides what is learned, such as the loss.
        alone: why it cannot be done side by side with others; None where it can.
    """

    network: nn.Module
    optimisers: Sequence[torch.optim.Optimizer]
    iterations: Mapping[str, Iteration]
    lessons: Callable[[torch.Generator], Lessons]
    validate: Callable[[], float]
    test: Callable[[], float] | None = None
    schedule: Schedule
    order: Callable[[int], torch.Generator]
    checkpoint: Path | None = None
    title: str = "training"
    best: BestState | None = None
    steps_per_epoch: int | None = None
    recorded: bool = False
    objective: Any = None
    alone: str | None = None


class Several(Protocol):
    """What is trained: one network, or several of them side by side."""

    @property
    def how(self) -> Training:
        """All but what follows."""
        ...

    @property
    def each(self) -> Sequence[Training]:
        """The trainings that it is made of."""
        ...

    def lessons(self, sources: Sequence[torch.Generator]) -> Lessons:
        """Return what is done in one epoch, see `Training`; batches are those of all networks."""
        ...

    def gather(self) -> None:
        """Take over what the trainings' networks and optimisers have come to."""
        ...

    def scatter(self) -> None:
        """Let the trainings' networks and optimisers have what this has come to."""
        ...


class _One(NamedTuple):
    """One network."""

    how: Training

    @property
    def each(self) -> Sequence[Training]:
        return [self.how]

    def lessons(self, sources: Sequence[torch.Generator]) -> Lessons:
        return self.how.lessons(sources[0])

    def gather(self) -> None:
        pass

    def scatter(self) -> None:
        pass


def judged(training: Training) -> tuple[float, float | None]:
    """Return the accuracy on held-out data, and on test data if it is asked for."""
    return training.validate(), None if training.test is None else training.test()


def fit(training: Training) -> list[EpochLog]:
    """Train a network in place and return one log per epoch.

    Raises:
        ValueError: if the checkpoint is of another network or schedule.
        LeaseOverError: if a `lease` has no time for another epoch; the checkpoint holds the last.
            A training without one goes on to its end.
        NonFiniteLossError: if the loss, a weight or a trace is NaN or infinite. The checkpoint
            still holds the last whole epoch.
    """
    return [log for (log,) in fit_several(_One(training))]


def fit_several(trained: Several) -> list[list[EpochLog]]:
    """Train networks in place and return, for each epoch, one log for each; see `fit`."""
    how, each = trained.how, trained.each
    schedule, kept = how.schedule, [own for own in each if own.checkpoint is not None]
    logs, legs = zip(*map(_resumed, each), strict=True)
    if len({len(own) for own in logs}) > 1:
        ends = ", ".join(f"{own.title} {len(log)}" for own, log in zip(each, logs, strict=True))
        raise ValueError(f"epochs behind them: {ends}: train those alone that are behind")
    trained.gather()
    works: dict[str, Work] = {
        name: Recorded(iteration) if how.recorded else iteration
        for name, iteration in how.iterations.items()
    }
    where = processor(next(how.network.parameters()).device)

    def leg() -> Leg:
        machine, share = where.get("gpu", where["cpu"]), round(watch.seconds / len(each), 1)
        return {"machine": machine, "instructions": where["instructions"], "seconds": share}

    # Shown in terminals only: bars of parallel trials would pile up in a notebook.
    epochs = range(len(logs[0]), schedule.epochs)
    bar = tqdm(epochs, desc=how.title, unit="epoch", leave=False, disable=None)
    watch = Watch(len(epochs), how.steps_per_epoch, recorded=how.recorded)
    for epoch in bar:
        if kept:
            _require_time(watch.longest, epoch, schedule)
        watch.begin()
        schedule.set_rates(how.optimisers, epoch)
        sources = [own.order(epoch) for own in each]
        # May draw from them before torch's global generator is seeded.
        lessons = trained.lessons(sources)
        with seeded(*sources):
            losses = _teach(lessons, works, watch, epoch, how)
            # A spike of a potential that is NaN is 0: the loss alone does not tell.
            for name, values in _learned(how.network):
                if not bool(values.isfinite().all()):
                    what = f"{name} is no longer finite after epoch {epoch + 1}"
                    raise _not_finite(what, epoch, how)
            trained.scatter()
            for own, log, loss in zip(each, logs, losses, strict=True):
                log.append(EpochLog(loss, *judged(own)))
        last = [log[-1] for log in logs]
        loss, validation = (
            sum(getattr(log, name) for log in last) / len(last) for name in ("loss", "validation")
        )
        bar.set_postfix(loss=f"{loss:.4f}", validation=f"{validation:.3f}")
        if how.best is not None:
            how.best.see(epoch + 1, validation, how.network)
        for own, log, earlier in zip(each, logs, legs, strict=True):
            _keep(own, log, [*earlier, leg()])
        watch.end()
    if epochs:
        for own in each:
            note_legs(own.title, [leg()], here=True)
    if kept:
        _require_time(0.0, schedule.epochs, schedule)  # what follows, such as tests, takes time too
    return [list(row) for row in zip(*logs, strict=True)]


def _resumed(how: Training) -> tuple[list[EpochLog], list[Leg]]:
    """Restore what a checkpoint keeps, and return the logs so far and who made them."""
    if how.checkpoint is None:
        return [], []
    of = _description(how.network, how.optimisers, how.schedule)
    own = how.checkpoint, how.network, how.optimisers
    about = load_checkpoint(*own, how.best, of=of, title=how.title)
    if about is None:
        return [], []
    legs = about.get("legs", [])
    note_legs(how.title, legs, here=False)
    return [EpochLog(**entry) for entry in about["epochs"]], legs


def _keep(how: Training, logs: Sequence[EpochLog], legs: Sequence[Leg]) -> None:
    """Write a checkpoint, if there is to be one."""
    if how.checkpoint is None:
        return
    of = _description(how.network, how.optimisers, how.schedule)
    about = {"epochs": [log.record() for log in logs], "legs": list(legs), "of": of}
    save_checkpoint(how.checkpoint, how.network, how.optimisers, about, how.best, title=how.title)


def _teach(
    lessons: Lessons, works: Mapping[str, Work], watch: Watch, epoch: int, how: Training
) -> list[float]:
    """Train for one epoch, and return the mean loss of each network.

    The loss of a step is seen before it acts, or, where steps are recorded, after the last one.
    """
    reported, losses, left = next(iter(works)), list[list[float]](), list[tuple[str, Tensor]]()

    def see(name: str, value: Tensor) -> None:
        row = value.reshape(-1).tolist()
        if name == reported:
            losses.append(row)
        if not all(map(math.isfinite, row)):
            number = next(i for i, loss in enumerate(row) if not math.isfinite(loss))
            which = f" of network {number + 1} of {len(row)}" if len(row) > 1 else ""
            what = f"the loss{which} became {row[number]} in epoch {epoch + 1}, "
            what += f"batch {max(len(losses), 1)}" if name == reported else f"learning {name}"
            raise _not_finite(what, epoch, how)
        if name == reported:
            watch.step(len(losses))

    for name, batch in lessons:
        work = works[name]
        if isinstance(work, Iteration):
            work(batch, partial(see, name))
        else:
            left.append((name, work(batch)))  # the device never waits for one to be read
    for name, value in left:
        see(name, value)
    if not losses:
        raise ValueError(f"no samples in epoch {epoch + 1}: give data that can be read anew")
    return [sum(own) / len(own) for own in zip(*losses, strict=True)]


def _require_time(seconds: float, epoch: int, schedule: Schedule) -> None:
    """Raise LeaseOverError if there is no time for what took so many seconds before."""
    if over(seconds):
        raise LeaseOverError(f"stopped after epoch {epoch} of {schedule.epochs}")


def _description(
    network: nn.Module, optimisers: Sequence[torch.optim.Optimizer], schedule: Schedule
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


def _not_finite(what: str, epoch: int, how: Training) -> NonFiniteLossError:
    schedule = how.schedule
    kept = f"epoch {epoch}, kept in {how.checkpoint}" if how.checkpoint and epoch else "none"
    return NonFiniteLossError(
        f"{what} (last good state: {kept}). Lower lr_weight = {schedule.lr_weight} or lr_meta = "
        f"{schedule.lr_meta}, or check the inputs for NaN."
    )


@contextmanager
def seeded(*generators: torch.Generator) -> Iterator[None]:
    """Let torch's global generator follow from the first one within the block, and no longer."""
    seeds = [int(torch.randint(2**62, (), generator=generator)) for generator in generators]
    with torch.random.fork_rng():
        torch.manual_seed(seeds[0])
        yield
