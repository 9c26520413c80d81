"""Classes of characters, a few drawings each: Omniglot, the ATIS alphabet, printed glyphs."""

import hashlib
import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybrid.checks import choose
from hybrid.data import atis
from hybrid.data.files import checked_zip, fetch, reading

CHARACTER_NAMES = ("glyphs", "few_glyphs", "omniglot", "atis")
SIZE = 31  # pixels a side, as the authors use Omniglot
SIDES: dict[str, int] = {"atis": atis.SIZE}  # of the sets of another size
GLYPH_DRAWINGS = 12
FEW = 5  # each fifth code point makes up "few_glyphs"
OMNIGLOT_DRAWINGS = 20
_PNG = re.compile(r"images_(?:background|evaluation)/([^/]+/character\d+)/\d+_(\d+)\.png", re.ASCII)
_LARGEST_SIDE = 1_000  # pixels of a drawing; the originals have 105


@dataclass(frozen=True)
class Characters:
    """Drawings of characters, with the same number of drawings for each class."""

    drawings: NDArray[np.uint8]  # ink, 0 to 255 [classes, drawings, height, width]
    alphabets: tuple[str, ...]  # which alphabet each class is of
    names: tuple[str, ...]  # of each class within its alphabet
    # Drawings come in this many equal blocks; those of one block are too much alike for one to be
    # shown and another to be asked for.
    takes: int = 1

    def __len__(self) -> int:
        return len(self.drawings)

    def with_rotations(self) -> "Characters":
        """Return each class four times: as it is, and turned by 90, 180 and 270 degrees.

        A turned character counts as a class of its own (Santoro et al., ICML 2016).
        """
        turned = [np.rot90(self.drawings, quarter, axes=(2, 3)) for quarter in range(4)]
        names = tuple(f"{name} {90 * quarter}°" for quarter in range(4) for name in self.names)
        return replace(
            self, drawings=np.concatenate(turned), alphabets=self.alphabets * 4, names=names
        )

    def sha256(self) -> str:
        """Return a hash of all drawings: what a result was computed from."""
        return hashlib.sha256(np.ascontiguousarray(self.drawings).data).hexdigest()


def load_characters(name: str) -> Characters:
    """Load a set of characters by name.

    "glyphs": printed characters of many scripts, rendered here and now, 12 drawings each, see
    `hybrid.data.glyphs`; needs no download. "few_glyphs": each fifth of them. "omniglot": 1,623
    handwritten characters of 50 alphabets, 20 drawings each (Lake et al., Science 350, 2015); the
    964 of the background set come first. "atis": 36 letters and digits recorded by an event
    camera, 10 frames of each of two recordings, see `hybrid.data.atis`.

    Raises:
        ValueError: if the name is unknown.
        MissingDataError, DamagedDataError: see `fetch`, `read_omniglot` and `read_atis`.
    """
    choose("character set", name, CHARACTER_NAMES)
    if name == "omniglot":
        archives = ("omniglot/images_background.zip", "omniglot/images_evaluation.zip")
        first, second = (read_omniglot(fetch(archive)) for archive in archives)
        drawings = np.concatenate([first.drawings, second.drawings])
        return Characters(drawings, first.alphabets + second.alphabets, first.names + second.names)
    if name == "atis":
        recordings = atis.read_atis(fetch("atis_alphabet/alphabet_ExtractedStabilized.mat"))
        alphabets = ("barrel",) * len(atis.BARREL)
        return Characters(
            atis.frames(recordings), alphabets, tuple(atis.BARREL), takes=atis.RECORDINGS
        )
    from hybrid.data import glyphs

    return render_glyphs(glyphs.code_points()[:: 1 if name == "glyphs" else FEW])


def render_glyphs(codes: Sequence[int], drawings: int = GLYPH_DRAWINGS) -> Characters:
    """Return printed characters, always the same ones for the same code points and fonts."""
    from hybrid.data import glyphs

    return Characters(
        glyphs.render(codes, drawings, SIZE, np.random.default_rng(0)),
        tuple(glyphs.script(code) for code in codes),
        tuple(chr(code) for code in codes),
    )


def read_omniglot(path: Path) -> Characters:
    """Read a zip archive of Omniglot images, `images_*/<alphabet>/<character>/*_<drawing>.png`.

    The black and white drawings of 105 x 105 pixels are averaged down to 31 x 31 shades of ink.

    Raises:
        DamagedDataError: if the archive is damaged, or has not 20 drawings of each character.
    """
    drawings: dict[str, dict[int, NDArray[np.uint8]]] = {}
    with reading(path), zipfile.ZipFile(path) as archive:
        for entry in sorted(checked_zip(archive).namelist()):
            if match := _PNG.fullmatch(entry):
                character, number = match.groups()
                drawings.setdefault(character, {})[int(number)] = _ink(archive.read(entry))
        if not drawings:
            raise ValueError("it holds no Omniglot drawings")
        for character, own in drawings.items():
            if sorted(own) != list(range(1, OMNIGLOT_DRAWINGS + 1)):
                count = f"{len(own)} drawings of {character}, not {OMNIGLOT_DRAWINGS}"
                raise ValueError(f"it holds {count}")
    alphabets, names = zip(*(character.split("/") for character in drawings), strict=True)
    stacked = [np.stack([own[i] for i in sorted(own)]) for own in drawings.values()]
    return Characters(np.stack(stacked), alphabets, names)


def _ink(png: bytes) -> NDArray[np.uint8]:
    """Return a drawing as ink, averaged by area: the files are white where there is none.

    Raises:
        ValueError: if it is not black and white, grey or coloured with 8 bits, or too large.
    """
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if max(image.size) > _LARGEST_SIDE:
            size = " x ".join(map(str, image.size))
            raise ValueError(f"a drawing has {size} pixels, more than {_LARGEST_SIDE:,} a side")
        clear = "transparency" in image.info
        if image.mode not in ("1", "L", "P", "RGB") or clear:
            kind = f"{image.mode}{' with transparency' if clear else ''}"
            raise ValueError(f"a drawing has pixels of kind {kind}: save it as 8-bit grey")
        grey = np.asarray(image.convert("L"), dtype=np.float32)
    page = 1.0 - grey / (255.0 if grey.max() > 1.0 else 1.0)  # 0 and 1 saved as 8 bits
    ink = _shares(page.shape[0]) @ page @ _shares(page.shape[1]).T
    return np.rint(255.0 * ink).astype(np.uint8)


@cache
def _shares(pixels: int) -> NDArray[np.float32]:
    """Return the share that each of `pixels` has in each of `SIZE` larger ones [SIZE, pixels]."""
    edges = np.arange(SIZE + 1) * (pixels / SIZE)
    covered = np.clip(edges[:, None] - np.arange(pixels), 0.0, 1.0)  # left of each edge
    return (np.diff(covered, axis=0) * (SIZE / pixels)).astype(np.float32)
