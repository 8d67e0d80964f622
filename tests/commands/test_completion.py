"""What Tab offers: names of branches, tags and versions, wherever the command is called; and never an error."""

import os
import pty
import select
import subprocess
from pathlib import Path

import pytest

from tests.harness import ANA, PATIENCE, Mount, Repo, done


def offered(cwd: Path, *words: str) -> list[str]:
    """What bash is told for the last word."""
    asked = {"_ANA_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(["ana", *words]), "COMP_CWORD": str(len(words))}
    ended = subprocess.run([ANA], cwd=cwd, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    return [line.partition(",")[2] for line in ended.stdout.splitlines() if line]


@pytest.mark.mounted
def test_names_and_versions_are_completed_in_the_mount_and_beside_it(mount: Mount):
    (mount.main / "file").touch()
    mount.commit()
    done(mount.ana("branch", "middle"))
    done(mount.ana("tag", "mark"))
    for cwd in (mount.root, mount.main, mount.path):
        assert offered(cwd, "show", "m") == ["main", "middle", "mark"]
        assert offered(cwd, "log", "-b", "m") == ["main", "middle"]
        assert offered(cwd, "diff", "main@1", "main@") == ["main@head", "main@1", "main@0"]
        assert offered(cwd, "restore", "ma") == ["main", "mark", "ma"]
        assert offered(cwd, "blame", "ma") == ["main", "mark", "ma"]
        assert offered(cwd, "dis") == ["discard"]
        assert offered(cwd, "bl") == ["blame"]
    assert offered(Path("/"), "show", "-R", str(mount.path), "mi") == ["middle"]


def test_without_a_repository_nothing_is_offered(tmp_path: Path):
    assert offered(tmp_path, "show", "m") == []
    assert offered(tmp_path, "show", "m@") == []


def test_with_a_damaged_repository_nothing_is_offered(repo: Repo):
    (repo.path / "meta.mdb").write_bytes(b"rubbish" * 10_000)
    assert offered(repo.path, "show", "m") == []


def test_in_bash_itself_versions_are_completed_though_it_takes_them_for_several_words(repo: Repo, beside: Path) -> None:
    for number in range(3):
        (beside / "file").write_text(str(number))
        done(repo.ana("import", beside, "data", "--commit", f"number {number}"))
    seen = typed(repo.path, "ana diff main@1 main@\t\t", "ana sho\tmain@h\t")
    assert all(f"@{version} " in seen for version in ("head", "3", "2", "1"))
    assert "end ana show main@head" in seen


def typed(cwd: Path, *lines: str) -> str:
    """What an interactive bash shows when keys are pressed; each line is given up in the end."""
    master, slave = pty.openpty()
    environment = {**os.environ, "PATH": f"{ANA.parent}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "READY$ "}
    command = ["bash", "--norc", "--noprofile", "-i"]
    shell = subprocess.Popen(command, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    seen = b""

    def read_until(word: bytes, count: int) -> None:
        nonlocal seen
        while seen.count(word) < count:
            ready, _, _ = select.select([master], [], [], PATIENCE)
            assert ready, f"waited for {word!r} after {seen!r}"
            seen += os.read(master, 65_536)

    try:
        read_until(b"READY$ ", 1)
        os.write(master, b'eval "$(_ANA_COMPLETE=bash_source ana)"; echo set"up"\n')
        read_until(b"setup\r\n", 1)
        for number, line in enumerate(lines):
            os.write(master, line.encode() + b"\x01echo end\\ \x05\n")  # before the line: it is only printed
            read_until(b"\nend ", number + 1)
    finally:
        shell.kill()
        shell.wait()
        os.close(master)
    return seen.decode(errors="replace")
