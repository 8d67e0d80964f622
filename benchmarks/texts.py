"""Small files as people keep them: notes, code, JSON and CSV, the same for the same seed.

Words follow Zipf's law, and each file comes back to words of its own, as a text has a subject. zstd level 1 shrinks the
files by about 2.6 one by one and by about 3 in one piece; measured on real files of 1 to 30 KB: Markdown and
reStructuredText 2.6 and 3.1, source code 3 and 3.8.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import TypeVar

MEAN_SIZE = 4600

_T = TypeVar("_T")

_VOCABULARY = 30_000
_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
_FREQUENT = (12, 9, 8, 8, 7, 7, 6, 6, 6, 4, 4, 3, 3, 2, 2, 2, 2, 2, 1, 1.5, 2, 0.8, 0.2, 0.1, 0.2, 0.1)
_STOCK = 1 << 18  # words drawn in advance
_SUBJECT_WORDS = 80  # that a file comes back to
_SUBJECT_PHRASES = 24  # and phrases of three words
_PHRASES = 20_000  # that all files share
_ENDINGS = ("", "", "", "s", "ed", "ing", "er", "ation", "able", "ment", "ness", "ally")
_LEAST, _GREATEST = 64, 256 << 10
_SPREAD = 0.9  # of the logarithm of the sizes


def texts(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Name endings and contents of `count` files, one by one; sizes are log-normal around MEAN_SIZE bytes."""
    rng = random.Random(seed)
    writer = _Writer(rng)
    mean = math.log(MEAN_SIZE) - _SPREAD**2 / 2
    kinds = (("md", writer.note), ("py", writer.code), ("json", writer.records), ("csv", writer.table))
    for _ in range(count):
        size = min(max(int(rng.lognormvariate(mean, _SPREAD)), _LEAST), _GREATEST)
        ending, lines = rng.choices(kinds, (45, 30, 10, 15))[0]
        yield ending, writer.fill(lines, size)


class _Writer:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        new = dict.fromkeys(self._new_word() for _ in range(_VOCABULARY))
        words = sorted(new, key=lambda word: len(word) + rng.random() * 4)
        drawn = rng.choices(words, [1 / (rank + 3) for rank in range(len(words))], k=_STOCK)
        phrases = [drawn[start : start + 3] for start in rng.choices(range(_STOCK - 3), k=_PHRASES)]
        common = rng.choices(phrases, [1 / (rank + 3) for rank in range(_PHRASES)], k=_STOCK // 8)
        self._stock = drawn[: _STOCK // 2]
        for start, phrase in zip(range(0, len(self._stock) - 3, 4), common, strict=False):
            self._stock[start : start + 3] = phrase
        self._subject: list[str] = []
        self._phrases: list[list[str]] = []

    def fill(self, lines: Callable[[], Iterator[str]], size: int) -> bytes:
        """A file of exactly `size` bytes; the last line is cut."""
        self._subject = sorted(dict.fromkeys(self._draw(2 * _SUBJECT_WORDS)), key=len)[-_SUBJECT_WORDS:]
        self._phrases = [self._mixed(3) for _ in range(_SUBJECT_PHRASES)]
        parts: list[str] = []
        left = size
        for line in lines():
            parts.append(line)
            left -= len(line) + 1
            if left <= 0:
                break
        return "\n".join(parts).encode()[: size - 1] + b"\n"

    def note(self) -> Iterator[str]:
        """Markdown: headings, paragraphs, lists."""
        rng = self._rng
        while True:
            yield f"## {' '.join(self._words(3)).capitalize()}\n"
            for _ in range(rng.randrange(1, 5)):
                sentences = (self._sentence() for _ in range(rng.randrange(2, 6)))
                yield " ".join(sentences) + "\n"
            if rng.random() < 0.4:
                yield from (f"- `{'_'.join(self._words(2))}`: {self._sentence()}" for _ in range(rng.randrange(2, 6)))
                yield ""

    def code(self) -> Iterator[str]:
        """Functions with calls, conditions and comments."""
        rng = self._rng
        first, second, third = self._words(3)
        yield f'"""{self._sentence()}"""\n\nimport {first}\nfrom {second} import {third}\n'
        while True:
            name, one, two = "_".join(self._words(2)), *self._words(2)
            yield f'\ndef {name}({one}: int, {two}: str) -> None:\n    """{self._sentence()}"""'
            for _ in range(rng.randrange(2, 9)):
                target, call, value = self._words(3)
                yield rng.choice((
                    f"    {target} = self.{call}({one}, {value}={rng.randrange(100)})",
                    f"    if {target} is not None and {call} > {rng.randrange(10)}:\n        return {value}",
                    f"    for {target} in {call}.{value}():\n        {two}.append({target})",
                    f"    # {self._sentence()}",
                    f'    raise ValueError(f"{{{target}}}: {call} {value}")',
                ))  # fmt: skip

    def records(self) -> Iterator[str]:
        """JSON: a list of objects of one form."""
        rng = self._rng
        keys = self._words(5)
        yield "["
        while True:
            values = (
                str(rng.randrange(100_000)), f'"{" ".join(self._words(4))}"', f"{rng.gauss(50, 20):.3f}",
                rng.choice(("true", "false", "null")), f'"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"',
            )  # fmt: skip
            pairs = (f'    "{key}": {value}' for key, value in zip(keys, values, strict=True))
            yield "  {\n" + ",\n".join(pairs) + "\n  },"

    def table(self) -> Iterator[str]:
        """CSV: a number, a date, names, measurements."""
        rng = self._rng
        yield ",".join(("id", "day", *self._words(6)))
        names = self._words(12)
        row = rng.randrange(10_000)
        while True:
            row += 1
            day = f"2026-{row // 280 % 12 + 1:02}-{row // 10 % 28 + 1:02}"
            yield (
                f"{row},{day},{rng.choice(names)},{rng.choice(names)},{rng.randrange(1000)},{rng.gauss(20, 4):.2f},"
                f"{rng.expovariate(0.2):.1f},{rng.choice(('ok', 'ok', 'ok', 'late', 'failed'))}"
            )

    def _sentence(self) -> str:
        words = self._words(self._rng.randrange(6, 19))
        if self._rng.random() < 0.3:
            words[len(words) // 2] += ","
        if self._rng.random() < 0.15:
            words.append(str(self._rng.randrange(2000)))
        return f"{' '.join(words).capitalize()}."

    def _words(self, count: int) -> list[str]:
        """Words in a row, some of them a phrase of this file."""
        words = self._mixed(count)
        for start in range(0, count - 2, 3):
            if self._rng.random() < 0.4:
                phrase = self._skewed(self._phrases)
                words[start : start + 3] = phrase
        return words

    def _mixed(self, count: int) -> list[str]:
        """Nearly every second word belongs to the subject."""
        words = self._draw(count)
        for index in range(count):
            if self._rng.random() < 0.4:
                words[index] = self._skewed(self._subject)
        return words

    def _skewed(self, values: list[_T]) -> _T:
        return values[int(self._rng.random() ** 2 * len(values))]

    def _draw(self, count: int) -> list[str]:
        start = self._rng.randrange(len(self._stock) - count)
        return self._stock[start : start + count]

    def _new_word(self) -> str:
        length = max(2, min(10, round(self._rng.gauss(5.5, 2))))
        return "".join(self._rng.choices(_LETTERS, _FREQUENT, k=length)) + self._rng.choice(_ENDINGS)
