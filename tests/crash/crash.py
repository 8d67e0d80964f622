"""A repository that is crashed again and again under load, and what must be there each time.

A `Campaign` has one repository and some programs, each with a directory. In a round it starts some of them, crashes at
a moment that the seed chose, mounts again and judges by the ledgers. The next round goes on from there.

The seed of a campaign is printed; ANABRANCH_CRASH_SEED repeats it, as far as a race can be repeated.
"""

import fcntl
import hashlib
import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from anabranch.repo import Repository
from anabranch.testing.consistency import check
from tests.crash import workload
from tests.crash.ledger import Ledger, Writer, read
from tests.crash.model import GRACE, Found, History, content, differences, instant, replay, scan
from tests.harness import ANA, PATIENCE, Mount, wait_for

SEED = "ANABRANCH_CRASH_SEED"

SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
"""The ioctl(2) that makes ext4 stop where it is: what is not on the disk, its journal included, never comes there."""

ROOT = Path(__file__).parents[2]


@dataclass
class Program:
    """One that works on the mount, always in the same directory."""

    kind: str
    branch: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)


PROGRAMS = [
    Program("files", "main", "one", {"sync": True, "commits": True}),
    Program("files", "main", "two", {"sync": True}),
    Program("files", "left", "three", {"sync": True, "commits": True}),
    Program("files", "right", "four", {"sync": True, "commits": True}),
    Program("log", "main", "log", {"sync": True}),
    Program("database", "main", "wal", {"journal": "wal"}),
    Program("database", "main", "delete", {"journal": "delete"}),
    Program("git", "main", "git"),
]

WITHOUT_FSYNC = [
    Program("files", "main", "one", {"sync": False}),
    Program("files", "left", "two", {"sync": False}),
]

OPEN_WITHOUT_FSYNC = [Program("log", "main", "log", {"sync": False})]


