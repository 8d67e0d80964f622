"""Folders for what is on the way: tables as they are read and written."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """A new folder in the temporary directory, which is gone in the end.

    Its name is chosen before it is made: so it is also gone when Ctrl-C comes in between, for which
    `tempfile.TemporaryDirectory` has no eye.
    """
    folder = Path(tempfile.gettempdir(), f"anabranch-{purpose}-{secrets.token_hex(8)}")
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
