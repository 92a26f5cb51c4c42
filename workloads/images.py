"""Sets of small labelled images, read from the files that their authors publish.

`digits`, 8×8 handwritten digits, comes with the package (`data/`, with source and licence). The others lie in the
folder that EUREKA_DATA names, under their own file names; `eureka data` checks them and fetches what is missing:

    mnist/          train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz  t10k-…
    fashion_mnist/  the same four names
    cifar10/        cifar-10-binary.tar.gz

A file is read whole or refused: nothing is made of half an archive.
"""

from __future__ import annotations

import functools
import gzip
import math
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from workloads.errors import WorkloadError

Source = Literal["digits", "mnist", "fashion_mnist", "cifar10"]
Split = Literal["train", "test"]

EMBEDDED = "digits"
DIGITS_FOR_TRAINING = 1437  # four fifths; those who wrote the rest wrote none of these
CLASSES = 10  # of every set here
_PREFIX: dict[Split, str] = {"train": "train", "test": "t10k"}
_BATCHES: dict[Split, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}
_IDX_SIDE, _CIFAR_SIDE = 28, 32


class NoImages(WorkloadError):
    """A set of images is not where it should be, or is damaged."""


@dataclass(frozen=True)
class Images:
    """One split of one set.

    Attributes:
        pixels: `(N, side, side, channels)` uint8; 1 channel is gray, 3 are red, green, blue.
        labels: `(N,)`, 0 … 9.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def images_of(source: Source, split: Split) -> Images:
    """One split of a set.

    Raises:
        NoImages: with the file, what is wrong with it, and the way out.
    """
    return _images(source, split, os.environ.get("EUREKA_DATA", ""))


@functools.lru_cache(maxsize=8)
def _images(source: Source, split: Split, folder: str) -> Images:
    if source == EMBEDDED:
        return _digits(split)
    if not folder:
        raise NoImages(
            f"images '{source}': EUREKA_DATA is not set; set it to a folder and eureka data --download {source}"
        )
    place = Path(folder) / source
    if source == "cifar10":
        return _cifar(place / "cifar-10-binary.tar.gz", split)
    pixels = _idx(place / f"{_PREFIX[split]}-images-idx3-ubyte.gz", shape=(_IDX_SIDE, _IDX_SIDE))
    labels = _idx(place / f"{_PREFIX[split]}-labels-idx1-ubyte.gz", shape=())
    return _checked(pixels[..., None], labels, place)


def _digits(split: Split) -> Images:
    with np.load(Path(__file__).parent / "data" / "digits.npz", allow_pickle=False) as file:
        pixels, labels = file["images"], file["labels"]
    part = slice(None, DIGITS_FOR_TRAINING) if split == "train" else slice(DIGITS_FOR_TRAINING, None)
    bright = np.round(pixels[part] * (255.0 / 16.0)).astype(np.uint8)
    return _checked(bright[..., None], labels[part], Path("digits"))


def _idx(path: Path, *, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The array in an IDX file: two zeros, type 8 (bytes), number of axes, their lengths big-endian, then the bytes."""
    try:
        with gzip.open(path) as file:
            held = file.read()
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, f"cannot be unpacked ({error})") from None
    axes = 1 + len(shape)
    if held[:4] != bytes([0, 0, 8, axes]) or len(held) < 4 + 4 * axes:
        raise _damaged(path, f"got {held[:4].hex(' ') or 'nothing'} as its first bytes; expected 00 00 08 0{axes}")
    lengths = np.frombuffer(held, ">u4", count=axes, offset=4).tolist()
    if tuple(lengths[1:]) != shape:
        got, expected = "×".join(map(str, lengths[1:])), "×".join(map(str, shape))
        raise _damaged(path, f"got images of {got}; expected {expected}")
    if len(held) != 4 + 4 * axes + math.prod(lengths):
        raise _damaged(path, f"got {len(held):,} bytes; expected {4 + 4 * axes + math.prod(lengths):,}")
    return np.frombuffer(held, np.uint8, offset=4 + 4 * axes).reshape(lengths)


def _cifar(path: Path, split: Split) -> Images:
    """Rows of one label and 32×32 red, then green, then blue values."""
    row = 1 + 3 * _CIFAR_SIDE**2
    batches = []
    try:
        with tarfile.open(path, "r:gz") as archive:
            for name in _BATCHES[split]:
                file = archive.extractfile(f"cifar-10-batches-bin/{name}")
                held = b"" if file is None else file.read()
                if not held or len(held) % row:
                    raise _damaged(path, f"{name}: got {len(held):,} bytes; expected a multiple of {row:,}")
                batches.append(np.frombuffer(held, np.uint8).reshape(-1, row))
    except FileNotFoundError:
        raise _missing(path) from None
    except KeyError as error:
        raise _damaged(path, f"lacks {error}") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise _damaged(path, f"cannot be unpacked ({error})") from None
    rows = np.concatenate(batches)
    pixels = rows[:, 1:].reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE).transpose(0, 2, 3, 1)
    return _checked(pixels, rows[:, 0], path)


def _checked(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], where: Path) -> Images:
    if len(pixels) != len(labels):
        raise _damaged(where, f"got {len(pixels):,} images and {len(labels):,} labels")
    if not len(labels) or labels.max() >= CLASSES:
        raise _damaged(where, f"got {'no labels' if not len(labels) else f'label {labels.max()}'}; expected 0 to 9")
    found = Images(np.ascontiguousarray(pixels), labels.astype(np.int64))
    found.pixels.setflags(write=False)
    found.labels.setflags(write=False)
    return found


def _missing(path: Path) -> NoImages:
    return NoImages(f"{path}: is not there; eureka data --download {path.parent.name} fetches it")


def _damaged(path: Path, what: str) -> NoImages:
    name = path.parent.name if path.suffix else path.name
    return NoImages(f"{path}: {what}; eureka data --download {name} fetches it anew")
