"""Anabranch: a versioned filesystem for data."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["AnabranchError", "Repository", "__version__"]

if TYPE_CHECKING:
    from anabranch.errors import AnabranchError
    from anabranch.repo import Repository
else:

    def __getattr__(name: str) -> object:
        """Import what is asked for, when it is asked for: `ana --help` needs none of it."""
        homes = {"AnabranchError": "anabranch.errors", "Repository": "anabranch.repo"}
        if name not in homes:
            raise AttributeError(f"module 'anabranch' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(homes[name]), name)
