"""Which training samples are learned from, and which are held out to watch learning with.

scikit-learn draws them. A machine that is lent for some minutes, and has little but torch, is
given what was drawn elsewhere: a file whose place the environment names, HYBRID_SPLITS.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from hybrid.checks import require
from hybrid.experiments.core.samples import Samples
from hybrid.experiments.core.settings import Settings
from hybrid.runs.files import sha256
from hybrid.runs.seeds import numpy_stream

CARRIED = "HYBRID_SPLITS"
_DRAWN: ContextVar[dict[str, np.ndarray] | None] = ContextVar("drawn", default=None)


def split_numbers(settings: Settings, seed: int, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Return which training samples to learn from, and which to watch learning with.

    Raises:
        ValueError: if the settings ask for more than there are, or a file of splits that is
            carried along has none for these.
    """
    labels = samples.train_labels
    available = len(labels)
    allowed = f"less than the {available} training samples of {settings.dataset}"
    require(settings, "validation", settings.validation < available, allowed)
    key, path = _key(settings, seed, labels), os.environ.get(CARRIED)
    if path:
        return _noted(key, *_carried(Path(path), key, f"{settings.dataset} for seed {seed}"))
    from sklearn.model_selection import train_test_split

    kept, held_out = train_test_split(
        np.arange(available),
        test_size=settings.validation,
        stratify=labels,
        random_state=int(numpy_stream(seed, "validation split").integers(2**31)),
    )
    return _noted(key, kept, held_out)


def _carried(path: Path, key: str, what: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path) as carried:
            if f"{key}/kept" in carried:
                return carried[f"{key}/kept"], carried[f"{key}/held_out"]
    except (ValueError, TypeError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is no file of splits, or damaged: carry it along anew") from error
    raise ValueError(
        f"{path} holds no split of {what}: carry it along, or unset {CARRIED} where scikit-learn "
        "is installed"
    )


def _noted(key: str, kept: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if (drawn := _DRAWN.get()) is not None:
        drawn |= {f"{key}/kept": kept, f"{key}/held_out": held_out}
    return kept, held_out


@contextmanager
def carried_to(path: Path) -> Iterator[None]:
    """Write all splits that are drawn within the block, for machines that cannot draw them."""
    drawn: dict[str, np.ndarray] = {}
    before = _DRAWN.set(drawn)
    try:
        yield
    finally:
        _DRAWN.reset(before)
    np.savez_compressed(path, **drawn)  # type: ignore[arg-type]


def _key(settings: Settings, seed: int, labels: np.ndarray) -> str:
    """Return what a split depends on, and nothing else, as a name."""
    of_labels = hashlib.sha256(labels.tobytes()).hexdigest()
    return sha256(f"{settings.validation} {seed} {of_labels}")[:32]
