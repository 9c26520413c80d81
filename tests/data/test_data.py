"""Data: checksums, damaged and missing files, idx reading, splits, faults."""

import gzip
import hashlib
import struct
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from hybrid.data import sources
from hybrid.data.faults import FAULTS, corrupt
from hybrid.data.images import DATA_NAMES, load_images, read_idx
from hybrid.data.sources import DamagedDataError, MissingDataError, Source, fetch

# Repackings that nobody publishes as one file.
STAND_INS = ("cifar10/cifar10_jpeg", "nmnist_small")


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return gzip.compress(header + content, mtime=0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory."""
    monkeypatch.setenv(sources.SETTING, str(tmp_path))
    return tmp_path


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A local web server: its address, and the folder it serves."""
    served = tmp_path_factory.mktemp("served")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(served))

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}", served
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def register(monkeypatch: pytest.MonkeyPatch, content: bytes, *urls: str) -> Source:
    source = Source("toy/file.gz", (f"sha256:{hashlib.sha256(content).hexdigest()}",), urls)
    monkeypatch.setattr(sources, "registry", lambda: {source.name: source})
    return source


def test_the_registry_is_complete() -> None:
    for source in sources.registry().values():
        sizes = {"md5": 32, "sha256": 64}
        for digest in source.digests:
            algorithm, _, hexadecimal = digest.partition(":")
            assert len(hexadecimal) == sizes[algorithm]
        assert any(digest.startswith("sha256") for digest in source.digests)
        if not source.name.startswith("omniglot"):  # whose publisher gives no SHA-256
            assert all(digest.startswith("sha256") for digest in source.digests)
        if source.name.startswith(STAND_INS):
            assert source.urls == (), "what nobody publishes cannot be fetched"
        else:
            assert len(source.urls) >= 2, "mirrors"
        published = Path(source.name).name
        if source.name.startswith("dvs_gesture10"):  # 01_hand_clapping.bin is published as 1.bs2
            published = f"/{int(published[:2])}.bs2"
        assert all(url.endswith(published) for url in source.urls)
    names = {name.split("/")[0] for name in sources.registry()}
    others = {"omniglot", "atis_alphabet", "nmnist_small", "dvs_gesture10"}
    assert names == {*DATA_NAMES, *others} - {"digits", "cifar10_jpeg"}


def test_a_file_that_is_there_needs_no_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, b"content", "http://127.0.0.1:9/never-asked")
    (folder / "toy").mkdir()
    (folder / "toy" / "file.gz").write_bytes(b"content")
    assert fetch("toy/file.gz").read_bytes() == b"content"


def test_a_missing_file_comes_from_the_first_mirror_that_has_it(
    folder: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served = server
    (served / "good").write_bytes(b"content")
    (served / "wrong").write_bytes(b"something else")
    mirrors = [f"{address}/absent", f"{address}/wrong", f"{address}/good"]
    register(monkeypatch, b"content", *mirrors)
    path = fetch("toy/file.gz")
    assert path == folder / "toy" / "file.gz"
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_file_offline_names_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, b"content", "http://127.0.0.1:9/file.gz")
    with pytest.raises(MissingDataError) as error:
        fetch("toy/file.gz")
    for part in ("toy/file.gz", str(folder), "127.0.0.1:9", "HYBRID_DATA", "by hand"):
        assert part in str(error.value)


def test_a_damaged_file_is_named_and_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, b"content")
    (folder / "toy").mkdir()
    path = folder / "toy" / "file.gz"
    path.write_bytes(b"cont")
    with pytest.raises(DamagedDataError, match=r"is damaged.*Delete the file and run again"):
        fetch("toy/file.gz")
    assert path.read_bytes() == b"cont"


def test_read_idx(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(idx((2, 2, 3), bytes(range(12))))
    np.testing.assert_array_equal(read_idx(path), np.arange(12).reshape(2, 2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip at all", "not a whole gzip file"),
        (idx((4,), b"abcd")[:-9], "not a whole gzip file"),
        (gzip.compress(b"PNG!...."), "wrong magic"),
        (gzip.compress(b""), "wrong magic"),
        (idx((5,), b"abcd"), "holds 12 bytes, its header announces 13"),
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
    with pytest.raises(ValueError, match="'cifar' is unknown: choose one of digits, mnist"):
        load_images("cifar")


PICTURES = np.linspace(0, 1, 40 * 28 * 28, dtype=np.float32).reshape(40, 28, 28)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_seeded_bounded_and_leave_their_input_alone(name: str) -> None:
    level = 4.0 if name == "crop" else 0.05
    before = PICTURES.copy()
    faulty = corrupt(PICTURES, name, level, rng())
    np.testing.assert_array_equal(PICTURES, before)
    assert faulty.dtype == np.float32
    assert faulty.min() >= 0.0
    assert faulty.max() <= 1.0
    assert not np.array_equal(faulty, PICTURES)
    np.testing.assert_array_equal(faulty, corrupt(PICTURES, name, level, rng()))
    np.testing.assert_array_equal(corrupt(PICTURES, name, 0.0, rng()), PICTURES)


def test_crop_blanks_the_centre_only() -> None:
    ones = np.ones((1, 28, 28), np.float32)
    blanked = corrupt(ones, "crop", 3, rng())
    assert blanked[0, 11:17, 11:17].sum() == 0
    assert blanked.sum() == 28 * 28 - 36
    assert corrupt(ones, "crop", 14, rng()).sum() == 0
    assert corrupt(ones, "crop", 99, rng()).sum() == 0


def test_noise_levels_mean_what_their_axis_says() -> None:
    grey = np.full((200, 28, 28), 0.5, np.float32)
    assert corrupt(grey, "gaussian", 0.01, rng()).var() == pytest.approx(0.01, rel=0.02)
    assert (corrupt(grey, "salt", 0.1, rng()) == 1).mean() == pytest.approx(0.1, rel=0.03)
    assert (corrupt(grey, "pepper", 0.3, rng()) == 0).mean() == pytest.approx(0.3, rel=0.03)
    both = corrupt(grey, "salt_pepper", 0.2, rng())
    assert (both != 0.5).mean() == pytest.approx(0.2, rel=0.03)
    assert (both == 0).mean() == pytest.approx((both == 1).mean(), rel=0.1)


@pytest.mark.parametrize(
    ("name", "level", "images", "message"),
    [
        ("blur", 1.0, PICTURES, "'blur' is unknown: choose one of gaussian, salt"),
        ("gaussian", -0.1, PICTURES, "gaussian level -0.1: the noise variance"),
        ("crop", -1.0, PICTURES, "crop level -1.0: the half-width"),
        ("crop", 2.5, PICTURES, "whole number of pixels"),
        ("salt", 1.5, PICTURES, "salt level 1.5: .* <= 1"),
        ("gaussian", 0.1, PICTURES[0], r"must be \[N, H, W\]"),
        ("gaussian", 0.1, PICTURES * 255, r"values in \[0, 1\]"),
    ],
)
def test_wrong_faults_are_named(name: str, level: float, images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(images, name, level, rng())
