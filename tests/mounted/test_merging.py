"""`ana merge`, `revert`, `cherry-pick` and `reset` beside programs that work on the branch. P97 to P103, P26."""

import errno
import json
import mmap
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Completed, Mount, below, done, errno_of, hinted, pin_times, python, run_ana, shell, snapshot

pytestmark = pytest.mark.mounted

LARGE, OTHER = (random.Random(seed).randbytes(300_000) for seed in (1, 2))


@pytest.fixture
def parted(mount: Mount) -> Mount:
    """A commit of a bit of everything, and a branch exp from it that has changed nothing yet."""
    top = mount.main
    (top / "d/e").mkdir(parents=True)
    (top / "gone").mkdir()
    for path, data in (("small", b"small"), ("large", LARGE), ("d/a", b"a"), ("d/e/b", LARGE), ("gone/c", b"c")):
        (top / path).write_bytes(data)
    os.link(top / "d/a", top / "linked")
    (top / "symlink").symlink_to("small")
    pin_times(top)
    mount.commit("the first")
    (mount.root / "exp").mkdir()
    return mount


def exp(mount: Mount) -> Path:
    return mount.root / "exp"


def ana(mount: Mount, command: str, *words: str | Path, cwd: str = "main") -> Completed:
    return run_ana(command, *words, cwd=mount.root / cwd)


def change(top: Path) -> None:
    """In every way: shorter, longer, another type, gone, new, and other attributes."""
    (top / "small").write_text("small, but longer")
    (top / "large").write_text("short")
    (top / "d/e/b").unlink()
    (top / "d/e/b").mkdir()
    (top / "d/e/b/inner").write_bytes(OTHER)
    (top / "symlink").unlink()
    (top / "symlink").write_text("a file")
    (top / "gone/c").unlink()
    (top / "gone").rmdir()
    (top / "gone").symlink_to("nowhere")
    (top / "linked").write_text("both names")
    (top / "new/deep").mkdir(parents=True)
    (top / "new/deep/file").write_bytes(LARGE)
    (top / "d").chmod(0o700)


def look(top: Path) -> dict[str, tuple[object, ...]]:
    """All but times of directories, which alone are no change."""
    return {path: row[:3] + row[4:] if stat.S_ISDIR(row[0]) else row for path, row in snapshot(top).items()}


def version(mount: Mount, name: str = "main") -> str:
    return (mount.root / name / ".ana/head").read_text().split()[0]


# --- what is seen (P103) ---


@pytest.mark.parametrize("command", ["merge", "cherry-pick", "reset"])
def test_every_process_sees_it_when_the_command_returns_whatever_the_kernel_knew_p103(parted: Mount, command: str):
    change(exp(parted))
    parted.commit("exp", branch="exp")
    snapshot(parted.main)
    assert errno_of((parted.main / "new").stat) == errno.ENOENT
    words = ("main", "exp") if command == "reset" else ("exp",)
    done(ana(parted, command, *words))
    assert look(parted.main) == look(parted.root / "exp@1") == look(parted.root / "main@2")
    assert parted.json("status")["clean"]
    parted.remount()
    assert look(parted.main) == look(parted.root / "exp@1")
    assert parted.json("status")["clean"]


def test_a_revert_changes_back_and_a_revert_of_it_again_p100(parted: Mount):
    before = look(parted.main)
    change(parted.main)
    parted.commit("changed")
    after = look(parted.main)
    for number, expected in ((2, before), (3, after), (4, before)):
        done(ana(parted, "revert", f"main@{number}"))
        assert look(parted.main) == expected
        assert parted.json("status")["clean"]
    assert parted.messages()[0].startswith("Revert main@4")


