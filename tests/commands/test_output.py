"""What reaches the terminal: colours, the pager, Ctrl-C, names that would disturb it."""

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.ids import ref_name
from anabranch.repo import Repository
from tests.harness import ANA, PATIENCE, Repo, done, run_ana, shell
from tests.unit.helpers import WHO, Branch

COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
PLAIN = {"TERM": "xterm", "PAGER": "cat", "LESS": "", "NO_COLOR": ""}


@pytest.fixture
def filled(repo: Repo) -> Repo:
    """Two versions, and changes that are not committed."""
    with Repository(repo.path, writable=True) as repository:
        main = Branch(repository)
        main.write("kept", b"1")
        main.write("gone", b"1")
        main.commit("first")
        main.write("large", bytes(range(256)) * 40_000)
        main.commit("second")
        main.write("new", b"333")
        main.write("kept", b"22")
        main.unlink("gone")
        repository.settle_down()
    return repo


def on_terminal(*words: str | Path, **env: str) -> tuple[int, bytes]:
    """Run something on a terminal of its own: how it ended, and all that was to be seen."""
    master, slave = pty.openpty()
    tty = {"stdin": slave, "stdout": slave, "stderr": slave}
    command = subprocess.Popen(
        words, env={**os.environ, **PLAIN, **env}, cwd="/", start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **tty,  # type: ignore[call-overload]
    )  # fmt: skip
    os.close(slave)
    seen = b"".join(_pieces(master))
    os.close(master)
    return command.wait(PATIENCE), seen.replace(b"\r\n", b"\n")


def _pieces(master: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(master, 65_536)
        except OSError:  # nobody has the other end
            return


def test_changes_and_versions_are_in_colour_on_a_terminal(filled: Repo):
    code, seen = on_terminal(ANA, "status", "-R", filled.path)
    assert code == 0
    assert b"\x1b[32mA\x1b[0m  new" in seen
    assert b"\x1b[31mD\x1b[0m  gone" in seen
    assert b"\x1b[33mM\x1b[0m  kept" in seen
    assert b"version \x1b[33m\x1b[1mmain@2\x1b[0m \x1b[33m" in seen
    for words in (
        ["log"],
        ["log", "--graph"],
        ["show"],
        ["diff", "main@1", "main@2"],
        ["branch"],
        ["tag", "v1"],
        ["tag"],
    ):
        code, seen = on_terminal(ANA, *words, "-R", filled.path)
        assert (code, bool(COLOUR.search(seen))) == (0, True), words


def test_what_is_seen_is_what_is_piped_but_for_the_colours(filled: Repo):
    told = (["log", "--graph"], ["blame", "."], ["ls", "main"], ["du", "main"], ["branch"])
    for words in (["status"], ["log"], ["show"], ["diff"], *told):
        code, seen = on_terminal(ANA, *words, "-R", filled.path)
        assert code == 0
        assert COLOUR.sub(b"", seen).decode() == done(filled.ana(*words)), words


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_nothing_is_in_colour_where_nobody_wants_it(filled: Repo, env: dict[str, str]):
    for words in (["status"], ["log"], ["ls", "none"]):
        assert b"\x1b" not in on_terminal(ANA, *words, "-R", filled.path, **env)[1]
        ended = filled.ana(*words)
        assert "\x1b" not in ended.stdout + ended.stderr


def test_json_and_contents_are_never_in_colour(filled: Repo):
    for words in (["status", "--json"], ["log", "--json"], ["cat", "main:kept"], ["diff", "--name-only"]):
        assert b"\x1b" not in on_terminal(ANA, *words, "-R", filled.path)[1]


def test_errors_and_hints_are_in_colour_on_a_terminal(filled: Repo):
    code, seen = on_terminal(ANA, "ls", "none", "-R", filled.path)
    assert code == 1
    assert seen.startswith(b"\x1b[31m\x1b[1mana:\x1b[0m no branch or tag is called none\n\x1b[36m\x1b[1mhint:\x1b[0m ")


TINTS = """
from anabranch.cli.output import show, tint_changes
show(tint_changes("R  a -> b\\nT  x\\na  y\\nI  z\\n    @@ -1 +1 @@\\n    -old\\n    +new\\n     same\\nAnd so on\\n"))
"""


def test_every_sort_of_line_has_its_colour():
    assert on_terminal(sys.executable, "-c", TINTS)[1] == (
        b"\x1b[36mR\x1b[0m  a -> b\n\x1b[36mT\x1b[0m  x\n\x1b[36ma\x1b[0m  y\n\x1b[90mI\x1b[0m  z\n"
        b"\x1b[36m    @@ -1 +1 @@\x1b[0m\n\x1b[31m    -old\x1b[0m\n\x1b[32m    +new\x1b[0m\n     same\nAnd so on\n"
    )


@pytest.mark.parametrize("words", [["log"], ["show"], ["diff"], ["ls", "main"], ["status"], ["du", "main"]])
def test_long_output_goes_through_the_pager_on_a_terminal_only(filled: Repo, words: list[str]):
    pager = """sh -c 'echo "paged $LESS"; cat'"""
    shown = done(run_ana(*words, "-R", filled.path, cwd=Path("/"), env={"PAGER": pager}))
    assert "paged" not in shown
    assert on_terminal(ANA, *words, "-R", filled.path, PAGER=pager, LESS="i")[1].startswith(b"paged i\n")


def test_less_is_told_to_leave_short_output_alone_unless_somebody_has_told_it_otherwise(filled: Repo):
    script = 'unset LESS; exec "$0" log -R "$1"'
    seen = on_terminal("sh", "-c", script, ANA, filled.path, PAGER="""sh -c 'echo "paged $LESS"'""")[1]
    assert seen == b"paged FRX\n"


@pytest.mark.parametrize("pager", ["no-such-program", "", "'unbalanced"])
def test_without_a_pager_it_is_written_straight(filled: Repo, pager: str):
    code, seen = on_terminal(ANA, "log", "-R", filled.path, PAGER=pager, NO_COLOR="1")
    assert (code, seen.decode()) == (0, done(filled.ana("log")))


ENDLESS = """
import itertools
from anabranch.cli.output import page
page(f"{number}\\n" for number in itertools.count())
"""


def test_who_leaves_the_pager_early_ends_the_output_which_was_never_collected():
    assert on_terminal(sys.executable, "-c", ENDLESS, PAGER="head -n 2") == (0, b"0\n1\n")


def test_an_error_in_the_middle_comes_after_what_was_shown(filled: Repo):
    code = "from anabranch.cli.output import page\npage(str(1 // number) for number in (1, 0))"
    ended, seen = on_terminal(sys.executable, "-c", code)
    assert ended == 1
    assert seen.startswith(b"1Traceback")


def test_the_log_of_many_versions_ends_silently_with_who_reads_it(repo: Repo):
    with Repository(repo.path, writable=True) as repository:
        for number in range(60):
            note = f"{number}" + "x" * 5_000
            repository.commit(repository.default_branch(), note, WHO, allow_empty=True)
    ended = shell(f"set -o pipefail; {ANA} log -R {repo.path} | head -1", Path("/"), "bash")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("main@60  ")


def test_ctrl_c_says_that_it_interrupted_and_nothing_else(filled: Repo):
    words = [str(ANA), "cat", "-R", str(filled.path), "main:large"]
    command = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")
    assert command.stdout is not None
    command.stdout.read(1)  # it writes, and is stuck in a full pipe
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=PATIENCE)
    assert (command.returncode, said) == (130, b"ana: interrupted\n")


