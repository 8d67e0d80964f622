"""What is said over the daemon's socket: one request, one reply, then the connection ends. Before the reply to what
takes long, the daemon tells how far it is; a client that shuts its side down meanwhile wants it to end.

A message is its length (4 bytes, little-endian) and MessagePack. The first field of a request is the version of the
protocol: a daemon of another version refuses it by name.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from anabranch.commit import Note
from anabranch.errors import BY_NAME, NO_ROOM, AnabranchError, DaemonError
from anabranch.moves import Move
from anabranch.versions.objects import Entry

VERSION = 5
_LENGTH = struct.Struct("<I")
_MAX = 256 * 1024 * 1024
READ_MAX = 1024 * 1024
"""Bytes that one request reads at most."""


class Commit(msgspec.Struct, tag=True, frozen=True):
    """Commit a branch, or only some paths of it; answers Committed."""

    branch: str
    note: Note
    actor: str
    paths: list[bytes] | None = None
    any_clock: bool = False
    allow_empty: bool = False


class Status(msgspec.Struct, tag=True, frozen=True):
    """The uncommitted changes of a branch; answers a list of Change."""

    branch: str


class Ignored(msgspec.Struct, tag=True, frozen=True):
    """What of a branch stays out of commits; answers a list of paths."""

    branch: str


class Diff(msgspec.Struct, tag=True, frozen=True):
    """The changes from a commit to the working tree of a branch; answers a list of Change."""

    old: bytes
    branch: str


class Look(msgspec.Struct, tag=True, frozen=True):
    """What is at a path of a branch; answers an Entry or nothing."""

    branch: str
    path: bytes


class Listing(msgspec.Struct, tag=True, frozen=True):
    """What is in a directory of a branch; answers a list of name and kind."""

    branch: str
    path: bytes


class Read(msgspec.Struct, tag=True, frozen=True):
    """A range of a file of a branch's working tree, of at most READ_MAX bytes; answers the bytes."""

    branch: str
    path: bytes
    offset: Annotated[int, msgspec.Meta(ge=0)]
    length: Annotated[int, msgspec.Meta(ge=0, le=READ_MAX)]


class CreateBranch(msgspec.Struct, tag=True, frozen=True):
    """Make a branch at a commit; answers Ref."""

    name: str
    start: bytes
    actor: str


class CreateTag(msgspec.Struct, tag=True, frozen=True):
    """Name a commit for good; answers Ref."""

    name: str
    target: bytes
    actor: str


class RenameBranch(msgspec.Struct, tag=True, frozen=True):
    """Give a branch another name; answers nothing."""

    old: str
    new: str
    actor: str


class DeleteBranch(msgspec.Struct, tag=True, frozen=True):
    """Delete a branch; answers nothing."""

    name: str
    actor: str


class DeleteTag(msgspec.Struct, tag=True, frozen=True):
    """Delete a tag; answers nothing."""

    name: str
    actor: str


class BringBack(msgspec.Struct, tag=True, frozen=True):
    """Make a deleted branch again; answers Ref."""

    name: str
    actor: str


class Put(msgspec.Struct, tag=True, frozen=True):
    """Make records of chunks, and rows of objects, durable; answers nothing."""

    chunks: list[bytes] = []
    objects: list[tuple[bytes, bytes]] = []


class Restore(msgspec.Struct, tag=True, frozen=True):
    """Put into a branch what a version holds at some paths; answers Restored. The version need not be committed: its
    root and its link tree were put before.
    """

    branch: str
    root: Entry
    links: bytes
    paths: list[bytes]
    new_too: bool = False
    kept: list[bytes] = []


class MoveBranch(msgspec.Struct, tag=True, frozen=True):
    """Let a branch go to a commit that was put before; answers Moved."""

    branch: str
    move: Move
    actor: str


class SetConfig(msgspec.Struct, tag=True, frozen=True):
    """Change a setting, or without a value go back to its default; answers Setting."""

    key: str
    value: str | None
    actor: str


class Ping(msgspec.Struct, tag=True, frozen=True):
    """Answers nothing: for who wants to know whether the daemon does."""


class Pin(msgspec.Struct, tag=True, frozen=True):
    """Hold what is not committed still on disk for a copy. First comes Pinned; the client says a byte when it has its
    snapshot of the meta environment, and shuts its side down when it has copied the overlay files; that is answered by
    nothing, or by what was not held.
    """