def test_what_did_not_change_keeps_its_number_and_what_did_is_a_new_file_p26_p103(parted: Mount):
    numbers = {path: path.lstat().st_ino for path in below(parted.main)}
    change(exp(parted))
    parted.commit("exp", branch="exp")
    (parted.main / "uncommitted").write_text("mine")
    numbers[parted.main / "uncommitted"] = (parted.main / "uncommitted").stat().st_ino
    done(ana(parted, "merge", "exp"))
    for _ in range(2):
        there = {path: path.lstat().st_ino for path in numbers if path.is_symlink() or path.exists()}
        stayed = {str(path.relative_to(parted.main)) for path, number in there.items() if numbers[path] == number}
        assert stayed == {"d", "d/e", "uncommitted"}
        numbers |= there
        parted.remount()
        again = {path: path.lstat().st_ino for path in there}
        assert again == there
        numbers = {path: numbers[path] if str(path.relative_to(parted.main)) in stayed else -1 for path in there}


def test_an_open_dirty_and_mapped_file_stays_what_its_program_made_of_it_p103(parted: Mount):
    """It is open for reading, in a branch without uncommitted changes there; after, it may be written through, too."""
    (exp(parted) / "large").write_bytes(OTHER + b"longer")
    (exp(parted) / "small").unlink()
    parted.commit("exp", branch="exp")
    path = parted.main / "large"
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped, (parted.main / "small").open("r+b") as small:
        number = path.stat().st_ino
        done(ana(parted, "merge", "exp"))
        assert path.read_bytes() == OTHER + b"longer"
        assert path.stat().st_ino != number
        assert os.fstat(file.fileno()).st_nlink == os.fstat(small.fileno()).st_nlink == 0
        assert mapped[:] == LARGE
        mapped[:6] = b"mapped"
        os.pwrite(file.fileno(), b"written after", len(LARGE))
        os.fsync(file.fileno())
        assert os.pread(file.fileno(), 1 << 20, 0) == b"mapped" + LARGE[6:] + b"written after"
        small.write(b"SMALL, and more")
        small.flush()
        small.seek(0)
        assert small.read() == b"SMALL, and more"
        assert path.read_bytes() == OTHER + b"longer"
        assert not (parted.main / "small").exists()
        assert parted.json("status")["clean"]
    parted.remount()
    assert path.read_bytes() == OTHER + b"longer"


def test_what_is_mapped_and_stored_to_is_an_uncommitted_change_like_others_p99(parted: Mount):
    (exp(parted) / "large").write_bytes(OTHER)
    parted.commit("exp", branch="exp")
    with (parted.main / "large").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[100:106] = b"mapped"
        hinted(ana(parted, "merge", "exp"), 3, "large", "commit or discard")
        assert (parted.main / "large").read_bytes() == LARGE[:100] + b"mapped" + LARGE[106:]
        assert version(parted) == "main@1"


def test_who_stands_in_a_directory_or_lists_it_goes_on_there_p103(parted: Mount):
    for number in range(2_000):
        (parted.main / f"d/e/{number:04}").touch()
    parted.commit("many")
    done(ana(parted, "reset", "exp", "main"))
    for number in range(1_000, 2_000):
        (exp(parted) / f"d/e/{number:04}").unlink()
    (exp(parted) / "d/e/b").write_text("changed")
    parted.commit("fewer", branch="exp")
    inside = os.open(parted.main / "d/e", os.O_RDONLY)
    code = "import os; print(os.getcwd(), flush=True); input(); print(sorted(os.listdir())[-1], os.getcwd())"
    try:
        with os.scandir(inside) as listing, python(code, cwd=parted.main / "d/e") as standing:
            assert standing.stdout is not None
            standing.stdout.readline()
            first = [next(listing).name for _ in range(100)]
            done(ana(parted, "merge", "exp"))
            rest = [entry.name for entry in listing]
            assert len(set(first + rest)) == len(first + rest)
            staying = {f"{number:04}" for number in range(1_000)} | {"b"}
            assert staying <= set(first + rest)
            assert set(os.listdir(inside)) == staying
            assert standing.communicate("\n")[0].split() == ["b", str(parted.main / "d/e")]
        os.close(os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=inside))
        assert (parted.main / "d/e/new").exists()
    finally:
        os.close(inside)


