"""What the command does with bad input: one clear line, a hint, an exit code, no traceback. P3, P6, P35, P38."""

import json
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from anabranch.repo import Repository
from anabranch.versions.objects import Commit, get_commit, put_commit
from tests.harness import ANA, Repo, done, hinted, refused, run_ana, shell, together


def ambiguous_prefix(repo: Repo) -> str:
    """The first four digits that two commits share; commits without a branch are made until there are two."""
    with Repository(repo.path, writable=True) as history:
        empty = get_commit(history.objects, history.refs.get(history.default_branch()).commit)
        seen: set[str] = set()
        for number in range(100_000):
            commit = Commit(empty.root, empty.links, (), 1, "nobody", number, f"number {number}", {})
            digits = put_commit(history.objects, commit).hex()[:4]
            if digits in seen:
                history.objects.flush()
                return digits
            seen.add(digits)
    raise AssertionError("no two of 100,000 commits share four digits")


def test_unknown_revisions_are_not_found(repo: Repo):
    """Exit code 1 in every command that takes one; and nothing was made."""
    calls = []
    for revision in ("none", "main@7", "none@1", "main@2001-01-01", "@00000000"):
        for command in (
            ["ls", revision], ["cat", f"{revision}:file"], ["diff", revision, "main"], ["branch", "new", revision],
            ["tag", "new", revision],
        ):  # fmt: skip
            calls.append(partial(repo.ana, *command))
    for ended in together(calls):
        refused(ended, 1)
    assert repo.json("branch") == [{"name": "main", "number": 0, "id": repo.json("log")[0]["id"], "current": True}]
    assert repo.json("tag") == []


def test_unknown_revisions_come_with_a_hint(repo: Repo):
    hinted(repo.ana("ls", "none"), 1, "no branch or tag is called none", "ana branch")
    hinted(repo.ana("ls", "main@7"), 1, "main has no version 7", "from 0 to 0")
    hinted(repo.ana("log", "-b", "none"), 1, "none", "ana branch")
    hinted(repo.ana("commit", "-m", "x", "-b", "none"), 1, "none", "ana branch")
    hinted(repo.ana("status", "-b", "none"), 1, "none", "ana branch")


def test_a_time_to_come_or_before_the_branch_is_not_found_p6(repo: Repo):
    refused(repo.ana("ls", "main@2999-01-01"), 1, "not yet past")
    refused(repo.ana("ls", "main@2001-01-01T00:00:00Z"), 1)
    refused(repo.ana("ls", "main@2001-01-01T000000Z"), 1)
    refused(repo.ana("cat", "main@2001-01-01T00:00:00Z:a/path"), 1)


def test_revisions_that_mean_nothing_are_wrong_use(repo: Repo):
    revisions = ("main@x", "main@", "main@1x", "main@2026-13-01", "main@2026-02-30", "main@-1", "@123", "@xyzw",
                 "@", "", "a@b@c", "@" + "0" * 65)  # fmt: skip
    for ended in together(partial(repo.ana, "ls", revision) for revision in revisions):
        hinted(ended, 2)


def test_an_ambiguous_prefix_is_refused(repo: Repo):
    digits = ambiguous_prefix(repo)
    hinted(repo.ana("ls", f"@{digits}"), 3, digits)
    hinted(repo.ana("tag", "v1", f"@{digits.upper()}"), 3)
    assert repo.json("tag") == []
    whole = repo.json("log")[0]["id"]
    assert done(repo.ana("ls", f"@{whole[:12]}")) == ""


def test_bad_names_of_branches_and_tags_are_refused_p3(repo: Repo):
    names = ["", "a/b", "a@b", "a:b", ".hidden", "-dash", "x" * 201, "ä" * 101, "tab\t", "new\nline", "\x7f", "\udcff"]
    for name in names:  # not together: a name is looked at by whoever owns the repository
        hinted(repo.ana("branch", "--", name), 2, "bad name", "1 to 200 bytes")
    hinted(repo.ana("tag", "a@b"), 2, "bad name", "1 to 200 bytes")
    assert (len(repo.json("branch")), repo.json("tag")) == (1, [])


