"""The transport: pyfuse3. Decode, call `Operations`, encode, and nothing else.

Extended attributes have handlers only where they are asked for: the kernel looks for `security.capability` on every
write(2) until it is told ENOSYS once (that is pyfuse3's own answer). An exception that nobody foresaw is EIO for its
caller, and a stack in the log; the mount goes on.
"""

import contextlib
import errno
import functools
import inspect
import logging
import os
import reprlib
import signal
import stat
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
)

from anabranch.errors import AnabranchError
from anabranch.escape import show_path
from anabranch.fuse.areas import NEVER, Found
from anabranch.fuse.handles import Caller
from anabranch.fuse.operations import Operations
from anabranch.fuse.packed import Packed
from anabranch.versions.objects import EntryKind
from anabranch.worktree.inodes import Inode
from anabranch.worktree.tree import NAME_MAX, AttributeChanges

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

MAX_TASKS = 4096
"""Requests that may wait at once; with 99, that many slow reads held up every stat."""
_BLOCK = 4096
_DOTS = (b".", b"..")
"""The names with which every listing begins."""
_SUBJECTS = ("fh", "inode", "parent_inode", "parent_inode_old")
"""What handlers call the first of their arguments, if it says what a request is about."""
_REFUSED = -1
"""The size of a file with which the kernel takes its name, number and type from a listing, but not the inode, which it
forgets at once: since Linux 5.5 it believes no such attributes. pyfuse3 has no listing without attributes.
"""
_NOTHING = subprocess.DEVNULL
_SYNC_SECONDS = 1.0
_STUCK_FOR = 0.5
"""Seconds after which a read of the kernel's requests that finds none is given up."""


def _answer(method: F) -> F:
    """Turn what went wrong into an errno; what is an EIO, into a line of the log, too."""
    subject = list(inspect.signature(method).parameters)[1]

    @functools.wraps(method)
    async def answered(transport: "Transport", *arguments: Any) -> Any:  # noqa: ANN401  (what the handler takes, gives)
        transport.operations.pace.requests += 1
        try:
            return await method(transport, *arguments)
        except FUSEError:
            raise
        except (OSError, AnabranchError) as error:
            code = error.errno or errno.EIO
            if code == errno.EIO:
                log.error("%s of %s: %s", method.__name__, _named(transport, subject, arguments), error)
            raise FUSEError(code) from None
        except Exception:
            log.exception("BUG: %s%s", method.__name__, reprlib.repr(arguments))  # not all that was written
            raise FUSEError(errno.EIO) from None

    return answered  # type: ignore[return-value]  # the same signature, by functools.wraps


def _named(transport: "Transport", subject: str, arguments: tuple[Any, ...]) -> str:
    """What a request is about, by the name of its first argument."""
    handles, first = transport.operations.handles, arguments[0]
    if subject not in _SUBJECTS:
        return "the mount"
    try:
        if subject.startswith("parent"):
            return show_path(handles.path_of(Inode(first), arguments[1]))
        return show_path(handles.path(handles.ino(first) if subject == "fh" else Inode(first)))
    except (OSError, KeyError):
        return f"{subject} {first}"


def _caller(context: RequestContext) -> Caller:
    return Caller(context.uid, context.gid, context.pid)


