"""Anabranch: a versioned filesystem for data. `Repository` is where a program begins."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "AmbiguousError", "AnabranchError", "Branch", "BranchPath", "Change", "Conflict", "ConflictError", "DaemonError",
    "DamagedError", "DeniedError", "ExistsError", "FormatError", "MergeConflictError", "NotFoundError",
    "NothingToCommitError", "RefusedError", "Repository", "Stat", "Transaction", "UsageError", "Version", "VersionPath",
    "__version__",
]  # fmt: skip

if TYPE_CHECKING:
    from anabranch.api.branch import Branch, BranchPath
    from anabranch.api.changes import Change, Conflict
    from anabranch.api.paths import Stat
    from anabranch.api.repository import Repository
    from anabranch.api.transaction import Transaction
    from anabranch.api.version import Version, VersionPath
    from anabranch.errors import (
        AmbiguousError,
        AnabranchError,
        ConflictError,
        DaemonError,
        DamagedError,
        DeniedError,
        ExistsError,
        FormatError,
        MergeConflictError,
        NotFoundError,
        NothingToCommitError,
        RefusedError,
        UsageError,
    )
else:
    _HOMES = {
        "Branch": "api.branch", "BranchPath": "api.branch", "Change": "api.changes", "Conflict": "api.changes",
        "Repository": "api.repository", "Stat": "api.paths", "Transaction": "api.transaction", "Version": "api.version",
        "VersionPath": "api.version",
    }  # fmt: skip

    def __getattr__(name: str) -> object:
        """Import what is asked for, when it is asked for: `ana --help` needs none of it."""
        if name not in __all__:
            raise AttributeError(f"module 'anabranch' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"anabranch.{_HOMES.get(name, 'errors')}"), name)

    def __dir__() -> list[str]:
        """What there is, imported or not."""
        return __all__
