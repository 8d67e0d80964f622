"""The area of the mount's root: its names are branches, versions, tags and commits; `mkdir`, `mv`, `rmdir` on it
make, rename and delete branches.
"""

import contextlib
import errno
import re
from collections.abc import Callable, Iterable

from anabranch.errors import AnabranchError, DamagedError, NotFoundError, RefusedError, UsageError
from anabranch.fuse.areas import FOREVER, NEVER, ROOT, VERSION_BITS, Area, Found, Item
from anabranch.fuse.branches import BranchArea
from anabranch.fuse.control import of_branch, of_root
from anabranch.fuse.handles import Handles
from anabranch.fuse.history import VersionsArea
from anabranch.fuse.outcomes import Outcome
from anabranch.fuse.stats import DaemonStats
from anabranch.ids import CONTROL_NAME, AtTime, Head, Numbered, ObjectId, Prefix, RefName, parse_revision, ref_name
from anabranch.repo import Repository, user_name
from anabranch.store.records import hash_name
from anabranch.versions.objects import EntryKind
from anabranch.versions.refs import Who
from anabranch.versions.trees import Version
from anabranch.worktree.inodes import DIRECTORY_SIZE, Attributes, Inode, now_ns
from anabranch.worktree.tree import RENAME_EXCHANGE, failure

_FULL_ID = re.compile(rb"@[0-9a-f]{64}")


