"""What a directory may look like after a crash, from the ledger of the one program that worked in it.

Every step leads from one state to the next. A crash finds the directory as it was at one instant (P34): in one of
these states, and none before the last step that was durable when it was acknowledged (P32, P33). Two things are
admitted besides: a file that was just being written is *torn*, and a large file that was overwritten in place since
then may hold newer bytes.
"""

import random
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from pathlib import Path

from tests.crash.ledger import Op, Record

LARGE = 64 * 1024
"""Larger files are overwritten in place (P34)."""

GRACE = 5_000_000_000
"""Nanoseconds after which what was closed survives a crash without fsync (P34)."""

BLOCK = 4096

_numbers = count(1_000_000)
"""For new nodes; those that were there at first have smaller ones."""


@lru_cache(maxsize=16)
def content(seed: int, size: int) -> bytes:
    """The bytes that belong to a seed; not kept for long, they are large."""
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True)
class Node:
    """A file, or a directory, whose content is None."""

    content: bytes | None
    mode: int
    mtime_ns: int | None = None
    """None: as it comes."""
    torn: bytes | None = None
    """What it was, while it becomes `content`: each page is the one or the other, and zero where neither came yet."""


@dataclass(frozen=True)
class State:
    """A directory at one instant: what its paths name. Paths that name the same number are hard links."""

    names: dict[str, int] = field(default_factory=dict)
    nodes: dict[int, Node] = field(default_factory=dict)

    def at(self, path: str) -> Node:
        """What a path names."""
        return self.nodes[self.names[path]]

    def files(self) -> list[str]:
        """The paths of files."""
        return [path for path, number in self.names.items() if self.nodes[number].content is not None]

    def directories(self) -> list[str]:
        """The paths of directories, and the top, which is empty."""
        return ["", *(path for path, number in self.names.items() if self.nodes[number].content is None)]

    def size(self) -> int:
        """Bytes in all files."""
        return sum(len(self.at(path).content or b"") for path in self.files())

    def after(self, op: Op) -> "list[State]":
        """The states that a step leads through; the last is the one it leads to."""
        return _STEPS[op["do"]](self, op)

    def named(self, path: str, node: Node) -> "State":
        """With a new node at a path."""
        number = next(_numbers)
        return State({**self.names, path: number}, {**self.nodes, number: node})

    def changed(self, path: str, node: Node) -> "State":
        """With another node behind a path, and all names of the same."""
        return State(self.names, {**self.nodes, self.names[path]: node})

    def without(self, path: str) -> "State":
        """Without a name."""
        names = {name: number for name, number in self.names.items() if name != path}
        kept = set(names.values())
        return State(names, {number: node for number, node in self.nodes.items() if number in kept})


def _becomes(state: State, path: str, old: bytes, new: bytes) -> list[State]:
    """A file is given new content, page by page."""
    node = replace(state.at(path), content=new, mtime_ns=None)
    return [state.changed(path, replace(node, torn=old)), state.changed(path, node)]


def _write(state: State, op: Op) -> list[State]:
    path = op["path"]
    if path not in state.names:
        state = state.named(path, Node(b"", 0o644))
    return _becomes(state, path, b"", content(op["seed"], op["size"]))


def _append(state: State, op: Op) -> list[State]:
    old = state.at(op["path"]).content or b""
    return _becomes(state, op["path"], old, old + content(op["seed"], op["size"]))


def _overwrite(state: State, op: Op) -> list[State]:
    old, piece, at = state.at(op["path"]).content or b"", content(op["seed"], op["size"]), op["offset"]
    new = old[:at] + piece + old[at + len(piece) :]
    return _becomes(state, op["path"], old, new)


def _truncate(state: State, op: Op) -> list[State]:
    old = state.at(op["path"]).content or b""
    new = old[: op["size"]].ljust(op["size"], b"\0")
    return _becomes(state, op["path"], old, new)[-1:]


def _rename(state: State, op: Op) -> list[State]:
    old, new = op["path"], op["to"]
    if state.names.get(old) == state.names.get(new):
        return [state]  # two names of one file: rename(2) does nothing
    state = state.without(new)
    return [State({_under(path, old, new): number for path, number in state.names.items()}, state.nodes)]


