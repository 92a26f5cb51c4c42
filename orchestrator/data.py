"""Sets of images in a folder: which files are there and whole, and fetching those that are not.

    DIR/mnist/train-images-idx3-ubyte.gz        a set is a folder, its files keep their published names
    DIR/SET/checksums.txt                       what was found where the sources give no checksum

A file is fetched beside its place, compared with its length and checksum, and then renamed: what stands under its name
is whole, and a fetch that fails leaves nothing.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

from orchestrator.errors import BadRequest, OrchestratorError
from orchestrator.yaml_source import Source, parse, read_text
from workloads.errors import near_miss

SHIPPED = Path(__file__).parent / "data_sources.yaml"
REMEMBERED = "checksums.txt"
ALGORITHMS = ("md5", "sha1", "sha256", "sha512")
PATIENCE_S = 60.0  # without a byte
_CHUNK = 2**20

State = Literal["good", "missing", "wrong checksum", "unreadable"]


class NoDownload(OrchestratorError):
    """A file could not be fetched; nothing of it was left behind."""


@dataclass(frozen=True)
class Wanted:
    """One file of a set: its name, addresses to try, and `algorithm:digits`, or None where nobody says."""

    set: str
    name: str
    addresses: tuple[str, ...]
    checksum: str | None


@dataclass(frozen=True)
class Found:
    """What is there of a file.

    Attributes:
        set, file: which.
        state: whether it is whole.
        bytes: its length; None where there is none.
        checksum: that it has, as the sources (or the first time) had it.
    """

    set: str
    file: str
    state: State
    bytes: int | None = None
    checksum: str | None = None

    def record(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


Sets = Mapping[str, tuple[Wanted, ...]]


def read_sources(path: Path | None = None) -> Sets:
    """The sets of a sources file, the shipped one unless given.

    Raises:
        BadRequest: with file and line of the first fault.
    """
    path = path or SHIPPED
    data, source = parse(read_text(path), file=str(path))
    found = {}
    for name, entry in data.items():
        if not isinstance(entry, dict) or set(entry) != {"from", "files"} or not isinstance(entry["files"], dict):
            raise source.expected((name,), got=entry, expected="a mapping of from (addresses) and files (checksums)")
        addresses = [entry["from"]] if isinstance(entry["from"], str) else entry["from"]
        if not isinstance(addresses, list) or not all(isinstance(each, str) for each in addresses):
            raise source.expected((name, "from"), got=entry["from"], expected="a list of addresses")
        found[name] = tuple(_wanted(name, file, addresses, given, source) for file, given in entry["files"].items())
    return found


def _wanted(name: str, file: str, addresses: Sequence[str], given: object, source: Source) -> Wanted:
    if Path(file).name != file or file in ("", ".", ".."):
        raise source.expected((name, "files", file), got=file, expected="a file's name, without a folder", key="files")
    algorithm = str(given).partition(":")[0]
    if given is not None and algorithm not in ALGORITHMS:
        expected = f"{'|'.join(ALGORITHMS)}:DIGITS, or null"
        raise source.expected((name, "files", file), got=given, expected=expected)
    checksum = None if given is None else str(given).lower()
    return Wanted(name, file, tuple(f"{each.rstrip('/')}/{file}" for each in addresses), checksum)


def data_folder(given: Path | None) -> Path:
    """The folder that was given, or the environment's.

    Raises:
        BadRequest: there is neither, or it is no folder.
    """
    folder = given or (Path(os.environ["EUREKA_DATA"]) if os.environ.get("EUREKA_DATA") else None)
    if folder is None:
        raise BadRequest("DIR: got nothing; expected a folder, here or in EUREKA_DATA")
    if folder.exists() and not folder.is_dir():
        raise BadRequest(f"{folder}: is a file; expected a folder")
    return folder


def chosen(sets: Sets, name: str) -> tuple[Wanted, ...]:
    """The files of a set.

    Raises:
        BadRequest: there is no such set.
    """
    if name not in sets:
        hint = f" {near_miss(name, sets)}".rstrip()
        raise BadRequest(f"--download: got '{name}'; expected one of {', '.join(sets)}.{hint}")
    return sets[name]


def examine(folder: Path, files: Sequence[Wanted]) -> Iterator[Found]:
    """What is there of each file; the first checksum of one that has none in the sources is remembered."""
    for file in files:
        path = folder / file.set / file.name
        try:
            found = checksum_of(path, _algorithm(file))
        except FileNotFoundError:
            yield Found(file.set, file.name, "missing")
            continue
        except OSError:
            yield Found(file.set, file.name, "unreadable")
            continue
        known = file.checksum or _remembered(path, found)
        state: State = "good" if found == known else "wrong checksum"
        yield Found(file.set, file.name, state, path.stat().st_size, found)


def download(folder: Path, files: Sequence[Wanted], *, note: Callable[[str], None]) -> None:
    """Fetch what is missing or wrong.

    Raises:
        NoDownload: no address gave a file that is whole; those fetched before stay.
    """
    for file, found in zip(files, list(examine(folder, files)), strict=True):
        if found.state != "good":
            _fetch_from_any(file, folder / file.set / file.name, note)


def _fetch_from_any(file: Wanted, path: Path, note: Callable[[str], None]) -> None:
    faults = []
    for address in file.addresses:
        note(f"fetching {address}")
        try:
            fetch(address, path, checksum=file.checksum)
        except NoDownload as error:
            faults.append(str(error))
        else:
            return
    raise NoDownload("; ".join(faults) or f"{file.set}: {file.name}: the sources give no address for it")


def fetch(address: str, path: Path, *, checksum: str | None) -> None:
    """Put what is at an address under a name, whole or not at all.

    Raises:
        NoDownload: the address does not answer, breaks off, or has another file; or the disk refuses it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise NoDownload(f"{path}: cannot be written: {error.strerror or error}") from None
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            expected = _copy(address, file)
        if expected is not None and part.stat().st_size != expected:
            got = f"got {part.stat().st_size:,} of {expected:,} bytes"
            raise NoDownload(f"{address}: broke off: {got}; try again")
        if checksum is not None:
            got = checksum_of(part, checksum.partition(":")[0])
            if got != checksum:
                wrong = f"got {got}; expected {checksum}"
                raise NoDownload(f"{address}: wrong checksum: {wrong}. Give other addresses: --sources")
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        raise NoDownload(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def _copy(address: str, file: Any) -> int | None:
    """Copy what an address sends; gives the length that it announced, if it did [bytes]."""
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
            length = answer.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        raise NoDownload(f"{address}: got {error.code} {error.reason}; give other addresses: --sources") from None
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise NoDownload(f"{address}: no answer, or it broke off: {reason}; try again") from None
    return int(length) if length and length.isdigit() else None


def checksum_of(path: Path, algorithm: str) -> str:
    """`algorithm:digits` of a file."""
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def _algorithm(file: Wanted) -> str:
    return file.checksum.partition(":")[0] if file.checksum else "sha256"


def _remembered(path: Path, found: str) -> str:
    """The checksum that a file had the first time; now, if this is it."""
    kept = path.parent / REMEMBERED
    lines = kept.read_text().splitlines() if kept.exists() else []
    pairs = [line.partition("  ") for line in lines]
    known = {name: checksum for checksum, _, name in pairs}
    if path.name not in known:
        with suppress(OSError), kept.open("a") as file:  # a folder that nobody may write to has no memory
            file.write(f"{found}  {path.name}\n")
    return known.get(path.name, found)


def lines(folder: Path, found: Sequence[Found]) -> list[str]:
    """What was found, for a reader: one line a file, and the way out of what is wrong."""
    told = [f"{'digits':<14} 1,797 images of 8×8 pixels come with the package"]
    for one in found:
        size = "" if one.bytes is None else f"  {one.bytes:,} bytes  {one.checksum}"
        told.append(f"{one.set:<14} {one.file:<28} {one.state}{size}")
    lacking = list(dict.fromkeys(one.set for one in found if one.state != "good"))
    if lacking:
        wanted = " ".join(f"--download {name}" for name in lacking)
        told.append(f"eureka data {folder} {wanted} fetches what is missing or wrong")
    return told
