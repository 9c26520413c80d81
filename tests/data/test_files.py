"""Files: checksums, downloads that go on, mirrors, and archives that are refused."""

import errno
import hashlib
import io
import logging
import re
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from filelock import FileLock

from hybrid import locks
from hybrid.data import files
from hybrid.data.characters import read_omniglot
from hybrid.data.events.sets import archive
from hybrid.data.files import (
    SETTING,
    DamagedDataError,
    HostileArchiveError,
    MirrorError,
    MissingDataError,
    Source,
    checked_members,
    checked_zip,
    download,
    fetch,
    parsed_registry,
    part_of,
)
from hybrid.data.images import DATA_NAMES
from tests.data.mirrors import BAD_HEADERS, CONTENT, DIGEST, OK, SIZE, Crude, Mirror

# Repackings that nobody publishes as one file.
STAND_INS = ("cifar10/cifar10_jpeg", "nmnist_small")


@pytest.fixture
def mirror() -> Iterator[str]:
    Mirror.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def right(path: Path) -> bool:
    return path.read_bytes() == CONTENT


def test_a_download_goes_on_where_it_broke_off_also_from_another_mirror(
    mirror: str, tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "file.bin"
    with pytest.raises(MirrorError, match=r"IncompleteRead|ProtocolError"):
        download(f"{mirror}/breaks-off", path, DIGEST, SIZE)
    assert not path.exists()
    arrived = part_of(path).read_bytes()
    assert 80_000 < len(arrived) <= 100_000
    assert CONTENT.startswith(arrived)
    download(f"{mirror}/good", path, DIGEST, SIZE)
    assert right(path)
    assert not part_of(path).exists()
    assert Mirror.asked == [("breaks-off", None), ("good", f"bytes={len(arrived)}-")]


def test_downloads_at_once_do_not_disturb_each_other(mirror: str, tmp_path: Path) -> None:
    path, failed = tmp_path / "file.bin", list[Exception]()

    def run() -> None:
        try:
            download(f"{mirror}/good", path, DIGEST, SIZE)
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
    download(f"{mirror}/whole-only", path, DIGEST, SIZE)
    assert right(path)
    assert Mirror.asked == [("whole-only", "bytes=5000-")]


def test_a_part_that_is_whole_needs_no_more(mirror: str, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(CONTENT)
    download(f"{mirror}/good", path, DIGEST, SIZE)
    assert right(path)
    assert Mirror.asked == []


@pytest.mark.parametrize("there", [b"of something else", CONTENT + b"more"])
def test_a_part_of_something_else_costs_no_mirror(
    mirror: str, tmp_path: Path, there: bytes
) -> None:
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(there)
    download(f"{mirror}/good", path, DIGEST, SIZE)
    assert right(path)
    assert visible(tmp_path) == [path]


def test_wrong_content_is_not_kept(mirror: str, tmp_path: Path) -> None:
    other = hashlib.sha256(b"something else, of the same size").hexdigest()
    with pytest.raises(MirrorError, match="it gave something else than what is registered"):
        download(f"{mirror}/good", tmp_path / "file.bin", f"sha256:{other}", SIZE)
    assert visible(tmp_path) == []


def visible(folder: Path) -> list[Path]:
    """Return what is in a folder but for the lock, which is left."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def test_a_break_off_without_a_length_keeps_what_has_arrived(mirror: str, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    with (
        Crude(OK + b"\r\n", CONTENT[:100_000]) as server,
        pytest.raises(MirrorError, match="broke off after 100,000 of 1,024,000 bytes"),
    ):
        download(server.url, path, DIGEST, SIZE)
    assert part_of(path).read_bytes() == CONTENT[:100_000]
    download(f"{mirror}/good", path, DIGEST, SIZE)
    assert right(path)
    assert Mirror.asked == [("good", "bytes=100000-")]


def test_an_endless_body_is_cut_off(tmp_path: Path) -> None:
    path, small = tmp_path / "file.bin", CONTENT[:50_000]
    right_one = f"sha256:{hashlib.sha256(small).hexdigest()}"
    with Crude(OK + b"\r\n", 100 * CONTENT) as server:
        with pytest.raises(MirrorError, match="something else"):
            download(server.url, path, DIGEST, SIZE - 1)
        assert visible(tmp_path) == []
        download(server.url, path, right_one, len(small))
    assert path.read_bytes() == small


def test_a_file_of_another_size_is_refused_before_it_arrives(mirror: str, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(CONTENT[:5_000])
    with pytest.raises(MirrorError, match="its file has 5,014 bytes, not 1,024,000"):
        download(f"{mirror}/wrong", path, DIGEST, SIZE)
    assert part_of(path).read_bytes() == CONTENT[:5_000], "what has arrived is left alone"


@pytest.mark.parametrize("kind", ["header", "body", "chunks", "silence"])
def test_a_slow_mirror_is_given_up(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_TIMEOUT", 0.3)
    head, body = {
        "header": (OK + b"X-Slow: ", b"x"),
        "body": (OK + b"Content-Length: 1024000\r\n\r\n", b"x"),
        "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        "silence": (b"", b""),
    }[kind]
    begun = time.monotonic()
    with (
        Crude(head, body, pause=0.02) as server,
        pytest.raises(MirrorError, match=r"sent less than 16,384 bytes in 0\.3 s|Timeout"),
    ):
        download(server.url, tmp_path / "file.bin", DIGEST, SIZE)
    assert time.monotonic() - begun < 2.0
    assert visible(tmp_path) == []


@pytest.mark.parametrize("kind", BAD_HEADERS)
def test_a_bad_header_moves_on_to_the_next_mirror(
    kind: str, folder: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Crude(BAD_HEADERS[kind], b"bytes") as server:
        register(monkeypatch, CONTENT, server.url)
        with pytest.raises(MissingDataError) as error:
            fetch("toy/file.gz")
        assert re.fullmatch(r"[\n\x20-\x7e]+", str(error.value)), "no control characters"
        assert server.url in str(error.value)
        register(monkeypatch, CONTENT, server.url, f"{mirror}/good")
        assert right(fetch("toy/file.gz"))


@pytest.mark.parametrize("length", [b"abc", b"1e5", b"-5"])
def test_a_length_that_says_nothing_spoils_no_download(length: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    with Crude(OK + b"Content-Length: " + length + b"\r\n\r\n", CONTENT) as server:
        download(server.url, path, DIGEST, SIZE)
    assert right(path)


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that another is fetching, whose TMPDIR may be another one."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    with FileLock(tmp_path / ".file.bin.lock"):
        yield tmp_path / "file.bin"


def test_who_waits_says_so_and_gives_up(
    held: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "_SILENT", 0.05)
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    part_of(held).write_bytes(CONTENT[:5_000])
    with caplog.at_level(logging.WARNING):
        failed = in_thread("http://127.0.0.1:9/", held)
    (said,) = caplog.messages
    for part in ("is fetching", str(held), "waiting for it", str(held.with_name(".file.bin.lock"))):
        assert part in said
    (error,) = failed
    assert re.search(r"another process is fetching .*end it, and run again", str(error))
    assert part_of(held).read_bytes() == CONTENT[:5_000]


def test_who_waits_gets_the_file_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "_SILENT", 0.05)
    path = tmp_path / "file.bin"
    with FileLock(tmp_path / ".file.bin.lock"):
        thread = Thread(target=download, args=("http://127.0.0.1:9/", path, DIGEST, SIZE))
        thread.start()
        time.sleep(0.2)
        path.write_bytes(CONTENT)
    thread.join(10)
    assert not thread.is_alive()
    assert "waiting for it" in caplog.text


def in_thread(url: str, path: Path) -> list[Exception]:
    """Download in a thread, whose lock is not this one's; return what went wrong."""
    failed = list[Exception]()

    def run() -> None:
        try:
            download(url, path, DIGEST, SIZE)
        except OSError as error:
            failed.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join(10)
    return failed


def test_a_lock_that_cannot_be_opened_is_named(
    folder: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, CONTENT, f"{mirror}/good")
    lock = folder / "toy" / ".file.gz.lock"
    lock.mkdir(parents=True)  # as little to be opened as that of another user
    with pytest.raises(OSError, match=f"lock {re.escape(str(lock))} cannot be opened.*delete"):
        fetch("toy/file.gz")
    (folder / "toy" / "file.gz").write_bytes(CONTENT)
    assert right(fetch("toy/file.gz")), "who has the file needs no lock"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory."""
    monkeypatch.setenv(SETTING, str(tmp_path))
    return tmp_path


def register(monkeypatch: pytest.MonkeyPatch, content: bytes, *urls: str) -> Source:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    source = Source("toy/file.gz", len(content), (digest,), urls)
    monkeypatch.setattr(files, "registry", lambda: {source.name: source})
    return source


@pytest.mark.parametrize(
    "line",
    [
        f"toy/file.gz {DIGEST}",
        f"toy/file.gz -5 {DIGEST}",
        f"toy/file.gz 1e5 {DIGEST}",
        f"toy/file.gz 5 {DIGEST[:-1]}",
        f"toy/file.gz 5 {DIGEST},{DIGEST}x",
        f"toy/file.gz 5 {DIGEST} ftp://somewhere/file.gz",
        f"../file.gz 5 {DIGEST}",
        f"toy/file.gz 5 {DIGEST}\ntoy/file.gz 5 {DIGEST}",
    ],
)
def test_a_line_that_says_something_else_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="is no line `name bytes checksums mirrors`"):
        parsed_registry(line)


def test_the_registry_is_complete() -> None:
    for source in files.registry().values():
        assert source.size > 1_000
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
    assert visible(path.parent) == [path]
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
        "toy/one.bin": Source("toy/one.bin", SIZE, (DIGEST,), urls),
        "other/two.bin": Source("other/two.bin", SIZE, (DIGEST,), ()),
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
def test_hostile_tar_archives_are_refused(
    name: str, kind: bytes, message: str, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "it.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "elsewhere"
        archive.addfile(info, io.BytesIO())
    with pytest.raises(HostileArchiveError, match=message):
        list(checked_members(tmp_path / "it.tar.gz"))


def tar(path: Path, name: str, form: int, **records: str) -> Path:
    with tarfile.open(path, "w:gz", format=form, pax_headers=records) as archive:
        info = tarfile.TarInfo(name)
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    return path


def test_headers_of_a_tar_archive_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        sound = tar(tmp_path / "sound.tar.gz", "folder/" + "n" * 300, form)
        assert list(checked_members(sound)) == [("folder/" + "n" * 300, b"abc")]
        hostile = tar(tmp_path / "hostile.tar.gz", "n" * 5_000_000, form)
        with pytest.raises(HostileArchiveError, match="header of an entry is 5,000,"):
            list(checked_members(hostile))
    for_all = tar(tmp_path / "hostile.tar.gz", "it", tarfile.PAX_FORMAT, comment="n" * 5_000_000)
    with pytest.raises(HostileArchiveError, match="header of an entry is 5,000,"):
        list(checked_members(for_all))
    monkeypatch.setattr(files, "LARGEST", 1_000)
    with pytest.raises(HostileArchiveError, match=r"it holds 1,539 bytes, unpacked"):
        list(checked_members(sound))


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


def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten megabytes of zeros in a few kilobytes."""
    monkeypatch.setattr(files, "LARGEST", 1_000_000)
    path = tmp_path / "it.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 10_000_000
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    assert path.stat().st_size < 20_000
    with pytest.raises(HostileArchiveError, match="10,000,512 bytes"):
        next(checked_members(path))
