"""Bad input for import, export, config, info, doctor, restore, discard, and what branch, tag, commit and diff learned.

See test_bad_input.py for the others: one clear line, a hint where there is something to do, an exit code, nothing done.
"""

import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.harness import ANA, Repo, done, hinted, refused, run_ana, shell, together

NASTY = "na\x1b[31m\nzz"
"""A name that would colour a terminal, and begin a line."""

COMMANDS = (
    ["import", "/etc/hostname", "x"], ["export", "main", "new"], ["config"], ["config", "compression", "3"], ["info"],
    ["restore", "x"], ["restore", "main", "x"], ["discard"], ["discard", "x"], ["branch", "-d", "x"],
    ["branch", "-m", "main", "x"], ["branch", "--restore", "x"], ["tag", "-d", "x"], ["du", "main"],
    ["commit", "x", "-m", "x"], ["status", "--ignored"], ["diff", "--", "x"], ["show"],
)  # fmt: skip


def state(repo: Repo) -> tuple[object, ...]:
    """All that a mistake must not change."""
    return repo.json("status"), repo.json("branch"), repo.json("tag"), repo.json("log"), done(repo.ana("config"))


@pytest.fixture
def filled(repo: Repo, beside: Path) -> Repo:
    """A version with a few files, and something that is not committed."""
    (beside / "d").mkdir()
    for name in ("file", "d/inner"):
        (beside / name).write_text(name)
    done(repo.ana("import", beside, "data", "--commit", "first"))
    done(repo.ana("import", beside / "file", "uncommitted"))
    return repo


