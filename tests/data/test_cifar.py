"""CIFAR-10: archives of both kinds, damage, augmentation."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hybrid.data import images, sources
from hybrid.data.augment import crop_and_flip
from hybrid.data.cifar import CIFAR10_CLASSES, read_cifar10
from hybrid.data.sources import DamagedDataError

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
TEST = RNG.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
TRAIN_LABELS, TEST_LABELS = np.array([3, 1, 4, 1, 5, 9]), np.array([2, 6])


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def binary(pictures: np.ndarray, labels: np.ndarray) -> bytes:
    rows = np.column_stack([labels.astype(np.uint8), pictures.reshape(len(pictures), -1)])
    return rows.tobytes()


def jpeg(level: int, side: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (level, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_the_binary_archive_is_read(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "cifar.tar.gz",
        {
            "c/data_batch_1.bin": binary(TRAIN[:4], TRAIN_LABELS[:4]),
            "c/readme.html": b"not an image",
            "c/data_batch_2.bin": binary(TRAIN[4:], TRAIN_LABELS[4:]),
            "c/test_batch.bin": binary(TEST, TEST_LABELS),
        },
    )
    train, test = read_cifar10(path)
    np.testing.assert_array_equal(train.images, TRAIN)
    np.testing.assert_array_equal(train.labels, TRAIN_LABELS)
    np.testing.assert_array_equal(test.images, TEST)
    np.testing.assert_array_equal(test.labels, TEST_LABELS)


def test_jpeg_files_are_read(tmp_path: Path) -> None:
    names = [f"the latest/train/{name}/0.jpg" for name in CIFAR10_CLASSES]
    files = {name: jpeg(20 * i) for i, name in enumerate(names)}
    files["the latest/test/cat/0.jpg"] = jpeg(9)
    train, test = read_cifar10(archive(tmp_path / "cifar.tar.gz", files))
    assert train.labels.tolist() == list(range(10))
    assert test.labels.tolist() == [3]
    np.testing.assert_allclose(train.images[:, 0].mean((1, 2)), np.arange(0, 200, 20), atol=3)


def test_a_set_is_loaded_from_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sources.SETTING, str(tmp_path))
    files = {
        "data_batch_1.bin": binary(TRAIN, TRAIN_LABELS),
        "test_batch.bin": binary(TEST, TEST_LABELS),
    }
    (tmp_path / "cifar10").mkdir()
    path = archive(tmp_path / "cifar10" / "cifar-10-binary.tar.gz", files)
    monkeypatch.setattr(images, "fetch", lambda name: tmp_path / name)
    loaded = images.load_images("cifar10")
    np.testing.assert_allclose(loaded.train, TRAIN / np.float32(255))
    assert loaded.test.dtype == np.float32
    assert path.exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"data_batch_1.bin": b"123"}, "3 bytes: not a whole number of images"),
        ({"readme.txt": b"hello"}, "no training or no test images"),
        ({"data_batch_1": b"\x80\x02}q"}, "no training or no test images"),  # python's: no pickles
        ({"data_batch_1.bin": binary(TRAIN[:2], np.array([200, 1]))}, "labels up to 200"),
        ({"../data_batch_1.bin": b"123"}, "leads out of the archive"),
        ({"/data_batch_1.bin": b"123"}, "leads out of the archive"),
        ({"train/unicorn/0.jpg": jpeg(9)}, "in none of the class folders"),
        ({"train/cat/0.jpg": jpeg(9, 16)}, r"images \[1, 3, 16, 16\]"),
    ],
)
def test_other_archives_are_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    path = archive(tmp_path / "cifar.tar.gz", files)
    with pytest.raises(DamagedDataError, match=message) as error:
        read_cifar10(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_an_archive_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    path = archive(tmp_path / "cifar.tar.gz", {"data_batch_1.bin": binary(TRAIN, TRAIN_LABELS)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DamagedDataError, match="Delete the file and run again"):
        read_cifar10(path)


def test_augmentation_shifts_and_mirrors() -> None:
    # A ramp tells where each pixel came from.
    ramp = torch.arange(1.0, 65.0).reshape(1, 1, 8, 8).expand(500, 2, 8, 8)
    changed = crop_and_flip(ramp, torch.Generator().manual_seed(0), padding=2, fill=-1.0)
    assert changed.shape == ramp.shape
    steps = changed[:, 0, 3, 1:] - changed[:, 0, 3, :-1]
    inner = steps[:, 2:5].mean(1)
    assert set(inner.tolist()) == {1.0, -1.0}
    assert 200 < (inner < 0).sum() < 300, "half of them are mirrored"
    down = changed[:, 0, 4, 4] - changed[:, 0, 3, 4]
    assert (down == 8).all()
    corners = (changed[:, 0, 0, 0] == -1.0).double().mean()
    assert 0.5 < corners < 0.9, "shifted pixels are filled: in 1 - (3/5)² of all corners"
    again = crop_and_flip(ramp, torch.Generator().manual_seed(0), padding=2, fill=-1.0)
    assert torch.equal(changed, again)


def test_augmentation_fills_each_channel_with_its_own_black() -> None:
    fill = torch.tensor([-2.0, 3.0]).view(2, 1, 1)
    pictures = fill.expand(50, 2, 6, 6)
    assert torch.equal(crop_and_flip(pictures, torch.Generator(), fill=fill), pictures)
