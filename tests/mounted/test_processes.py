"""The daemon among processes: one owner, dead mounts, what the machine lacks, and who may see the mount. P29, P36."""

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.daemon import lock as locks
from anabranch.errors import RefusedError
from anabranch.store.layout import Layout
from tests.harness import (
    ANA,
    PATIENCE,
    Mount,
    Repo,
    done,
    errno_of,
    hinted,
    in_a_namespace,
    python,
    refused,
    run_ana,
    shell,
    snapshot,
    wait_for,
)

pytestmark = pytest.mark.mounted

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def without(program: str, directory: Path) -> dict[str, str]:
    """An environment whose PATH has all programs but one."""
    directory.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for path in sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []:
            if path.name != program and not (directory / path.name).exists():
                (directory / path.name).symlink_to(path)
    return {"PATH": str(directory)}


def test_a_mounted_repository_is_not_mounted_twice_p36(mount: Mount, tmp_path: Path):
    (mount.main / "data").write_text("x")
    other = tmp_path / "other"
    other.mkdir()
    hinted(run_ana("mount", mount.path, other, cwd=tmp_path), 3, "already mounted", str(mount.root), "ana umount")
    hinted(run_ana("mount", mount.path, mount.root, cwd=tmp_path), 3, "already mounted", "ana umount")
    assert os.listdir(other) == []
    assert (mount.main / "data").read_text() == "x"
    mount.commit()


def test_another_repository_is_not_mounted_over_a_mount_p36(mount: Mount, tmp_path: Path):
    done(run_ana("init", "--no-ignore", tmp_path / "second", cwd=tmp_path))
    hinted(run_ana("mount", tmp_path / "second", mount.root, cwd=tmp_path), 3, "already mounted")
    done(run_ana("status", cwd=tmp_path / "second"))


def test_mount_points_that_cannot_be_used(repo: Repo, tmp_path: Path):
    """Not there, a file, not empty: one error each, and the repository stays free."""
    hinted(run_ana("mount", repo.path, tmp_path / "none", cwd=tmp_path), 1, "does not exist", "mkdir")
    (tmp_path / "file").write_text("x")
    refused(run_ana("mount", repo.path, tmp_path / "file", cwd=tmp_path), 2, "not a directory")
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("x")
    hinted(run_ana("mount", repo.path, full, cwd=tmp_path), 3, "not empty")
    assert (full / "precious").read_text() == "x"
    empty = tmp_path / "empty"
    empty.mkdir()
    hinted(run_ana("mount", tmp_path / "no repository", empty, cwd=tmp_path), 1, "does not exist", "ana init")
    hinted(run_ana("mount", full, empty, cwd=tmp_path), 2, "not a repository", "ana init")
    hinted(run_ana("mount", repo.path, repo.path, cwd=tmp_path), 3, "not empty")
    assert repo.json("status")["clean"]


def test_umount_of_what_is_no_mount_is_refused(repo: Repo, tmp_path: Path):
    for place in (tmp_path, repo.path, tmp_path / "none"):
        refused(run_ana("umount", place, cwd=tmp_path), 1, "no repository is mounted")


def test_one_process_owns_a_repository_p36(mount: Mount):
    """While it is mounted, commands ask the daemon; the library is refused; a second owner is never made."""
    layout = Layout(mount.path)
    assert locks.is_held(layout)
    with pytest.raises(RefusedError, match="already mounted"):
        locks.acquire(layout)
    mount.umount()
    with locks.acquire(layout):
        hinted(mount.ana("status"), 3, "in use", str(os.getpid()))
        hinted(run_ana("mount", mount.path, mount.root, cwd=Path("/")), 3, "in use")
        assert mount.json("log")[0]["version"] == "main@0", "reading history needs no owner"
    assert mount.json("status")["clean"]


def test_after_a_crash_mounting_lifts_the_dead_mount_and_says_what_it_found_p36_p44(mount: Mount):
    (mount.main / "data").write_text("committed")
    mount.commit()
    (mount.main / "more").write_text("fsynced")
    with (mount.main / "more").open() as file:
        os.fsync(file.fileno())
    mount.kill()
    assert errno_of(os.listdir, mount.root) in DEAD
    assert done(mount.ana("cat", "main@1:data")) == "committed", "a dead owner holds nothing"
    said = mount.mount()
    for words in ("died", f"dead mount at {mount.root} was lifted", "uncommitted changes were brought back"):
        assert words in said
    assert (mount.main / "data").read_text() == "committed"
    assert (mount.main / "more").read_text() == "fsynced"


