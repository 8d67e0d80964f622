"""Running a part of a check in a process of its own: reading a damaged page of LMDB's may end the process."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from anabranch.errors import AnabranchError
from anabranch.fsck.findings import Finding

P = ParamSpec("P")
T = TypeVar("T")

_spawning = multiprocessing.get_context("spawn")


def apart(where: str, part: Callable[P, Iterator[T]], *args: P.args, **named: P.kwargs) -> Iterator[T | Finding]:
    """What a part yields; what ends it is a finding about the file that it reads."""
    ours, theirs = _spawning.Pipe(duplex=False)
    process = _spawning.Process(target=_run, args=(theirs, where, part, args, named), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            try:
                yield ours.recv()
            except EOFError:
                break
        process.join()
    finally:
        process.kill()
        process.join()
        ours.close()
    if process.exitcode:
        why = signal.Signals(-process.exitcode).name if process.exitcode < 0 else str(process.exitcode)
        yield Finding(where, f"whoever reads all of it is ended ({why}): its pages are damaged")


def _run(
    out: Connection, where: str, part: Callable[..., Iterator[object]], args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us is told, and ends us
    try:
        for item in part(*args, **named):
            out.send(item)
    except AnabranchError as error:
        out.send(Finding(where, error.message))
    except OSError as error:
        out.send(Finding(where, error.strerror or str(error)))
