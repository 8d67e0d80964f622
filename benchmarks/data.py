"""The data of the benchmarks: rows of a CSV, noise, and small texts, the same for the same seed.

The rows are joined from pools of values at random offsets, so no row comes twice though no value is drawn for a single
row: 50 to 100 MiB/s in plain Python. zstd level 1 shrinks them by about 3.5, in pieces of 64 KiB as in one piece.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import xxhash

SEED = 20130101
MIB = 1 << 20

_ROWS = 4096  # of one block
_POOL = 1 << 16  # values of each column
_FIRST_SECOND = 1356998400  # 2013-01-01, UTC
_SECONDS_A_ROW = 6

_CARRIERS = ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL", "AS")
_STATES = ("on time",) * 6 + ("delayed",) * 3 + ("cancelled",)
_LETTERS = "ABCDEFGHIJKLMNOPRSTUVWXYZ"
_HEADER = b"row,minute,carrier,flight,tail,origin,dest,dep_delay,arr_delay,air_time,fare,state,hour\n"


def write_csv(path: Path, size: int) -> None:
    """Write `size` bytes of rows (the last one is cut)."""
    _write(path, size, _csv_blocks())


def write_noise(path: Path, size: int) -> None:
    """Write `size` bytes that nothing can compress."""
    rng = random.Random(SEED)
    _write(path, size, iter(lambda: rng.randbytes(MIB), b""))


def small_texts(count: int) -> list[bytes]:
    """Texts of 3 to 6.2 KB, 4.6 KB on average, all different."""
    rng = random.Random(SEED)
    words = ["".join(rng.choices("etaoinshrdlucmfw", k=rng.randrange(2, 11))) for _ in range(4000)]
    return [_text(rng, words, number) for number in range(count)]


def checksum(path: Path) -> str:
    """The xxh3-128 of a file, read in pieces of 1 MiB."""
    state = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(MIB):
            state.update(piece)
    return state.hexdigest()


def _write(path: Path, size: int, blocks: Iterator[bytes]) -> None:
    with open(path, "wb", buffering=0) as file:
        left = size
        while left:
            left -= file.write(next(blocks)[:left])


def _text(rng: random.Random, words: list[str], number: int) -> bytes:
    lines = [" ".join(rng.choices(words, k=12)) for _ in range(rng.randrange(38, 71))]
    return f"# note {number}\n{chr(10).join(lines)}\n".encode()


def _csv_blocks() -> Iterator[bytes]:
    rng = random.Random(SEED)
    columns = [pool + pool[:_ROWS] for pool in _pools(rng)]
    yield _HEADER
    row = 1
    while True:
        offsets = [rng.randrange(_POOL) for _ in columns]
        values = [column[at : at + _ROWS] for column, at in zip(columns, offsets, strict=True)]
        numbers = [b"%d" % number for number in range(row, row + _ROWS)]
        minutes, hours = _times(row)
        yield b"\n".join(map(b",".join, zip(numbers, minutes, *values, hours, strict=True))) + b"\n"
        row += _ROWS


def _times(row: int) -> tuple[list[bytes], list[bytes]]:
    minutes, hours = [], []
    a_minute = 60 // _SECONDS_A_ROW
    for first in range(row, row + _ROWS, a_minute):
        now = time.gmtime(_FIRST_SECOND + first * _SECONDS_A_ROW)
        minutes += [time.strftime("%Y-%m-%d %H:%M", now).encode()] * a_minute
        hours += [time.strftime("%Y-%m-%dT%H:00:00Z", now).encode()] * a_minute
    return minutes[:_ROWS], hours[:_ROWS]


def _pools(rng: random.Random) -> list[list[bytes]]:
    airports = ["".join(rng.choices(_LETTERS, k=3)) for _ in range(105)]
    tails = [f"N{rng.randrange(100, 999)}{''.join(rng.choices(_LETTERS, k=2))}" for _ in range(3300)]

    def skewed(values: tuple[str, ...] | list[str]) -> str:
        return values[min(int(rng.expovariate(6) * len(values)), len(values) - 1)]

    def delay() -> str:
        late = rng.expovariate(1 / 40) if rng.random() < 0.3 else 0
        return str(int(rng.gauss(-4, 6) + late))

    makers: list[Callable[[], str]] = [
        lambda: skewed(_CARRIERS),
        lambda: str(rng.randrange(1, 6200)),
        lambda: skewed(tails),
        lambda: rng.choice(("EWR", "JFK", "LGA")),
        lambda: skewed(airports),
        delay,
        lambda: str(int(rng.gauss(-6, 18))),
        lambda: f"{rng.gauss(150, 90) % 650:.1f}",
        lambda: f"{rng.lognormvariate(5.2, 0.4):.2f}",
        lambda: rng.choice(_STATES),
    ]
    return [[make().encode() for _ in range(_POOL)] for make in makers]
