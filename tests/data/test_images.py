"""Images: idx files, CIFAR-10's archives of both kinds, damage, splits, augmentation."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hybrid.data import images
from hybrid.data.augment import crop_and_flip
from hybrid.data.files import SETTING, DamagedDataError
from hybrid.data.images import CIFAR10_CLASSES, load_images, read_cifar10, read_idx

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
TEST = RNG.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
TRAIN_LABELS, TEST_LABELS = np.array([3, 1, 4, 1, 5, 9]), np.array([2, 6])


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return gzip.compress(header + content, mtime=0)


def test_read_idx(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(idx((2, 2, 3), bytes(range(12))))
    np.testing.assert_array_equal(read_idx(path), np.arange(12).reshape(2, 2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip at all", "cannot be read"),
        (idx((4,), b"abcd")[:-9], "cannot be read"),
        (gzip.compress(b"PNG!....", mtime=0), "wrong magic"),
        (gzip.compress(b"", mtime=0), "wrong magic"),
        (idx((5,), b"abcd"), "cannot reshape array of size 4"),
        *(
            (gzip.compress(b"\x00\x00\x08\x03" + bytes(cut), mtime=0), "its header is cut short")
            for cut in (0, 1, 4, 11)
        ),
        (gzip.compress(b"\x00\x00\x08", mtime=0), "its header is cut short"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images.gz"
    path.write_bytes(content)
    with pytest.raises(DamagedDataError, match=message) as error:
        read_idx(path)
    assert str(path) in str(error.value)
    assert "Delete the file" in str(error.value)


def test_bundled_digits() -> None:
    digits = load_images("digits")
    assert digits.train.shape == (4_500, 28, 28)
    assert np.bincount(digits.test_labels).tolist() == [50] * 10
    assert digits.train.min() == 0.0
    assert digits.train.max() == 1.0
    everything = np.concatenate([digits.train, digits.test]).reshape(5_000, -1)
    assert len(np.unique(everything, axis=0)) == 5_000, "no digit is in both parts"
    assert digits.sha256() == load_images("digits").sha256()


def test_unknown_data_set() -> None:
    with pytest.raises(
        ValueError, match="data set 'cifar' is unknown: choose one of digits, mnist"
    ):
        load_images("cifar")


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


def jpeg(level: int, side: int = 32, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (level, 0, 0)).save(buffer, kind)
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
    found = read_cifar10(path)
    np.testing.assert_array_equal(found.train, TRAIN / np.float32(255))
    np.testing.assert_array_equal(found.train_labels, TRAIN_LABELS)
    np.testing.assert_array_equal(found.test, TEST / np.float32(255))
    np.testing.assert_array_equal(found.test_labels, TEST_LABELS)


def test_jpeg_files_are_read(tmp_path: Path) -> None:
    names = [f"the latest/train/{name}/0.jpg" for name in CIFAR10_CLASSES]
    files = {name: jpeg(20 * i) for i, name in enumerate(names)}
    files["the latest/test/cat/0.jpg"] = jpeg(9)
    found = read_cifar10(archive(tmp_path / "cifar.tar.gz", files))
    assert found.train_labels.tolist() == list(range(10))
    assert found.test_labels.tolist() == [3]
    levels = 255 * found.train[:, 0].mean((1, 2))
    np.testing.assert_allclose(levels, np.arange(0, 200, 20), atol=3)


def test_a_set_is_loaded_from_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, str(tmp_path))
    files = {
        "data_batch_1.bin": binary(TRAIN, TRAIN_LABELS),
        "test_batch.bin": binary(TEST, TEST_LABELS),
    }
    (tmp_path / "cifar10").mkdir()
    path = archive(tmp_path / "cifar10" / "cifar-10-binary.tar.gz", files)
    monkeypatch.setattr(images, "fetch", lambda name: tmp_path / name)
    loaded = load_images("cifar10")
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
        ({"train/unicorn/0.jpg": jpeg(9)}, "class folder 'unicorn' is unknown"),
        ({"train/cat/0.jpg": jpeg(9, 16)}, "16 x 16 pixels, not 32 x 32"),
        ({"train/cat/0.jpg": jpeg(9, kind="GIF")}, "cannot identify image file"),
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
