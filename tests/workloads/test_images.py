"""Sets of images: read whole from their published formats, or refused in one line that names the file."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workloads.images import DIGITS_FOR_TRAINING, NoImages, images_of


def idx(array: np.ndarray) -> bytes:
    """The format as its authors describe it: magic number, lengths, bytes."""
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def small_mnist(folder: Path, name: str = "mnist", *, seed: int = 0, n: int = 40) -> dict[str, np.ndarray]:
    """A set of the right form with so few images that tests are quick; every class comes in both splits."""
    rng = np.random.default_rng(seed)
    made = {}
    for split in ("train", "t10k"):
        pixels, labels = rng.integers(0, 256, (n, 28, 28)), np.arange(n) % 10
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
        (folder / name / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
        made |= {f"{split}-pixels": pixels, f"{split}-labels": labels}
    return made


def small_cifar(folder: Path, *, n: int = 20, cut: int = 0) -> np.ndarray:
    """Rows of one label, then 32×32 red, green, blue; the last batch may lack its last bytes."""
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (6 * n, 3073)).astype(np.uint8)
    rows[:, 0] = np.arange(6 * n) % 10
    (folder / "cifar10").mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "cifar10" / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
            held = rows[n * i : n * (i + 1)].tobytes()
            held = held[: len(held) - cut] if name == "data_batch_5" else held
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(held)
            archive.addfile(info, io.BytesIO(held))
    return rows


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EUREKA_DATA", str(tmp_path))
    return tmp_path


def test_embedded_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    theirs = load_digits()
    train, test = images_of("digits", "train"), images_of("digits", "test")
    pixels = np.concatenate([train.pixels, test.pixels])[..., 0]
    np.testing.assert_array_equal(pixels, np.round(theirs.images / 16 * 255))
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), theirs.target)
    assert len(train.labels) == DIGITS_FOR_TRAINING == 1437
    assert set(test.labels) == set(range(10))


def test_idx_files_are_read_as_they_were_written(folder):
    made = small_mnist(folder)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        found = images_of("mnist", split)
        np.testing.assert_array_equal(found.pixels[..., 0], made[f"{prefix}-pixels"])
        np.testing.assert_array_equal(found.labels, made[f"{prefix}-labels"])


def test_cifar_rows_are_label_then_planes_of_red_green_blue(folder):
    rows = small_cifar(folder)
    train, test = images_of("cifar10", "train"), images_of("cifar10", "test")
    assert (len(train.labels), len(test.labels)) == (100, 20)
    np.testing.assert_array_equal(test.labels, rows[100:, 0])
    y, x = 3, 17
    np.testing.assert_array_equal(train.pixels[41, y, x], [rows[41, 1 + 1024 * c + 32 * y + x] for c in range(3)])


def spoil(path: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def spoilt(folder: Path) -> Path:
        file = folder / path
        file.write_bytes(change(file.read_bytes()))
        return file

    return spoilt


def repacked(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda held: gzip.compress(change(gzip.decompress(held)))


IMAGES, LABELS, CIFAR = (
    "mnist/train-images-idx3-ubyte.gz",
    "mnist/train-labels-idx1-ubyte.gz",
    "cifar10/cifar-10-binary.tar.gz",
)
DAMAGES = {
    "truncated archive": (spoil(IMAGES, lambda held: held[: len(held) // 2]), "cannot be unpacked"),
    "empty file": (spoil(IMAGES, lambda held: b""), "got nothing as its first bytes"),
    "no archive": (spoil(IMAGES, lambda held: b"<html>moved</html>"), "cannot be unpacked"),
    "changed byte": (
        spoil(IMAGES, lambda held: held[:500] + bytes([held[500] ^ 1]) + held[501:]),
        "cannot be unpacked",
    ),
    "labels for images": (spoil(IMAGES, lambda held: gzip.compress(idx(np.zeros(40)))), "expected 00 00 08 03"),
    "another size": (
        spoil(IMAGES, lambda held: gzip.compress(idx(np.zeros((40, 8, 8))))),
        "images of 8×8; expected 28×28",
    ),
    "bytes too few": (spoil(IMAGES, repacked(lambda held: held[:-1])), "got 31,375 bytes; expected 31,376"),
    "bytes too many": (spoil(LABELS, repacked(lambda held: held + b"0")), "got 49 bytes; expected 48"),
    "fewer labels": (spoil(LABELS, lambda held: gzip.compress(idx(np.zeros(39)))), "got 40 images and 39 labels"),
    "a label beyond": (
        spoil(LABELS, lambda held: gzip.compress(idx(np.full(40, 10)))),
        "got label 10; expected 0 to 9",
    ),
    "truncated tar": (spoil(CIFAR, lambda held: held[: len(held) // 2]), "cannot be unpacked"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_refused_in_one_line(folder, name):
    small_mnist(folder)
    small_cifar(folder)
    damage, says = DAMAGES[name]
    path = damage(folder)
    source = path.parent.name
    with pytest.raises(NoImages) as caught:
        images_of(source, "train")  # type: ignore[arg-type]
    message = str(caught.value)
    assert says in message
    assert message.startswith(str(path.parent))
    assert message.endswith(f"eureka data --download {source} fetches it anew")
    assert "\n" not in message


def test_a_cifar_batch_of_another_length_is_refused(folder):
    small_cifar(folder, cut=1)
    with pytest.raises(NoImages, match=r"data_batch_5\.bin: got 61,459 bytes; expected a multiple of 3,073"):
        images_of("cifar10", "train")


def test_missing_files_and_folders_name_the_way_out(folder, monkeypatch):
    with pytest.raises(
        NoImages, match=r"train-images-idx3-ubyte\.gz: is not there; eureka data --download fashion_mnist"
    ):
        images_of("fashion_mnist", "train")
    monkeypatch.delenv("EUREKA_DATA")
    with pytest.raises(NoImages, match="EUREKA_DATA is not set; set it to a folder and eureka data --download mnist"):
        images_of("mnist", "train")
