"""What ana doctor says of whatever a machine may be like."""

import errno
import os
from pathlib import Path

import pytest

from anabranch.cli import checks
from anabranch.cli.checks import Finding, State
from anabranch.daemon.lock import Owner
from anabranch.daemon.mounts import below, parse
from anabranch.errors import DamagedError
from anabranch.versions.refs import DAY

NOW = 1_800_000_000_000_000_000


def says(finding: Finding, state: State, *words: str) -> None:
    """That state, and the words; who is not well is told what to do."""
    assert finding.state is state, finding
    for word in words:
        assert word in f"{finding.found}\n{finding.hint}", finding
    assert (finding.hint is None) == (state is State.OK), finding


def test_the_device_of_fuse(tmp_path: Path):
    device = tmp_path / "fuse"
    says(checks.fuse_device(device), State.FAIL, "missing", "modprobe fuse")
    device.touch()
    says(checks.fuse_device(device), State.OK)
    device.unlink()
    device.mkdir()  # nobody can open it for writing, root neither
    says(checks.fuse_device(device), State.FAIL, "cannot open", f"chmod 666 {device}")


def test_the_program_that_mounts():
    says(checks.fusermount(None), State.FAIL, "missing", "apt install fuse3")
    says(checks.fusermount("/usr/bin/fusermount3"), State.OK, "/usr/bin/fusermount3")


@pytest.mark.parametrize(
    ("text", "root", "state"),
    [
        (None, False, State.WARN), (None, True, State.OK), ("#user_allow_other\n", False, State.WARN),
        ("mount_max = 5\n user_allow_other \n", False, State.OK),
    ],
)  # fmt: skip
def test_letting_other_users_in(tmp_path: Path, text: str | None, root: bool, state: State):
    configuration = tmp_path / "fuse.conf"
    if text is not None:
        configuration.write_text(text)
    says(checks.allow_other(configuration, root=root), state)


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("6.18.44-generic", State.OK), ("5.5.0", State.OK), ("5.4.300", State.WARN), ("3.10.0-1160.el7", State.WARN),
        ("strange", State.OK),
    ],
)  # fmt: skip
def test_the_kernel(release: str, state: State):
    says(checks.kernel(release), state, release)


def test_the_limit_of_open_files():
    says(checks.open_files(1_024), State.WARN, "1,024", "limits.conf")
    says(checks.open_files(65_536), State.OK, "65,536")


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("ext4", State.OK), ("xfs", State.OK), ("btrfs", State.OK), ("zfs", State.OK), ("nfs4", State.FAIL),
        ("cifs", State.FAIL), ("9p", State.FAIL), ("fuse.sshfs", State.WARN), ("fuseblk", State.WARN),
        ("overlay", State.WARN), ("tmpfs", State.WARN),
    ],
)  # fmt: skip
def test_the_filesystem(kind: str, state: State):
    says(checks.filesystem(kind), state, kind)


@pytest.mark.parametrize(
    ("free", "state"),
    [(1 << 30, State.OK), ((1 << 30) - 1, State.WARN), (64 << 20, State.WARN), ((64 << 20) - 1, State.FAIL)],
)
def test_free_space(free: int, state: State):
    says(checks.space(free), state, "free")


def test_the_read_ahead_of_a_partition_is_its_disks(tmp_path: Path):
    partition = tmp_path / "devices/sda/sda1"
    partition.mkdir(parents=True)
    (tmp_path / "devices/sda/queue").mkdir()
    (tmp_path / "devices/sda/queue/read_ahead_kb").write_text("128\n")
    (tmp_path / "class/bdi/8:0").mkdir(parents=True)
    (tmp_path / "class/bdi/8:0/read_ahead_kb").write_text("4096\n")
    (tmp_path / "dev/block").mkdir(parents=True)
    (tmp_path / "dev/block/8:1").symlink_to(partition)
    of_disk = checks.read_ahead_file(tmp_path, "8:0")
    says(checks.read_ahead(of_disk), State.WARN, "4096 KiB", f"echo 128 | sudo tee {of_disk}")
    says(checks.read_ahead(checks.read_ahead_file(tmp_path, "8:1")), State.OK, "128 KiB")
    says(checks.read_ahead(checks.read_ahead_file(tmp_path, "0:45")), State.OK, "unknown")


def test_the_clock():
    says(checks.clock(NOW - 5, NOW), State.OK)
    says(checks.clock(NOW + 1_000, NOW), State.OK)
    says(checks.clock(NOW + 5 * 10**9, NOW), State.WARN, "5 seconds behind", "timedatectl")
    says(checks.clock(NOW + DAY + 1, NOW), State.FAIL, "commits are refused")


def test_who_has_a_repository():
    path = Path("/data/repo")
    mounted, working, badly = Owner(7, "/mnt"), Owner(7, None), Owner(7, None, failed=True)
    says(checks.owner(path, mounted, held=True, dying=False), State.OK, "process 7 has it mounted at /mnt")
    says(checks.owner(path, working, held=True, dying=False), State.OK, "process 7 works on it")
    says(checks.owner(path, None, held=True, dying=False), State.OK, "a process works on it")
    says(checks.owner(path, mounted, held=True, dying=True), State.WARN, "was killed", "ana mount /data/repo /mnt")
    says(checks.owner(path, mounted, held=False, dying=False), State.WARN, "died", "ana mount /data/repo /mnt")
    says(checks.owner(path, badly, held=False, dying=False), State.WARN, "badly", "tail /data/repo/daemon.log")
    says(checks.owner(path, working, held=False, dying=False), State.OK, "nobody")
    says(checks.owner(path, None, held=False, dying=False), State.OK, "nobody")


def test_dead_mounts():
    says(checks.dead_mounts(Path("/r"), []), State.OK)
    found = checks.dead_mounts(Path("/r"), [Path("/a"), Path("/b")])
    says(found, State.FAIL, "/a, /b", "ana umount /a", "ana mount /r /a")


def test_an_error_is_a_check_that_failed():
    error = DamagedError("meta.mdb is damaged", hint="ana reindex")
    assert checks.failed("repository", error) == Finding("repository", State.FAIL, error.message, "ana reindex")
    assert checks.failed("owner", OSError(errno.EIO, os.strerror(errno.EIO))).found == "Input/output error"


MOUNTINFO = r"""
22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw
30 22 0:33 / /data rw shared:1 - nfs4 host:/export rw
31 30 0:40 / /data/with\040space rw - tmpfs tmpfs rw
32 22 0:41 / /data rw - overlay overlay rw,lowerdir=a - b
""".lstrip()


def test_a_path_lies_on_the_filesystem_that_was_mounted_last_above_it():
    found = parse(MOUNTINFO)
    assert [below(Path(path), found).kind for path in ("/", "/dat", "/data", "/data/repo", "/data/with space/x")] == [
        "ext4", "ext4", "overlay", "overlay", "tmpfs",
    ]  # fmt: skip
    assert below(Path("/x"), found).device == "254:1"