def test_a_dead_mount_elsewhere_does_not_hold_the_repository_p36(mount: Mount, tmp_path: Path):
    (mount.main / "data").write_text("committed")
    mount.commit()
    mount.kill()
    other = Mount(mount.path, tmp_path / "other")
    other.root.mkdir()
    try:
        other.mount()
        assert not mount.is_mounted(), "the dead mount is lifted"
        assert (other.main / "data").read_text() == "committed"
        (other.main / "data").write_text("goes on")
        other.commit()
    finally:
        other.clear_away()


def test_a_program_that_stands_in_a_dead_mount_gets_an_error(mount: Mount):
    """Its files are gone for it, but nothing hangs; the command called from there says what it can."""
    opened = os.open(mount.main / "file", os.O_CREAT | os.O_WRONLY)
    os.write(opened, b"x")
    code = f"import subprocess; print(flush=True); input(); print(subprocess.call([{str(ANA)!r}, 'status']))"
    stander = python(code, cwd=mount.main, stderr=subprocess.PIPE)
    try:
        assert stander.stdout is not None
        stander.stdout.readline()
        mount.kill()
        output, errors = stander.communicate("\n", timeout=PATIENCE)
    finally:
        stander.kill()
        stander.communicate()
    assert output.splitlines()[-1] in ("0", "1", "2", "3", "4")
    assert "Traceback" not in errors
    assert errno_of(os.fsync, opened) in (*DEAD, errno.EIO)
    errno_of(os.close, opened)
    mount.umount()


def test_umount_waits_for_nobody_and_names_who_is_in_the_way(mount: Mount):
    """By an open file, a program that runs from there, and a directory."""
    with (mount.main / "file").open("w") as file:
        file.write("x")
        is_open = f"{os.getpid()} (", f"has open {mount.main}/file"
        hinted(run_ana("umount", mount.root, cwd=Path("/")), 3, "is in use", *is_open, "try again")
        file.write("y")
    assert (mount.main / "file").read_text() == "xy"
    cat = shutil.copy(shutil.which("cat") or "/bin/cat", mount.main / "cat")
    for command, cwd, how in (([cat], Path("/"), "has mapped"), (["cat"], mount.main, "stands in")):
        user = subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE)
        try:
            hinted(run_ana("umount", mount.root, cwd=Path("/")), 3, f"{user.pid} (cat) {how} {mount.main}")
        finally:
            user.communicate(b"", timeout=PATIENCE)
    mount.umount()


def test_paths_may_be_relative_and_go_through_links(mountable: Mount, tmp_path: Path):
    (tmp_path / "link to repo").symlink_to("repo")
    (tmp_path / "link to mnt").symlink_to("mnt")
    done(run_ana("mount", "link to repo", "link to mnt/../mnt/", cwd=tmp_path))
    assert os.listdir(mountable.root) == ["main"]
    assert "main@0" in done(run_ana("log", cwd=tmp_path / "link to mnt" / "main"))
    done(run_ana("umount", "mnt", cwd=tmp_path))
    assert not mountable.is_mounted()


def test_odd_paths_of_repository_and_mount_point(mountable: Mount, tmp_path: Path):
    """Spaces, commas and backslashes, which mount options and mountinfo escape; and longer than a socket's address."""
    folder = tmp_path / "with, space \\ and ünïcödé \u2028\x0c" / ("long" * 30)
    folder.mkdir(parents=True)
    odd = Mount(folder / "re,po", folder / "m nt")
    odd.root.mkdir()
    done(run_ana("init", "--no-ignore", odd.path, cwd=tmp_path))
    try:
        odd.mount()
        (odd.main / "data").write_text("x")
        odd.commit()
        (odd.main / "data").write_text("y")
        assert not odd.json("status")["clean"], "by the socket, whose path is longer than an address"
        assert "main@1" in done(run_ana("log", cwd=odd.main))
        hinted(run_ana("mount", odd.path, odd.root, cwd=tmp_path), 3, "already mounted")
        odd.umount()
    finally:
        odd.clear_away()


def test_in_the_foreground_it_serves_until_it_is_stopped(mountable: Mount):
    """SIGTERM and Ctrl-C: what open files hold comes in, it unmounts and ends."""
    for number in (signal.SIGTERM, signal.SIGINT):
        daemon = subprocess.Popen(
            [ANA, "mount", "--foreground", mountable.path, mountable.root], stderr=subprocess.PIPE, text=True
        )
        try:
            wait_for(mountable.main.exists, "the mount")
            path = mountable.main / f"{number.name}"
            path.write_text("closed")
            daemon.send_signal(number)
            _, errors = daemon.communicate(timeout=PATIENCE)
        finally:
            daemon.kill()
            daemon.communicate()
        assert daemon.returncode == 0
        assert "is mounted at" in errors
        assert "Traceback" not in errors
        assert not mountable.is_mounted()
    mountable.mount()
    assert {path.name: path.read_text() for path in mountable.main.iterdir()} == {
        "SIGTERM": "closed", "SIGINT": "closed",
    }  # fmt: skip


