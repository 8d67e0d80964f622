"""Ctrl-C as a question: what must not be cut in two looks at it where it can stop."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """While the block runs, the first Ctrl-C is only noted; a second one is a KeyboardInterrupt as ever.

    In other threads than the main one, where somebody else handles the signal, and unless `noted`, all is as ever.
    """

    def __init__(self, noted: bool = True) -> None:
        self.pressed = False
        self._noted = noted
        self._before: Any = None

    def check(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C was pressed."""
        if self.pressed:
            raise KeyboardInterrupt

    def __enter__(self) -> "Interrupts":
        """Itself."""
        if self._noted and threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if before is signal.default_int_handler:
                self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ctrl-C is as it was."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, _: int, __: FrameType | None) -> None:
        self.check()
        self.pressed = True
