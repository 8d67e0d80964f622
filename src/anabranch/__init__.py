"""Anabranch: a versioned filesystem for data."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "AnabranchError", "Branch", "BranchPath", "Change", "Repository", "Transaction", "Version", "VersionPath",
    "__version__",
]  # fmt: skip

if TYPE_CHECKING:
    from anabranch.api.branch import Branch, BranchPath
    from anabranch.api.changes import Change
    from anabranch.api.repository import Repository
    from anabranch.api.transaction import Transaction
    from anabranch.api.version import Version, VersionPath
    from anabranch.errors import AnabranchError
else:
    _HOMES = {
        "AnabranchError": "errors", "Branch": "api.branch", "BranchPath": "api.branch", "Change": "api.changes",
        "Repository": "api.repository", "Transaction": "api.transaction", "Version": "api.version",
        "VersionPath": "api.version",
    }  # fmt: skip

    def __getattr__(name: str) -> object:
        """Import what is asked for, when it is asked for: `ana --help` needs none of it."""
        if name not in _HOMES:
            raise AttributeError(f"module 'anabranch' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"anabranch.{_HOMES[name]}"), name)
