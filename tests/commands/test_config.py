"""ana config: the settings of a repository, with a mount and without one. P60."""

import json
import random
from pathlib import Path

import pytest

from tests.commands.test_completion import offered
from tests.harness import Mount, Repo, done, hinted, refused, run_ana, shell, wait_for

WORDS = random.Random(1).choices(["flight", "delayed", "JFK", "2013", "carrier", "\n"], k=400_000)
TEXT = ",".join(WORDS)


def me() -> str:
    return done(shell("id -un", Path("/"))).strip()


def values(repo: Repo) -> dict[str, tuple[object, bool]]:
    return {row["key"]: (row["value"], row["default"]) for row in repo.json("config")}


def test_without_a_word_all_are_listed_with_what_is_a_default(repo: Repo):
    done(repo.ana("config", "compression", "9"))
    assert done(repo.ana("config")).splitlines() == [
        f"author          {me()}  (default)", "default-branch  main", "compression     9",
        "memory          256  (default)", "xattr           off  (default)",
    ]  # fmt: skip
    assert values(repo) == {
        "author": (me(), True), "default-branch": ("main", False), "compression": (9, False), "memory": (256, True),
        "xattr": ("off", True),
    }  # fmt: skip
    assert done(run_ana("config", "compression", cwd=repo.path)) == "9\n"
    assert repo.json("config", "memory") == {"key": "memory", "value": 256, "default": True}


def test_a_key_is_set_and_goes_back_to_its_default(repo: Repo):
    assert done(repo.ana("config", "author", "Ann Lee, ünïcödé")) == "author is Ann Lee, ünïcödé\n"
    assert done(repo.ana("config", "author")) == "Ann Lee, ünïcödé\n"
    assert done(repo.ana("config", "memory", "64")) == "memory is 64 from the next mount on\n"
    assert repo.json("config", "compression", "19") == {"key": "compression", "value": 19, "default": False}
    for key, value in (("author", me()), ("memory", "256"), ("compression", "1")):
        assert done(repo.ana("config", "--unset", key)).startswith(f"{key} is {value} again")
        assert done(repo.ana("config", key)) == f"{value}\n"


def test_a_wrong_key_or_value_is_told_what_is_expected_and_changes_nothing(repo: Repo):
    before = values(repo)
    for words in (["colour"], ["colour", "red"], ["--unset", "colour"]):
        hinted(repo.ana("config", *words), 2, "colour", "author, default-branch, compression, memory, xattr")
    for value in ("0", "20", "fast", "", "1.5", "1" * 5_000, "٣"):
        hinted(repo.ana("config", "compression", value), 2, "from 1 to 19")
    for value in ("0", "much", "-1 "):
        hinted(repo.ana("config", "memory", "--", value), 2, "MiB")
    for value in ("", "  ", "two\nlines", "x" * 1025):
        hinted(repo.ana("config", "author", value), 2, "author")
    done(repo.ana("tag", "v1"))
    refused(repo.ana("config", "default-branch", "v1"), 2, "v1 is a tag")
    hinted(repo.ana("config", "default-branch", "none"), 1, "none")
    hinted(repo.ana("config", "default-branch", "a/b"), 2, "bad name")
    hinted(repo.ana("config", "--unset", "default-branch"), 2, "no default")
    hinted(repo.ana("config", "--unset"), 2, "one KEY")
    hinted(repo.ana("config", "--unset", "author", "x"), 2, "one KEY")
    assert values(repo) == before


def test_the_author_is_that_of_every_commit_for_which_nobody_says_another(repo: Repo):
    done(repo.ana("config", "author", "Ann"))
    done(repo.ana("commit", "--allow-empty", "-m", "of the setting"))
    done(repo.ana("commit", "--allow-empty", "-m", "of the option", "--author", "Ben"))
    done(repo.ana("config", "--unset", "author"))
    done(repo.ana("commit", "--allow-empty", "-m", "of whoever commits"))
    assert [version["author"] for version in repo.json("log")[:3]] == [me(), "Ben", "Ann"]