def test_no_name_and_no_message_disturbs_a_terminal(repo: Repo, tmp_path: Path):
    """Names may hold what turns the direction of a line, and the control characters that have two bytes."""
    evil = "a\x9b31m\u202eb"
    done(repo.ana("branch", evil))
    done(repo.ana("tag", f"t{evil}"))
    with Repository(repo.path, writable=True) as repository:
        branch = Branch(repository, ref_name(evil))
        branch.write(evil, b"1")
        branch.commit(f"one {evil}\x1b\n\x85two {evil}")
        branch.write(f"new {evil}", b"1")
        repository.settle_down()
    words = (
        ["status", "-b", evil], ["log", "-b", evil], ["show", evil], ["branch"], ["tag"], ["diff", "main", evil],
        ["ls", evil], ["du", evil], ["ls", evil, "--json"], ["log", "-b", evil, "--json"], ["branch", "--json"],
        ["ls", f"{evil}@9"], ["cat", f"{evil}:none {evil}"], ["commit", "-m", "x", "--meta", evil],
        ["branch", evil, f"@{evil}"], ["restore", "-b", evil, evil], ["export", evil, evil],
        ["commit", "-b", evil, "-m", evil, "--author", f"x{evil}"], ["branch", "-m", evil, f"{evil}2"],
        ["log", "-b", f"{evil}2"], ["branch", "-d", f"{evil}2"], ["branch", "--restore", f"{evil}2"],
        ["tag", "-d", f"t{evil}"],
    )  # fmt: skip
    for command in words:
        ended = run_ana(*command, "-R", repo.path, cwd=tmp_path)
        said = ended.stdout + ended.stderr
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", said), ended
        assert "\\u202e" in said, ended
