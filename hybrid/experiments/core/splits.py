"""Which training samples are learned from, and which are held out to watch learning with.

scikit-learn draws them. A machine that is lent for some minutes, and has little but torch, is
given what was drawn elsewhere: a file whose place the environment names, HYBRID_SPLITS.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hybrid.checks import require
from hybrid.experiments.core.samples import Samples
from hybrid.experiments.core.settings import Settings
from hybrid.runs.files import sha256
from hybrid.runs.seeds import numpy_stream

CARRIED = "HYBRID_SPLITS"


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
    path = os.environ.get(CARRIED)
    if path:
        with np.load(path) as carried:
            key = _key(settings, seed, labels)
            if f"{key}/kept" not in carried:
                raise ValueError(
                    f"{path} holds no split of {settings.dataset} for seed {seed}: carry it along, "
                    f"or unset {CARRIED} where scikit-learn is installed"
                )
            return carried[f"{key}/kept"], carried[f"{key}/held_out"]
    from sklearn.model_selection import train_test_split

    kept, held_out = train_test_split(
        np.arange(available),
        test_size=settings.validation,
        stratify=labels,
        random_state=int(numpy_stream(seed, "validation split").integers(2**31)),
    )
    return kept, held_out


def carry(wanted: Iterable[tuple[Settings, int, Samples]], path: Path) -> None:
    """Write the splits of some settings, seeds and samples, for machines that cannot draw them."""
    found: dict[str, np.ndarray] = {}
    for settings, seed, samples in wanted:
        key = _key(settings, seed, samples.train_labels)
        found[f"{key}/kept"], found[f"{key}/held_out"] = split_numbers(settings, seed, samples)
    np.savez_compressed(path, **found)  # type: ignore[arg-type]


def _key(settings: Settings, seed: int, labels: np.ndarray) -> str:
    """Return what a split depends on, and nothing else, as a name."""
    of_labels = hashlib.sha256(labels.tobytes()).hexdigest()
    return sha256(f"{settings.validation} {seed} {of_labels}")[:32]