class RootArea(Area):
    """The mount's root directory."""

    def __init__(self, repository: Repository, handles: Handles) -> None:
        self._repository = repository
        self._handles = handles
        self._versions = VersionsArea(repository.contents)
        self._branches: dict[RefName, BranchArea] = {}
        self._links: dict[Inode, bytes] = {}
        self.outcomes: dict[Area, Outcome] = {}
        owner = repository.layout.path.stat()
        self._attributes = Attributes(
            ROOT, EntryKind.DIRECTORY, 0o755, owner.st_uid, owner.st_gid, DIRECTORY_SIZE, now_ns(), now_ns(), 2
        )
        self._outcome = Outcome()
        self._control = of_root(repository, self._attributes, self._outcome, DaemonStats(repository, handles))

    def branch(self, name: RefName) -> BranchArea:
        """The area of a branch. Raises NotFoundError."""
        area = self._branches.get(name)
        if area is None:
            branch = self._repository.branch(name)
            outcome = Outcome()
            area = self._branches[name] = BranchArea(branch, of_branch(self._repository, branch, outcome))
            self.outcomes[area] = outcome
        return area

    def branch_of(self, control: Area) -> BranchArea:
        """The branch whose control directory this is. Raises ENOENT when it was deleted."""
        for area in self._branches.values():
            if area.control is control:
                return area
        raise failure(errno.ENOENT)

    def open_branch(self, name: bytes) -> BranchArea | None:
        """The area of a branch that somebody has looked at."""
        return self._branches.get(RefName(name.decode(errors="replace")))

    # --- looking ---

    def getattr(self, ino: Inode) -> Found:
        if ino != ROOT:
            return self._link(ino)
        with contextlib.suppress(DamagedError):  # the way to all that is not damaged leads through here
            self._attributes.links = 2 + len(self._repository.branch_names())
        return Found(self, self._attributes)

    def lookup(self, parent: Inode, name: bytes) -> Found:
        if parent != ROOT:
            raise failure(errno.ENOTDIR)
        if name == CONTROL_NAME:
            return self._control.directory()
        try:
            text = name.decode()
            if _FULL_ID.fullmatch(name):
                return self._commit(name, ObjectId(bytes.fromhex(text[1:])))
            revision = parse_revision(text)
        except (UnicodeDecodeError, UsageError):
            raise failure(errno.ENOENT) from None
        if isinstance(revision, Prefix):
            return self._prefix(name, revision)
        if isinstance(revision, Head):
            return self._head(name, revision, follows="@" in text)
        return self._fixed(name, revision)

    def _head(self, name: bytes, revision: Head, *, follows: bool) -> Found:
        ref = self._repository.refs.find(revision.ref)
        if ref is None:
            raise failure(errno.ENOENT)
        if ref.is_tag:
            return self._versions.root(name, self._version(ref.commit), name_timeout=NEVER)
        if not follows:
            return self.branch(ref.name).root()
        repository = self._repository

        def newest() -> Version:
            return repository.version(repository.refs.get(revision.ref).commit)

        return self._versions.root(name, newest, name_timeout=NEVER, follows=True)

    def _fixed(self, name: bytes, revision: Numbered | AtTime) -> Found:
        _, _, commit = self._repository.refs.resolve(revision)
        timeout = FOREVER if isinstance(revision, Numbered) else NEVER
        return self._versions.root(name, self._version(commit), name_timeout=timeout)

    def _commit(self, name: bytes, commit: ObjectId) -> Found:
        self._repository.refs.resolve(Prefix(commit.hex()))
        return self._versions.root(name, self._version(commit), name_timeout=FOREVER)

    def _prefix(self, name: bytes, revision: Prefix) -> Found:
        _, _, commit = self._repository.refs.resolve(revision)
        target = b"@" + commit.hex().encode()
        ino = Inode(VERSION_BITS | hash_name(name + b"\0" + target, 2) >> 2)
        self._links[ino] = target
        return self._link(ino)

    def _link(self, ino: Inode) -> Found:
        owner, born = self._attributes, self._attributes.mtime_ns
        size = len(self.readlink(ino))
        return Found(
            self, Attributes(ino, EntryKind.SYMLINK, 0o777, owner.uid, owner.gid, size, born, born, 1), NEVER, FOREVER
        )

    def _version(self, commit: ObjectId) -> Callable[[], Version]:
        version = self._repository.version(commit)
        return lambda: version

    def readlink(self, ino: Inode) -> bytes:
        target = self._links.get(ino)
        if target is None:
            raise failure(errno.EINVAL)
        return target

    def forgotten(self, ino: Inode) -> None:
        self._links.pop(ino, None)

    def entries(self, ino: Inode) -> Iterable[Item]:
        if ino != ROOT:
            raise failure(errno.ENOTDIR)
        return [(ref.name.encode(), None) for ref in self._repository.branch_names()]

    def listed(self, ino: Inode, item: Item) -> Found | None:
        try:
            return self.branch(RefName(item[0].decode())).root()
        except NotFoundError:
            return None

    # --- branches as directories ---

    def create(
        self, parent: Inode, name: bytes, kind: EntryKind, mode: int, uid: int, gid: int, *,
        device: int = 0, target: bytes = b"",
    ) -> Found:  # fmt: skip
        """`mkdir` makes a branch from the default branch's last commit; nothing else can be made here."""
        if kind != EntryKind.DIRECTORY:
            raise failure(errno.EPERM)
        with _Said(self._outcome):
            checked = _name(name)
            start = self._repository.refs.get(self._repository.default_branch()).commit
            self._repository.create_branch(checked, start, Who(user_name(uid), "mkdir"))
        self._touch()
        return self.branch(checked).root()

    def rmdir(self, parent: Inode, name: bytes, uid: int) -> None:
        """Delete a branch that is clean and not in use."""
        with _Said(self._outcome):
            self.delete_branch(self._existing(name), Who(user_name(uid), "rmdir"))

    def delete_branch(self, name: RefName, who: Who) -> None:
        """Repository.delete_branch, unless files of it are open. Raises RefusedError."""
        area = self.branch(name)
        if self._handles.open_in(area):
            raise RefusedError(f"files of branch {name} are open")
        self._repository.delete_branch(name, who)
        area.gone = True
        del self._branches[name]
        self._touch()

    def rename(
        self,
        parent: Inode,
        name: bytes,
        new_parent: Inode,
        new_name: bytes,
        flags: int,
        uid: int,
    ) -> None:
        """Give a branch another name; never over another branch."""
        with _Said(self._outcome):
            old = self._existing(name)
            new = _name(new_name)
            if flags & RENAME_EXCHANGE:
                raise OSError(errno.EINVAL, "branches cannot be exchanged")
            self.rename_branch(old, new, Who(user_name(uid), "rename"))

    def rename_branch(self, old: RefName, new: RefName, who: Who) -> None:
        """Repository.rename_branch, for those who look at it, too."""
        area = self.branch(old)
        self._repository.rename_branch(old, new, who)
        del self._branches[old]
        self._branches[new] = area
        self._touch()

    def link(self, ino: Inode, parent: Inode, name: bytes) -> Found:
        raise failure(errno.EPERM)

    def _existing(self, name: bytes) -> RefName:
        """The branch of a name. Versions and tags cannot be renamed or removed here."""
        try:
            ref = self._repository.refs.get(_name(name))
        except UsageError as error:
            raise OSError(errno.EROFS, "versions are read-only") from error
        if ref.is_tag:
            raise OSError(errno.EROFS, f"{ref.name} is a tag")
        return ref.name

    def _touch(self) -> None:
        self._attributes.mtime_ns = self._attributes.ctime_ns = now_ns()


def _name(name: bytes) -> RefName:
    return ref_name(name.decode(errors="surrogateescape"))


class _Said:
    """Keeps the reason of a failure for `.ana/error`; a shell shows only the errno."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def __enter__(self) -> None:
        """Nothing was said yet."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            self._outcome.failed = None
        elif isinstance(error, (AnabranchError, OSError)):
            self._outcome.fail(error)
