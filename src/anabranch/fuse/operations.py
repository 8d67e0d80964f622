"""One method a request, on plain values and handle objects; knows nothing of the transport.

Code between two awaits is a critical section. An answer with attributes is made after the last await of its method
(`passage`), so that none can slip out while a commit holds them back.
"""

import errno
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import trio

from anabranch.errors import AnabranchError
from anabranch.escape import show_path
from anabranch.fuse.absence import Absence
from anabranch.fuse.areas import NEVER, ROOT, Area, Found
from anabranch.fuse.branches import BranchArea
from anabranch.fuse.chores import once
from anabranch.fuse.commits import Committer, Kernel
from anabranch.fuse.control import COMMIT, DISCARD, RESTORE, UNDERTAKINGS, ControlArea
from anabranch.fuse.eviction import Eviction
from anabranch.fuse.handles import Caller, Handle, Handles, Listing, Writer
from anabranch.fuse.loading import Loading
from anabranch.fuse.merges import Merging
from anabranch.fuse.messages import Message
from anabranch.fuse.outcomes import Outcome
from anabranch.fuse.outside import Outside
from anabranch.fuse.pace import Pace
from anabranch.fuse.packed import Packed
from anabranch.fuse.refused import Refused
from anabranch.fuse.restores import Restoring
from anabranch.fuse.roots import RootArea
from anabranch.fuse.saver import Saver
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.versions.objects import EntryKind
from anabranch.versions.refs import Who
from anabranch.versions.trees import Version
from anabranch.versions.xattrs import check_name
from anabranch.worktree.inodes import Inode, kind_of_mode
from anabranch.worktree.restore import Restored, Stale
from anabranch.worktree.tree import RENAME_EXCHANGE, AttributeChanges, failure


