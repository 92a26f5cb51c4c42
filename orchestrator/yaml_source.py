"""A YAML file as plain data that still knows where each key came from: a line of the file, or an override.

OmegaConf gives the values (numbers like `1e-3`, interpolations); PyYAML's node graph gives the
lines. The graph is walked first: it finds duplicate keys with both their lines, and its pure-Python
recursion turns absurd nesting into an error before a C parser meets it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers.oc import env as omegaconf_env

from orchestrator.errors import BadRequest, called, first_line, quoted

Place = tuple[str, ...]  # keys from the file's root, list positions as digits: ("axes", "optim.lr", "0")

MOST_BYTES = 8 * 2**20
MOST_NODES = 1_000_000  # aliases count each time they are used
STR_TAG, MERGE_TAG = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the keys of one request were written.

    Attributes:
        file: the file, as the user named it.
        lines: line of each key and list item [1-based].
        overrides: `key=value` of each place that the command line set.
    """

    file: str
    lines: dict[Place, int]
    overrides: Mapping[Place, str] = field(default_factory=dict)

    def where(self, place: Place) -> str:
        """The override that set a place or something in it, `override 'key=value'`, else `file:line`."""
        above = [place[:length] for length in range(len(place), -1, -1)]
        within = [other for other in self.overrides if other[: len(place)] == place]
        for setter in [*above[:-1], *within]:
            if setter in self.overrides:
                return called(self.overrides[setter])
        line = next((self.lines[known] for known in above if known in self.lines), None)
        return self.file if line is None else f"{self.file}:{line}"

    def fault(self, place: Place, message: str) -> BadRequest:
        """An error that starts with where the place was written."""
        return BadRequest(f"{self.where(place)}: {message}")

    def expected(
        self, place: Place, *, got: object, expected: str, hint: str = "", key: str | None = None
    ) -> BadRequest:
        """An error in the house form; `key` is what to call the place, its own dotted path unless given."""
        way_out = f". {hint}" if hint else ""
        name = ".".join(place) if key is None else key
        return self.fault(place, f"{name}: got {quoted(got)}; expected {expected}{way_out}")


def read_text(path: Path) -> str:
    """The text of a small file.

    Raises:
        BadRequest: it is missing, a directory, unreadable, not text or not small.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise BadRequest(f"{path}: no such file; expected a YAML file") from None
    except IsADirectoryError:
        raise BadRequest(f"{path}: is a directory; expected a YAML file") from None
    except UnicodeDecodeError:
        raise BadRequest(f"{path}: is not text; expected YAML in UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise BadRequest(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MOST_BYTES:
        raise BadRequest(f"{path}: is larger than {MOST_BYTES // 2**20} MiB; expected a sweep file")
    return text


def parse(text: str, *, file: str) -> tuple[dict[str, Any], Source]:
    """Text to plain nested data, its interpolations still unresolved, and the lines of its keys.

    Raises:
        BadRequest: it is not a YAML mapping, or has a key twice.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise BadRequest(f"{file}: got {_kind(root)}; expected a mapping of keys to values")
        source = Source(file=file, lines={})
        _walk(root, place=(), lines=source.lines, file=file)
        return cast(dict[str, Any], OmegaConf.to_container(constructed(text))), source
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise BadRequest(f"{file}{line}: is not YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        raise BadRequest(f"{file}: is not YAML: character {error.position} is {error.reason}") from None
    except OmegaConfBaseException as error:
        raise _unresolvable(error, source=source) from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadRequest(f"{file}: is not YAML: {first_line(error)}") from None
    except RecursionError:
        raise BadRequest(f"{file}: is nested too deeply, or contains itself") from None


def constructed(text: str) -> Any:
    """Text as OmegaConf reads it.

    Raises:
        yaml.YAMLError, OmegaConfBaseException, RecursionError: it cannot be.
        ValueError: a scalar is not of the type that its tag says; PyYAML's constructors fail in many ways there.
    """
    try:
        return OmegaConf.create(text)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"a value is not of the type that its tag says ({type(error).__name__})") from None


def _is_bare_number(key: yaml.ScalarNode) -> bool:
    """A word to PyYAML and a number to OmegaConf, such as `1e-3` without its point."""
    try:
        float(key.value)
    except ValueError:
        return False
    return key.style is None


def _kind(root: yaml.Node | None) -> str:
    if root is None:
        return "an empty file"
    return "a list" if isinstance(root, yaml.SequenceNode) else "a single value"


