"""The daemon's socket: a thread that accepts, a thread for each connection; `handle` answers."""

import contextlib
import logging
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from anabranch.daemon.protocol import (
    Request,
    decode_request,
    encode_error,
    encode_pinned,
    encode_reply,
    encode_working,
    receive,
    send,
    short_address,
)
from anabranch.errors import AnabranchError, DaemonError, DeniedError, RefusedError
from anabranch.store.layout import OTHERS

log = logging.getLogger(__name__)

_PAUSE = 0.1
"""Seconds to wait when a connection cannot be taken, for want of descriptors perhaps."""
_EVERY = 0.1
"""Seconds between two words on how far a request is."""
_TIMEOUT = 30.0
"""Seconds that a client may take to say what it wants."""
_PEER = struct.Struct("iII")
"""Process, user and group at the other end: struct ucred, unix(7)."""


class Caller:
    """Who waits for an answer."""

    def __init__(self, connection: socket.socket, stay: Callable[[], None]) -> None:
        self._connection = connection
        self.stay = stay
        """From here on, the end of the server need not wait for the answer. Raises RefusedError after it."""
        self._gone = select.poll()
        self._gone.register(connection, select.POLLIN | select.POLLRDHUP)
        self._writable = select.poll()
        self._writable.register(connection, select.POLLOUT)
        self._told = time.monotonic()

    def tell(self, done: int, total: int) -> None:
        """Say how far a request is. Raises RefusedError when nobody waits for it any more."""
        if self._gone.poll(0):  # a client says nothing after its request
            raise RefusedError("whoever asked for it has gone; nothing was done")
        now = time.monotonic()
        if total and now - self._told >= _EVERY and self._writable.poll(0):  # who does not listen holds nobody up
            self._told = now
            with contextlib.suppress(OSError):  # the next call finds out
                send(self._connection, encode_working(done, total))

    def fileno(self) -> int:
        """The connection's, to wait for what the client says next, or for its going."""
        return self._connection.fileno()

    def say_pinned(self) -> None:
        """Say that all is held still. Raises OSError when nobody is there."""
        send(self._connection, encode_pinned())

    def has_answered(self) -> bool:
        """Whether the client has said something more; at once."""
        try:
            return bool(self._gone.poll(0)) and self._connection.recv(1) != b""
        except OSError:
            return False


class Server:
    """Listens until it is closed. `handle` is called in a thread of the connection's own and returns the result."""

    def __init__(self, path: Path, handle: Callable[[Request, Caller], object]) -> None:
        self._path = path
        self._handle = handle
        self._closed = False
        self._clients: set[threading.Thread] = set()
        self._silent: set[socket.socket] = set()
        """Connections that the end does not wait for: nothing was asked yet, or something is held for them."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)  # the lock is ours, so whoever listened here is dead
        with short_address(path) as address:
            self._socket.bind(address)
        path.chmod(0o600)
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True, name="socket").start()

    def close(self) -> None:
        """Stop listening; returns when everybody who has asked was answered. `handle` must still work meanwhile."""
        self._closed = True
        self._path.unlink(missing_ok=True)
        for waiting in (self._socket, *self._silent.copy()):
            with contextlib.suppress(OSError):
                waiting.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for client in self._clients.copy():
            client.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if self._closed:
                    return
                log.error("a client could not be accepted: %s", error)
                time.sleep(_PAUSE)
                continue
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        client = threading.Thread(target=self._serve, args=(connection,), daemon=True, name="client")
        self._clients.add(client)
        self._silent.add(connection)
        try:
            client.start()
        except Exception as error:  # no more threads, or no memory: for him alone
            log.error("a client could not be served: %s", error)
            self._clients.discard(client)
            self._silent.discard(connection)
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_TIMEOUT)
                if (denied := _denied(connection)) is not None:
                    send(connection, denied)
                    return
                request = receive(connection)
                self._silent.discard(connection)
                reply = self._reply(request, Caller(connection, partial(self._stay, connection)))
                send(connection, reply)  # who does not read it keeps nobody waiting for long
        except (OSError, DaemonError) as error:
            if not self._closed:
                log.warning("a client went away: %s", error)
        except Exception:
            log.exception("BUG: a client could not be answered")
        finally:
            self._silent.discard(connection)
            self._clients.discard(threading.current_thread())

    def _stay(self, connection: socket.socket) -> None:
        self._silent.add(connection)
        if self._closed:
            raise RefusedError("the mount is ending", hint="try again when it has ended")

    def _reply(self, message: bytes, caller: Caller) -> bytes:
        try:
            return encode_reply(self._handle(decode_request(message), caller))
        except (AnabranchError, OSError) as error:
            return encode_error(error)
        except Exception:
            log.exception("BUG: a request failed")
            return encode_error(DaemonError("the daemon failed; its log says how"))


def _denied(connection: socket.socket) -> bytes | None:
    """What is answered to other users than the daemon's and root, whatever the modes of folder and socket let in."""
    _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    if uid in (0, os.geteuid()):
        return None
    log.warning("user %d was not answered", uid)
    return encode_error(DeniedError("the daemon answers its owner only", hint=OTHERS))
