"""A filesystem that does nothing: the most that any filesystem through pyfuse3 can reach.

Names, sizes and attributes live in memory, so that create, stat, rename and unlink are honest work; written bytes are
thrown away, and reads give zeros. Run as a process of its own: `python nullfs.py MOUNTPOINT` serves until unmounted.

Invariants: the handle of an open file is its inode number. An inode lives until it has no name and the kernel has
forgotten it. No handler waits, so one trio task serves all requests. There is no xattr handler: the base class answers
ENOSYS, and the kernel stops asking for `security.capability` on every write.
"""

from __future__ import annotations

import errno
import gc
import os
import stat
import sys
import time
from collections.abc import Sequence

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, SetattrFields, StatvfsData

_FOREVER = 3600
_KERNEL_FILE_CLOCK = 5  # CLOCK_REALTIME_COARSE, which the module `time` does not name
_ZEROS = bytes(4 << 20)  # longer than any request


class NullFilesystem(pyfuse3.Operations):
    """Names and attributes in memory, no content."""

    supports_dot_lookup = False
    enable_writeback_cache = True

    def __init__(self) -> None:
        self._attributes: dict[int, EntryAttributes] = {}
        self._names: dict[int, dict[bytes, int]] = {}  # of each directory
        self._listings: dict[int, list[tuple[bytes, int]]] = {}  # of each open directory, frozen when it was opened
        self._last_inode = pyfuse3.ROOT_INODE - 1
        self._last_listing = 0
        self._absent = EntryAttributes()
        self._absent.st_ino = 0  # a negative name, which the kernel may keep
        self._absent.entry_timeout = _FOREVER
        self._new_inode(stat.S_IFDIR | 0o755, os.getuid(), os.getgid())

    # -- attributes

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        inode = self._names[parent_inode].get(name)
        return self._absent if inode is None else self._attributes[inode]

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._attributes[inode]

    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        mine = self._attributes[inode]
        mine.st_ctime_ns = attr.st_ctime_ns if fields.update_ctime else _now()
        if fields.update_size:
            _resize(mine, attr.st_size)
        if fields.update_mode:
            mine.st_mode = stat.S_IFMT(mine.st_mode) | stat.S_IMODE(attr.st_mode)
        if fields.update_uid:
            mine.st_uid = attr.st_uid
        if fields.update_gid:
            mine.st_gid = attr.st_gid
        if fields.update_atime:
            mine.st_atime_ns = attr.st_atime_ns
        if fields.update_mtime:
            mine.st_mtime_ns = attr.st_mtime_ns
        return mine

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, _ in inode_list:
            if self._attributes[inode].st_nlink == 0:
                del self._attributes[inode]
                self._names.pop(inode, None)

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        answer = StatvfsData()
        answer.f_bsize = answer.f_frsize = 4096
        answer.f_blocks = answer.f_bfree = answer.f_bavail = 1 << 34
        answer.f_files = answer.f_ffree = answer.f_favail = 1 << 30
        answer.f_namemax = 255
        return answer

    # -- names

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        made = self._add(parent_inode, name, mode, ctx)
        self._attributes[parent_inode].st_nlink += 1
        return made

    async def create(
        self,
        parent_inode: int,
        name: bytes,
        mode: int,
        flags: int,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        made = self._add(parent_inode, name, mode, ctx)
        return FileInfo(fh=made.st_ino, keep_cache=True), made

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._remove(parent_inode, name)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._remove(parent_inode, name)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        old, new = self._names[parent_inode_old], self._names[parent_inode_new]
        if flags:
            raise FUSEError(errno.EINVAL)
        if name_old not in old:
            raise FUSEError(errno.ENOENT)
        if name_new in new:
            if old[name_old] == new[name_new]:
                return
            self._remove(parent_inode_new, name_new)
        inode = new[name_new] = old.pop(name_old)
        if inode in self._names:
            self._attributes[parent_inode_old].st_nlink -= 1
            self._attributes[parent_inode_new].st_nlink += 1
        self._attributes[inode].st_ctime_ns = _now()
        self._touch(parent_inode_old)
        self._touch(parent_inode_new)

    # -- listings

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        self._last_listing += 1
        self._listings[self._last_listing] = list(self._names[inode].items())
        return self._last_listing

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self._listings[fh]
        for position in range(start_id, len(listing)):
            name, inode = listing[position]
            attributes = self._attributes.get(inode)
            if attributes is not None and not pyfuse3.readdir_reply(token, name, attributes, position + 1):
                return

    async def releasedir(self, fh: int) -> None:
        del self._listings[fh]

    # -- content

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        if flags & os.O_TRUNC:
            _resize(self._attributes[inode], 0)
        return FileInfo(fh=inode, keep_cache=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return _ZEROS[: max(0, min(size, self._attributes[fh].st_size - off))]

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        attributes = self._attributes[fh]
        if off + len(buf) > attributes.st_size:
            _resize(attributes, off + len(buf))
        return len(buf)

    async def flush(self, fh: int) -> None:
        """Answered, not left to ENOSYS: a filesystem that has errors to report at close needs this request."""

    async def fsync(self, fh: int, datasync: bool) -> None:
        """Nothing to write."""

    async def release(self, fh: int) -> None:
        """Nothing to let go."""

    # -- inside

    def _new_inode(self, mode: int, uid: int, gid: int) -> EntryAttributes:
        self._last_inode += 1
        made = EntryAttributes()
        made.st_ino = self._last_inode
        made.st_mode, made.st_uid, made.st_gid = mode, uid, gid
        made.st_blksize = 128 << 10
        made.entry_timeout = made.attr_timeout = _FOREVER
        made.st_atime_ns = made.st_mtime_ns = made.st_ctime_ns = _now()
        made.st_nlink = 1
        if stat.S_ISDIR(mode):
            made.st_nlink = 2
            self._names[made.st_ino] = {}
        self._attributes[made.st_ino] = made
        return made

    def _add(self, parent: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        names = self._names[parent]
        if name in names:
            raise FUSEError(errno.EEXIST)
        made = self._new_inode(mode & ~ctx.umask, ctx.uid, ctx.gid)
        names[name] = made.st_ino
        self._touch(parent)
        return made

    def _remove(self, parent: int, name: bytes) -> None:
        names = self._names[parent]
        inode = names.get(name)
        if inode is None:
            raise FUSEError(errno.ENOENT)
        if self._names.get(inode):
            raise FUSEError(errno.ENOTEMPTY)
        del names[name]
        if inode in self._names:
            self._attributes[parent].st_nlink -= 1
        self._attributes[inode].st_nlink = 0
        self._touch(parent)

    def _touch(self, inode: int) -> None:
        attributes = self._attributes[inode]
        attributes.st_mtime_ns = attributes.st_ctime_ns = _now()


def _now() -> int:
    return time.clock_gettime_ns(_KERNEL_FILE_CLOCK)


def _resize(attributes: EntryAttributes, size: int) -> None:
    attributes.st_size = size
    attributes.st_blocks = (size + 511) >> 9
    attributes.st_mtime_ns = attributes.st_ctime_ns = _now()


def main() -> None:
    """Serve the mount point given as the only argument, until it is unmounted."""
    pyfuse3.init(NullFilesystem(), sys.argv[1], {*pyfuse3.default_options, "fsname=null"})
    gc.collect()
    gc.freeze()
    try:
        trio.run(pyfuse3.main, 1, 1)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main()
