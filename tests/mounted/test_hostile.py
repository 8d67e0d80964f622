"""A mount of what an enemy made: programs get errors or harmless files, and the mount goes on. P95."""

import errno
import os
import subprocess
from collections.abc import Callable

import pytest

from anabranch.store.records import Kind
from tests.harness import PATIENCE, Mount, done, errno_of
from tests.hostile import BIG, SMALL, ZERO, Enemy, directory, encode, file, made_up

pytestmark = pytest.mark.mounted


def circle(enemy: Enemy) -> bytes:
    tree = made_up("circle")
    return enemy.tree([(b"a", directory(tree)), (b"b", directory(tree)), (b"file", SMALL)], identity=tree)


def deep(enemy: Enemy) -> bytes:
    tree = enemy.tree([(b"file", SMALL)])
    for _ in range(100):
        tree = enemy.tree([(b"d" * 255, directory(tree))])
    return tree


def names(enemy: Enemy) -> bytes:
    bad = enemy.tree([(b"../../escaped", SMALL)])
    return enemy.tree([(b"\x1b[2J\n", SMALL), (b"bad", directory(bad))])


def numbers(enemy: Enemy) -> bytes:
    inner = enemy.tree([(b"file", file(5, 1, b"small", mtime=BIG))])
    held = enemy.put(Kind.XATTRS, encode([1]))
    rows = [
        (b"a", directory(inner, size=BIG, mtime=-BIG - 1, extra={1: BIG, 2: BIG, 3: BIG})),
        (b"device", (7, 0o666, 0, 0, 0, 0, 0, b"", {4: BIG})),
        (b"xattr", file(5, 1, b"small", extra={6: held})),
    ]
    return enemy.tree(rows)


def contents(enemy: Enemy) -> bytes:
    chunk, node = enemy.chunk(b"x" * 1000), made_up("node")
    enemy.manifest([(node, 100)], level=1, identity=node)
    rows = [
        (b"circle", file(100, 3, node)),
        (b"hole", file(1 << 62, 3, enemy.manifest([(ZERO, (262_144, 1 << 44))]))),
        (b"long", file(BIG, 2, chunk)),
        (b"missing", file(100_000, 2, made_up("missing"))),
    ]
    return enemy.tree(rows)


def links(enemy: Enemy) -> bytes:
    return enemy.tree([(b"a", (4, 0, 0, 0, 0, 0, 0, bytes(16), None)), (b"b", SMALL)])


MADE: list[Callable[[Enemy], bytes]] = [circle, deep, names, numbers, contents, links]
LOOK = "ls -laR . | head -c 100000 >/dev/null; cat a b file bad/x circle long missing >/dev/null; find . | wc -l"


def test_a_mount_of_a_hostile_repository_goes_on_p95(mountable: Mount):
    enemy = Enemy(mountable.path)
    for make in MADE:
        enemy.version(make(enemy), name=make.__name__)
    enemy.close()
    mountable.sound = False
    mountable.mount("--xattr")
    for make in MADE:
        for where in (make.__name__, f"{make.__name__}@0", f"{make.__name__}@head"):
            top = mountable.root / where
            ended = subprocess.run(
                ["sh", "-c", LOOK], cwd=top, capture_output=True, timeout=2 * PATIENCE, check=False
            )  # fmt: skip
            assert ended.returncode == 0, ended.stderr
            assert int(ended.stdout) < 20_000
        branch = mountable.root / make.__name__
        (branch / "mine").write_text("mine")
        errno_of((branch / ".ana/commit").write_text, "on top")
        errno_of((branch / ".ana/status").read_text)
        errno_of((branch / ".ana/diff.json").read_text)
        errno_of((branch / ".ana/discard").write_text, ".")
    assert errno_of(lambda: list((mountable.root / "circle/a/a").iterdir())) == errno.EIO
    assert errno_of(lambda: (mountable.root / "circle@0/a/file").read_text()) == errno.EIO
    hole = os.open(mountable.root / "contents/hole", os.O_RDONLY)
    assert os.pread(hole, 10, (1 << 62) - 5) == bytes(5)
    os.close(hole)
    (mountable.main / "file").write_text("x")
    mountable.commit()
    done(mountable.ana("status"))
    with open(f"/proc/{mountable.pid}/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert peak < 400 << 10
    mountable.remount()
    assert (mountable.main / "file").read_text() == "x"
