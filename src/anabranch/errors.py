"""One tree of errors, grouped by what the caller will do about them.

Each class knows the errno that a mounted program sees and the exit code that `ana` ends with. An error carries a
message for people and, where there is something to do, a hint that says what to type.
"""

import errno as _errno

NO_ROOM = "make room on that disk, then try again"
"""The hint for every ENOSPC."""


class AnabranchError(Exception):
    """Base of every error that Anabranch raises on purpose."""

    errno: int = _errno.EIO
    exit_code: int = 4

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotFoundError(AnabranchError):
    """What was named does not exist: a revision, a branch, a path."""

    errno = _errno.ENOENT
    exit_code = 1


class NothingToCommitError(AnabranchError):
    """The branch equals its last commit."""

    errno = _errno.ENODATA
    exit_code = 1


class UsageError(AnabranchError):
    """The request itself is wrong: a bad name, an empty message, a folder that is no repository."""

    errno = _errno.EINVAL
    exit_code = 2


class RefusedError(AnabranchError):
    """The request is well formed, but the state does not allow it: in use, dirty, taken, already mounted."""

    errno = _errno.EBUSY
    exit_code = 3


class ExistsError(RefusedError):
    """The name is taken."""

    errno = _errno.EEXIST


class AmbiguousError(RefusedError):
    """A prefix fits several objects."""

    errno = _errno.ENOTUNIQ


class ConflictError(RefusedError):
    """Somebody else moved the branch first."""

    errno = _errno.EAGAIN


class MergeConflictError(RefusedError):
    """Two sides of a merge disagree, and nobody has said which is right."""

    errno = _errno.ENOTEMPTY


class DeniedError(RefusedError):
    """The machine does not let us: permissions, a missing program or device."""

    errno = _errno.EACCES


class DamagedError(AnabranchError):
    """Stored bytes are missing or not what their checksum says."""


class FormatError(AnabranchError):
    """The repository has a format that this version does not know."""

    exit_code = 3


class DaemonError(AnabranchError):
    """The daemon could not be asked, or its answer could not be understood."""


BY_NAME: dict[str, type[AnabranchError]] = {
    cls.__name__: cls
    for cls in (
        AnabranchError, NotFoundError, NothingToCommitError, UsageError, RefusedError, AmbiguousError, ExistsError,
        ConflictError, MergeConflictError, DeniedError, DamagedError, FormatError, DaemonError,
    )
}  # fmt: skip
"""How an error crosses the daemon's socket: by the name of its class."""
