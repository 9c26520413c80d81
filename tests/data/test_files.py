"""Files: checksums, downloads that go on, mirrors, and archives that are refused."""

import errno
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
import requests

from hybrid.data import files
from hybrid.data.characters import read_omniglot
from hybrid.data.events.sets import archive
from hybrid.data.files import (
    SETTING,
    DamagedDataError,
    HostileArchiveError,
    MissingDataError,
    Source,
    checked_members,
    checked_zip,
    download,
    fetch,
    part_of,
)
from hybrid.data.images import DATA_NAMES

CONTENT = bytes(range(256)) * 4_000  # 1 MB
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
# Repackings that nobody publishes as one file.
STAND_INS = ("cifar10/cifar10_jpeg", "nmnist_small")


class Mirror(BaseHTTPRequestHandler):
    """A server with files under names that say how it behaves."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        kind, wanted = self.path.strip("/"), self.headers.get("Range")
        self.asked.append((kind, wanted))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if kind == "absent":
            self.send_error(404)
            return
        if kind == "whole-only":
            start = 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:] if kind != "wrong" else b"something else"
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:100_000] if kind == "breaks-off" else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    Mirror.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def right(path: Path) -> bool:
    return path.read_bytes() == CONTENT


def test_a_download_goes_on_where_it_broke_off_also_from_another_mirror(
    mirror: str, tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "file.bin"
    with pytest.raises(requests.RequestException):
        download(f"{mirror}/breaks-off", path, DIGEST)
    assert not path.exists()
    arrived = part_of(path).read_bytes()
    assert 80_000 < len(arrived) <= 100_000
    assert CONTENT.startswith(arrived)
    download(f"{mirror}/good", path, DIGEST)
    assert right(path)
    assert not part_of(path).exists()
    assert Mirror.asked == [("breaks-off", None), ("good", f"bytes={len(arrived)}-")]


def test_downloads_at_once_do_not_disturb_each_other(mirror: str, tmp_path: Path) -> None:
    path, failed = tmp_path / "file.bin", list[Exception]()

    def run() -> None:
        try:
            download(f"{mirror}/good", path, DIGEST)
        except Exception as error:
            failed.append(error)

    threads = [Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert right(path)
    assert Mirror.asked == [("good", None)]


def test_a_mirror_that_cannot_go_on_begins_anew(mirror: str, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(CONTENT[:5_000])
    download(f"{mirror}/whole-only", path, DIGEST)
    assert right(path)
    assert Mirror.asked == [("whole-only", "bytes=5000-")]


def test_a_part_that_is_whole_needs_no_more(mirror: str, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(CONTENT)
    download(f"{mirror}/good", path, DIGEST)
    assert right(path)


def test_wrong_content_is_not_kept_and_the_next_attempt_is_whole(
    mirror: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(b"of something else")
    with pytest.raises(ValueError, match="does not match the known hash"):
        download(f"{mirror}/good", path, DIGEST)
    assert list(tmp_path.iterdir()) == []
    download(f"{mirror}/good", path, DIGEST)
    assert right(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory."""
    monkeypatch.setenv(SETTING, str(tmp_path))
    return tmp_path


def register(monkeypatch: pytest.MonkeyPatch, content: bytes, *urls: str) -> Source:
    source = Source("toy/file.gz", (f"sha256:{hashlib.sha256(content).hexdigest()}",), urls)
    monkeypatch.setattr(files, "registry", lambda: {source.name: source})
    return source


def test_the_registry_is_complete() -> None:
    for source in files.registry().values():
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
    names = {name.split("/")[0] for name in files.registry()}
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
    folder: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors = [f"{mirror}/{kind}" for kind in ("absent", "wrong", "good", "never-asked")]
    register(monkeypatch, CONTENT, *mirrors)
    path = fetch("toy/file.gz")
    assert path == folder / "toy" / "file.gz"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert [kind for kind, _ in Mirror.asked] == ["absent", "wrong", "good"]


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