def test_a_bad_name_of_the_first_branch_makes_no_repository_p3(tmp_path: Path):
    hinted(run_ana("init", "repo", "--branch", "a/b", cwd=tmp_path), 2, "bad name")
    assert os.listdir(tmp_path) == []


def test_taken_names_are_refused(repo: Repo):
    done(repo.ana("branch", "exp"))
    done(repo.ana("tag", "v1"))
    for command in ("branch", "tag"):
        for name in ("main", "exp", "v1"):
            refused(repo.ana(command, name), 3, name)
    assert (len(repo.json("branch")), len(repo.json("tag"))) == (2, 1)


def test_an_empty_message_is_refused(repo: Repo):
    for message in ("", " ", "\n\t\n"):
        hinted(repo.ana("commit", "-m", message), 2, "message is empty", "say what changed")
    assert len(repo.json("log")) == 1


def test_nothing_to_commit_is_exit_code_1(repo: Repo):
    refused(repo.ana("commit", "-m", "x"), 1, "nothing to commit")


def test_a_folder_that_is_no_repository_is_wrong_use(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    commands = (["status"], ["log"], ["ls", "main"], ["cat", "main:x"], ["diff"], ["branch"], ["tag"],
                ["commit", "-m", "x"])  # fmt: skip
    for ended in together(partial(run_ana, *command, cwd=tmp_path) for command in commands):
        hinted(ended, 2, "neither in a repository nor in a mounted one", "-R REPO")
    for ended in together(partial(Repo(tmp_path).ana, *command) for command in commands):
        hinted(ended, 2, "not a repository", "ana init")
    for ended in together(partial(Repo(tmp_path / "none").ana, *command) for command in commands):
        hinted(ended, 1, "does not exist", "ana init")
    for ended in together(partial(Repo(tmp_path / "file").ana, *command) for command in commands):
        hinted(ended, 2, "not a repository")
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_init_does_not_touch_what_is_there(repo: Repo, tmp_path: Path):
    before = (repo.path / "anabranch.json").read_bytes()
    refused(run_ana("init", repo.path, cwd=tmp_path), 3, "repository already")
    assert (repo.path / "anabranch.json").read_bytes() == before
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("x")
    hinted(run_ana("init", full, cwd=tmp_path), 2, "not empty")
    assert os.listdir(full) == ["precious"]
    refused(run_ana("init", full / "precious", cwd=tmp_path), 2, "not a folder")
    refused(run_ana("init", full / "precious/below", cwd=tmp_path), 2)
    done(run_ana("init", "deep/er/repo", cwd=tmp_path))
    assert (tmp_path / "deep/er/repo").stat().st_mode & 0o777 == 0o700, "data is nobody else's business"


def rewrite(repo: Repo, **changes: object) -> None:
    """Change the repository's record."""
    path = repo.path / "anabranch.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


COMMANDS = (["status"], ["log"], ["ls", "main"], ["diff"], ["branch", "new"], ["tag", "new"], ["commit", "-m", "x"])


def test_an_unknown_format_is_refused_p38(repo: Repo, tmp_path: Path):
    rewrite(repo, format=2)
    for ended in together(partial(repo.ana, *command) for command in COMMANDS):
        hinted(ended, 3, "format 2", "newer version")
    hinted(run_ana("mount", repo.path, tmp_path / "anywhere", cwd=tmp_path), 3, "format 2", "newer version")
    rewrite(repo, format=1)
    assert len(repo.json("log")) == 1
    assert repo.json("tag") == []


def test_unknown_features_are_refused_as_far_as_they_reach_p38(repo: Repo):
    rewrite(repo, ignorable=["colours"])
    assert repo.json("status")["clean"]
    rewrite(repo, read_only=["later"])
    assert done(repo.ana("ls", "main")) == ""
    assert len(repo.json("log")) == 1
    for command in (["status"], ["branch", "new"], ["tag", "new"], ["commit", "-m", "x"]):
        refused(repo.ana(*command), 3, "later")
    rewrite(repo, read_only=[], incompatible=["encryption"])
    for ended in together(partial(repo.ana, *command) for command in COMMANDS):
        refused(ended, 3, "encryption")
    rewrite(repo, incompatible=[], chunker="another")
    for ended in together(partial(repo.ana, *command) for command in COMMANDS):
        refused(ended, 3, "another")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "1", '"text"', "{}", '{"format": 1}', "\x00\xff",
             '{"format": 1, "id": 5, "chunker": [], "incompatible": "", "read_only": 0, "ignorable": {}}'],
)  # fmt: skip
def test_a_record_that_cannot_be_read_is_refused_p38(repo: Repo, text: str):
    (repo.path / "anabranch.json").write_text(text)
    refused(repo.ana("log"), 4)