def test_unmounting_by_fusermount3_is_as_good(mount: Mount):
    (mount.main / "data").write_bytes(content := os.urandom(2_000_000))
    subprocess.run(["fusermount3", "-u", mount.root], check=True)
    wait_for(lambda: not locks.is_held(Layout(mount.path)), "the daemon to end")
    assert "everything is on disk" in mount.log_text()
    mount.mount()
    assert (mount.main / "data").read_bytes() == content


def test_without_fusermount3_it_says_what_to_install(mountable: Mount, tmp_path: Path):
    env = without("fusermount3", tmp_path / "programs")
    hinted(run_ana("mount", mountable.path, mountable.root, cwd=tmp_path, env=env), 3, "fusermount3", "fuse3")
    assert not mountable.is_mounted()
    mountable.mount()
    (mountable.main / "data").write_text("x")
    hinted(run_ana("umount", mountable.root, cwd=tmp_path, env=env), 3, "fusermount3", "fuse3")
    assert (mountable.main / "data").read_text() == "x"


def test_without_permission_on_dev_fuse_it_says_so(mountable: Mount, tmp_path: Path):
    """In a namespace where /dev/fuse lies on a filesystem without devices, which stops even root."""
    ended = in_a_namespace(
        """
        mount -t tmpfs -o nodev,mode=755 none "$1"
        mknod "$1/fuse" c 10 229 2>/dev/null || touch "$1/fuse"
        chmod 666 "$1/fuse"
        mount --bind "$1/fuse" /dev/fuse
        exec "$2" mount "$3" "$4"
        """,
        beside_of(tmp_path), ANA, mountable.path, mountable.root,
    )  # fmt: skip
    hinted(ended, 3, "/dev/fuse", "Permission denied")
    assert mountable.json("status")["clean"]


@as_root
def test_a_mount_that_the_kernel_refuses_is_an_error_with_a_hint(mountable: Mount):
    """As in a container without the right to mount: /dev/fuse can be opened, and that is all."""
    command = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all"]
    ended = subprocess.run(
        [*command, ANA, "mount", mountable.path, mountable.root],
        capture_output=True, text=True, timeout=PATIENCE, check=False, cwd="/",
    )  # fmt: skip
    hinted(ended, 3, "kernel refused the mount", "log")
    assert "fusermount3" in mountable.log_text()
    mountable.mount()


def beside_of(tmp_path: Path) -> Path:
    """A folder to mount something on."""
    path = tmp_path / "devices"
    path.mkdir()
    return path


def test_without_dev_fuse_it_says_what_to_do(mountable: Mount, tmp_path: Path):
    ended = in_a_namespace(
        'mount -t tmpfs none /dev; exec "$1" mount "$2" "$3"', ANA, mountable.path, mountable.root
    )  # fmt: skip
    hinted(ended, 3, "/dev/fuse", "missing", "modprobe fuse")


@as_root
def test_only_the_user_who_mounted_sees_it_p29(fresh_repository: Path, open_path: Path):
    mount = Mount(Path(shutil.copytree(fresh_repository, open_path / "repo")), open_path / "mnt")
    mount.root.mkdir()
    try:
        mount.mount()
        (mount.main / "data").write_text("x")
        (mount.main / "data").chmod(0o666)
        for command in (f"ls {mount.root}", f"cat {mount.main}/data", f"stat {mount.main}", f"ls {mount.path}"):
            ended = subprocess.run([*NOBODY, *command.split()], capture_output=True, text=True, check=False)
            assert ended.returncode != 0, command
            assert "Permission denied" in ended.stderr, command
    finally:
        mount.clear_away()


DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
"""What a dead mount answers."""

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
"""Still root by number, but without the right to pass over permissions."""