def _under(path: str, old: str, new: str) -> str:
    return new + path[len(old) :] if path == old or path.startswith(old + "/") else path


def _link(state: State, op: Op) -> list[State]:
    return [State({**state.names, op["to"]: state.names[op["path"]]}, state.nodes)]


def _dress(state: State, op: Op) -> list[State]:
    one = state.changed(op["path"], replace(state.at(op["path"]), mode=op["mode"]))
    return [one, one.changed(op["path"], replace(one.at(op["path"]), mtime_ns=op["mtime_ns"]))]


_STEPS: dict[str, Callable[[State, Op], list[State]]] = {
    "write": _write,
    "append": _append,
    "overwrite": _overwrite,
    "truncate": _truncate,
    "rename": _rename,
    "link": _link,
    "dress": _dress,
    "unlink": lambda state, op: [state.without(op["path"])],
    "rmdir": lambda state, op: [state.without(op["path"])],
    "mkdir": lambda state, op: [state.named(op["path"], Node(None, 0o755))],
    "sync": lambda state, op: [state],
    "commit": lambda state, op: [state],
}


@dataclass(frozen=True)
class Found:
    """What lies at a path."""

    content: bytes | None
    mode: int
    mtime_ns: int
    inode: int
    links: int


def scan(top: Path) -> dict[str, Found]:
    """Everything below a directory, in the order of paths."""
    found = {}
    for path in sorted(top.rglob("*")):
        of = path.lstat()
        try:
            raw = path.read_bytes() if stat.S_ISREG(of.st_mode) else None
        except OSError as error:
            raise AssertionError(f"{path}: expected {of.st_size} bytes, found {error}") from error
        found[str(path.relative_to(top))] = Found(raw, stat.S_IMODE(of.st_mode), of.st_mtime_ns, of.st_ino, of.st_nlink)
    return found


def state_of(found: dict[str, Found]) -> State:
    """A state that was found, to go on from."""
    names: dict[str, int] = {}
    nodes: dict[int, Node] = {}
    numbers: dict[int, int] = {}
    for path, row in found.items():
        number = numbers.setdefault(row.inode, len(numbers) + 1)
        names[path] = number
        nodes[number] = Node(row.content, row.mode, row.mtime_ns if row.content is not None else None)
    return State(names, nodes)


@dataclass
class History:
    """The states that a crash may find, the first being durable, and when each came."""

    states: list[State]
    begun: list[int]
    """When the step to a state began: it is never found earlier."""
    ended: list[int | None]
    """When the step to a state was acknowledged: it is there from then on."""
    inodes: dict[int, int]
    """What is known of nodes' inode numbers."""
    large: set[int] = field(default_factory=set)
    """Nodes that were ever large."""
    commits: "dict[str, tuple[State, Record]]" = field(default_factory=dict)
    """By message: what a commit that was asked for holds."""

    def must_be(self, crash: int) -> int:
        """The first state that a crash at that time may find."""
        old = [at for at, ended in enumerate(self.ended) if ended is not None and ended < crash - GRACE]
        return max(old, default=0)

    def span(self, at: int) -> tuple[int, float]:
        """From when to when a state may have been what a crash found."""
        following = self.ended[at + 1] if at + 1 < len(self.ended) else None
        return self.begun[at], float("inf") if following is None else following


def replay(records: Iterable[Record], base: dict[str, Found]) -> History:
    """What a crash may find, after what a ledger holds, in a directory that looked so at first."""
    start = state_of(base)
    history = History([start], [0], [0], {start.names[path]: row.inode for path, row in base.items()})
    for record in records:
        if record.op["do"] == "commit":
            history.commits[record.op["message"]] = history.states[-1], record
        steps = history.states[-1].after(record.op)
        history.states += steps
        history.begun += [record.begun] * len(steps)
        history.ended += [None] * (len(steps) - 1) + [record.ended]
        for state in steps:
            history.large |= {
                number for number, node in state.nodes.items() if node.content and len(node.content) > LARGE
            }
        if "inode" in record.said:
            history.inodes[history.states[-1].names[record.op["path"]]] = record.said["inode"]
        if record.said.get("durable"):
            del history.states[:-1], history.begun[:-1], history.ended[:-1]
    # A step between that has an acknowledged one after it was over by then, too.
    after: int | None = None
    for at in reversed(range(len(history.ended))):
        history.ended[at] = after = history.ended[at] if history.ended[at] is not None else after
    return history