def _encode(found: Found) -> EntryAttributes:
    attributes, entry = found.attributes, EntryAttributes()
    entry.st_ino = InodeT(attributes.ino)
    entry.entry_timeout = found.name_timeout
    entry.attr_timeout = found.attribute_timeout
    entry.st_mode = ModeT(attributes.st_mode)
    entry.st_nlink = attributes.links
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_rdev = attributes.device
    entry.st_size = attributes.size
    entry.st_blksize = _BLOCK
    room = attributes.size if found.room is None else found.room
    entry.st_blocks = -(-room // _BLOCK) * (_BLOCK // 512)
    entry.st_atime_ns = attributes.mtime_ns if attributes.atime_ns is None else attributes.atime_ns
    entry.st_mtime_ns = attributes.mtime_ns
    entry.st_ctime_ns = attributes.ctime_ns
    return entry


def _name_alone(ino: Inode, mode: int) -> EntryAttributes:
    """What the kernel takes of a name, if that is all it is to take: number and type."""
    entry = EntryAttributes()
    entry.st_ino, entry.st_mode, entry.st_size = InodeT(ino), ModeT(mode), _REFUSED
    entry.entry_timeout = entry.attr_timeout = NEVER
    return entry


class PyfuseKernel:
    """What pyfuse3 may ask of the kernel; from worker threads only, the calls block."""

    def __init__(self, mount_point: Path) -> None:
        self._mount_point = mount_point
        self._syncing: subprocess.Popen[bytes] | None = None

    def write_back_all(self) -> None:
        """By syncfs(2), which does not wait for the answers. In another process: a daemon that is killed while it
        waits in its own mount would wait for itself.
        """
        if self._syncing is None or self._syncing.poll() is not None:
            command = ["sync", "--file-system", str(self._mount_point)]
            try:
                self._syncing = subprocess.Popen(command, stdin=_NOTHING, stdout=_NOTHING, stderr=_NOTHING, cwd="/")
            except OSError as error:
                log.warning("files that stay open cannot be brought in: %s", error)
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._syncing.wait(_SYNC_SECONDS)

    def forget_attributes(self, ino: Inode) -> None:
        """Drop cached attributes."""
        with contextlib.suppress(FileNotFoundError):  # the kernel dropped the inode by itself
            pyfuse3.invalidate_inode(InodeT(ino), attr_only=True)

    def launder(self, ino: Inode) -> None:
        """Write back dirty pages."""
        with contextlib.suppress(FileNotFoundError):
            pyfuse3.invalidate_inode(InodeT(ino))

    def drop_name(self, parent: Inode, name: bytes) -> None:
        """Let go of a file that nobody uses."""
        with contextlib.suppress(OSError):  # it has let go already, or the mount is ending
            pyfuse3.invalidate_entry(InodeT(parent), FileNameT(name))


class Transport(pyfuse3.Operations):
    """pyfuse3's handlers."""

    supports_dot_lookup = False
    enable_writeback_cache = True

    def __init__(self, operations: Operations) -> None:
        super().__init__()
        self.operations = operations

    @_answer
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        try:
            return _encode(await self.operations.lookup(Inode(parent_inode), name))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            absent = EntryAttributes()
            absent.st_ino = InodeT(0)
            absent.entry_timeout = self.operations.absent(Inode(parent_inode), name)
            return absent

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for ino, times in inode_list:
            try:
                self.operations.forget(Inode(ino), times)
            except Exception:
                log.exception("BUG: forget(%d, %d)", ino, times)

    @_answer
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return _encode(await self.operations.getattr(Inode(inode)))

    @_answer
    async def setattr(
        self, inode: InodeT, attr: EntryAttributes, fields: SetattrFields, fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:  # fmt: skip
        changes = AttributeChanges(
            mode=attr.st_mode & 0o7777 if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            ctime_ns=attr.st_ctime_ns if fields.update_ctime else None,
        )
        if fh is not None and not (fields.update_mode or fields.update_uid or fields.update_gid or fields.update_size):
            changes = replace(changes, late=True)  # a program's own utimensat(2) comes without a handle
        return _encode(await self.operations.setattr(Inode(inode), changes))

    @_answer
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        return FileNameT(await self.operations.readlink(Inode(inode)))

    @_answer
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        return _encode(await self.operations.mknod(Inode(parent_inode), name, mode, rdev, _caller(ctx)))

    @_answer
    async def mkdir(self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        return _encode(await self.operations.create(Inode(parent_inode), name, EntryKind.DIRECTORY, mode, _caller(ctx)))

    @_answer
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        found = await self.operations.create(
            Inode(parent_inode), name, EntryKind.SYMLINK, 0o777, _caller(ctx), target=target
        )
        return _encode(found)

    @_answer
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self.operations.unlink(Inode(parent_inode), name)

    @_answer
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self.operations.rmdir(Inode(parent_inode), name, _caller(ctx))

    @_answer
    async def rename(
        self, parent_inode_old: InodeT, name_old: FileNameT, parent_inode_new: InodeT, name_new: FileNameT,
        flags: FlagT, ctx: RequestContext,
    ) -> None:  # fmt: skip
        await self.operations.rename(
            Inode(parent_inode_old), name_old, Inode(parent_inode_new), name_new, flags, _caller(ctx)
        )

    @_answer
    async def link(
        self,
        inode: InodeT,
        new_parent_inode: InodeT,
        new_name: FileNameT,
        ctx: RequestContext,
    ) -> EntryAttributes:
        return _encode(await self.operations.link(Inode(inode), Inode(new_parent_inode), new_name))

    @_answer
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        number, direct = await self.operations.open(Inode(inode), flags, _caller(ctx))
        return FileInfo(fh=FileHandleT(number), direct_io=direct, keep_cache=not direct)

    @_answer
    async def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        number, found = await self.operations.create_file(Inode(parent_inode), name, mode, _caller(ctx))
        return FileInfo(fh=FileHandleT(number), keep_cache=True), _encode(found)

    @_answer
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return await self.operations.read(fh, off, size)

    @_answer
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return await self.operations.write(fh, off, buf)

    @_answer
    async def flush(self, fh: FileHandleT) -> None:
        await self.operations.flush(fh)

    @_answer
    async def release(self, fh: FileHandleT) -> None:
        await self.operations.release(fh)

    @_answer
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self.operations.fsync(fh)

    @_answer
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self.operations.fsync()

    @_answer
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return FileHandleT(self.operations.opendir(Inode(inode)))

    @_answer
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        listing = await self.operations.readdir(fh, start_id)
        for ordinal in range(start_id, len(_DOTS)):
            ino = listing.area.above(listing.ino) if ordinal else listing.ino
            if not pyfuse3.readdir_reply(token, FileNameT(_DOTS[ordinal]), _name_alone(ino, stat.S_IFDIR), ordinal + 1):
                return
        items = listing.items or Packed()
        for ordinal in range(max(start_id - len(_DOTS), 0), len(items)):
            found = listing.area.listed(listing.ino, items[ordinal])
            if found is None:
                continue
            whole, next_id = not self.operations.handles.crowded, ordinal + 1 + len(_DOTS)
            entry = _encode(found) if whole else _name_alone(found.attributes.ino, found.attributes.st_mode)
            if not pyfuse3.readdir_reply(token, FileNameT(items[ordinal][0]), entry, next_id):
                return
            self.operations.listed(found, listing.ino, items[ordinal][0])

    @_answer
    async def releasedir(self, fh: FileHandleT) -> None:
        self.operations.closedir(fh)

    @_answer
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        disk = os.statvfs(self.operations.repository.layout.path)
        data = StatvfsData()
        data.f_bsize = data.f_frsize = _BLOCK
        scale = disk.f_frsize / _BLOCK
        data.f_blocks = int(disk.f_blocks * scale)
        data.f_bfree = int(disk.f_bfree * scale)
        data.f_bavail = int(disk.f_bavail * scale)
        data.f_files, data.f_ffree, data.f_favail = disk.f_files, disk.f_ffree, disk.f_favail
        data.f_namemax = NAME_MAX
        return data


class XattrTransport(Transport):
    """With extended attributes. The flags of setxattr(2) are pyfuse3's: it asks for the attribute first."""

    @_answer
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        return self.operations.xattr(Inode(inode), name)

    @_answer
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        return [XAttrNameT(name) for name in self.operations.xattrs(Inode(inode), _caller(ctx))]

    @_answer
    async def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        await self.operations.set_xattr(Inode(inode), name, value)

    @_answer
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        await self.operations.set_xattr(Inode(inode), name, None)


class _Option(str):
    """pyfuse3 encodes options as ASCII; the path in one may hold anything."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """As file names are, whatever pyfuse3 asks for."""
        return super().encode("utf-8", "surrogateescape")


def mount(
    operations: Operations, directory: str, source: str, *,
    read_only: bool = False, allow_other: bool = False, xattr: bool = False,
) -> None:  # fmt: skip
    """Mount; the kernel's requests wait until `serve`. Raises RuntimeError."""
    name = source.replace("\\", "\\\\").replace(",", "\\,")  # libfuse splits options at commas
    options = set(pyfuse3.default_options)
    options |= {_Option(f"fsname={name}"), "subtype=anabranch", "default_permissions", "noatime"}
    options |= {option for option, wanted in (("ro", read_only), ("allow_other", allow_other)) if wanted}
    pyfuse3.init((XattrTransport if xattr else Transport)(operations), directory, options)


async def serve() -> None:
    """Answer requests until the mount is gone or `stop` is called. For the main thread.

    A process that is killed takes back its request, if nobody has read it. Who was just about to do so waits for the
    next one, and pyfuse3 lets nothing else of this process run meanwhile: a signal ends that.
    """
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, _STUCK_FOR, _STUCK_FOR)
    try:
        await pyfuse3.main(min_tasks=1, max_tasks=MAX_TASKS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def stop() -> None:
    """End `serve`; from the thread of the loop."""
    pyfuse3.terminate()


def close() -> None:
    """Unmount if that has not happened, and let go of the device."""
    pyfuse3.close(unmount=True)