@as_root
def test_the_kernel_checks_permissions_p29(mount: Mount, beside: Path):
    """For somebody without root's powers, the same calls are refused as on an ordinary filesystem."""
    script = """
        try() { "$@" 2>/dev/null >/dev/null; echo $?; }
        try cat mine; try cat none; try sh -c 'echo x >> readonly'; try ls blind
        try touch locked/new; try rm locked/file; try cat theirs; try sh -c 'echo x >> theirs'; try chmod 777 theirs
        try rm sticky/theirs; try mv sticky/theirs sticky/x; try ./runs; try ./mine
        try chown 5 mine; try touch -d 2001-01-01 theirs; try cat blind/file
    """
    for top in (mount.main, beside):
        top.chmod(0o755)
        for name, mode in (("mine", 0o644), ("none", 0o000), ("readonly", 0o444), ("theirs", 0o640), ("runs", 0o755)):
            (top / name).write_text("#!/bin/sh\n")
            (top / name).chmod(mode)
        for name, mode in (("blind", 0o311), ("locked", 0o555), ("sticky", 0o1777)):
            (top / name).mkdir()
            (top / name / "file").write_text("x")
            (top / name / "theirs").write_text("x")
            (top / name).chmod(mode)
        for path in (top / "theirs", top / "sticky/theirs", top / "sticky"):
            os.chown(path, 1234, 1234)
    outputs = [
        subprocess.run(
            [*UNPRIVILEGED, "sh", "-c", script], cwd=top, capture_output=True, text=True, check=True, timeout=PATIENCE
        ).stdout.split()
        for top in (beside, mount.main)
    ]
    assert outputs[1] == outputs[0]
    assert {"0", "1"} <= set(outputs[0])
    version = mount.commit()
    reading = [*UNPRIVILEGED, "cat", str(version / "none")]
    assert subprocess.run(reading, capture_output=True, check=False).returncode == 1
    assert snapshot(version) == snapshot(mount.main)


def test_the_log_is_in_the_repository(mount: Mount):
    mount.remount()
    text = mount.log_text()
    assert str(mount.root) in text
    assert "everything is on disk" in text
    assert "ERROR" not in text


@pytest.fixture
def two(mount: Mount, tmp_path: Path) -> Iterator[tuple[Mount, Mount]]:
    """Two repositories, mounted beside each other."""
    other = Mount(tmp_path / "second", tmp_path / "mnt2")
    other.root.mkdir()
    done(run_ana("init", "--no-ignore", other.path, cwd=tmp_path))
    try:
        other.mount()
        yield mount, other
    finally:
        other.clear_away()


def test_two_repositories_are_mounted_side_by_side(two: tuple[Mount, Mount]):
    for mount in two:
        (mount.main / "data").write_text(mount.path.name)
        mount.commit()
    done(shell(f"mv {two[0].main}/data {two[1].main}/moved", Path("/")))
    assert (two[1].main / "moved").read_text() == "repo"
    assert json.loads(done(run_ana("log", "--json", cwd=two[1].main)))[0]["version"] == "main@1"
    two[1].umount()
    assert (two[0].root / "main@1/data").read_text() == "repo"


def test_a_read_only_mount_shows_everything_and_takes_nothing(mount: Mount):
    (mount.main / "file").write_text("x")
    mount.commit()
    (mount.main / "more").write_text("uncommitted")
    mount.umount()
    done(run_ana("mount", "--read-only", mount.path, mount.root, cwd=Path("/")))
    try:
        assert (mount.main / "more").read_text() == "uncommitted"
        assert (mount.root / "main@1/file").read_text() == "x"
        assert errno_of((mount.main / "new").touch) == errno.EROFS
        assert errno_of((mount.root / "exp").mkdir) == errno.EROFS
        assert errno_of((mount.main / ".ana/commit").write_text, "x") == errno.EROFS
        assert "more" in done(mount.ana("status"))
        hinted(mount.ana("commit", "-m", "x"), 3, "mounted read-only")
        hinted(mount.ana("discard"), 3, "mounted read-only")
    finally:
        mount.umount()
    mount.mount()
    assert (mount.main / "more").read_text() == "uncommitted"


def test_other_users_are_let_in_where_that_is_asked_for_p29(mount: Mount, open_path: Path):
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    (mount.main / "file").write_text("for all")
    (mount.main / "mine").write_text("for me")
    (mount.main / "mine").chmod(0o600)
    mount.umount()
    place = Mount(mount.path, open_path / "mnt")
    place.root.mkdir()

    def seen(path: Path) -> str:
        ended = subprocess.run(["cat", str(path)], user=65534, stdout=subprocess.PIPE, text=True, check=False, cwd="/")
        return str(ended.stdout)

    try:
        for words, expected in ((["--allow-other"], "for all"), ([], "")):
            done(run_ana("mount", *words, mount.path, place.root, cwd=Path("/")))
            assert seen(place.main / "file") == expected
            assert seen(place.main / "mine") == ""
            place.umount()
    finally:
        place.clear_away()


def test_the_log_is_told_what_was_asked_for(mount: Mount):
    mount.umount()
    before = mount.log_text()
    done(run_ana("mount", "--log-level", "error", mount.path, mount.root, cwd=Path("/")))
    mount.umount()
    assert mount.log_text() == before