@pytest.mark.mounted
def test_a_running_daemon_goes_by_it_at_once(mount: Mount):
    """Commits by the command and by the control file, new branches, and how new content is compressed."""
    done(mount.ana("config", "author", "Ann"))
    (mount.main / "file").write_text(TEXT)
    mount.commit("by control file")
    (mount.main / "file").write_text("short")
    done(mount.ana("commit", "-m", "by command"))
    assert [version["author"] for version in mount.json("log")[:2]] == ["Ann", "Ann"]
    done(mount.ana("config", "compression", "19"))
    (mount.main / "harder").write_text(TEXT[::-1])
    harder = json.loads(done(run_ana("commit", "-m", "harder", "--json", cwd=mount.main)))
    done(mount.ana("config", "--unset", "compression"))
    (mount.main / "quicker").write_text("!" + TEXT[::-1].replace("K", "C"))
    quicker = json.loads(done(run_ana("commit", "-m", "quicker", "--json", cwd=mount.main)))
    assert harder["added_bytes"] < 0.9 * quicker["added_bytes"]
    assert (mount.root / "main@3/harder").read_text() == TEXT[::-1]
    done(mount.ana("branch", "exp", "main@1"))
    assert done(mount.ana("config", "default-branch", "exp")) == "default-branch is exp\n"
    (mount.root / "new").mkdir()
    assert (mount.root / "new/file").read_text() == TEXT
    assert run_ana("branch", "-d", "exp", cwd=mount.root).returncode == 3
    done(mount.ana("branch", "-d", "main"))
    done(mount.ana("branch", "-m", "exp", "trunk"))
    assert done(mount.ana("config", "default-branch")) == "trunk\n"
    done(mount.ana("commit", "--allow-empty", "-m", "on the default branch"))
    assert mount.messages("trunk")[0] == "on the default branch"
    assert not [name for name in ("main", "exp") if (mount.root / name).exists()]
    mount.remount()
    assert values(mount)["author"] == ("Ann", False)


@pytest.mark.mounted
def test_the_next_mount_takes_as_much_memory_as_is_set_unless_it_is_told_otherwise(mount: Mount):
    """The kernel may know 256 files for each MiB."""
    for number in range(800):
        (mount.main / f"{number}").touch()
    mount.commit()

    def known() -> int:
        found = json.loads((mount.root / ".ana/stats.json").read_text())["known_inodes"]
        assert isinstance(found, int)
        return found

    done(mount.ana("config", "memory", "1"))
    for words, few in (([], True), (["--memory", "256"], False)):
        mount.umount()
        done(run_ana("mount", *words, mount.path, mount.root, cwd=Path("/")))
        for path in mount.main.iterdir():
            path.stat()
        if few:
            wait_for(lambda: known() < 300, "the kernel to forget files")
        else:
            assert known() >= 800


@pytest.mark.mounted
def test_a_read_only_mount_shows_settings_and_takes_none(mountable: Mount):
    done(run_ana("mount", "--read-only", mountable.path, mountable.root, cwd=Path("/")))
    try:
        assert done(run_ana("config", "memory", cwd=mountable.root)) == "256\n"
        hinted(mountable.ana("config", "memory", "300"), 3, "mounted read-only")
    finally:
        mountable.umount()


def test_what_is_imported_is_compressed_as_it_is_set(repo: Repo, beside: Path):
    added = []
    for level, text in (("19", TEXT), ("1", "!" + TEXT.replace("K", "C"))):
        done(repo.ana("config", "compression", level))
        (beside / "file").write_text(text)
        said = json.loads(done(repo.ana("import", "--commit", level, "--json", beside / "file", level)))
        added.append(said["commit"]["added_bytes"])
    assert added[0] < 0.9 * added[1]


def test_tab_completes_keys_and_branches(repo: Repo):
    assert offered(repo.path, "config", "") == ["author", "default-branch", "compression", "memory", "xattr"]
    assert offered(repo.path, "config", "xattr", "o") == ["on", "off"]
    assert offered(repo.path, "config", "--unset", "co") == ["compression"]
    assert offered(repo.path, "config", "default-branch", "m") == ["main"]
    assert offered(repo.path, "config", "author", "m") == []
