"""Files of MATLAB 5, as far as the ATIS alphabet needs them: structures of rows of whole numbers.

scipy's reader is not used: it ends the whole process on some damaged files.

Source: "MAT-File Format", The MathWorks.
"""

import zlib
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.int64]

LARGEST = 1 << 28  # bytes that a variable may hold, unpacked
_HEADER = 128  # bytes, which end in the version and the order of bytes
_LITTLE_ENDIAN = b"\x00\x01IM"
# Kinds of elements, and classes of arrays.
_TEXT, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_WHOLE = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4"}
_CELLS, _STRUCTURE = 1, 2
_COMPLEX = 0x800


class Element(NamedTuple):
    """A piece of a file."""

    kind: int
    content: memoryview


class Array(NamedTuple):
    """A variable, or a part of one."""

    kind: int
    shape: tuple[int, ...]
    name: str
    parts: list[Element]


def read_structures(content: bytes, name: str) -> list[dict[str, Row]]:
    """Return the structures of a variable, which is a cell array: the rows of each by their names.

    Args:
        content: of a file.
        name: of the variable.

    Raises:
        ValueError: if the file is cut short, or holds something else.
    """
    if content[_HEADER - 4 : _HEADER] != _LITTLE_ENDIAN:
        raise ValueError("it is no file of MATLAB 5 with the lowest byte first")
    for element in _elements(memoryview(content)[_HEADER:]):
        array = _array(_unpacked(element) if element.kind == _COMPRESSED else element)
        if array.name == name:
            _require(array.kind == _CELLS and len(array.parts) == prod(array.shape))
            return [_structure(_array(part)) for part in array.parts]
    raise ValueError(f"it holds no variable {name}")


def _elements(content: memoryview) -> Iterator[Element]:
    """Yield what lies one behind the other."""
    place = 0
    while place < len(content):
        begin = place + 8
        _require(begin <= len(content))
        kind, size = np.frombuffer(content, "<u4", count=2, offset=place).tolist()
        if kind >> 16:  # a small one has its size there, and its content behind it
            kind, size, begin = kind & 0xFFFF, kind >> 16, place + 4
            _require(size <= 4)
            place += 8
        else:
            place = begin + size + (0 if kind == _COMPRESSED else -size % 8)
        _require(begin + size <= len(content))
        yield Element(kind, content[begin : begin + size])


def _unpacked(element: Element) -> Element:
    packed = zlib.decompressobj()
    try:
        content = packed.decompress(element.content, LARGEST)
    except zlib.error as error:
        raise ValueError(f"it is damaged: {error}") from error
    _require(packed.eof)
    return next(_elements(memoryview(content)), Element(0, memoryview(b"")))


def _array(element: Element) -> Array:
    parts = list(_elements(element.content)) if element.kind == _MATRIX else []
    kinds = [part.kind for part in parts[:3]]
    _require(kinds == [_UINT32, _INT32, _TEXT] and len(parts[0].content) == 8)
    flags = int.from_bytes(parts[0].content[:4], "little")
    _require(not flags & _COMPLEX)
    shape = np.frombuffer(parts[1].content, "<i4").tolist()
    _require(all(size >= 0 for size in shape))
    return Array(flags & 0xFF, tuple(shape), _text(parts[2].content), parts[3:])


def _structure(array: Array) -> dict[str, Row]:
    kinds = [part.kind for part in array.parts[:2]]
    _require(array.kind == _STRUCTURE and prod(array.shape) == 1 and kinds == [_INT32, _TEXT])
    (length, names), rows = (part.content for part in array.parts[:2]), array.parts[2:]
    width = int.from_bytes(length, "little")
    _require(width > 0 and len(names) == width * len(rows))
    cut = (names[i : i + width] for i in range(0, len(names), width))
    return {_text(name): _row(_array(row)) for name, row in zip(cut, rows, strict=True)}


def _row(array: Array) -> Row:
    _require(len(array.parts) == 1 and array.parts[0].kind in _WHOLE and array.shape[:1] == (1,))
    kind, content = array.parts[0]
    row = np.frombuffer(content, _WHOLE[kind])
    _require(len(row) == prod(array.shape))
    return row.astype(np.int64)


def _text(content: memoryview) -> str:
    return bytes(content).partition(b"\0")[0].decode("ascii")


def _require(ok: bool) -> None:
    if not ok:
        raise ValueError("it is damaged, or holds something else than structures of whole numbers")
