"""Some of the bundled digits: with them a trial takes a fifth of a second."""

from hybrid.data.images import Images, load_images


def make() -> Images:
    """Return 600 images to learn from, some of them held out, and 100 to test on."""
    images = load_images("digits")
    return Images(
        images.train[:600], images.train_labels[:600], images.test[:100], images.test_labels[:100]
    )
