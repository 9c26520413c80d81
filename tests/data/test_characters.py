"""Characters and episodes: archives, glyphs, splits, and what an episode promises."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat, savemat

from hybrid.data import atis, glyphs
from hybrid.data.augment import Jitter
from hybrid.data.characters import Characters, _ink, load_characters, read_omniglot, render_glyphs
from hybrid.data.episodes import sample_episodes, split_classes
from hybrid.data.files import DamagedDataError
from hybrid.data.matlab import read_structures


def png(column: int, mode: str = "1") -> bytes:
    """A white page with one black column, 1-bit unless told otherwise."""
    page = np.ones((105, 105), dtype=bool)
    page[:, column] = False
    buffer = io.BytesIO()
    Image.fromarray(page).convert(mode).save(buffer, "png")
    return buffer.getvalue()


def archive(path: Path, drawings: int = 20, mode: str = "1") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images_background/", b"")
        for character in (1, 2):
            for drawing in range(drawings, 0, -1):
                name = f"images_background/Greek/character{character:02d}/{character:04d}"
                file.writestr(f"{name}_{drawing:02d}.png", png(50 * character, mode))
    return path


def test_omniglot_archives_are_read_as_ink(tmp_path: Path) -> None:
    characters = read_omniglot(archive(tmp_path / "images_background.zip"))
    assert characters.drawings.shape == (2, 20, 31, 31)
    assert characters.alphabets == ("Greek", "Greek")
    assert characters.names == ("character01", "character02")
    # One of 105 columns is black: averaged, the ink is kept, where it was drawn.
    ink = characters.drawings[0, 0] / 255
    assert ink.mean() == pytest.approx(1 / 105, rel=0.02)
    assert ink.mean(0).argmax() == 50 * 31 // 105


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_drawings_saved_anew_have_the_same_ink(tmp_path: Path, mode: str) -> None:
    """Copies of Omniglot are often 8-bit: white is 255 there, not 1."""
    original = read_omniglot(archive(tmp_path / "original.zip"))
    copy = read_omniglot(archive(tmp_path / "copy.zip", mode=mode))
    np.testing.assert_array_equal(copy.drawings, original.drawings)
    assert original.drawings.mean() < 30
    bare = io.BytesIO()
    Image.open(io.BytesIO(png(50))).convert("L").point(lambda value: value // 255).save(bare, "png")
    np.testing.assert_array_equal(_ink(bare.getvalue()), _ink(png(50)))
    see_through = io.BytesIO()
    Image.open(io.BytesIO(png(50))).convert("P").save(see_through, "png", transparency=0)
    with pytest.raises(ValueError, match="kind P with transparency"):
        _ink(see_through.getvalue())
    for other in ("I;16", "LA"):
        with pytest.raises(DamagedDataError, match=f"kind {other}: save it as 8-bit grey"):
            read_omniglot(archive(tmp_path / "other.zip", mode=other))


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    whole = archive(tmp_path / "whole.zip").read_bytes()
    cut, empty, few = tmp_path / "cut.zip", tmp_path / "empty.zip", tmp_path / "few.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    zipfile.ZipFile(empty, "w").close()
    archive(few, drawings=19)
    with pytest.raises(DamagedDataError, match=r"cut\.zip cannot be read"):
        read_omniglot(cut)
    with pytest.raises(DamagedDataError, match=r"empty\.zip .*holds no Omniglot drawings"):
        read_omniglot(empty)
    with pytest.raises(
        DamagedDataError, match=r"few\.zip .*holds 19 drawings of Greek/character01"
    ):
        read_omniglot(few)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("side", "kind"), [(1_001, "PNG"), (20_000, "PNG"), (105, "BMP")])
def test_drawings_that_none_of_the_set_is_like_are_not_unpacked(
    tmp_path: Path, side: int, kind: str
) -> None:
    page = io.BytesIO()
    Image.new("1", (side, side if side < 10_000 else 10_000)).save(page, kind)
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as file:
        file.writestr("images_background/Greek/character01/0001_01.png", page.getvalue())
    message = r"1,000 a side|decompression bomb|cannot identify image file"
    with pytest.raises(DamagedDataError, match=rf"it\.zip cannot be read \(.*({message})"):
        read_omniglot(tmp_path / "it.zip")


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="choose one of glyphs, few_glyphs, omniglot, atis"):
        load_characters("runes")
    with pytest.raises(ValueError, match="choose one of pooled, standard"):
        split_classes(1623, "leave-one-out", np.random.default_rng(0))


def test_there_are_thousands_of_glyphs_and_no_two_alike() -> None:
    codes = glyphs.code_points()
    assert len(codes) > 2_000
    assert ord("A") in codes
    assert ord("Α") not in codes
    assert ord("É") not in codes


def test_glyphs_are_the_same_each_time_and_differ_within_a_class() -> None:
    codes = [ord("A"), ord("Ж"), ord("9")]
    once, again = render_glyphs(codes), render_glyphs(codes)
    np.testing.assert_array_equal(once.drawings, again.drawings)
    assert once.names == ("A", "Ж", "9")
    assert once.alphabets == ("Latin", "Cyrillic", "Digit")
    for own in once.drawings:
        assert len({drawing.tobytes() for drawing in own}) == len(own)
    border = np.concatenate([once.drawings[..., 0, :], once.drawings[..., -1, :]])
    assert border.sum() == 0, "glyphs fit on the page"
    assert once.drawings.max(axis=(2, 3)).min() > 100


def test_rotations_are_classes_of_their_own() -> None:
    characters = render_glyphs([ord("A"), ord("E")], drawings=2)
    turned = characters.with_rotations()
    assert len(turned) == 8
    assert turned.names[:3] == ("A 0°", "E 0°", "A 90°")
    np.testing.assert_array_equal(turned.drawings[3, 1], np.rot90(characters.drawings[1, 1]))


@pytest.mark.parametrize("name", ["pooled", "standard"])
def test_splits_share_no_class(name: str) -> None:
    split = split_classes(1623, name, np.random.default_rng(3), validation=100)
    together = np.concatenate(split)
    assert sorted(together) == list(range(1623))
    assert len(split.validation) == 100
    assert len(split.test) == (100 if name == "pooled" else 659)
    if name == "standard":
        assert split.test.min() == 964
    again = split_classes(1623, name, np.random.default_rng(3), validation=100)
    np.testing.assert_array_equal(split.train, again.train)


@given(
    ways=st.integers(2, 6),
    shots=st.integers(1, 3),
    queries=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_episodes_keep_their_promises(ways: int, shots: int, queries: int, seed: int) -> None:
    classes, drawings = np.array([3, 5, 7, 11, 13, 17]), 8
    episodes = sample_episodes(
        classes,
        drawings,
        5,
        ways=ways,
        shots=shots,
        queries=queries,
        generator=np.random.default_rng(seed),
    )
    assert episodes.support.shape == episodes.labels.shape == (5, ways * shots)
    assert episodes.query.shape == episodes.targets.shape == (5, queries)
    for support, labels, query, targets in zip(*episodes, strict=True):
        assert len({*support, *query}) == ways * shots + queries, "no drawing is shown twice"
        class_of = {label: set(support[labels == label] // drawings) for label in range(ways)}
        assert all(len(found) == 1 for found in class_of.values()), "one class a label"
        assert len(set.union(*class_of.values())) == ways
        assert set.union(*class_of.values()) <= set(classes)
        assert np.bincount(labels, minlength=ways).tolist() == [shots] * ways
        assert all(
            number // drawings in class_of[t] for number, t in zip(query, targets, strict=True)
        )

    compact, used = episodes.compact()
    np.testing.assert_array_equal(used[compact.support], episodes.support)
    np.testing.assert_array_equal(used[compact.query], episodes.query)


def test_labels_and_orders_are_drawn_anew() -> None:
    episodes = sample_episodes(
        np.arange(4), 5, 400, ways=4, shots=1, queries=1, generator=np.random.default_rng(0)
    )
    shown_first = np.bincount(episodes.labels[:, 0], minlength=4) / 400
    asked = np.bincount(episodes.targets[:, 0], minlength=4) / 400
    label_of_class_0 = np.bincount(episodes.labels[episodes.support // 5 == 0], minlength=4) / 400
    for shares in (shown_first, asked, label_of_class_0):
        assert np.abs(shares - 0.25).max() < 0.08


def test_impossible_episodes_are_refused() -> None:
    def sample(**changes: int) -> None:
        wanted = {"ways": 5, "shots": 1, "queries": 1} | changes
        sample_episodes(np.arange(9), 4, 1, **wanted, generator=np.random.default_rng(0))

    with pytest.raises(ValueError, match="ways = 10: there are 9 classes"):
        sample(ways=10)
    with pytest.raises(ValueError, match=r"no more than the 4 drawings of a class in 1 takes"):
        sample(shots=3, queries=2)
    with pytest.raises(ValueError, match="too few for split 'pooled'"):
        split_classes(150, "pooled", np.random.default_rng(0))
    assert isinstance(render_glyphs([ord("A")]), Characters)


def recording(label: int, turn: int) -> dict[str, np.ndarray]:
    """Forty events: a row of its own for each class, a column for each turn of the barrel."""
    steps = np.arange(40)
    return {
        "x": np.full((1, 40), 1 + 4 * turn, dtype=np.uint8),
        "y": np.full((1, 40), 1 + label % 32, dtype=np.uint8),
        "p": np.where(steps % 2, 1, -1)[None].astype(np.int16),
        "ts": (10 * steps)[None].astype(np.int32),
    }


def write_atis(path: Path, count: int = 76, **damage: np.ndarray) -> Path:
    cells = np.empty((1, count), dtype=object)
    for number in range(count):
        cells[0, number] = recording(number % 36, number // 36) | (damage if number == 5 else {})
    savemat(path, {"ROI": cells})
    return path


def test_atis_recordings_become_frames(tmp_path: Path) -> None:
    recordings = atis.read_atis(write_atis(tmp_path / "alphabet.mat"))
    assert len(recordings) == 72, "two of each class"
    assert recordings[37]["x"].tolist() == [4] * 40
    assert recordings[0]["p"][:4].tolist() == [False, True, False, True]
    drawings = atis.frames(recordings)
    assert drawings.shape == (36, 20, 32, 32)
    for label in (0, 7, 35):
        for turn in (0, 1):
            frame = drawings[label, 10 * turn + 3]
            assert np.argwhere(frame).tolist() == [[label % 32, 4 * turn]]
            assert frame.max() == 255


@pytest.mark.parametrize("packed", [False, True])
def test_scipy_reads_the_same(tmp_path: Path, packed: bool) -> None:
    path = write_atis(tmp_path / "alphabet.mat")
    table = loadmat(path)["ROI"]
    savemat(path, {"before": np.eye(3), "ROI": table}, do_compression=packed)
    for found, wanted in zip(read_structures(path.read_bytes(), "ROI"), table[0], strict=True):
        assert tuple(found) == wanted.dtype.names
        for name, row in found.items():
            np.testing.assert_array_equal(row, wanted[name][0, 0][0])


def test_what_ends_the_process_in_scipy_is_refused(tmp_path: Path) -> None:
    path = write_atis(tmp_path / "alphabet.mat")
    content = bytearray(path.read_bytes())
    content[144] = 4  # an array of cells becomes one of letters
    path.write_bytes(content)
    with pytest.raises(DamagedDataError, match=r"alphabet\.mat cannot be read .it is damaged"):
        atis.read_atis(path)


def test_no_damage_ends_the_process(tmp_path: Path) -> None:
    """Each change of a byte is refused by name, or read; so is each cut."""
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = recording(0, 0), recording(1, 0)
    savemat(tmp_path / "it.mat", {"ROI": cells})
    whole = (tmp_path / "it.mat").read_bytes()
    assert len(read_structures(whole, "ROI")) == 2
    refused = 0
    for place in range(120, len(whole), 3):
        for value in (0, 1, 0x7F, 0xFF):
            changed = bytearray(whole)
            changed[place] = value
            try:
                read_structures(bytes(changed), "ROI")
            except ValueError:
                refused += 1
        with pytest.raises(ValueError, match="it "):
            read_structures(whole[:place], "ROI")
    assert refused > 500


def test_damaged_recordings_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.mat").write_bytes(b"not a matrix")
    with pytest.raises(DamagedDataError, match=r"text\.mat cannot be read"):
        atis.read_atis(tmp_path / "text.mat")
    with pytest.raises(DamagedDataError, match="holds 40 recordings, too few"):
        atis.read_atis(write_atis(tmp_path / "few.mat", count=40))
    outside = np.full((1, 40), 33, dtype=np.uint8)
    with pytest.raises(DamagedDataError, match=r"recording 5 has .*beyond 32 x 32"):
        atis.read_atis(write_atis(tmp_path / "outside.mat", x=outside))
    none = np.empty((1, 0), dtype=np.uint8)
    with pytest.raises(DamagedDataError, match="recording 5 is empty"):
        atis.read_atis(write_atis(tmp_path / "empty.mat", x=none, y=none, p=none, ts=none))
    backwards = np.arange(40, 0, -1, dtype=np.int32)[None]
    with pytest.raises(DamagedDataError, match="recording 5 is not in the order of time"):
        atis.read_atis(write_atis(tmp_path / "backwards.mat", ts=backwards))


def test_queries_are_from_another_take_than_the_support() -> None:
    wanted = {"ways": 3, "shots": 2, "queries": 3, "takes": 2}
    episodes = sample_episodes(np.arange(6), 8, 200, **wanted, generator=np.random.default_rng(0))
    shown_from = {0: 0, 1: 0}
    for support, labels, query, targets in zip(*episodes, strict=True):
        for number, target in zip(query, targets, strict=True):
            blocks = set(support[labels == target] % 8 // 4)
            assert blocks == {1 - number % 8 // 4}
            shown_from[blocks.pop()] += 1
    assert min(shown_from.values()) > 200, "either take may be the support"


def test_jitter_moves_images_no_further_than_asked() -> None:
    dot = torch.zeros(64, 1, 31, 31)
    dot[:, :, 15, 15] = 1.0
    source = np.random.default_rng(0)
    moved = Jitter(0.0, 0.0, 3.0)(dot, source)
    rows = torch.arange(31.0)
    centres = torch.stack([(moved.sum((1, 3)) * rows).sum(1), (moved.sum((1, 2)) * rows).sum(1)])
    assert (centres - 15.0).abs().max() <= 3.0 + 1e-4
    assert (centres - 15.0).std(1).min() > 1.0
    turned = Jitter(20.0, 0.2, 0.0)(dot, source).flatten(1)
    assert (turned.argmax(1) == 15 * 31 + 15).all(), "the centre stays"
    grey = torch.full_like(dot, 0.3)
    torch.testing.assert_close(Jitter(5.0, 0.1, 2.0)(grey, source, fill=0.3), grey)
    ink = torch.rand(4, 1, 31, 31)
    torch.testing.assert_close(Jitter(0.0, 0.0, 0.0)(ink, source), ink, atol=1e-5, rtol=0.0)
