"""Inputs that are nearly right: bytes, words, lines and plain data, changed a little by a generator that is passed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from random import Random
from typing import Any

WORDS = (
    *("0", "1", "-1", "2", "1e400", "-0.0", ".nan", ".inf", "1e-400", "0x10", "1_000", "1:30", "9" * 19, "9" * 400),
    *("true", "no", "on", "~", "null", "''", '"', "'", "[]", "{}", "[[]]", "{a: 1}", "[1, 2]", "- 1", "!!set {a}"),
    *("!!python/object:os.system ls", "!!binary aGk=", "!!float x", "!!timestamp 2001-01-01", "2001-01-01", "&a", "*a"),
    *("<<: *a", "<<: [1]", "? ", "---", "...", "%YAML 1.1", "|", ">", "#", "@", "`", ",", ":", "::", "=", "\t", "\r"),
    *("${", "${}", "${base}", "${oc.env:HOME}", "${oc.env:NOT_SET}", "${oc.decode:'['}", "${oc.create:{a: 1}}"),
    *("${a.b}", "${env:HOME}"),
    *("${base.optim.lr}", "${oc.select:x}", "${.a}", "${..a}", "${base.${a}}", "\\${a}", "???", "None", "NaN"),
    *("..", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "file:///x", "s3://b/k", "x:y@z", "<script>", "$(id)"),
    *("\0", "\x1b[31m", "\u2028", "\ufeff", "é", "日", "\U0001f600", "a" * 300, "name", "base", "axes", "values"),
    *("grid", "tpe", "boundary", "softmax", "adamw", "module", "range", "log_range", "points", "init", "data", "when"),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e308, 5e-324, "", "a", "\0"),
    *("../x", "*"),
    *("é\u2028", "<b>", "nan", "1", [], [[]], [1], ["a"], [None], {}, {"a": 1}, {"name": "a"}, [{"name": 1}], {"": {}}),
)  # fmt: skip


def any_bytes(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A few changes to bytes: flipped, cut, doubled, replaced, or crossed with another input."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, kind = rng.randrange(len(out) + 1), rng.randrange(8)
        end = min(len(out), at + rng.choice((1, 1, 2, 4, 16, 64, 512)))
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:end] = rng.randbytes(end - at)
        elif kind == 2:
            del out[at:end]
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            out[at:at] = out[at:end]
        elif kind == 5:
            out[at:end] = rng.choice((b"\0", b"\xff")) * (end - at)
        elif kind == 6:
            out[at : at + 4] = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)).to_bytes(4, "little")
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            out[at:end] = other[start : start + rng.randrange(256)]
    return bytes(out)


def any_text(rng: Random, text: str, others: Sequence[str]) -> str:
    """A few changes to text: words, lines, indents, and characters that mean something to YAML."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        kind = rng.randrange(7)
        if kind <= 2:
            text = _other_word(rng, text, others)
        elif kind == 3:
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(WORDS) + text[at:]
        elif kind == 4:
            at = rng.randrange(len(text) + 1)
            text = text[:at] + text[at + rng.choice((1, 1, 2, 5, 40)) :]
        else:
            text = _other_lines(rng, text, others)
    return text


def _other_word(rng: Random, text: str, others: Sequence[str]) -> str:
    """One word of it replaced: by one that tends to be trouble, or by one of a similar text."""
    found = list(re.finditer(r"[^\s:,{}\[\]]+", text))
    if not found:
        return rng.choice(WORDS)
    word = rng.choice(found)
    elsewhere = re.findall(r"[^\s:,{}\[\]]+", rng.choice(others)) or [""]
    new = rng.choice(WORDS) if rng.random() < 0.6 else rng.choice(elsewhere)
    return text[: word.start()] + new + text[word.end() :]


def _other_lines(rng: Random, text: str, others: Sequence[str]) -> str:
    lines = text.split("\n")
    at, kind = rng.randrange(len(lines)), rng.randrange(5)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif kind == 2:
        lines[at] = " " * rng.randrange(6) + lines[at].lstrip()
    elif kind == 3:
        lines.insert(at, rng.choice(rng.choice(others).split("\n")))
    else:
        lines[at] = f"{lines[at].partition(':')[0]}: {rng.choice(WORDS)}"
    return "\n".join(lines)


def any_data(rng: Random, data: Any) -> Any:
    """Plain data with one place changed: another value, none, or twice."""
    data = json.loads(json.dumps(data))
    if not isinstance(data, dict | list) or not data or rng.random() < 0.02:
        return rng.choice(VALUES)
    owner, keys = data, list(data) if isinstance(data, dict) else list(range(len(data)))
    while True:
        key = rng.choice(keys)
        below = owner[key]
        if not isinstance(below, dict | list) or not below or rng.random() < 0.35:
            break
        owner, keys = below, list(below) if isinstance(below, dict) else list(range(len(below)))
    kind = rng.randrange(5)
    if kind == 0:
        del owner[key]
    elif kind == 1 and isinstance(owner, list):
        owner.insert(key, below)
    elif kind == 2 and isinstance(owner, dict):
        owner[rng.choice(("", "name", "x", "../x", *map(str, keys)))] = owner.pop(key)
    else:
        owner[key] = rng.choice(VALUES)
    return data
