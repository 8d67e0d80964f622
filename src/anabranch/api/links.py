"""Following symbolic links in a version or a branch, from its top, and never out of it."""

from collections import deque
from collections.abc import Callable

from anabranch.errors import NotFoundError
from anabranch.versions.objects import Entry, EntryKind

LINKS_MAX = 40
"""On the way of one path, as on Linux."""

Look = Callable[[bytes], Entry | None]
"""What is at a path; symbolic links are not followed."""


def follow(path: bytes, look: Look) -> tuple[bytes, Entry | None]:
    """Where a path leads when links are followed, and what is there. Raises NotFoundError for a link that leads out, or
    nowhere for it is in a circle.
    """
    entry = look(path)
    if entry is not None and entry.kind is not EntryKind.SYMLINK:
        return path, entry
    todo, done, links = deque(filter(None, path.split(b"/"))), list[bytes](), 0
    while todo:
        name = todo.popleft()
        if name == b"..":
            if not done:
                raise _leads_out(path)
            above = look(b"/".join(done))
            if above is None or above.kind is not EntryKind.DIRECTORY:
                raise NotFoundError(f"{_shown(path)} leads nowhere, by a symbolic link")
            done.pop()
            continue
        entry = look(b"/".join((*done, name)))
        if entry is None or entry.kind is not EntryKind.SYMLINK:
            done.append(name)
            continue
        links += 1
        if links > LINKS_MAX:
            raise NotFoundError(f"{_shown(path)} leads nowhere: too many symbolic links")
        if entry.content.startswith(b"/"):
            raise _leads_out(path)
        todo.extendleft(part for part in reversed(entry.content.split(b"/")) if part not in (b"", b"."))
    final = b"/".join(done)
    return final, look(final)


def follow_above(path: bytes, look: Look) -> bytes:
    """As `follow`, but for the last part of the path, which is a name to be made or taken away."""
    above, slash, name = path.rpartition(b"/")
    directory = follow(above, look)[0] if slash else b""
    return directory + b"/" + name if directory else name


def _leads_out(path: bytes) -> NotFoundError:
    return NotFoundError(f"{_shown(path)} leads out, by a symbolic link", hint="links are followed inside only")


def _shown(path: bytes) -> str:
    return path.decode(errors="replace")
