"""The library: repositories, branches, versions and paths in them, for Python programs. No mount is needed.

Reading goes straight to the repository. What changes something asks whoever owns it: the daemon of a mount, which shows
it at once, or this process itself for a moment. Every error is one of errors.py.
"""