@pytest.fixture
def toy(mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two registered files, one of them with a mirror that works behind two that do not."""
    urls = tuple(f"{mirror}/{kind}" for kind in ("absent", "breaks-off", "good"))
    known = {
        "toy/one.bin": Source("toy/one.bin", (DIGEST,), urls),
        "other/two.bin": Source("other/two.bin", (DIGEST,), ()),
    }
    monkeypatch.setattr(files, "registry", lambda: known)
    monkeypatch.setenv(SETTING, str(tmp_path))
    return tmp_path


def states(names: list[str] | None = None, *, verify: bool = True) -> dict[str, str]:
    return {entry.name: entry.state for entry in files.entries(names, verify=verify)}


def test_the_list_tells_what_is_here_and_fetches_the_rest(toy: Path) -> None:
    assert states() == {"toy/one.bin": "missing", "other/two.bin": "missing, no mirror"}
    (toy / "toy").mkdir()
    part_of(toy / "toy" / "one.bin").write_bytes(CONTENT[:7])
    assert states(["toy"]) == {"toy/one.bin": "partial"}
    asked = ["toy", "other"]
    failed = {name: error for name, error in files.fetch_all(asked) if error is not None}
    assert list(failed) == ["other/two.bin"]
    assert list(files.fetch_all(None)) == [("toy/one.bin", None)], "what a mirror has"
    assert "no public mirror is known" in str(failed["other/two.bin"])
    assert states(["toy"]) == {"toy/one.bin": "here"}
    (toy / "toy" / "one.bin").write_bytes(b"changed")
    assert states(["toy"], verify=False) == {"toy/one.bin": "here"}
    assert states(["toy"]) == {"toy/one.bin": "damaged"}
    with pytest.raises(ValueError, match="data set 'absent' is unknown: choose one of toy, other"):
        states(["absent"])


def zipped(**entries: Callable[[zipfile.ZipInfo], None] | None) -> zipfile.ZipFile:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, change in entries.items():
            info = zipfile.ZipInfo(name)
            if change is not None:
                change(info)
            archive.writestr(info, b"0" * 1_000)
    return zipfile.ZipFile(buffer)


def as_link(info: zipfile.ZipInfo) -> None:
    info.external_attr = 0o120777 << 16


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"../x": None}, "leads out"),
        ({"a/../../x": None}, "leads out"),
        ({"/etc/x": None}, "leads out"),
        ({"C:/x": None}, "leads out"),
        ({"..\\x": None}, "leads out"),
        ({"link": as_link}, "is a link"),
        ({"a": None, "b": None, "c": None}, "up to entry 'c' it holds 3,000 bytes"),
    ],
)
def test_hostile_zip_archives_are_refused(
    entries: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST", 2_500)
    assert checked_zip(zipped(**{"a/b.txt": None})).namelist() == ["a/b.txt"]
    with pytest.raises(HostileArchiveError, match=message):
        checked_zip(zipped(**entries))


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("../x", tarfile.REGTYPE, "leads out"),
        ("x", tarfile.SYMTYPE, "is a link or a device"),
        ("x", tarfile.LNKTYPE, "is a link or a device"),
        ("x", tarfile.CHRTYPE, "is a link or a device"),
        ("x", tarfile.FIFOTYPE, "is a link or a device"),
    ],
)
def test_hostile_tar_archives_are_refused(name: str, kind: bytes, message: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "elsewhere"
        archive.addfile(info, io.BytesIO())
    buffer.seek(0)
    with (
        tarfile.open(fileobj=buffer) as archive,
        pytest.raises(HostileArchiveError, match=message),
    ):
        list(checked_members(archive))


def test_a_file_one_must_not_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "it.zip")

    (tmp_path / "it.zip").touch()
    monkeypatch.setattr("zipfile.ZipFile", refuse)
    for read in (read_omniglot, lambda path: archive(path, "")):
        with pytest.raises(PermissionError, match=r"Permission denied: 'it\.zip'"):
            read(tmp_path / "it.zip")


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten megabytes of zeros in a few kilobytes."""
    monkeypatch.setattr(files, "LARGEST", 1_000_000)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 10_000_000
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    assert len(buffer.getvalue()) < 20_000
    buffer.seek(0)
    with (
        tarfile.open(fileobj=buffer) as archive,
        pytest.raises(HostileArchiveError, match="10,000,000 bytes"),
    ):
        next(checked_members(archive))
