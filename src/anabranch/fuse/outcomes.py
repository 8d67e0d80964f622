"""What was last done through the control files of a directory, and why something was not: a shell shows an errno."""

import errno
from dataclasses import dataclass, field

from anabranch.commit import Committed
from anabranch.errors import AnabranchError
from anabranch.report import Json
from anabranch.versions.threeway import Conflict


@dataclass(frozen=True, slots=True)
class Failed:
    """Why something was not done: the name of the error's class, or of its errno, and its words."""

    error: str
    message: str
    hint: str | None


@dataclass(slots=True)
class Outcome:
    """What a directory's control files last came to."""

    committed: Committed | None = None
    said: dict[bytes, str] = field(default_factory=dict)
    """What the last restore, discard, merge and so on did, by the name of their file."""
    conflicts: list[Conflict] = field(default_factory=list)
    """Those of the last merge, revert or cherry-pick."""
    failed: Failed | None = None
    """Why the last thing failed; None after one that did not."""

    def fail(self, error: AnabranchError | OSError) -> None:
        """Something was not done."""
        if isinstance(error, AnabranchError):
            self.failed = Failed(type(error).__name__, error.message, error.hint)
        else:
            self.failed = Failed(errno.errorcode.get(error.errno or 0, "OSError"), error.strerror or str(error), None)

    def error_text(self) -> str:
        """The reason for people; empty without one."""
        if self.failed is None:
            return ""
        return f"{self.failed.message}\n" + (f"hint: {self.failed.hint}\n" if self.failed.hint else "")

    def error_json(self) -> Json:
        """The reason for scripts."""
        if self.failed is None:
            return {"error": None}
        return {"error": self.failed.error, "message": self.failed.message, "hint": self.failed.hint}
