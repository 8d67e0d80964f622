"""The daemon's log: one file and a few old ones of it, so that no flood of lines fills the disk."""

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

SIZE = 4 * 1024 * 1024
"""Bytes of a file, after which another is begun."""
OLD = 3
_STDOUT, _STDERR = 1, 2


class LogFile(RotatingFileHandler):
    """Takes log lines; and with `alone`, all else that the process has to say, on stdout and stderr.

    Nobody can be told of what cannot be logged, so a log that cannot be written is no error.
    """

    def __init__(self, path: Path, *, alone: bool) -> None:
        super().__init__(path, maxBytes=SIZE, backupCount=OLD)
        self._alone = alone
        self._lead_here()

    def doRollover(self) -> None:  # noqa: N802  (logging calls it so)
        """Begin another file."""
        super().doRollover()
        self._lead_here()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """The disk is full, or gone: the next line may fit."""

    def _lead_here(self) -> None:
        if self._alone and self.stream is not None:
            for descriptor in (_STDOUT, _STDERR):
                os.dup2(self.stream.fileno(), descriptor)
