"""The library in several threads and processes, and beside a fork."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from anabranch import NotFoundError, RefusedError, Repository
from tests.commands.test_library import fails
from tests.harness import Repo, verify

THREADS = 6


def at_once(work: Callable[[int], object], threads: int = THREADS) -> list[object]:
    """Results of a work in several threads; an error of one is raised."""
    with ThreadPoolExecutor(threads) as pool:
        return [future.result() for future in [pool.submit(work, number) for number in range(threads)]]


def content(number: int) -> bytes:
    return random.Random(number).randbytes(50_000)


def test_threads_write_at_once_and_nothing_is_lost(repo: Repo):
    with Repository(repo.path) as repository:
        main = repository.branch()

        def work(number: int) -> None:
            for each in range(8):
                (main / f"{number}/{each}").write_bytes(content(number * each))
                with main.transaction() as made:
                    made.write_text(f"{number}/{each}.one", "1")
                    made.write_text(f"{number}/{each}.two", "2")

        at_once(work)
        version = main.commit("all")
        for number in range(THREADS):
            for each in range(8):
                assert (version / f"{number}/{each}").read_bytes() == content(number * each)
        assert len(list(version.path().rglob("*.*"))) == THREADS * 16
    verify(repo.path)


def test_threads_read_whole_files_while_another_writes_them(repo: Repo):
    with Repository(repo.path) as repository:
        main, last = repository.branch(), 12
        (main / "a").write_bytes(content(0))
        known = {content(number) for number in range(last + 1)}
        done = threading.Event()

        def work(number: int) -> int:
            if number == 0:
                for each in range(1, last + 1):
                    (main / "a").write_bytes(content(each))
                    main.commit(str(each))
                done.set()
            reads = 0
            while not done.is_set() or not reads:
                assert (main / "a").read_bytes() in known
                messages = [version.message for version in main.log()]
                assert messages == [*map(str, range(len(messages) - 1, 0, -1)), ""]
                reads += 1
            return reads

        at_once(work, 4)
        assert (main / "a").read_bytes() == content(last)
        assert [version.message for version in main.log()] == [*map(str, range(last, 0, -1)), ""]


def test_a_repository_is_closed_beneath_threads_that_read(repo: Repo):
    with Repository(repo.path) as repository:
        main = repository.branch()
        (main / "a").write_bytes(data := random.Random(1).randbytes(3_000_000))
        version = main.commit("first")
        reading = threading.Barrier(5)

        def work(number: int) -> None:
            reading.wait()
            if number == 0:
                repository.close()
                return
            with pytest.raises(RefusedError, match="closed"):  # noqa: PT012  (some time)
                while True:
                    assert (version / "a").read_bytes() == data
                    assert [change.path for change in version.changes()] == ["a"]

        at_once(work, 5)
    with Repository(repo.path) as again:
        assert (again.version("main") / "a").read_bytes() == data


WORKER = """
import sys
from anabranch import Repository
with Repository(sys.argv[1]) as repository:
    main = repository.branch()
    for number in range(6):
        with main.transaction() as made:
            made.write_text(f"{sys.argv[2]}/{number}", sys.argv[2])
        main.commit(f"{sys.argv[2]} {number}", sys.argv[2])
"""


def test_processes_write_and_commit_at_once(repo: Repo):
    with Repository(repo.path) as repository:
        main = repository.branch()
        workers = [subprocess.Popen([sys.executable, "-c", WORKER, repo.path, str(each)]) for each in range(3)]
        while any(worker.poll() is None for worker in workers):
            numbers = [version.number for version in main.log()]
            assert numbers == list(range(len(numbers) - 1, -1, -1))
        assert [worker.returncode for worker in workers] == [0, 0, 0]
        assert {version.message for version in main.log()} - {""} == {f"{a} {b}" for a in range(3) for b in range(6)}
        assert len([path for path in main.head.path().rglob("*") if path.is_file()]) == 18
    verify(repo.path)


def in_child(work: Callable[[], object]) -> str:
    """What a work says in a process that is forked."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = str(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writes, said.encode())
        os._exit(0)
    os.close(writes)
    os.waitpid(child, 0)
    with os.fdopen(reads) as file:
        return file.read()


def test_what_was_opened_before_a_fork_says_so_in_the_child_and_works_in_the_parent(repo: Repo):
    with Repository(repo.path) as repository:
        main = repository.branch()
        (main / "a").write_text("a")
        version = main.commit("first")
        file = (version / "a").open("rb")
        for use in (
            lambda: repository.branch(),
            lambda: (version / "a").read_text(),
            lambda: (main / "a").read_text(),
            lambda: (main / "b").write_text("b"),
            lambda: file.read(),
            lambda: list(main.log()),
            lambda: Repository(repo.path),
        ):
            said = in_child(use)
            assert said.startswith("RefusedError: "), said
            assert "before this process was forked" in said
        assert in_child(repository.close) == "None"
        assert (version / "a").read_text() == file.read().decode() == "a"
        main.commit("second", allow_empty=True)
    with Repository(repo.path) as again:
        assert again.branch().head.number == 2


def test_a_child_opens_what_the_parent_has_closed(repo: Repo):
    def work() -> str:
        with Repository(repo.path) as repository:
            (repository.branch() / "a").write_text("of the child")
            return (repository.branch() / "a").read_text()

    with Repository(repo.path) as repository:
        repository.branch()
    assert in_child(work) == "of the child"
    with Repository(repo.path) as repository:
        assert (repository.branch() / "a").read_text() == "of the child"


def test_a_branch_that_is_deleted_beside_says_so(repo: Repo):
    with Repository(repo.path) as repository, Repository(repo.path) as other:
        exp = repository.create_branch("exp")
        file = (exp / "late").open("w")
        other.delete_branch("exp")
        assert not (exp / "a").exists()
        fails(file.close, lambda: exp.status(), lambda: list(exp.walk()), of=NotFoundError)
        assert file.closed