def differences(history: History, at: int, found: dict[str, Found]) -> Iterator[str]:
    """How what was found is not a state: `path: expected ..., found ...`."""
    state = history.states[at]
    for path in sorted(state.names.keys() | found.keys()):
        if path not in found:
            yield f"{path}: expected {_said(state.at(path))}, found nothing"
        elif path not in state.names:
            yield f"{path}: expected nothing, found {_said(found[path])}"
        else:
            yield from (f"{path}: {text}" for text in _of_path(history, at, path, found[path]))


def _of_path(history: History, at: int, path: str, found: Found) -> Iterator[str]:
    state = history.states[at]
    number = state.names[path]
    node = state.nodes[number]
    if (node.content is None) != (found.content is None):
        yield f"expected {_said(node)}, found {_said(found)}"
        return
    if found.content is not None and not _admitted(history, at, number, found.content):
        yield f"expected {_said(node)}, found {_said(found)}{_where(node.content or b'', found.content)}"
    if node.mode != found.mode:
        yield f"expected mode {node.mode:o}, found {found.mode:o}"
    if node.mtime_ns not in (None, found.mtime_ns):
        yield f"expected mtime {node.mtime_ns}, found {found.mtime_ns}"
    if (known := history.inodes.get(number)) not in (None, found.inode):
        yield f"expected inode {known}, found {found.inode}"
    links = sum(other == number for other in state.names.values())
    if found.content is not None and links != found.links:
        yield f"expected {links} links, found {found.links}"


def _admitted(history: History, at: int, number: int, found: bytes) -> bool:
    node = history.states[at].nodes[number]
    whole = node.content or b""
    if node.torn is None and found == whole:
        return True
    layers, least = [whole], len(whole)
    if node.torn is not None:
        layers.append(node.torn.ljust(len(whole), b"\0"))
        least = len(node.torn)
    if number in history.large:
        for later in (state.nodes.get(number) for state in history.states[at + 1 :]):
            layers += [] if later is None else [later.content or b"", later.torn or b""]
    return least <= len(found) <= len(whole) and _made_of(found, layers)


def _made_of(found: bytes, layers: list[bytes]) -> bool:
    """Whether each byte is the one that some layer has there."""
    for start in range(0, len(found), BLOCK):
        piece = found[start : start + BLOCK]
        pieces = [layer[start : start + len(piece)] for layer in layers]
        if piece not in pieces and not all(
            any(at < len(other) and other[at] == byte for other in pieces) for at, byte in enumerate(piece)
        ):
            return False
    return True


def _said(what: Node | Found) -> str:
    if what.content is None:
        return "a directory"
    return f"{len(what.content)} bytes {what.content[:8].hex()}..."


def _where(expected: bytes, found: bytes) -> str:
    if len(expected) != len(found):
        return ""
    block = next((at for at in range(0, len(found), 8) if expected[at : at + 8] != found[at : at + 8]), 0)
    return (
        f", differing at {block}: expected {expected[block : block + 8].hex()}, found {found[block : block + 8].hex()}"
    )


def instant(histories: dict[str, History], found: dict[str, dict[str, Found]], crash: int) -> None:
    """The directories of one branch are as they were at one instant; raises AssertionError otherwise."""
    spans: dict[str, list[tuple[int, float]]] = {}
    for directory, history in histories.items():
        tried = {
            at: list(differences(history, at, found[directory]))
            for at in range(history.must_be(crash), len(history.states))
        }
        spans[directory] = [history.span(at) for at, differing in tried.items() if not differing]
        if not spans[directory]:
            nearest = min(tried, key=lambda at: len(tried[at]))
            text = "\n  ".join(tried[nearest][:8])
            raise AssertionError(
                f"{directory} is in none of the {len(tried)} states that a crash may leave;"
                f" least unlike number {nearest}:\n  {directory}/{text}"
            )
    starts = [start for some in spans.values() for start, _ in some]
    assert not spans or any(
        all(any(start <= moment <= end for start, end in some) for some in spans.values()) for moment in starts
    ), f"the directories of a branch are each as they were, but at no common instant: {spans}"
