"""Texts as ids of words, or of letters; the most frequent make the vocabulary.

`pydoc`, the language reference that every Python carries, needs no download; its wording differs between Python
versions, and so do runs on it. Any other text is the file `NAME.txt` in the folder that EUREKA_DATA names.
"""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workloads.errors import WorkloadError

EMBEDDED = "pydoc"
UNKNOWN = 0  # id of every word outside the vocabulary
_WORD = re.compile(r"""[.,()!?']|[^\s.,()!?'";:]+""")


class NoText(WorkloadError):
    """A text is not where it should be, or too short."""


def words_of(text: str) -> list[str]:
    """Lower-case words; `. , ( ) ! ? '` are words of their own, quotes, colons and semicolons are dropped.

    >>> words_of("Don't panic: 42.")
    ['don', "'", 't', 'panic', '42', '.']
    """
    return _WORD.findall(text.lower())


def ids_of(text: str, *, words: int) -> npt.NDArray[np.int64]:
    """The named text as ids 1 … words-1 in order of frequency, ties in order of appearance; others are 0.

    Raises:
        NoText: there is no such text.
    """
    return _ids(text, words, os.environ.get("EUREKA_DATA", ""))


def letters_of(text: str, *, letters: int, folder: str) -> npt.NDArray[np.int64]:
    """The named text's characters as ids 0 … letters-1 in order of frequency, ties in order of appearance.

    Rarer characters are taken out.

    Raises:
        NoText: there is no such text, or it has fewer different characters.
    """
    found = _read(text, folder)
    kept = [letter for letter, _ in Counter(found).most_common(letters)]
    if len(kept) < letters:
        raise NoText(f"task.text: '{text}' has {len(kept)} different characters; expected task.letters, {letters}")
    number = {letter: i for i, letter in enumerate(kept)}
    return np.array([number[letter] for letter in found if letter in number], dtype=np.int64)


@functools.lru_cache(maxsize=4)
def _ids(text: str, words: int, folder: str) -> npt.NDArray[np.int64]:
    found = words_of(_read(text, folder))
    kept = [word for word, _ in Counter(found).most_common() if word != "<unk>"][: words - 1]
    number = {word: i for i, word in enumerate(kept, start=1)}
    ids = np.array([number.get(word, UNKNOWN) for word in found], dtype=np.int64)
    ids.setflags(write=False)
    return ids


def _read(text: str, folder: str) -> str:
    if text == EMBEDDED:
        from pydoc_data.topics import topics

        return "\n".join(topics[name] for name in sorted(topics))
    if not folder:
        raise NoText(f"task.text: got '{text}', but EUREKA_DATA is not set; set it to the folder of {text}.txt")
    try:
        return (Path(folder) / f"{text}.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NoText(f"task.text: {Path(folder) / f'{text}.txt'}: cannot be read ({error})") from None