def test_a_missing_part_of_a_repository_is_damage_p35(repo: Repo):
    (repo.path / "meta.mdb").unlink()
    refused(repo.ana("log"), 4)
    (repo.path / "meta.mdb").write_bytes(b"this is no index" * 1000)
    refused(repo.ana("log"), 4)
    (repo.path / "meta.mdb").write_bytes(b"")
    refused(repo.ana("log"), 4)


def test_paths_that_are_not_in_a_version_are_not_found(repo: Repo):
    refused(repo.ana("cat", "main@0:none"), 1, "none")
    refused(repo.ana("ls", "main@0:none/at/all"), 1)
    hinted(repo.ana("cat", "main@0"), 2, "names no file", "REV:PATH")
    hinted(repo.ana("cat", "main@0:"), 2, "names no file")


def test_wrong_options_are_exit_code_2(tmp_path: Path):
    commands = ("log --none", "none", "init", "commit", "log -n 0", "mount x", "ls", "cat")
    for ended in together(partial(run_ana, *command.split(), cwd=tmp_path) for command in commands):
        assert ended.returncode == 2, ended.args
        assert "Traceback" not in ended.stderr
        assert "Error: " in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take its own powers away")
def test_a_repository_that_may_not_be_read_is_refused(repo: Repo):
    for part, mode in ((repo.path / "anabranch.json", 0o000), (repo.path / "meta.mdb", 0o000), (repo.path, 0o000)):
        before = part.stat().st_mode & 0o777
        part.chmod(mode)
        try:
            ended = subprocess.run(
                ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *run_ana_command("log", repo)],
                capture_output=True, text=True, check=False, cwd="/",
            )  # fmt: skip
        finally:
            part.chmod(before)
        assert ended.returncode in (3, 4), ended
        assert "Traceback" not in ended.stderr
        assert ended.stderr.startswith("ana: ")
    assert len(repo.json("log")) == 1


def run_ana_command(command: str, repo: Repo) -> list[str]:
    """The words of a command."""
    return [str(ANA), command, "-R", str(repo.path)]


def test_help_says_what_exit_codes_mean(tmp_path: Path):
    text = done(run_ana("--help", cwd=tmp_path))
    assert "Exit codes" in text
    for command in (
        "init",
        "mount",
        "umount",
        "commit",
        "status",
        "log",
        "diff",
        "branch",
        "tag",
        "cat",
        "ls",
        "reindex",
    ):
        assert command in text
        assert "Example" in done(run_ana(command, "-h", cwd=tmp_path))
    assert done(run_ana("--version", cwd=tmp_path)).startswith("ana")


def test_output_that_nobody_reads_is_no_error(repo: Repo):
    """`ana log | head -0`."""
    done(repo.ana("branch", "exp"))
    command = " ".join(map(repr, run_ana_command("branch", repo)))
    ended = shell(f"set -o pipefail; {command} | true", Path("/"), "bash")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_path_that_is_not_utf_8_is_refused(repo: Repo, tmp_path: Path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/not \xff utf-8"))
    hinted(run_ana("init", path, cwd=tmp_path), 2, "not UTF-8")
    assert not path.exists()
    path.mkdir()
    hinted(run_ana("mount", repo.path, path, cwd=tmp_path), 2, "not UTF-8")


def test_a_repository_of_somebody_else_is_refused_not_called_damaged(repo: Repo):
    (repo.path / "meta.mdb").chmod(0)
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    for words in (["log"], ["status"]):
        ended = subprocess.run(
            [*powerless, ANA, *words, "-R", repo.path], cwd="/", capture_output=True, text=True, check=False
        )
        hinted(ended, 3, f"{repo.path} cannot be opened: permission denied", "--allow-other")