def _walk(node: yaml.Node, *, place: Place, lines: dict[Place, int], file: str) -> None:
    """Note the line of every key and list item below a node."""
    if len(lines) > MOST_NODES:
        raise BadRequest(f"{file}: has more than {MOST_NODES} values")
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            lines[*place, str(position)] = item.start_mark.line + 1
            _walk(item, place=(*place, str(position)), lines=lines, file=file)
    elif isinstance(node, yaml.MappingNode):
        _walk_mapping(node, place=place, lines=lines, file=file)


def _walk_mapping(node: yaml.MappingNode, *, place: Place, lines: dict[Place, int], file: str) -> None:
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == MERGE_TAG:
            continue  # merged keys are placed at the line of the mapping that takes them in
        if key.tag != STR_TAG or _is_bare_number(key):
            got = repr(key.value) if isinstance(key, yaml.ScalarNode) else "a collection"
            name = ".".join(place) or "the file"
            raise BadRequest(f"{file}:{line}: {name}: got the key {got}; expected a word")
        if key.value in seen:
            name = ".".join((*place, key.value))
            raise BadRequest(f"{file}:{line}: {name}: given twice; the first is on line {seen[key.value]}")
        seen[key.value] = lines[*place, key.value] = line
        _walk(value, place=(*place, key.value), lines=lines, file=file)


def resolved(data: dict[str, Any], *, source: Source) -> dict[str, Any]:
    """The data with its interpolations filled in, and every number one that a spec can hold.

    Raises:
        BadRequest: an interpolation leads nowhere; a number is not finite, or needs more than 64 bits.
    """
    data, secret = _apart(data)
    try:
        plain = _filled(data)
        if secret is not None:
            token = _SECRET.set(True)
            try:
                plain["search"]["storage"] = _filled({"search": {"storage": secret}})["search"]["storage"]
            finally:
                _SECRET.reset(token)
    except OmegaConfBaseException as error:
        raise _unresolvable(error, source=source) from None
    except RecursionError:
        raise BadRequest(f"{source.file}: is nested too deeply, or contains itself") from None
    _check_numbers(plain, place=(), source=source)
    return plain


def _filled(data: dict[str, Any]) -> dict[str, Any]:
    """Plain data with its interpolations filled in."""
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(data), resolve=True, throw_on_missing=True))


def _apart(data: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The data without a database's address, and that: it may hold a password, which nothing else may refer to."""
    search = data.get("search")
    if not isinstance(search, dict) or not isinstance(search.get("storage"), str):
        return data, None
    rest = {key: value for key, value in search.items() if key != "storage"}
    return {**data, "search": rest}, search["storage"]


def _variable(*given: str) -> Any:
    """`${oc.env:NAME}`, for a database's address alone: all else is written into the store and shown in reports."""
    if not _SECRET.get():
        raise ValueError("oc.env: the environment can be read in search.storage alone; all else is stored and shown")
    return omegaconf_env(*given)


_SECRET: ContextVar[bool] = ContextVar("_SECRET", default=False)
OmegaConf.register_resolver("oc.env", _variable, replace=True, annotation_validation="off")


def _unresolvable(error: OmegaConfBaseException, *, source: Source) -> BadRequest:
    """What OmegaConf says of a key, at the key."""
    full_key = str(getattr(error, "full_key", None) or "")
    return source.fault(_place_of(full_key, source=source), f"{full_key or 'the file'}: {first_line(error)}")


def _place_of(full_key: str, *, source: Source) -> Place:
    """OmegaConf's `axes.optim.lr[0]` as a place: the longest known one it starts with, as keys have dots."""
    flat = re.sub(r"\[(\d+)\]", r".\1", full_key) + "."
    known = [place for place in (*source.overrides, *source.lines) if flat.startswith(f"{'.'.join(place)}.")]
    return max(known, key=len, default=())


def _check_numbers(data: Any, *, place: Place, source: Source) -> None:
    if isinstance(data, Mapping):
        for key, value in data.items():
            _check_numbers(value, place=(*place, str(key)), source=source)
    elif isinstance(data, list):
        for position, value in enumerate(data):
            _check_numbers(value, place=(*place, str(position)), source=source)
    elif isinstance(data, float) and not math.isfinite(data):
        raise source.expected(place, got=data, expected="a finite number")
    elif isinstance(data, int) and abs(data) >= 2**63:
        name = ".".join(place)
        raise source.fault(place, f"{name}: got an integer of more than 64 bits; expected a smaller one")
