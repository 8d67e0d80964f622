"""Tasks beside the requests: what goes wrong in one ends neither the others nor the mount.

A nursery ends with the first exception of any of its tasks, and the mount's nursery is the mount.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple

import trio

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds before a task that failed begins again."""

Ts = TypeVarTuple("Ts")


async def once(task: Callable[[*Ts], Awaitable[None]], *arguments: *Ts) -> None:
    """Do something that nobody waits for."""
    try:
        await task(*arguments)
    except Exception:
        log.exception("BUG: %s failed", task.__qualname__)


async def for_ever(task: Callable[[], Awaitable[None]]) -> None:
    """Do something that never ends by itself."""
    while True:
        await once(task)
        await trio.sleep(PAUSE)
