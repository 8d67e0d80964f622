"""What an import leaves out: what `.anaignore` files match, those above its place and those that come along with it.

As with a commit, what the last commit has at its path is never left out.
"""

from collections.abc import Callable
from contextlib import suppress

from anabranch.errors import NotFoundError, UsageError
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.worktree.ignore import NAME, SIZE_MAX, Rules


class Sieve:
    """The rules in a directory of what is imported; paths count from the top of the branch."""

    def __init__(self, rules: Rules, tracked: Callable[[bytes], bool]) -> None:
        self._rules = rules
        self._tracked = tracked

    def within(self, directory: bytes, text: bytes | None) -> "Sieve":
        """The rules in a directory that has such a file, or none."""
        return Sieve(self._rules.within(directory, text), self._tracked)

    def passed(self, path: bytes, *, is_directory: bool) -> "Sieve | None":
        """Nothing for what is left out; else the rules that hold in it, if it is a directory."""
        matches = self._rules.ignores(path, directory=is_directory)
        if matches and not self._tracked(path):
            return None
        return Sieve(self._rules.below(matches), self._tracked)


def sieve_at(repository: Repository, branch: RefName, place: bytes, read: Callable[[bytes, int, int], bytes]) -> Sieve:
    """The rules in the directory of a place. `read` gives a range of a file of the branch's working tree."""
    last = repository.version(repository.resolve(branch).id)
    sieve = Sieve(Rules(), lambda path: last.named(path) is not None)
    directory, rest = b"", place
    while rest:
        with suppress(NotFoundError, UsageError):  # there is none
            sieve = sieve.within(directory, read(directory + b"/" + NAME if directory else NAME, 0, SIZE_MAX))
        name, _, rest = rest.partition(b"/")
        directory = directory + b"/" + name if directory else name
    return sieve