def test_a_directory_that_went_is_empty_for_who_is_in_it(parted: Mount):
    (exp(parted) / "gone/c").unlink()
    (exp(parted) / "gone").rmdir()
    parted.commit("exp", branch="exp")
    inside = os.open(parted.main / "gone", os.O_RDONLY)
    try:
        done(ana(parted, "merge", "exp"))
        assert os.listdir(inside) == []
        assert errno_of(os.open, "file", os.O_WRONLY | os.O_CREAT, dir_fd=inside) == errno.ENOENT
    finally:
        os.close(inside)
    assert not (parted.main / "gone").exists()


def test_the_last_version_as_a_path_follows_p103(parted: Mount):
    (exp(parted) / "small").write_text("exp")
    parted.commit("exp", branch="exp")
    head = parted.root / "main@head"
    assert (head / "small").read_text() == "small"
    done(ana(parted, "merge", "exp"))
    assert (head / "small").read_text() == "exp"
    done(ana(parted, "reset", "main", "main@1"))
    assert (head / "small").read_text() == "small"
    assert (parted.root / "main@2/small").read_text() == "exp"


def test_hard_links_stay_links_and_have_what_came(parted: Mount):
    (exp(parted) / "linked").write_text("by the other name")
    os.link(exp(parted) / "linked", exp(parted) / "d/e/third")
    parted.commit("exp", branch="exp")
    with (parted.main / "d/a").open("r+b") as file:
        done(ana(parted, "merge", "exp"))
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == b"a"
    names = [parted.main / name for name in ("d/a", "linked", "d/e/third")]
    assert {path.read_text() for path in names} == {"by the other name"}
    assert len({path.stat().st_ino for path in names}) == 1
    assert {path.stat().st_nlink for path in names} == {3}
    (parted.main / "d/a").write_text("and on")
    assert names[2].read_text() == "and on"
    parted.commit("on")
    done(ana(parted, "revert", "main@2", "--strategy", "theirs"))
    assert parted.json("status")["clean"]


# --- what is not committed (P99) ---


def test_uncommitted_changes_at_other_paths_stay_and_stay_uncommitted_p99(parted: Mount):
    change(exp(parted))
    parted.commit("exp", branch="exp")
    top = parted.main
    (top / "d/mine").write_bytes(OTHER)
    (top / "own").mkdir()
    (top / "own/x").write_text("x")
    (top / "d/e").chmod(0o711)
    with (top / "open").open("wb", buffering=0) as file:
        file.write(b"before ")
        unlinked = (top / "unlinked").open("w+b", buffering=0)
        unlinked.write(b"unlinked")
        (top / "unlinked").unlink()
        done(ana(parted, "merge", "exp"))
        file.write(b"after")
        unlinked.write(b" still")
        assert os.pread(unlinked.fileno(), 99, 0) == b"unlinked still"
        unlinked.close()
    status = {(each["path"], each["change"]) for each in parted.json("status")["changes"]}
    assert status == {
        ("d/e", "attributes"), ("d/mine", "added"), ("open", "added"), ("own", "added"), ("own/x", "added"),
    }  # fmt: skip
    parted.crash()
    assert (top / "d/mine").read_bytes() == OTHER
    assert (top / "small").read_text() == "small, but longer"
    assert (top / "d").stat().st_mode & 0o777 == 0o700
    assert (top / "d/e").stat().st_mode & 0o777 == 0o711


IN_THE_WAY: dict[str, tuple[str, Callable[[Path], object]]] = {
    "changed": ("small", lambda top: (top / "small").write_text("mine")),
    "deleted": ("large", lambda top: (top / "large").unlink()),
    "renamed": ("large", lambda top: (top / "large").rename(top / "moved")),
    "a new file": ("new", lambda top: (top / "new").write_text("mine")),
    "a new directory": ("new", lambda top: shell("mkdir -p new/deep/file", top)),
    "an ignored file": ("new", lambda top: shell("echo new > .anaignore; echo > new", top)),
    "in a directory that goes": ("gone", lambda top: (top / "gone/mine").write_text("mine")),
    "an ignored one in a directory that goes": ("gone", lambda top: shell("echo x > .anaignore; echo > gone/x", top)),
    "permissions": ("d", lambda top: (top / "d").chmod(0o711)),
    "by another name": ("linked", lambda top: (top / "d/a").write_text("mine")),
    "a new link": ("linked", lambda top: os.link(top / "linked", top / "third")),
    "a directory above was renamed": ("d", lambda top: (top / "d").rename(top / "d2")),
}  # fmt: skip


