"""Fewer digits than are bundled, for experiments that are run in small."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hybrid.data.images import Images, load_images
from hybrid.experiments.core import samples

TRAIN, TEST = 2_000, 250


@contextmanager
def few_digits() -> Iterator[None]:
    """Let experiments on digits see the first 2,000, and be tested on the first 250."""
    whole = load_images("digits")
    few = Images(
        whole.train[:TRAIN], whole.train_labels[:TRAIN], whole.test[:TEST], whole.test_labels[:TEST]
    )
    samples._known.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "load_images", lambda name: {"digits": few}[name])
        yield
    samples._known.cache_clear()