def test_a_folder_that_is_no_repository_is_wrong_use(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for ended in together(partial(run_ana, *command, cwd=tmp_path) for command in COMMANDS):
        hinted(ended, 2, "neither in a repository nor in a mounted one", "-R REPO")
    for ended in together(partial(Repo(tmp_path).ana, *command) for command in COMMANDS):
        hinted(ended, 2, "not a repository", "ana init")
    for ended in together(partial(Repo(tmp_path / "none").ana, *command) for command in COMMANDS):
        hinted(ended, 1, "does not exist", "ana init")
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_unknown_revisions_and_branches_are_not_found(filled: Repo, tmp_path: Path):
    before, out = state(filled), str(tmp_path / "out")
    calls = [
        partial(filled.ana, *command)
        for revision in ("none", "main@7", "@00000000", "main@2001-01-01")
        for command in (
            ["export", revision, out], ["export", f"{revision}:data", out], ["restore", revision, "data"],
            ["du", revision], ["show", revision], ["diff", revision, "--", "data"],
        )
    ]  # fmt: skip
    for branch in ("none", "main@1"):
        calls += [
            partial(filled.ana, *command, "-b", branch)
            for command in (
                ["import", "/etc/hostname", "x"], ["restore", "data"], ["discard"], ["commit", "data", "-m", "x"],
                ["status", "--ignored"],
            )
        ]  # fmt: skip
    for ended in together(calls):
        assert ended.returncode in (1, 2)
        refused(ended, 2 if "main@1" in ended.args else 1)
    for ended in together(
        partial(filled.ana, *command)
        for command in (["branch", "-d", "none"], ["branch", "-m", "none", "x"], ["branch", "--restore", "none"],
                        ["tag", "-d", "none"])
    ):  # fmt: skip
        hinted(ended, 1, "none")
    assert state(filled) == before
    assert not (tmp_path / "out").exists()


def test_paths_that_are_not_there_are_not_found(filled: Repo, tmp_path: Path):
    before = state(filled)
    for command in (
        ["export", "main:none", str(tmp_path / "out")], ["restore", "none"], ["restore", "main", "data", "none"],
        ["discard", "none"], ["discard", "uncommitted", "none"], ["commit", "none", "-m", "x"],
        ["commit", "uncommitted", "none", "-m", "x"], ["du", "main:none"], ["restore", "data/file/below"],
    ):  # fmt: skip
        refused(filled.ana(*command), 1, "no")
    for command in (
        ["restore", "../data"], ["discard", "/etc/.."], ["commit", "..", "-m", "x"], ["restore", ""], ["discard", ""],
        ["commit", "", "-m", "x"], ["import", "/etc/hostname", ".."],
    ):  # fmt: skip
        if command != ["discard", "/etc/.."]:
            hinted(filled.ana(*command), 2)
    assert state(filled) == before


def test_what_the_state_forbids_is_refused(filled: Repo):
    done(filled.ana("branch", "exp"))
    done(filled.ana("tag", "v1"))
    before = state(filled)
    for command in (
        ["branch", "-m", "exp", "main"], ["branch", "-m", "exp", "v1"], ["branch", "-d", "main"],
        ["branch", "--restore", "main"],
    ):  # fmt: skip
        refused(filled.ana(*command), 3)
    for command in (["branch", "-d", "v1"], ["tag", "-d", "exp"], ["branch", "-m", "v1", "x"]):
        refused(filled.ana(*command), 2, "not a ")
    for name in ("a/b", "a@b", ".x", "new\nline", "x" * 201):
        hinted(filled.ana("branch", "-m", "exp", name), 2, "bad name")
    assert state(filled) == before


def test_settings_that_cannot_be_are_wrong_use(filled: Repo):
    before = state(filled)
    for words in (
        ["none"], ["none", "x"], ["compression", "0"], ["compression", "20"], ["compression", "x"], ["memory", "0"],
        ["default-branch", "a/b"], ["--unset", "none"], ["author", ""], ["author", "two\nlines"], ["memory", "9" * 40],
    ):  # fmt: skip
        ended = filled.ana("config", *words)
        assert ended.returncode in (1, 2), (words, ended)
        refused(ended, ended.returncode)
    assert state(filled) == before


def test_names_that_would_move_a_cursor_are_escaped_wherever_they_come_back(filled: Repo, tmp_path: Path):
    """In messages of errors, and in what is listed."""
    (tmp_path / NASTY).write_text("x")
    commands = (
        ["import", tmp_path / "none" / NASTY, "x"], ["import", tmp_path / NASTY, NASTY], ["restore", NASTY],
        ["restore", "main", f"{NASTY}x"], ["discard", f"{NASTY}x"], ["commit", f"{NASTY}x", "-m", "x"],
        ["commit", NASTY, "-m", NASTY], ["export", NASTY, "out"], ["export", f"main:{NASTY}x", "out"], ["du", NASTY],
        ["du", f"main:{NASTY}x"], ["du", f"main:{NASTY}"], ["branch", "-d", NASTY], ["branch", "-m", "main", NASTY],
        ["branch", "--restore", NASTY], ["tag", "-d", NASTY], ["config", NASTY], ["config", "author", f"x{NASTY}"],
        ["config", "default-branch", NASTY], ["status", "--ignored", "-b", NASTY], ["diff", "main@0", "--", NASTY],
        ["show"], ["log"], ["status"], ["info"], ["config"], ["export", f"main:{NASTY}", tmp_path / f"{NASTY}2"],
        ["import", tmp_path, f"{NASTY}/x/y"], ["import", tmp_path / NASTY, ".ana/\x1b"],
    )  # fmt: skip
    for command in commands:
        ended = filled.ana(*map(str, command))
        assert "\x1b" not in ended.stdout + ended.stderr, (command, ended)
        assert "Traceback" not in ended.stderr, (command, ended)
        assert "\nzz" not in ended.stdout + ended.stderr, (command, ended)
    assert filled.messages()[0] == NASTY


def test_output_that_nobody_reads_or_that_is_closed_is_no_error(filled: Repo, tmp_path: Path):
    for command in ("config", "info", "du main", "status --ignored", "show", "diff main@0 -- data", "branch", "log",
                    "export main -", "tag", "restore data", "discard uncommitted"):  # fmt: skip
        words = f"{ANA} {command.split()[0]} -R {filled.path} {' '.join(command.split()[1:])}"
        ended = shell(f"set -o pipefail; {words} | true", tmp_path, "bash")
        assert (ended.returncode, ended.stderr) == (0, ""), command
        ended = shell(f"{words} >&-", tmp_path, "bash")
        assert ended.returncode in (0, 1) if command.startswith("discard") else ended.returncode == 0, (command, ended)
        assert "Traceback" not in ended.stderr, (command, ended)
        ended = shell(f"{words} 2>&- >&- <&-", tmp_path, "bash")
        assert (ended.stderr, ended.stdout) == ("", ""), command


def test_output_for_which_there_is_no_room_is_an_error(filled: Repo):
    for command in ("config", "info", "du main", "show", "export main -", "log"):
        words = f"{ANA} {command.split()[0]} -R {filled.path} {' '.join(command.split()[1:])}"
        ended = shell(f"{words} >/dev/full", Path("/"), "bash")
        hinted(ended, 4, "ana: No space left on device\n", "make room")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take its own powers away")
def test_a_repository_that_may_not_be_written_is_refused(filled: Repo, tmp_path: Path):
    before = state(filled)
    for path in (filled.path, *filled.path.rglob("*")):
        path.chmod(path.stat().st_mode & 0o555)
    try:
        for command in COMMANDS:
            words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", str(ANA), command[0], "-R", str(filled.path)]
            ended = subprocess.run([*words, *command[1:]], capture_output=True, text=True, check=False, cwd=tmp_path)
            assert ended.returncode == 3, (command, ended)
            assert "ermission" in ended.stderr or "may not" in ended.stderr
            assert "Traceback" not in ended.stderr, (command, ended)
            assert ended.stderr == "" or ended.stderr.startswith("ana: "), (command, ended)
    finally:
        for path in (filled.path, *filled.path.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
    assert state(filled) == before


def test_an_export_without_room_or_permission_leaves_nothing(filled: Repo, tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0o500)
    (tmp_path / "file").write_text("x")
    hinted(filled.ana("export", "main", str(tmp_path / "none/out")), 1, "mkdir -p")
    refused(filled.ana("export", "main", str(tmp_path / "file/out")), 1)
    if os.geteuid() == 0:
        words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", str(ANA), "export", "-R", str(filled.path)]
        for name in ("closed/out", "closed/out.tar"):
            ended = subprocess.run([*words, "main", str(tmp_path / name)], capture_output=True, text=True, check=False)
            assert (ended.returncode, ended.stdout) in ((3, ""), (4, "")), ended
            assert ended.stderr.startswith("ana: "), ended
            assert "Permission denied" in ended.stderr, ended
            assert "Traceback" not in ended.stderr
    assert os.listdir(tmp_path / "closed") == []


def test_doctor_says_what_is_wrong_and_never_fails_itself(filled: Repo, tmp_path: Path):
    for path in (tmp_path / "none", tmp_path, filled.path):
        ended = run_ana("doctor", "-R", path, cwd=tmp_path)
        assert "Traceback" not in ended.stderr + ended.stdout, ended
    (filled.path / "meta.mdb").write_bytes(b"this is no index" * 1000)
    ended = run_ana("doctor", "-R", filled.path, cwd=tmp_path)
    assert ended.returncode != 0
    assert "meta.mdb" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
