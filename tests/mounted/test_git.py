"""A work tree of git on the mount: no file of it is read again for nothing. P26."""

import os
import shutil
from pathlib import Path

import pytest

from tests.harness import Mount, done, pin_times, shell

DROP_CACHES = Path("/proc/sys/vm/drop_caches")

pytestmark = [pytest.mark.mounted, pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")]


def git(tree: Path, arguments: str) -> str:
    """Run git, with nothing of this user's settings and none of the tests' own repository."""
    own = "GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_CEILING_DIRECTORIES=/ GIT_OPTIONAL_LOCKS=0"
    return done(shell(f"{own} git -c user.name=x -c user.email=x -c gc.auto=0 {arguments}", tree))


def identities(tree: Path) -> dict[str, tuple[int, ...]]:
    """All that git's index knows a file by."""
    stats = {str(path.relative_to(tree)): path.lstat() for path in tree.rglob("*") if ".git" not in path.parts}
    return {name: (of.st_ino, of.st_ctime_ns, of.st_mtime_ns, of.st_size, of.st_mode) for name, of in stats.items()}


def test_git_reads_no_file_again_after_commit_forget_umount_and_crash_p26(mount: Mount):
    """diff-files without a refreshed index names each file whose stat differs, be its content the same."""
    tree = mount.main / "tree"
    (tree / "deep/er").mkdir(parents=True)
    for number in range(100):
        (tree / "deep" / f"small {number}").write_text(f"{number}\n" * number)
    (tree / "deep/er/large").write_bytes(os.urandom(500_000))
    os.symlink("deep/er/large", tree / "link")
    pin_times(tree)  # long ago: git reads files again that are as young as its index
    git(tree, "init -q")
    git(tree, "add .")
    git(tree, "commit -qm first")
    before, index = identities(tree), git(tree, "ls-files --debug")

    def nothing_is_read_again() -> bool:
        assert git(tree, "diff-files") == ""
        assert git(tree, "status --porcelain") == ""
        assert git(tree, "ls-files --debug") == index
        return identities(tree) == before

    assert nothing_is_read_again()
    mount.commit()
    assert nothing_is_read_again()
    if os.access(DROP_CACHES, os.W_OK):
        DROP_CACHES.write_text("2")
        assert nothing_is_read_again()
    mount.remount()
    assert nothing_is_read_again()
    (tree / "untracked").write_text("x")
    mount.commit()
    mount.crash()
    (tree / "untracked").unlink()
    assert nothing_is_read_again()
    mount.commit()
    os.utime(tree / "deep/small 7", (1, 1))
    assert git(tree, "diff-files --name-only") == "deep/small 7\n", "otherwise all this proves nothing"
    assert git(tree, "status --porcelain") == ""


def test_what_git_stored_is_in_the_version_p26(mount: Mount):
    """Checked out from there, too, and nothing that git wrote is damaged."""
    tree = mount.main / "tree"
    tree.mkdir()
    git(tree, "init -q")
    for number in range(20):
        (tree / "file").write_text(str(number) * 1000)
        git(tree, "add file")
        git(tree, f"commit -qm {number}")
    version = mount.commit() / "tree"
    git(tree, "repack -adq")
    git(tree, "checkout -q HEAD~5")
    for top in (tree, version):
        assert git(top, "-c safe.directory='*' rev-list --count --all") == "20\n"
        git(top, "-c safe.directory='*' fsck --strict --no-progress")
    assert (tree / "file").read_text() == "14" * 1000
