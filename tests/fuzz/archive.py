"""Archives of arrays that are nearly right: their headers, members, sizes and types changed, and their zip made to fit.

The zip's own checksums are made anew, so that it is the reader of the arrays who has to notice.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Sequence
from random import Random

from tests.fuzz.mutate import any_bytes

Member = tuple[str, bytes]
DTYPES = ("|O", "<f8", "<f4", ">f4", "<i8", "|b1", "<U9", "|S3", "<c16", "|V8", "<M8[ns]", "<f2", "<i0", "|u1")
SHAPES = ("()", "(0,)", "(1,)", "(-1,)", "(10**15,)", "(2**62, 2**62)", "(3, 0)", "(1000000,)", "(1.5,)", "[1]", "1")


class Planted:
    """What unpickling it would do: nothing that hurts, and something that shows."""

    happened = False

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return setattr, (Planted, "happened", True)


def vary_arrays(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Another archive."""
    if rng.random() < 0.35:
        return any_bytes(rng, data, others)
    try:
        members = members_of(data)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OSError):
        return any_bytes(rng, data, others)
    for _ in range(rng.choice((1, 1, 2))):
        _change(rng, members)
    return archive(members, deflated=rng.random() < 0.1)


def members_of(data: bytes) -> list[Member]:
    """Its members, by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        return [(name, found.read(name)) for name in found.namelist()]


def archive(members: Sequence[Member], *, deflated: bool = False) -> bytes:
    """Members as an archive."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as out:
        for name, content in members:
            out.writestr(zipfile.ZipInfo(name), content)
    return sink.getvalue()


def array(descr: str, shape: str, body: bytes) -> bytes:
    """An array's bytes, whose header says whatever it says."""
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


def _change(rng: Random, members: list[Member]) -> None:
    if not members:
        members.append(("x.npy", array("<f4", "(1,)", b"\0" * 4)))
    at, kind = rng.randrange(len(members)), rng.randrange(9)
    name, content = members[at]
    head, _, body = content.partition(b"\n")
    if kind == 0:
        del members[at]
    elif kind == 1:
        wrong = ("", "/", "a/b/c.npy", "../../x.npy", name.replace("step", "stop"), "x.txt", name.upper(), "é.npy")
        members[at] = (rng.choice(wrong), content)
    elif kind == 2:
        members[at] = (name, content[: rng.randrange(len(content) + 1)])
    elif kind == 3:
        members[at] = (name, any_bytes(rng, content, [content]))
    elif kind == 4:
        members[at] = (name, array(rng.choice(DTYPES), rng.choice(SHAPES), body))
    elif kind == 5:
        members[at] = (name, array("|O", "(1,)", pickle.dumps([Planted()])))
    elif kind == 6:
        members[at] = (name, pickle.dumps(Planted()))
    elif kind == 7:
        members[at] = (name, any_bytes(rng, head, [head]) + b"\n" + body)
    else:
        members[at] = (name, rng.choice(members)[1])
