"""What can go wrong between a request and its runs; every message is one line."""

from __future__ import annotations

import re

LONGEST = 1000  # characters; a pasted file in place of a value should not fill the screen


class OrchestratorError(Exception):
    """Base of every error that this folder raises on purpose; its text is one line that names the way out."""

    def __init__(self, message: str):
        line = hidden("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…")


class BadRequest(OrchestratorError):
    """The request itself is wrong (a sweep file, an override, an argument): exit code 2, nothing begun."""


def hidden(text: str) -> str:
    """A text without the password of an address in it: what stands before the last @, or as a parameter."""
    text = re.sub(r"(://[^:/@\s]*):[^\s]*@", r"\1:***@", text)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|sslpassword|token)=)[^&\s'\"]*", r"\1***", text)


def quoted(value: object, *, longest: int = 60) -> str:
    """A value as a message shows it: `'softmx'`, `0.5`, `a list`; long ones are cut, passwords hidden."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = hidden(repr(value))  # before it is cut: half a password is one, too
    return text if len(text) <= longest else f"{text[:longest]}…"


def called(override: str) -> str:
    """An override as a message names it; a pasted one is cut."""
    return f"override {quoted(override, longest=80)}"


def first_line(error: BaseException) -> str:
    """What a library's error says first; the rest is its context."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
