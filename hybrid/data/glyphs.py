"""Printed characters of many scripts, rendered from the fonts that come with matplotlib.

An offline stand-in for handwritten characters: a class is a code point, its drawings are that
character in up to twelve faces, each moved, turned, scaled and sheared a little.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FACES = tuple(
    f"DejaVu{family}{style}"
    for family, slanted in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)
_NEEDED = FACES[:4]  # every class has at least these
# Families of signs that differ by a dot or a dash.
_ALIKE = {"BRAILLE", "BOX", "DOMINO", "TETRAGRAM", "HEXAGRAM", "PLAYING", "MODIFIER"}
_SIDE = 3 * 31  # drawn three times larger than kept
_POINTS = 63
_BILINEAR = Image.Resampling.BILINEAR


@cache
def code_points() -> tuple[int, ...]:
    """Return the classes: letters, digits and signs that no other one looks exactly like.

    Left out are code points that Unicode composes of others (letters with accents), families of
    signs that are nearly alike, and all but the first of those that share one shape (Latin A,
    Greek Alpha, Cyrillic A).
    """
    kept: dict[tuple[tuple[int, int], bytes], int] = {}  # by shape
    for code in sorted(frozenset.intersection(*map(_charmap, _NEEDED))):
        if _is_simple(chr(code)):
            mask = _font(_NEEDED[0]).getmask(chr(code))
            if max(mask.size) <= _SIDE and min(mask.size) > 0:
                kept.setdefault((mask.size, bytes(mask)), code)
    return tuple(kept.values())


def script(code: int) -> str:
    """Return the first word of a code point's Unicode name, for most letters their script."""
    return unicodedata.name(chr(code), "UNNAMED").split()[0].title()


def render(
    codes: Sequence[int], drawings: int, size: int, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Return drawings of some code points, as ink from 0 to 255 [codes, drawings, size, size].

    Each drawing is in a face of its own where there are enough, and turned by up to 12 degrees,
    sheared by up to 0.15, scaled by 0.8 to 1.1 and moved by up to 5 % of its side.
    """
    result = np.empty((len(codes), drawings, size, size), dtype=np.uint8)
    for row, code in zip(result, codes, strict=True):
        faces = [face for face in FACES if code in _charmap(face)]
        for i, (picture, warp) in enumerate(zip(row, _warps(drawings, generator), strict=True)):
            page = _draw(code, faces[i % len(faces)])
            page = page.transform(page.size, Image.Transform.AFFINE, warp, _BILINEAR)
            picture[:] = np.asarray(page.resize((size, size), Image.Resampling.BOX))
    return result


def _warps(drawings: int, generator: np.random.Generator) -> Iterator[tuple[float, ...]]:
    """Yield affine maps about the centre, as Pillow wants them: from output to input pixels."""
    low = np.array([-12.0, -0.15, 0.8, -0.05, -0.05])
    high = np.array([12.0, 0.15, 1.1, 0.05, 0.05])
    for degrees, shear, scale, x, y in generator.uniform(low, high, (drawings, 5)):
        cos, sin = np.cos(np.radians(degrees)) / scale, np.sin(np.radians(degrees)) / scale
        matrix = np.array([[cos, sin + shear * cos], [-sin, cos - shear * sin]])
        centre = np.full(2, _SIDE / 2)
        offset = centre - matrix @ (centre + _SIDE * np.array([x, y]))
        yield (*matrix[0], offset[0], *matrix[1], offset[1])


def _draw(code: int, face: str) -> Image.Image:
    """Return one character in the middle of an empty page."""
    page = Image.new("L", (_SIDE, _SIDE))
    left, top, right, bottom = _font(face).getbbox(chr(code))
    corner = ((_SIDE - left - right) / 2, (_SIDE - top - bottom) / 2)
    ImageDraw.Draw(page).text(corner, chr(code), fill=255, font=_font(face))
    return page


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    return ImageFont.truetype(str(path), _POINTS)


@cache
def _charmap(face: str) -> frozenset[int]:
    return frozenset(FT2Font(str(_font(face).path)).get_charmap())


def _is_simple(character: str) -> bool:
    category = unicodedata.category(character)
    return (
        category[0] in "LNS"
        and category != "Lm"
        and not unicodedata.decomposition(character)
        and unicodedata.name(character, "UNNAMED").split()[0] not in _ALIKE
    )
