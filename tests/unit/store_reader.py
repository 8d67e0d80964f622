"""A process that reads a store which another one writes. It is asked line by line, and answers each with a line.

`open DIRECTORY` opens a store for reading, in the place of the one before; `KIND ID` reads an object, and the answer
is the id that its content has, or the name of the error.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from anabranch.errors import AnabranchError
from anabranch.ids import ObjectId
from anabranch.store.chunks import ChunkStore
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.store.records import Kind, object_id


class Reader:
    """Such a process, from the outside."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.store_reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def open(self, directory: Path) -> None:
        self.tell(f"open {directory}")
        assert self.answer() == "open"

    def read(self, objects: Iterable[tuple[Kind, ObjectId]]) -> list[str]:
        answers = []
        for kind, identity in objects:
            self.tell(f"{kind.name} {identity.hex()}")
            answers.append(self.answer())
        return answers


@contextmanager
def reading() -> Iterator[Reader]:
    """A reader that ends with the block."""
    reader = Reader()
    try:
        yield reader
    finally:
        reader.process.communicate()
        assert reader.process.returncode == 0


def _serve() -> None:
    chunks: ChunkStore | None = None
    meta: Environment | None = None
    for line in sys.stdin:
        word, argument = line.rstrip("\n").split(" ", 1)
        if word == "open":
            if chunks is not None and meta is not None:
                chunks.close()
                meta.close()
            chunks = ChunkStore(Path(argument), writable=False)
            meta = Environment(Path(argument) / "meta.mdb", TABLES, writable=False)
            print("open", flush=True)
            continue
        assert chunks is not None
        assert meta is not None
        kind, identity = Kind[word], ObjectId(bytes.fromhex(argument))
        try:
            raw = chunks.get(identity) if kind == Kind.CHUNK else ObjectStore(meta).get(kind, identity)
            print(object_id(kind, raw).hex(), flush=True)
        except AnabranchError as error:
            print(type(error).__name__, flush=True)


if __name__ == "__main__":
    _serve()