def test_an_uncommitted_change_in_the_way_is_named_and_nothing_is_changed_p99(parted: Mount):
    change(exp(parted))
    parted.commit("exp", branch="exp")
    for why, (path, disturb) in IN_THE_WAY.items():
        disturb(parted.main)
        before = look(parted.main)
        for words in ("merge exp", "merge exp --ff-only", "cherry-pick exp"):
            said = hinted(ana(parted, *words.split()), 3)
            assert path in said.split("way: ")[1], (why, said)
        hinted(ana(parted, "reset", "main", "exp"), 3)
        assert look(parted.main) == before, why
        assert version(parted) == "main@1"
        done(ana(parted, "discard", "."))
        shell("rm -f gone/x new .anaignore", parted.main)
        assert parted.json("status")["clean"], why
    done(ana(parted, "merge", "exp"))


def test_a_change_that_is_the_same_as_what_would_come_is_in_the_way_all_the_same_or_taken(parted: Mount):
    """Nothing is lost either way."""
    (exp(parted) / "small").write_text("the same")
    parted.commit("exp", branch="exp")
    (parted.main / "small").write_text("the same")
    assert ana(parted, "merge", "exp").returncode in (0, 3)
    assert (parted.main / "small").read_text() == "the same"


WRITER = """
import sys, threading
told, number = threading.Event(), 0
log = open("log", "ab", buffering=0)
while not told.is_set():
    with open(f"mine-{number % 50}", "wb") as file:
        file.write(b"%d" % number * 100)
    log.write(b"%d\\n" % number)
    number += 1
    if number == 1:
        threading.Thread(target=lambda: (sys.stdin.read(), told.set())).start()
        print("ready", flush=True)
print(number)
"""
"""Makes files anew, and then appends to a log, until the end of its input; says how often."""


def test_a_merge_beside_a_program_that_writes_loses_nothing_of_it_p102(parted: Mount):
    with python(WRITER, cwd=parted.main / "d") as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for number in range(8):
            (exp(parted) / f"d/theirs-{number}").write_bytes(LARGE[: 40_000 * number])
            (exp(parted) / "small").write_text(f"{number}" * number)
            parted.commit(f"{number}", branch="exp")
            done(ana(parted, "merge", "exp"))
            assert (parted.main / "small").read_text() == f"{number}" * number
        rounds = int(writer.communicate()[0])
    assert (parted.main / "d/log").read_bytes().split() == [b"%d" % number for number in range(rounds)]
    for number in range(max(0, rounds - 50), rounds):
        assert (parted.main / f"d/mine-{number % 50}").read_bytes() == b"%d" % number * 100
    assert {change["path"].partition("-")[0] for change in parted.json("status")["changes"]} == {"d/log", "d/mine"}


# --- the commands ---


def test_conflicts_are_listed_and_nothing_is_changed_p98(parted: Mount):
    for top, text in ((parted.main, "ours"), (exp(parted), "theirs")):
        (top / "small").write_text(text)
        (top / "added").write_text(text)
        parted.commit(text, branch=top.name)
    (exp(parted) / "clean").write_text("clean")
    parted.commit("clean", branch="exp")
    before = look(parted.main)
    for words in ((), ("--dry-run",)):
        ended = ana(parted, "merge", "exp", *words)
        assert ended.returncode == 3
        listed = [line.split("  ")[0] for line in ended.stdout.splitlines()][:2]
        assert listed == ["both added", "both modified"]
        assert "hint: decide with --resolve" in ended.stderr
        assert look(parted.main) == before
        assert version(parted) == "main@2"
    said = json.loads(ana(parted, "merge", "exp", "--json").stdout)
    assert [(each["path"], each["kind"]) for each in said["conflicts"]] == [
        ("added", "both added"), ("small", "both modified"),
    ]  # fmt: skip
    small = said["conflicts"][1]
    assert [small[side]["size"] for side in ("base", "ours", "theirs")] == [5, 4, 6]
    assert said["conflicts"][0]["base"] is None
    assert said["version"] is None