@dataclass
class Disk:
    """An ext4 filesystem in a file, whose power can be cut."""

    image: Path
    top: Path

    def make(self, size: int) -> None:
        """An empty one; the file is as large as what was written to it."""
        with self.image.open("wb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        self.top.mkdir()

    def attach(self) -> None:
        """Mount it. As long as another mount namespace has the one that was cut off, the kernel gives that again."""

        def alive() -> bool:
            subprocess.run(["mount", "-o", "loop", self.image, self.top], check=True)
            try:
                (self.top / "alive").touch()
                (self.top / "alive").unlink()
            except OSError:
                self.detach()
                return False
            return True

        wait_for(alive, "the disk to be another one than that which was cut off")

    def cut(self) -> None:
        """Nothing reaches it any more."""
        descriptor = os.open(self.top, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def detach(self) -> None:
        """Unmount it, with which its loop device goes. A process that has just ended may still hold it for a moment."""
        command = ["umount", str(self.top)]
        wait_for(
            lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, "the disk to be free"
        )

    def clear_away(self) -> None:
        """Leave nothing behind, whoever still uses it."""
        try:
            self.detach()
        except AssertionError:
            subprocess.run(["umount", "-l", self.top], check=True)
            raise
        finally:
            self.image.unlink()


class Campaign:
    """Rounds on one repository."""

    def __init__(self, mount: Mount, disk: Disk | None, ledgers: Path, programs: list[Program], seed: int) -> None:
        self._mount = mount
        self._disk = disk
        self._ledgers = ledgers
        self._programs = programs
        self._seed = seed
        self._found: dict[str, dict[str, Found]] = {}
        self._logs: dict[str, bytes] = {}
        self._versions: dict[tuple[str, str], str] = {}
        self._processes: list[subprocess.Popen[bytes]] = []

    def prepare(self) -> None:
        """Mount, and commit what every program starts from."""
        self._mount.mount()
        for branch in sorted({program.branch for program in self._programs} - {"main"}):
            (self._mount.root / branch).mkdir()
        for program in self._programs:
            top = self._top(program)
            top.mkdir()
            (top / "first").write_text(program.name)
            instance = workload.KINDS[program.kind](top, Writer(Path(os.devnull)), "", program.options)
            if isinstance(instance, workload.Database | workload.Git):
                instance.prepare()
            elif program.kind == "log":
                (top / "log").touch()
                self._logs[program.name] = b""
            else:
                self._found[program.name] = scan(top)
        for branch in {program.branch for program in self._programs}:
            self._mount.commit("prepared", branch=branch)

    def rounds(self, number: int, *, seconds: tuple[float, float] = (0.1, 0.9), programs: int = 4) -> None:
        """So many crashes; at the end the repository is read whole."""
        for at in range(1, number + 1):
            # Printed for every round, and shown by pytest where a round fails.
            where = f"round {at} of seed {self._seed} ({SEED}={self._seed})"
            print(where, flush=True)
            try:
                self._round(random.Random(f"{self._seed} {at}"), at, seconds, programs)
            except Exception as error:
                raise AssertionError(f"{where}: {error}") from error
        self._mount.umount()
        with Repository(self._mount.path) as repository:
            check(repository)

    def stop(self) -> None:
        """End the programs that still run."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait(PATIENCE)

    def _top(self, program: Program) -> Path:
        return self._mount.root / program.branch / program.name

    def _round(self, draw: random.Random, at: int, seconds: tuple[float, float], programs: int) -> None:
        running = draw.sample(self._programs, min(programs, len(self._programs)))
        self._processes = [self._start(program, at) for program in running]
        wait_for(lambda: all(self._has_begun(program, at) for program in running), "the programs to begin")
        time.sleep(draw.uniform(*seconds))  # how long the load lasts, which nothing waits for
        crash = self._crash()
        for program, process in zip(running, self._processes, strict=True):
            try:
                code = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{program.name} hangs on a mount that is gone") from None
            # SQLite maps a file of the mount, which is gone: SIGBUS.
            assert code == 0 or (code < 0 and program.kind == "database"), self._errors(program, at).read_text()
        if self._disk is not None:
            subprocess.run(["fusermount3", "-uz", self._mount.root], check=True)
            self._disk.detach()
            self._disk.attach()
        self._mount.mount()
        # ext4 that is being shut down says of an fdatasync under way that it went well, though nothing is on the disk:
        # in 1 of 30 of plain appends. With the power goes whoever could have heard it.
        until = float("inf") if self._disk is None else crash
        ledgers = {program.name: read(self._ledger(program, at), until=until) for program in running}
        for name, ledger in ledgers.items():
            assert ledger.failed is None or ledger.failed[0] >= crash, f"before the crash, {name}: {ledger.failed[1]}"
        self._judge(ledgers, crash, draw)

    def _start(self, program: Program, at: int) -> "subprocess.Popen[bytes]":
        options = dict(program.options)
        if options.pop("commits", False):
            branch = str(self._mount.root / program.branch)
            options |= {"branch": branch, "ana": str(ANA), "message": f"{program.name} in round {at}:"}
        command = [sys.executable, "-m", "tests.crash.workload", program.kind, str(self._top(program))]
        command += [str(self._ledger(program, at)), f"{self._seed} {at} {program.name}", json.dumps(options)]
        with self._errors(program, at).open("wb") as errors:
            return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)

    def _ledger(self, program: Program, at: int) -> Path:
        return self._ledgers / f"{program.name} {at}"

    def _errors(self, program: Program, at: int) -> Path:
        return self._ledgers / f"{program.name} {at} errors"

    def _has_begun(self, program: Program, at: int) -> bool:
        path = self._ledger(program, at)
        return path.exists() and path.stat().st_size > 0

    def _crash(self) -> int:
        """Returns when: what failed later failed for that."""
        now = time.monotonic_ns()
        if self._disk is not None:
            self._disk.cut()
        pid = self._mount.pid
        self._mount.kill()
        try:
            wait_for(lambda: has_ended(pid), "the killed daemon to end, its threads included")
        except AssertionError:
            # A thread of it waits for the kernel, which waits for the daemon: only this ends both.
            subprocess.run(["umount", "-f", self._mount.root], check=False)
            raise
        return now

    # --- what must be there

    def _judge(self, ledgers: dict[str, Ledger], crash: int, draw: random.Random) -> None:
        nothing = Ledger([], None)
        for program in self._programs:
            ledger, top = ledgers.get(program.name, nothing), self._top(program)
            if program.kind == "log":
                self._logs[program.name] = judge_log(top, ledger, self._logs[program.name], crash)
            elif program.kind == "database":
                judge_database(top, ledger, self._ledgers / "copy", crash)
            elif program.kind == "git":
                judge_git(top, ledger)
        for branch in sorted({program.branch for program in self._programs}):
            names = [p.name for p in self._programs if p.branch == branch and p.kind == "files"]
            histories = {name: replay(ledgers.get(name, nothing).records, self._found[name]) for name in names}
            found = {name: scan(self._mount.root / branch / name) for name in names}
            instant(histories, found, crash)
            self._found |= found
            self._judge_commits(branch, histories)
        kept = list(self._versions.items())
        for (version, name), digest in draw.sample(kept, min(3, len(kept))):
            assert _digest(scan(self._mount.root / version / name)) == digest, f"{version}/{name} has changed (P19)"

    def _judge_commits(self, branch: str, histories: dict[str, History]) -> None:
        """Every commit that was acknowledged is there, and each that is there holds what it had to."""
        rows = json.loads((self._mount.root / branch / ".ana/log.json").read_text())
        versions = {row["message"]: row["version"] for row in rows}
        assert len(versions) == len(rows), f"a commit of {branch} is there twice"
        for name, history in histories.items():
            for message, (state, record) in history.commits.items():
                if message not in versions:
                    assert not record.said.get("durable"), f"expected a commit {message!r} of {branch}, found none"
                    continue
                found = scan(self._mount.root / versions[message] / name)
                wrong = list(differences(History([state], [0], [0], {}), 0, found))
                assert not wrong, f"{versions[message]}/{name} ({message!r}):\n  " + "\n  ".join(wrong[:8])
                self._versions[versions[message], name] = _digest(found)


def has_ended(pid: int) -> bool:
    """Whether nothing of a process is left but its number: until then it holds its files."""
    try:
        of = Path(f"/proc/{pid}/stat").read_text()
        return of.rpartition(")")[2].split()[0] == "Z" and len(os.listdir(f"/proc/{pid}/task")) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True


def _digest(found: dict[str, Found]) -> str:
    total = hashlib.sha256()
    for path, row in found.items():
        total.update(repr((path, row.mode, row.mtime_ns, row.links)).encode() + (row.content or b""))
    return total.hexdigest()


def judge_log(top: Path, ledger: Ledger, base: bytes, crash: int) -> bytes:
    """A file that stayed open is as it was at one instant, the last fsync or later; returns its content."""
    pieces = [content(record.op["seed"], record.op["size"]) for record in ledger.records]
    ends = list(accumulate((len(piece) for piece in pieces), initial=len(base)))
    kept = [at for at, record in enumerate(ledger.records, 1) if _must_be(record.ended, record.said, crash)]
    least = ends[kept[-1]] if kept else len(base)
    whole, found = base + b"".join(pieces), (top / "log").read_bytes()
    assert len(found) >= least, f"{top}/log: expected {least} bytes or more, found {len(found)}"
    assert whole.startswith(found), f"{top}/log: expected a beginning of what was appended, found other bytes"
    return found


def _must_be(ended: int | None, said: dict[str, Any], crash: int) -> bool:
    return ended is not None and (bool(said.get("durable")) or ended < crash - GRACE)


def judge_database(top: Path, ledger: Ledger, copy: Path, crash: int) -> None:
    """It is whole, and holds every acknowledged transaction, at most one more; looked at in a copy, as it lies."""
    copy.mkdir()
    try:
        for path in top.glob("database*"):
            if not path.name.endswith("-shm"):
                shutil.copyfile(path, copy / path.name)
        connection = sqlite3.connect(copy / "database")
        verdict = connection.execute("pragma integrity_check").fetchall()
        assert verdict == [("ok",)], f"{top}/database: integrity_check says {verdict}"
        rows = connection.execute("select number, payload from rows order by number").fetchall()
        ((total,),) = connection.execute("select number from totals")
        connection.close()
    finally:
        shutil.rmtree(copy)
    # An answer after the crash counts for nothing: SQLite ignores a directory that it cannot open for its fsync.
    before = [record for record in ledger.records if record.ended is not None and record.ended < crash]
    acknowledged = max((record.op["number"] for record in before), default=0)
    begun = max((record.op["number"] for record in ledger.records), default=total)
    assert acknowledged <= total <= begun, f"{top}/database: expected {acknowledged} to {begun}, found {total}"
    assert [number for number, _ in rows] == list(range(1, total + 1)), f"{top}/database: rows are missing"
    wrong = [number for number, found in rows if found != workload.payload(number)]
    assert not wrong, f"{top}/database: expected other bytes in the rows {wrong}"


def judge_git(top: Path, ledger: Ledger) -> None:
    """It is whole, and holds every acknowledged commit."""
    for lock in top.glob(".git/**/*.lock"):
        lock.unlink()
    if not ledger.records:
        return
    said = workload.git(top, "fsck", "--full", "--strict")
    assert "missing" not in said, f"{top}: git fsck says {said}"
    messages = workload.git(top, "log", "--all", "--format=%s").splitlines()[::-1]
    acknowledged = [record.op["message"] for record in ledger.records if record.ended is not None]
    missing = [message for message in acknowledged if message not in messages]
    assert not missing, f"{top}: expected the commits {missing}, found {messages[-3:]}"
    assert messages == [f"commit {number}" for number in range(len(messages))], f"{top}: found {messages[-5:]}"


@contextmanager
def campaign(
    directory: Path,
    fresh_repository: Path,
    *,
    power: bool,
    programs: list[Program],
    size: int = 0,
    seed: int | None = None,
) -> Iterator[Campaign]:
    """A campaign that leaves nothing behind: no program, no mount, no disk."""
    if seed is None:
        seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(10**9))
    with ExitStack() as stack:
        disk = None
        top = directory
        if power:
            disk = Disk(directory / "image", directory / "disk")
            disk.make(size)
            stack.callback(disk.clear_away)
            disk.attach()
            top = disk.top
        (directory / "mnt").mkdir()
        (directory / "ledgers").mkdir()
        mount = Mount(Path(shutil.copytree(fresh_repository, top / "repo")), directory / "mnt", sound=False)
        subprocess.run(["sync", "-f", mount.path], check=True)  # what was copied; `ana` has had no part in it
        stack.enter_context(mount.kept_tidy())
        made = Campaign(mount, disk, directory / "ledgers", programs, seed)
        stack.callback(made.stop)
        made.prepare()
        yield made