Request = (
    Commit | Status | Ignored | Diff | Look | Listing | Read | CreateBranch | CreateTag | RenameBranch | DeleteBranch
    | DeleteTag | BringBack | Put | Restore | MoveBranch | SetConfig | Ping | Pin
)  # fmt: skip


READS = (Status, Ignored, Diff, Look, Listing, Read, Ping)
"""What changes nothing."""


def is_decisive(request: Request) -> bool:
    """Whether a request changes what others see: then Ctrl-C must not leave anybody in doubt."""
    return not isinstance(request, (*READS, Put))


class Envelope(msgspec.Struct, frozen=True):
    """A request as it travels."""

    version: int
    request: msgspec.Raw


class Working(msgspec.Struct, tag=True, frozen=True):
    """How far a request is, in bytes: the reply comes later."""

    done: int
    total: int


class Reply(msgspec.Struct, tag=True, frozen=True):
    """An answer: the encoded result, or the class, message and hint of an error."""

    result: msgspec.Raw = msgspec.Raw(b"\xc0")
    error: str = ""
    message: str = ""
    hint: str | None = None


class Pinned(msgspec.Struct, tag=True, frozen=True):
    """The meta environment and the overlay files are of one instant now."""


_request: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_envelope = msgspec.msgpack.Decoder(Envelope)
_reply: msgspec.msgpack.Decoder[Reply | Working | Pinned] = msgspec.msgpack.Decoder(Reply | Working | Pinned)


def encode_request(request: Request) -> bytes:
    """A request, ready to send."""
    return msgspec.msgpack.encode(Envelope(VERSION, msgspec.Raw(msgspec.msgpack.encode(request))))


def decode_request(message: bytes) -> Request:
    """Read a request. Raises DaemonError."""
    try:
        envelope = _envelope.decode(message)
        if envelope.version != VERSION:
            raise DaemonError(
                f"the daemon speaks version {VERSION} of its protocol, the command version {envelope.version}",
                hint="unmount and mount again with the installed version",
            )
        return _request.decode(envelope.request)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DaemonError(f"the daemon cannot read the request: {error}") from error


def encode_reply(result: object) -> bytes:
    """A good answer, ready to send."""
    return msgspec.msgpack.encode(Reply(msgspec.Raw(msgspec.msgpack.encode(result))))


def encode_error(error: AnabranchError | OSError) -> bytes:
    """A bad answer, ready to send."""
    if isinstance(error, AnabranchError):
        name = type(error).__name__ if type(error).__name__ in BY_NAME else "AnabranchError"
        return msgspec.msgpack.encode(Reply(error=name, message=error.message, hint=error.hint))
    hint = NO_ROOM if error.errno == errno.ENOSPC else None
    return msgspec.msgpack.encode(Reply(error="AnabranchError", message=error.strerror or str(error), hint=hint))


def encode_working(done: int, total: int) -> bytes:
    """How far a request is, ready to send."""
    return msgspec.msgpack.encode(Working(done, total))


def encode_pinned() -> bytes:
    """That all is held still, ready to send."""
    return msgspec.msgpack.encode(Pinned())


def decode_reply(message: bytes) -> msgspec.Raw | Working | Pinned:
    """The result in an answer, or what comes before it; an error in it is raised."""
    try:
        reply = _reply.decode(message)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DaemonError(f"the daemon's answer cannot be read: {error}") from error
    if isinstance(reply, Working | Pinned):
        return reply
    if reply.error:
        raise BY_NAME.get(reply.error, AnabranchError)(reply.message, hint=reply.hint)
    return reply.result


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """A name for a socket's path that fits into its address (108 bytes), however long the path is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def send(connection: socket.socket, message: bytes) -> None:
    """Send one message."""
    connection.sendall(_LENGTH.pack(len(message)) + message)


def receive(connection: socket.socket) -> bytes:
    """Receive one message. Raises DaemonError when it does not come whole."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > _MAX:
        raise DaemonError(f"a message of {length} bytes is too long")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = connection.recv(min(length - len(data), 1 << 20))
        if not part:
            raise DaemonError("the connection ended in the middle of a message", hint="the daemon's log may say why")
        data += part
    return bytes(data)
