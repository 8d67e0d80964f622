"""The walk: all that versions and working trees name, down to chunks, and which paths of which versions are hit.

Each node is read once. When something is damaged, or is not there, the paths are found from the bottom up: what a
thing takes with it is the same wherever that thing is named.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from anabranch.errors import DamagedError
from anabranch.fsck.findings import Finding, Hit, Sort, Tally, Thing
from anabranch.ids import ObjectId
from anabranch.repo import Repository
from anabranch.store.meta import LOGS
from anabranch.versions import xattrs
from anabranch.versions.manifests import ZERO, Stored, decode_piece
from anabranch.versions.objects import ENTRY, LINK_ID_SIZE, LINK_ROW, Entry, EntryKind, Form, get_commit
from anabranch.versions.prolly import NodeStore
from anabranch.versions.refs import LOG_ROW, log_name, log_number
from anabranch.versions.walks import joined

PATHS = 1_000
"""So many paths of one damaged thing are told at most."""


class Named(NamedTuple):
    """Something that another thing names: at a path below that, which is empty inside one directory or file."""

    thing: Thing
    path: bytes = b""


class Walk:
    """Over one repository. `known` has what is damaged as far as others saw: by id, and why."""

    def __init__(self, repository: Repository, known: Mapping[bytes, str], *, deep: bool) -> None:
        self._repository = repository
        self._known = known
        self._deep = deep
        self._broken: dict[Thing, str] = {}
        self._links: dict[Thing, bytes] = {}
        self._below: dict[Sort, Callable[[ObjectId], Iterator[Named]]] = {
            Sort.COMMIT: self._commit, Sort.TREE: self._tree, Sort.LINKS: self._link_tree,
            Sort.MANIFEST: self._manifest, Sort.XATTRS: self._xattrs, Sort.CHUNK: self._chunk,
        }  # fmt: skip

    def run(self, working: Mapping[str, list[Named]]) -> Iterator[Finding | Tally]:
        """Everything that versions name, and what working trees do: by what each is called."""
        versions = self._versions()
        yield Tally(versions=len(versions))
        named = [item.thing for items in working.values() for item in items]
        self._visit([*(Thing(Sort.COMMIT, commit) for commit in versions), *named])
        if not self._broken:
            return
        hits = self._hits(versions, working)
        for thing, why in self._broken.items():
            by_versions: dict[tuple[str, ...], list[bytes]] = defaultdict(list)
            for path, where in hits[thing].items():
                by_versions[tuple(where)].append(path)
            found = [Hit(path, where) for where, paths in by_versions.items() for path in sorted(paths)]
            yield Finding("history", why, thing, hits=found)

    def _versions(self) -> dict[bytes, list[str]]:
        """The names of each commit that a log has, in order."""
        found: dict[bytes, list[str]] = defaultdict(list)
        for key, sealed in self._repository.meta.scan(LOGS):
            try:
                row = LOG_ROW.unseal(sealed, "a row of a log")
            except DamagedError:  # has been told
                continue
            found[row.commit] += [] if row.ends else [f"{log_name(key).decode(errors='replace')}@{log_number(key)}"]
        return found

    # --- down: what is damaged ---

    def _visit(self, roots: list[Thing]) -> None:
        seen, todo = set(roots), roots
        while todo:
            for below, _ in self._named(todo.pop()):
                if below.sort is Sort.CHUNK:  # too many to be remembered
                    self._named(below)
                elif below not in seen:
                    seen.add(below)
                    todo.append(below)

    def _named(self, thing: Thing) -> list[Named]:
        """What a thing names; nothing, if it is damaged, which is noted."""
        if thing in self._broken:
            return []
        try:
            if (why := self._known.get(thing.id)) is not None:
                raise DamagedError(why)
            return list(self._below[thing.sort](ObjectId(thing.id)))
        except DamagedError as error:
            self._broken[thing] = error.message
            return []

    def _commit(self, identity: ObjectId) -> Iterator[Named]:
        commit = get_commit(self._repository.objects, identity)
        yield from self._entry(commit.root, b"")
        yield Named(Thing(Sort.LINKS, commit.links))

    def _tree(self, identity: ObjectId) -> Iterator[Named]:
        nodes = self._repository.trees.nodes
        for key, value in self._rows(nodes, identity, Sort.TREE):
            if isinstance(value, Thing):
                yield Named(value)
            else:
                yield from self._entry(ENTRY.decode(value), key)

    def _link_tree(self, identity: ObjectId) -> Iterator[Named]:
        for key, value in self._rows(self._repository.trees.link_nodes, identity, Sort.LINKS):
            if isinstance(value, Thing):
                yield Named(value)
            elif len(key) == LINK_ID_SIZE:
                yield from self._entry(LINK_ROW.decode(value).entry, b"/" + key)

    def _manifest(self, identity: ObjectId) -> Iterator[Named]:
        for key, value in self._rows(self._repository.contents.manifests.nodes, identity, Sort.MANIFEST):
            if isinstance(value, Thing):
                yield Named(value)
            elif decode_piece((key, value)).chunk != ZERO:
                yield Named(Thing(Sort.CHUNK, key))

    def _rows(
        self, nodes: NodeStore[bytes] | NodeStore[int], identity: ObjectId, sort: Sort
    ) -> Iterator[tuple[bytes, bytes | Thing]]:
        """The rows of a leaf; of a node above, the children, each of which stands where it should."""
        node = nodes.get(identity)
        for index, (key, value) in enumerate(node.rows):
            if node.level == 0:
                yield key, value
                continue
            child = Thing(sort, node.children[index])
            try:
                nodes.child(node, index)  # type: ignore[arg-type]  # the store's own node, of whichever sort
            except DamagedError as error:
                self._broken.setdefault(child, error.message)
            yield key, child

    def _entry(self, entry: Entry, name: bytes) -> Iterator[Named]:
        if entry.kind is EntryKind.DIRECTORY:
            yield Named(Thing(Sort.TREE, entry.tree), name)
            if self._deep and self._repository.trees.directory(entry, entry.tree) != entry:
                raise DamagedError(f"the sums of directory {name!r} are wrong")
        if entry.kind is EntryKind.FILE:
            yield from content_of(Stored(entry.size, entry.form, entry.content), name)
        if (held := xattrs.of(entry)).object:
            yield Named(Thing(Sort.XATTRS, held.object), name)

    def _xattrs(self, identity: ObjectId) -> Iterator[Named]:
        self._repository.contents.xattrs(xattrs.Xattrs(object=identity))
        yield from ()

    def _chunk(self, identity: ObjectId) -> Iterator[Named]:
        if not self._repository.chunks.has(identity):
            raise DamagedError(f"chunk {identity.hex()} is missing")
        yield from ()

    # --- up: which paths are hit ---

    def _hits(
        self, versions: Mapping[bytes, list[str]], working: Mapping[str, list[Named]]
    ) -> dict[Thing, dict[bytes, list[str]]]:
        """Of each damaged thing the paths that it takes with it, and in which versions."""
        hits: dict[Thing, dict[bytes, list[str]]] = {thing: defaultdict(list) for thing in self._broken}
        memo: dict[Thing, list[Named]] = {}
        for commit, names in versions.items():
            for damaged, path in self._hit_by(Thing(Sort.COMMIT, commit), memo):
                for shown in self._paths(commit, path):
                    hits[damaged][shown] += names
        for name, items in working.items():
            for thing, path in items:
                for damaged, below in self._hit_by(thing, memo):
                    if (full := joined(path, below)) not in hits[damaged]:  # else it is what a version has there
                        hits[damaged][full].append(name)
        return hits

    def _hit_by(self, root: Thing, memo: dict[Thing, list[Named]]) -> list[Named]:
        """The damaged things below one, with their paths from there. From the bottom up, since paths may be deep."""
        todo = [(root, False)]
        while todo:
            thing, ready = todo.pop()
            if ready:
                below = ((path, memo.get(child, ())) for child, path in self._named(thing))
                found = (Named(item.thing, joined(path, item.path)) for path, items in below for item in items)
                memo[thing] = list(_some_of_each(dict.fromkeys(found)))
            elif thing in self._broken:
                memo[thing] = [Named(thing)]
            elif thing not in memo and thing.sort is not Sort.CHUNK:
                memo[thing] = []  # what names itself, through others, adds nothing
                todo.append((thing, True))
                todo += [(child, False) for child, _ in self._named(thing)]
        return memo.get(root, [])

    def _paths(self, commit: bytes, path: bytes) -> list[bytes]:
        """A path; or of a hard-linked file, which goes by its link id, all its names in a version."""
        if not path.startswith(b"/"):
            return [path]
        links = ObjectId(get_commit(self._repository.objects, ObjectId(commit)).links)
        try:
            return list(self._repository.trees.link_names(links, path[1:]))
        except DamagedError:
            return [b""]


def _some_of_each(found: Iterable[Named]) -> Iterator[Named]:
    """At most so many paths of one thing."""
    told: Counter[Thing] = Counter()
    for named in found:
        told[named.thing] += 1
        if told[named.thing] <= PATHS:
            yield named


def content_of(stored: Stored, path: bytes) -> Iterator[Named]:
    """What a file's content names."""
    if stored.form is Form.CHUNK:
        yield Named(Thing(Sort.CHUNK, stored.content), path)
    elif stored.form is Form.MANIFEST:
        yield Named(Thing(Sort.MANIFEST, stored.content), path)