def test_conflicts_are_resolved_by_rules_then_by_a_strategy_p98(parted: Mount, beside: Path):
    for top, text in ((parted.main, "ours"), (exp(parted), "theirs")):
        for name in ("small", "d/a", "large", "d/e/b"):
            (top / name).write_text(text)
        (top / "small").chmod(0o640)
        parted.commit(text, branch=top.name)
    (beside / "mine").write_bytes(OTHER)
    words = ["--resolve", "d/**=theirs", "--resolve", "b=base", "--resolve", f"small={beside / 'mine'}"]
    assert ana(parted, "merge", "exp", *words).returncode == 3
    dry = ana(parted, "merge", "exp", *words, "--resolve", "larg=theirs", "--strategy", "ours", "--dry-run")
    assert dry.returncode == 0
    assert dry.stderr == "ana: --resolve larg=theirs matches none of the conflicts\n"
    assert version(parted) == "main@2"
    done(ana(parted, "merge", "exp", *words, "--strategy", "ours"))
    held = {name: (parted.main / name).read_bytes() for name in ("small", "d/a", "linked", "large", "d/e/b")}
    assert held == {"small": OTHER, "d/a": b"theirs", "linked": b"theirs", "large": b"ours", "d/e/b": LARGE}
    assert (parted.main / "small").stat().st_mode & 0o777 == 0o640
    assert parted.json("status")["clean"]
    shown = parted.json("show", "main")
    assert len(shown["parents"]) == 2


def test_a_merge_of_what_is_there_is_no_error_and_changes_nothing_p97(parted: Mount):
    for source in ("exp", "main", "main@1", "main@0"):
        assert "has all of" in done(ana(parted, "merge", source))
    assert version(parted) == "main@1"


def test_ff_only_goes_to_the_version_itself_or_is_refused_p97(parted: Mount):
    (exp(parted) / "small").write_text("exp")
    parted.commit("exp", branch="exp")
    done(ana(parted, "merge", "exp", "--ff-only"))
    heads = [(parted.root / name / ".ana/head").read_text().split()[1] for name in ("main", "exp")]
    assert heads[0] == heads[1]
    (parted.main / "large").write_text("main")
    parted.commit("main")
    (exp(parted) / "d/e/b").write_text("exp")
    parted.commit("exp again", branch="exp")
    hinted(ana(parted, "merge", "exp", "--ff-only"), 3, "ana merge exp")
    hinted(ana(parted, "merge", "exp", "--ff-only", "--squash"), 2)
    done(ana(parted, "merge", "exp", "--squash", "-m", "squashed", "--meta", "run=7"))
    shown = parted.json("show", "main")
    assert (len(shown["parents"]), shown["message"], shown["metadata"]) == (1, "squashed", {"run": "7"})


def test_into_says_the_branch_wherever_the_command_is_called(parted: Mount):
    (parted.main / "small").write_text("main")
    parted.commit("main")
    done(ana(parted, "merge", "main", "--into", "exp", cwd="main/d"))
    assert (exp(parted) / "small").read_text() == "main"
    (exp(parted) / "large").write_text("exp")
    parted.commit("exp", branch="exp")
    done(ana(parted, "cherry-pick", "exp", "-b", "main", cwd="."))
    assert (parted.main / "large").read_text() == "exp"
    done(ana(parted, "revert", "exp", cwd="exp/d"))
    assert (exp(parted) / "large").read_bytes() == LARGE


def test_a_pick_keeps_message_author_and_metadata_p100(parted: Mount):
    (exp(parted) / "small").write_text("exp")
    done(ana(parted, "commit", "-m", "why\n\nlong", "--author", "zoe", "--meta", "a=1", cwd="exp"))
    done(ana(parted, "cherry-pick", "exp"))
    shown = parted.json("show", "main")
    assert (shown["message"], shown["author"], shown["metadata"]) == ("why\n\nlong", "zoe", {"a": "1"})
    refused = ana(parted, "cherry-pick", "exp")
    assert (refused.returncode, refused.stdout) == (1, "")