class Operations:
    """The filesystem of one mount."""

    def __init__(
        self, repository: Repository, kernel: Kernel, nursery: trio.Nursery, *, known_files: int = 1 << 16
    ) -> None:
        self.repository = repository
        self.pace = repository.objects.pace = Pace()
        self._kernel = kernel
        self.handles = Handles(known_files)
        self.refused = Refused()
        self.saver = Saver(repository, self.handles)
        self.committer = Committer(repository, kernel, self.handles, self.saver, self.refused)
        self.absence = Absence()
        self.outside = Outside(repository, kernel, self.committer, self.absence)
        self.root = RootArea(repository, self.handles)
        self._nursery = nursery
        self._writers: dict[bytes, Callable[[Handle, BranchArea, Outcome], Writer]] = {
            COMMIT: partial(Message, self.committer, nursery),
            RESTORE: partial(Restoring, repository, self.restore, RESTORE),
            DISCARD: partial(Restoring, repository, self.restore, DISCARD),
            **{name: partial(Merging, repository, self.outside.move, name) for name in UNDERTAKINGS},
        }
        self._loading = Loading(repository, nursery)
        self.eviction = Eviction(kernel, self.handles)

    # --- looking ---

    async def lookup(self, parent: Inode, name: bytes) -> Found:
        """The child of a name; the kernel knows it afterwards."""
        area = self._area(parent)
        if isinstance(area, ControlArea) and area.is_live(name):
            await self.committer.launder(self.root.branch_of(area))
        await self.committer.passage(area)
        return self._remember(area.lookup(parent, name), parent, name)

    def absent(self, parent: Inode, name: bytes) -> float:
        """Seconds to trust that a name is not there."""
        return self.absence.answer(self._area(parent), parent, name)

    async def getattr(self, ino: Inode) -> Found:
        """The attributes of an inode."""
        area = self._area(ino)
        await self.committer.passage(area)
        return area.getattr(ino)

    def forget(self, ino: Inode, times: int) -> None:
        """The kernel gave an inode back."""
        self.handles.forget(ino, times)
        if self.handles.area(ino) is None:
            self.refused.forget(ino)

    async def readlink(self, ino: Inode) -> bytes:
        """The target of a symbolic link."""
        return self._area(ino).readlink(ino)

    def opendir(self, ino: Inode) -> int:
        """Open a directory."""
        return self.handles.opendir(self._area(ino), ino).number

    async def readdir(self, number: int, start: int) -> Listing:
        """An open directory, about to be listed from an ordinal on; from 0, its names are read anew."""
        listing = self.handles.listing(number)
        await self.committer.passage(listing.area)
        stamp = listing.area.stamp(listing.ino)
        if listing.items is None or start == 0:
            listing.items = Packed(listing.area.entries(listing.ino))
        elif stamp != listing.stamp:
            listing.items = Packed((name, None) for name, _ in listing.items)
        listing.stamp = stamp
        return listing

    def listed(self, found: Found, parent: Inode, name: bytes) -> None:
        """A name of a listing was handed to the kernel, which knows it from now on."""
        self._remember(found, parent, name)

    def closedir(self, number: int) -> None:
        """Close a directory."""
        self.handles.closedir(number)

    # --- names ---

    async def create(
        self, parent: Inode, name: bytes, kind: EntryKind, mode: int, caller: Caller, *,
        device: int = 0, target: bytes = b"",
    ) -> Found:  # fmt: skip
        """Make a directory, symbolic link or special file."""
        area = self._area(parent)
        await self.committer.passage(area)
        made = area.create(parent, name, kind, mode, caller.uid, caller.gid, device=device, target=target)
        return self._remember(made, parent, name)

    async def mknod(self, parent: Inode, name: bytes, mode: int, device: int, caller: Caller) -> Found:
        """Make what the type bits of a mode say."""
        try:
            kind = kind_of_mode(mode)
        except KeyError:
            raise failure(errno.EINVAL) from None
        return await self.create(parent, name, kind, mode, caller, device=device)

    async def create_file(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> tuple[int, Found]:
        """Make a file and open it for writing."""
        found = await self.create(parent, name, EntryKind.FILE, mode, caller)
        found = found._replace(room=1)  # the kernel asks again on close; tar takes a file of no blocks for one hole
        return self.handles.open(found.area, found.attributes.ino, caller, writable=True).number, found

    async def link(self, ino: Inode, parent: Inode, name: bytes) -> Found:
        """Give a file another name."""
        area = self._same(self._area(ino), self._area(parent))
        await self.committer.passage(area)
        return self._remember(area.link(ino, parent, name), parent, name)

    async def unlink(self, parent: Inode, name: bytes) -> None:
        """Remove a file's name."""
        area = self._area(parent)
        await self.committer.passage(area)
        area.unlink(parent, name)

    async def rmdir(self, parent: Inode, name: bytes, caller: Caller) -> None:
        """Remove a directory, or a branch."""
        area = self._area(parent)
        async with self._quiet(area, name):
            await self.committer.passage(area)
            area.rmdir(parent, name, caller.uid)

    async def rename(
        self, parent: Inode, name: bytes, new_parent: Inode, new_name: bytes, flags: int, caller: Caller
    ) -> None:
        """Move a name."""
        if parent == ROOT != new_parent:  # not EXDEV: mv would copy all of the branch, and then empty it
            raise failure(errno.EBUSY)
        area = self._same(self._area(parent), self._area(new_parent))
        async with self._quiet(area, name):
            await self.committer.passage(area)
            area.rename(parent, name, new_parent, new_name, flags, caller.uid)
        if area is not self.root:
            old, new = (parent, name), (new_parent, new_name)
            self.handles.moved(area.lookup(*new).attributes.ino, old, new)
            if flags & RENAME_EXCHANGE:
                self.handles.moved(area.lookup(*old).attributes.ino, new, old)

    async def delete_branch(self, name: RefName, who: Who) -> None:
        """Delete a branch by another way than rmdir(2)."""
        async with self._quiet(self.root, name.encode()):
            self.root.delete_branch(name, who)
        await self.outside.tell(Stale({(ROOT, name.encode())}, {ROOT}))

    async def rename_branch(self, old: RefName, new: RefName, who: Who) -> None:
        """Rename a branch by another way than rename(2)."""
        async with self._quiet(self.root, old.encode()):
            self.root.rename_branch(old, new, who)
        await self.outside.tell(Stale({(ROOT, old.encode()), (ROOT, new.encode())}, {ROOT}))

    async def restore(
        self, area: BranchArea, source: Version, paths: list[bytes], *,
        new_too: bool = False, kept: Sequence[bytes] = (),
    ) -> Restored:  # fmt: skip
        """Put into a branch what a version holds at some paths; durable when it returns, as without a mount (P48)."""
        done = await self.outside.restore(area, source, paths, new_too=new_too, kept=kept)
        await self.saver.sync()
        return done

    @asynccontextmanager
    async def _quiet(self, area: Area, name: bytes) -> AsyncIterator[None]:
        """If the name is a branch: what the kernel has of it comes first, and no commit or saving is under way."""
        branch = self.root.open_branch(name) if area is self.root else None
        if branch is None:
            yield
            return
        await self.committer.launder(branch)
        async with self.committer.quiet(branch):
            yield

    # --- files ---

    async def open(self, ino: Inode, flags: int, caller: Caller) -> tuple[int, bool]:
        """Open a file; returns its handle, and whether reads and writes come here directly."""
        area = self._area(ino)
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        if isinstance(area, ControlArea):
            return self._open_control(area, ino, caller, writing=writing), True
        truncate = bool(flags & os.O_TRUNC)
        if writing and not truncate:  # truncating waits for nobody: its pages are locked, laundering would wait for it
            await self.committer.passage(area)
        await self._loading.with_chunks(lambda: area.open(ino, writing=writing, truncate=truncate, uid=caller.uid))
        if truncate:
            self.refused.truncated(ino, 0)
        return self.handles.open(area, ino, caller, writable=writing).number, False

    def _open_control(self, area: ControlArea, ino: Inode, caller: Caller, *, writing: bool) -> int:
        area.open(ino, writing=writing, truncate=False, uid=caller.uid)
        handle = self.handles.open(area, ino, caller, writable=writing)
        if writing:
            branch = self.root.branch_of(area)
            handle.writer = self._writers[area.name(ino)](handle, branch, self.root.outcomes[branch])
        handle.text = area.text(ino)
        return handle.number

    async def read(self, number: int, offset: int, length: int) -> bytes:
        """A range of an open file."""
        handle = self.handles.file(number)
        if isinstance(handle.area, ControlArea):
            return bytes(handle.text[offset : offset + length])
        return await self._loading.read(handle, offset, length)

    async def read_path(self, branch: RefName, path: bytes, offset: int, length: int) -> bytes:
        """Repository.read_working, while others are served."""
        return await self._loading.with_chunks(lambda: self.repository.read_loaded(branch, path, offset, length))

    async def write(self, number: int, offset: int, data: bytes) -> int:
        """Write into an open file."""
        handle = self.handles.file(number)
        if handle.writer is not None:
            return await handle.writer.write(data)
        area, ino = handle.area, handle.ino
        try:
            written = await self._loading.with_chunks(lambda: area.write(ino, offset, data))
        except (OSError, AnabranchError) as error:
            self.refused.note(ino, offset, len(data), error, show_path(self.handles.path(ino)))
            raise
        self.refused.written(ino, offset, written)
        return written

    async def setattr(self, ino: Inode, changes: AttributeChanges) -> Found:
        """Change attributes or size."""
        area = self._area(ino)
        of_program = changes.mode is not None or changes.uid is not None or changes.gid is not None
        if of_program and changes.size is None:  # a size (with the mode, where that has set-uid) and the kernel's own
            await self.committer.passage(area)  # times never wait: laundering would wait for them
        found = await self._loading.with_chunks(lambda: area.setattr(ino, changes))
        if changes.size is not None:
            self.refused.truncated(ino, changes.size)
        return found._replace(attribute_timeout=NEVER) if self.committer.holds(area) else found

    def xattr(self, ino: Inode, name: bytes) -> bytes:
        """An extended attribute. Raises ENODATA, EOPNOTSUPP."""
        check_name(name)
        value = self._area(ino).xattrs(ino).get(name)
        if value is None:
            raise failure(errno.ENODATA)
        return value

    def xattrs(self, ino: Inode, caller: Caller) -> list[bytes]:
        """The names of the extended attributes that a caller may see: the kernel leaves trusted ones to us."""
        names = self._area(ino).xattrs(ino)
        return [name for name in names if caller.uid == 0 or not name.startswith(b"trusted.")]

    async def set_xattr(self, ino: Inode, name: bytes, value: bytes | None) -> None:
        """Set an extended attribute, or with None remove it."""
        check_name(name)
        area = self._area(ino)
        await self.committer.passage(area)
        area.set_xattr(ino, name, value)

    async def flush(self, number: int) -> None:
        """A descriptor of an open file was closed."""
        handle = self.handles.file(number)
        if handle.writer is not None:
            await handle.writer.flush()
        else:
            handle.area.flushed(handle.ino)

    async def fsync(self, number: int | None = None) -> None:
        """Make everything up to now durable: content, attributes, names, ancestors. Fails for an open file of which
        something is missing.
        """
        await self.saver.fsync()
        if number is not None:
            self.refused.check(self.handles.ino(number))

    async def release(self, number: int) -> None:
        """The last descriptor of an open file was closed."""
        handle = self.handles.close(number)
        if handle.writer is not None:
            handle.writer.release()
        if self._is_shown_wrong(handle.ino):
            self._nursery.start_soon(once, self.eviction.of_file, handle.ino, partial(self._is_shown_wrong, handle.ino))

    def _is_shown_wrong(self, ino: Inode) -> bool:
        """Whether nobody has a file open any more of which the kernel shows more than could be kept."""
        return ino in self.refused and not self.handles.is_open(ino)

    def last_instant(self) -> AbstractAsyncContextManager[None]:
        """Committer.last_instant of every branch."""
        return self.committer.last_instant(self.open_branches())

    def open_branches(self) -> list[BranchArea]:
        """The areas of the branches that somebody has looked at, by name."""
        names = [branch.name.encode() for branch in self.repository.branch_names()]
        return [area for name in names if (area := self.root.open_branch(name))]

    # --- helpers ---

    def _area(self, ino: Inode) -> Area:
        if ino == ROOT:
            return self.root
        area = self.handles.area(ino)
        if area is None:
            raise failure(errno.ESTALE)
        return area

    @staticmethod
    def _same(one: Area, other: Area) -> Area:
        if one is not other:
            raise failure(errno.EXDEV)
        return one

    def _remember(self, found: Found, parent: Inode, name: bytes) -> Found:
        is_directory = found.attributes.kind == EntryKind.DIRECTORY
        self.handles.remember(found.attributes.ino, found.area, None if is_directory else (parent, name))
        return found
