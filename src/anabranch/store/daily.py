"""Daily copies of `meta.mdb`: what a repair takes rows from that are damaged since. Only for the owner.

Each is a compact copy of one transaction, and every row of it is looked at: so damage is found within a day, and
pushes no good copy out.
"""

import contextlib
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from anabranch.errors import DamagedError
from anabranch.store import private
from anabranch.store.env import Environment
from anabranch.store.layout import Layout, sync_directory
from anabranch.store.meta import TABLES, damaged_rows
from anabranch.store.replace import lock_file

KEPT = 3
_FRESH = 3600.0
"""Seconds for which a copy is taken for new."""
_MARGIN = 64 * 1024 * 1024
"""Free bytes that a copy must leave."""


def copies(layout: Layout) -> list[Path]:
    """The copies that there are, the newest first."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(layout.daily.glob("*.mdb"), reverse=True)
    return []


def is_due(layout: Layout) -> bool:
    """Whether there is none of this day (UTC) that was made within an hour."""
    try:
        return time.time() - _today(layout).stat().st_mtime > _FRESH
    except FileNotFoundError:
        return True


def make(layout: Layout, meta: Environment) -> bool:
    """Make the copy of this day, or make it anew, and delete old ones; False when the disk has no room.

    Any thread. Raises DamagedError, OSError; a crash leaves a file that the next one replaces.
    """
    if shutil.disk_usage(layout.path).free < meta.path.stat().st_size + _MARGIN:
        return False
    private.make_directory(layout.daily)
    new = _today(layout).with_suffix(".new")
    try:
        meta.copy(new)
        _check(new)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.rename(_today(layout))
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    finally:
        lock_file(new).unlink(missing_ok=True)
    sync_directory(layout.daily)
    for old in copies(layout)[KEPT:]:
        old.unlink(missing_ok=True)
    return True


def _check(copy: Path) -> None:
    """A copy of what is damaged takes no older one's place. Raises DamagedError."""
    environment = Environment(copy, TABLES, writable=False, create=False)
    try:
        for table in TABLES:
            with environment.view() as view:
                for _, why in damaged_rows(view, table):
                    raise DamagedError(why)
    finally:
        environment.close()


def _today(layout: Layout) -> Path:
    return layout.daily / f"{datetime.now(UTC):%Y-%m-%d}.mdb"
