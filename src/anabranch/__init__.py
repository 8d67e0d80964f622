"""Anabranch: a versioned filesystem for data."""

from anabranch.errors import AnabranchError
from anabranch.repo import Repository

__version__ = "0.1.0"

__all__ = ["AnabranchError", "Repository", "__version__"]