def test_a_reset_is_undone_by_a_reset_and_refused_with_uncommitted_changes_p101(parted: Mount):
    first = look(parted.main)
    change(parted.main)
    parted.commit("changed")
    second = look(parted.main)
    for number, expected in ((1, first), (2, second)):
        done(ana(parted, "reset", "main", f"main@{number}"))
        assert look(parted.main) == expected
    (parted.main / "elsewhere").write_text("mine")
    hinted(ana(parted, "reset", "main", "main@1"), 3, "uncommitted", "--force")
    assert (parted.main / "elsewhere").read_text() == "mine"
    done(ana(parted, "reset", "main", "main@1", "--force"))
    assert look(parted.main) == first
    assert (parted.root / "main@5/elsewhere").read_text() == "mine"
    assert version(parted) == "main@6"
    messages = ["the first", "Before the reset to main@1", "changed", "the first", "changed", "the first", ""]
    assert parted.messages() == messages


def test_a_mistake_is_one_line_with_a_hint_and_changes_nothing(parted: Mount, beside: Path):
    before = look(parted.main)
    for command in ("merge", "revert", "cherry-pick"):
        hinted(ana(parted, command, "nowhere"), 1, "nowhere")
        hinted(ana(parted, command, "main@77"), 1, "77")
        hinted(ana(parted, command, "exp", cwd="main@1"), 2, "read-only")
        hinted(ana(parted, command, "exp", "--resolve", "x=nothing"), 2, "nothing")
        hinted(ana(parted, command, "exp", "--resolve", "x"), 2, "--resolve")
        assert ana(parted, command).returncode == 2
        assert ana(parted, command, "exp", "--strategy", "base").returncode == 2
    for command in ("revert", "cherry-pick"):
        assert ana(parted, command, "main@0").returncode == 2
    hinted(ana(parted, "reset", "nowhere", "main@1"), 1, "nowhere")
    hinted(ana(parted, "reset", "main", "nowhere"), 1, "nowhere")
    hinted(ana(parted, "merge", "exp", "--into", "nowhere"), 1, "nowhere")
    done(ana(parted, "tag", "v1"))
    assert ana(parted, "reset", "v1", "main@0").returncode in (1, 2, 3)
    assert ana(parted, "merge", "exp", "--into", "v1").returncode in (1, 2, 3)
    assert look(parted.main) == before
    assert version(parted) == "main@1"


def test_it_works_the_same_without_a_mount(parted: Mount):
    change(exp(parted))
    parted.commit("exp", branch="exp")
    (parted.main / "mine").write_text("mine")
    expected = look(parted.root / "exp@1")
    parted.umount()
    done(run_ana("merge", "-R", parted.path, "exp", cwd=Path("/")))
    done(run_ana("revert", "-R", parted.path, "main@2", cwd=Path("/")))
    done(run_ana("cherry-pick", "-R", parted.path, "exp@1", cwd=Path("/")))
    done(run_ana("reset", "-R", parted.path, "exp", "main@0", cwd=Path("/")))
    parted.mount()
    assert (parted.main / "mine").read_text() == "mine"
    (parted.main / "mine").unlink()
    assert look(parted.main) == expected
    assert os.listdir(exp(parted)) == []


def test_a_branch_that_no_program_ever_looked_at_is_merged_into_as_well(parted: Mount):
    (parted.main / "small").write_text("main")
    parted.commit("main")
    parted.remount()
    done(ana(parted, "merge", "main", "--into", "exp"))
    assert (exp(parted) / "small").read_text() == "main"


def test_what_was_said_to_be_done_survives_a_kill_p102(parted: Mount):
    change(exp(parted))
    parted.commit("exp", branch="exp")
    done(ana(parted, "merge", "exp"))
    parted.crash()
    assert look(parted.main) == look(parted.root / "main@2") == look(parted.root / "exp@1")
    assert parted.json("status")["clean"]
