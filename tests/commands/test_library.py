"""The library without a mount: repositories, branches, versions, transactions, and what each refuses."""

import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import pytest

import anabranch
from anabranch import (
    AnabranchError,
    Branch,
    Change,
    DamagedError,
    DeniedError,
    ExistsError,
    NotFoundError,
    NothingToCommitError,
    RefusedError,
    Repository,
    UsageError,
    Version,
)
from tests.harness import Repo, done, verify

# ruff: noqa: PT012, B023  (what is tested is how a block ends; `fails` calls at once)


def fails(
    *calls: Callable[[], object], of: type[BaseException] | tuple[type[BaseException], ...], match: str | None = None
):
    """Each of the calls raises an error of a kind."""
    for call in calls:
        with pytest.raises(of, match=match):
            call()


@pytest.fixture
def repository(repo: Repo) -> Iterator[Repository]:
    """A new repository, open; it is sound at the end."""
    with Repository(repo.path) as opened:
        yield opened
    verify(repo.path)


@pytest.fixture
def main(repository: Repository) -> Branch:
    return repository.branch()


def texts(tree: Branch | Version) -> dict[str, str]:
    """All files of a tree."""
    return {str(path): path.read_text() for path in tree.path().rglob("*") if path.is_file()}


def changes(found: list[Change]) -> list[tuple[str, str]]:
    return [(each.change, each.path) for each in found]


# --- opening ---


def test_all_that_is_offered_is_there_and_nothing_else():
    for name in anabranch.__all__:
        assert getattr(anabranch, name) is not None
    assert dir(anabranch) == sorted(anabranch.__all__)
    assert (Path(anabranch.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError, match="nothing"):
        anabranch.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_a_repository_is_made_and_opened(tmp_path: Path):
    with Repository.init(tmp_path / "made", branch="trunk") as made:
        assert repr(made) == f"Repository('{tmp_path}/made')"
        assert made.path == tmp_path / "made"
        assert made.branch() == made.branch("trunk") == made.branches()[0]
        assert changes(made.branch().status()) == [("added", ".anaignore")]
        assert texts(made.version("trunk@0")) == {}
    with Repository.init(str(tmp_path / "bare"), ignore_file=False) as bare:
        assert bare.branch().status() == []
    (tmp_path / "link").symlink_to("made")
    with Repository.open(tmp_path / "link") as linked:
        assert linked.path == tmp_path / "made"


def test_what_is_no_repository_is_not_opened_nor_made(tmp_path: Path, repo: Repo):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(NotFoundError):
        Repository(tmp_path / "none")
    for place in (tmp_path, tmp_path / "file", "a\0b"):
        with pytest.raises(UsageError):
            Repository(place)
    for place in (tmp_path / "loop", tmp_path / ("x" * 300)):
        with pytest.raises(AnabranchError):
            Repository(place)
    with pytest.raises(ExistsError):
        Repository.init(repo.path)
    for place in (tmp_path, tmp_path / "file", tmp_path / "file/below", "a\0b", tmp_path / os.fsdecode(b"\xff")):
        with pytest.raises(UsageError):
            Repository.init(place)
    with pytest.raises(UsageError):
        Repository.init(tmp_path / "other", branch="a/b")
    (repo.path / "anabranch.json").write_text("{}")
    with pytest.raises(DamagedError):
        Repository(repo.path)


def test_what_was_got_from_a_closed_repository_says_so(repo: Repo):
    with Repository(repo.path) as repository:
        main = repository.branch()
        (main / "a").write_bytes(random.Random(1).randbytes(1_000_000))
        (main / "d").mkdir()
        version = main.commit("first")
        file, log, walk = (version / "a").open("rb"), main.log(), version.walk()
        next(log), next(walk), file.read(10)
        begun = (main / "b").open("wb")
        paths = repository.diff("main@0", "main@1")
    repository.close()
    fails(
        lambda: file.seek(600_000) and file.read(),
        lambda: next(log),
        lambda: next(walk),
        lambda: next(paths),
        lambda: repository.branch(),
        lambda: repository.version("main"),
        lambda: repository.settings,
        lambda: version / "a" in version.path().iterdir(),
        lambda: (version / "a").exists(),
        lambda: main.status(),
        lambda: (main / "a").exists(),
        lambda: main.head,
        lambda: list(main.log()),
        lambda: repository.tags(),
        lambda: begun.close(),
        lambda: main.commit("x"),
        lambda: (main / "c").write_text("c"),
        lambda: version.export("x"),
        of=RefusedError,
        match="is closed",
    )
    assert begun.closed
    assert (version.number, version.message, str(version / "a")) == (1, "first", "a")


def test_two_openings_of_one_repository_see_what_each_other_does(repository: Repository):
    with Repository(repository.path) as other:
        (repository.branch() / "a").write_text("1")
        assert (other.branch() / "a").read_text() == "1"
        version = other.branch().commit("by the other")
        assert repository.version("main") == version
        (other.branch() / "b").write_bytes(data := random.Random(2).randbytes(3_000_000))
        other.branch().commit("more")
        assert (repository.version("main") / "b").read_bytes() == data
    assert (repository.branch() / "b").read_bytes() == data


# --- paths ---


def test_a_path_is_as_one_of_pathlib(main: Branch):
    path = main / "raw" / "2026/a.tar.gz"
    assert (str(path), path.name, path.stem, path.suffix) == ("raw/2026/a.tar.gz", "a.tar.gz", "a.tar", ".gz")
    assert path.parts == ("raw", "2026", "a.tar.gz")
    assert path.parent == main / "raw/2026" == main.path("/raw/./2026/") == main.path() / PurePosixPath("raw/2026")
    assert main.path(path.parent) == path.parent
    assert main.path().parent == main.path("") == main.path(".") == main.path("/")
    assert (str(main.path()), main.path().name, main.path().parts) == (".", "", ())
    assert repr(path) == "BranchPath('main:raw/2026/a.tar.gz')"
    assert repr(main.head / "a") == "VersionPath('main@0:a')"
    assert len({path, main / str(path), main.head / str(path)}) == 2
    assert sorted([main / "b", main / "a/b", main / "a-"]) == [main / "a/b", main / "a-", main / "b"]
    assert main / "a" != main.head / "a" != "a"


def test_what_is_no_path_is_refused(main: Branch):
    for text in ("..", "a/..", "../a", "/..", "a/../b", "a\0b", "\ud800"):
        with pytest.raises(UsageError):
            main / text
        with pytest.raises(UsageError):
            main.head.path() / text
        with pytest.raises(UsageError):
            main.commit("x", text)
    for nothing in (3, None, b"raw"):
        with pytest.raises(TypeError):
            main / nothing  # type: ignore[operator]
        with pytest.raises(TypeError):
            main.path(nothing)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        main / "a" < "b"  # type: ignore[operator]  # noqa: B015


def test_names_that_are_not_utf_8_are_names(main: Branch):
    name = os.fsdecode(b"caf\xe9 \xff")
    (main / name).write_text("bytes")
    with (main / "d" / name).open("w") as file:
        file.write("more")
    version = main.commit("names")
    assert texts(version) == texts(main) == {name: "bytes", f"d/{name}": "more"}
    assert [path.name for path in version.path().iterdir()] == [name, "d"]
    assert [change.path for change in version.changes()] == [name, "d", f"d/{name}"]
    assert repr(version / name) == r"VersionPath('main@1:caf\udce9 \udcff')"
    with pytest.raises(NotFoundError) as caught:
        (version / (name + "x")).read_text()
    assert str(caught.value).encode(errors="surrogateescape")


def test_looking_tells_what_is_there(main: Branch):
    before = datetime.now(UTC) - timedelta(seconds=1)  # the clock of files is a coarser one
    with main.transaction() as made:
        made.write_text("raw/a.csv", "a,b\n")
        made.mkdir("empty")
        made.symlink("link", "raw/a.csv")
    version = main.commit("first")
    for tree in (main, version):
        file, link, directory = tree / "raw/a.csv", tree / "link", tree / "raw"
        assert [each.exists() for each in (file, link, directory, tree / "none", tree / "raw/a.csv/x")] == [
            True, True, True, False, False,
        ]  # fmt: skip
        assert [each.is_file() for each in (file, link, directory)] == [True, True, False]
        assert [each.is_dir() for each in (file, link, directory, tree / "empty", tree.path())] == [
            False, False, True, True, True,
        ]  # fmt: skip
        assert [each.is_symlink() for each in (file, link, directory)] == [False, True, False]
        assert link.readlink() == "raw/a.csv"
        of = file.stat()
        assert (of.kind, of.size, of.uid, of.gid) == ("file", 4, os.geteuid(), os.getegid())
        assert of.mode == 0o644
        assert link.stat() == of
        assert directory.stat().kind == "directory"
        assert directory.stat().size == 0
        assert 0 <= (of.mtime - before).total_seconds() < 60
        for path in (tree / "none", tree / "raw/a.csv/x"):
            with pytest.raises(NotFoundError, match="main"):
                path.stat()
        with pytest.raises(UsageError, match="no symbolic link"):
            file.readlink()
        assert [str(path) for path in tree.path().iterdir()] == ["empty", "link", "raw"]
        assert [(str(here), *names) for here, *names in tree.walk()] == [
            (".", ["empty", "raw"], ["link"]), ("empty", [], []), ("raw", [], ["a.csv"]),
        ]  # fmt: skip
        fails(
            lambda: (tree / "none").iterdir(),
            lambda: list((tree / "none").walk()),
            of=NotFoundError,
        )
        with pytest.raises(UsageError, match="not a directory"):
            file.iterdir()


def test_walking_goes_where_it_is_let(main: Branch):
    with main.transaction() as made:
        for path in ("a/x/1.csv", "a/y/2.csv", "b/3.csv", "4.txt", "c.csv/5.txt"):
            made.write_text(path, path)
    seen = []
    for here, directories, files in main.walk():
        directories[:] = [name for name in directories if name != "a"]
        seen += [str(here / name) for name in files]
    assert seen == ["4.txt", "b/3.csv", "c.csv/5.txt"]
    assert [str(path) for path in main.path().rglob("*.csv")] == ["c.csv", "a/x/1.csv", "a/y/2.csv", "b/3.csv"]
    assert [str(path) for path in (main / "a").rglob("[1]*")] == ["a/x/1.csv"]
    for pattern in ("", "a/*.csv"):
        with pytest.raises(UsageError):
            main.path().rglob(pattern)
    walk = main.walk()
    next(walk)
    (main / "b").remove()
    (main / "c.csv").remove()
    (main / "c.csv").write_text("a file now")
    assert [str(here) for here, *_ in walk] == ["a", "a/x", "a/y"]


def test_symbolic_links_are_followed_inside_and_nowhere_else(main: Branch):
    with main.transaction() as made:
        made.write_text("raw/2026/a.csv", "a")
        for path, target in (
            ("raw/latest", "2026"), ("up/link", "../raw/latest/a.csv"), ("through", "raw/latest/../2026/./a.csv"),
            ("loop", "loop"), ("one", "two"), ("two", "one"), ("out", "../etc/passwd"), ("root", "/etc/passwd"),
            ("broken", "nowhere"), ("odd", "nowhere/../raw"), ("chain", "through"), ("top", "raw/.."),
        ):  # fmt: skip
            made.symlink(path, target)
    for tree in (main, main.commit("links")):
        for path in ("raw/latest/a.csv", "up/link", "through", "chain", "top/raw/2026/a.csv"):
            assert (tree / path).read_text() == "a", path
        assert (tree / "top").is_dir()
        assert [path.name for path in (tree / "raw/latest").iterdir()] == ["a.csv"]
        assert str(next((tree / "raw/latest").iterdir())) == "raw/latest/a.csv"
        for path in ("loop", "one", "out", "root", "broken", "odd", "loop/x", "root/x"):
            assert not (tree / path).exists()
            with pytest.raises(NotFoundError):
                (tree / path).read_bytes()
        assert (tree / "loop").is_symlink()
    (main / "raw/latest/b.csv").write_text("b")
    (main / "up/link").write_text("through a link")
    (main / "broken").write_text("made")
    (main / "raw/latest").remove()
    assert (main / "raw/2026/a.csv").read_text() == "through a link"
    assert (main / "raw/2026/b.csv").read_text() == "b"
    assert (main / "nowhere").read_text() == "made"
    assert (main / "up/link").is_symlink()
    for path in ("out", "root", "loop"):
        with pytest.raises(NotFoundError):
            (main / path).write_text("never")


# --- versions ---


def test_a_version_tells_who_when_and_why(main: Branch, repository: Repository):
    (main / "a").write_text("1")
    version = main.commit("why\n\nin more words\n", author="Ann Lee", metadata={"rows": "3", "job": "ünïcödé"})
    assert (str(version), repr(version)) == ("main@1", "Version('main@1')")
    assert (version.branch, version.number, version.author) == ("main", 1, "Ann Lee")
    assert version.message == "why\n\nin more words"
    assert version.metadata == {"rows": "3", "job": "ünïcödé"}
    assert len(version.id) == 64
    assert version.parents == [repository.version("main@0").id]
    assert version.time == repository.version("main").time
    assert version.time.microsecond == version.time_ns // 1000 % 1_000_000
    assert abs(version.time.timestamp() - version.time_ns / 1e9) < 1e-5
    by_id = repository.version(f"@{version.id[:12]}")
    assert (by_id.branch, by_id.number, str(by_id)) == (None, None, f"@{version.id[:8]}")
    assert by_id == version == main.head
    assert hash(by_id) == hash(version)
    assert version != repository.version("main@0")
    assert changes(list(version.changes())) == [("added", "a")]
    moment = version.time.strftime("%Y-%m-%dT%H%M%S") + f".{version.time_ns % 10**9:09}Z"
    assert repository.version(f"main@{moment}") == version


def test_a_wrong_revision_is_told(repository: Repository, tmp_path: Path):
    for revision in ("none", "main@1", "main@1999-01-01", "@" + "0" * 64):
        with pytest.raises(NotFoundError):
            repository.version(revision)
    for revision in ("", "a/b", "main@x", "@12", "main@2026-13-01", "main:raw"):
        with pytest.raises(UsageError):
            repository.version(revision)
    with Repository.init(tmp_path / "other") as other, pytest.raises(UsageError, match="another repository"):
        repository.create_tag("v1", other.version("main"))


def test_the_log_and_differences_tell_history(main: Branch, repository: Repository):
    (main / "raw/a").write_text("1\n" * 1000)
    (main / "b").write_text("b")
    main.commit("first")
    (main / "raw/a").remove()
    (main / "raw/c").write_text("1\n" * 1000)
    (main / "b").write_text("bb")
    second = main.commit("second")
    (main / "new").write_text("new")
    assert [version.message for version in main.log()] == ["second", "first", ""]
    assert [version.number for version in main.log("raw/")] == [2, 1]
    assert [version.number for version in main.log(main / "b")] == [2, 1]
    with pytest.raises(NotFoundError):
        list(main.log("none"))
    assert list(repository.diff("main@1", second)) == [
        Change("b", "modified", "file", 1, 2), Change("raw/c", "renamed", "file", 2000, 2000, "raw/a"),
    ]  # fmt: skip
    assert changes(list(repository.diff("main@1", second, "/b"))) == [("modified", "b")]
    assert changes(list(repository.diff("main@1", "main@1"))) == []
    assert changes(main.diff("main@1")) == [("modified", "b"), ("added", "new"), ("renamed", "raw/c")]
    assert changes(main.status()) == [("added", "new")]
    with pytest.raises(NotFoundError):
        repository.diff("main@1", "none")
    for version in main.log():  # the log is read while the repository is written
        repository.create_tag(f"t{version.number}", version)
    assert list(repository.tags()) == ["t0", "t1", "t2"]


def test_a_version_becomes_an_ordinary_directory(main: Branch, tmp_path: Path):
    (main / "raw/a").write_text("a")
    (main / "b").write_text("b")
    version = main.commit("first")
    assert version.export(tmp_path / "out") == 2
    assert (tmp_path / "out/raw/a").read_text() == "a"
    assert version.export(str(tmp_path / "raw"), "raw") == 1
    assert version.export(tmp_path / "one", version / "b") == 1
    assert (tmp_path / "one").read_text() == "b"
    version.export(tmp_path / "all.tar")
    assert b"raw/a" in (tmp_path / "all.tar").read_bytes()
    with pytest.raises(ExistsError):
        version.export(tmp_path / "out")
    with pytest.raises(NotFoundError):
        version.export(tmp_path / "none", "none")
    with pytest.raises(AnabranchError):
        version.export(tmp_path / "one/below")
    with pytest.raises(UsageError):
        version.export("a\0b")


# --- branches, tags, settings ---


def test_branches_are_made_renamed_deleted_and_brought_back(main: Branch, repository: Repository):
    (main / "a").write_text("1")
    first = main.commit("first")
    (main / "a").write_text("2")
    second = main.commit("second")
    exp = repository.create_branch("exp")
    assert (repr(exp), str(exp), exp.name, exp.head) == ("Branch('exp')", "exp", "exp", second)
    assert texts(repository.create_branch("old", first)) == {"a": "1"}
    assert texts(repository.create_branch("old2", "main@1")) == {"a": "1"}
    assert [branch.name for branch in repository.branches()] == ["exp", "main", "old", "old2"]
    assert exp == repository.branch("exp") != main
    assert len({exp, repository.branch("exp"), main}) == 2
    (exp / "new").write_text("uncommitted")
    trial = repository.rename_branch("exp", "trial")
    assert (trial / "new").read_text() == "uncommitted"
    fails(
        lambda: exp.head,
        lambda: exp.status(),
        lambda: (exp / "a").write_text("x"),
        lambda: exp.commit("x"),
        of=NotFoundError,
    )
    assert [version.number for version in exp.log()] == [0]
    with pytest.raises(RefusedError, match="uncommitted"):
        repository.delete_branch("trial")
    trial.discard()
    repository.delete_branch("trial")
    with pytest.raises(NotFoundError):
        repository.branch("trial")
    assert repository.restore_branch("trial").head == second
    with pytest.raises(RefusedError, match="default"):
        repository.delete_branch("main")


def test_wrong_names_of_branches_and_tags_are_told(repository: Repository):
    repository.create_tag("v1", "main")
    for name in ("main", "v1"):
        with pytest.raises(ExistsError):
            repository.create_branch(name)
        with pytest.raises(ExistsError):
            repository.create_tag(name, "main")
    repository.create_branch("exp")
    with pytest.raises(ExistsError):
        repository.rename_branch("exp", "main")
    for name in ("", "a/b", "\ud800", ".x"):
        fails(
            lambda: repository.branch(name),
            lambda: repository.create_branch(name),
            lambda: repository.create_tag(name, "main"),
            lambda: repository.delete_branch(name),
            lambda: repository.rename_branch("exp", name),
            lambda: repository.delete_tag(name),
            lambda: repository.restore_branch(name),
            lambda: repository.set("default-branch", name),
            of=UsageError,
        )
    fails(
        lambda: repository.branch("none"),
        lambda: repository.delete_branch("none"),
        lambda: repository.rename_branch("none", "x"),
        lambda: repository.delete_tag("none"),
        lambda: repository.restore_branch("none"),
        lambda: repository.create_tag("x", "none"),
        lambda: repository.create_branch("x", "none"),
        lambda: repository.set("default-branch", "none"),
        of=NotFoundError,
    )
    fails(lambda: repository.branch("v1"), lambda: repository.delete_tag("exp"), of=UsageError)


def test_tags_name_versions_for_good(main: Branch, repository: Repository):
    tag = repository.create_tag("v1.0", main.head)
    assert (str(tag), tag.number, tag.branch) == ("v1.0", None, "v1.0")
    assert repository.tags() == {"v1.0": main.head}
    repository.delete_tag("v1.0")
    assert repository.tags() == {}


def test_settings_are_read_and_set(repository: Repository, repo: Repo):
    assert repository.settings["compression"] == 1
    repository.set("compression", 9)
    repository.set("author", "Ann Lee")
    assert done(repo.ana("config", "compression")) == "9\n"
    assert repository.branch().commit("by the setting", allow_empty=True).author == "Ann Lee"
    repository.set("compression", None)
    assert repository.settings["compression"] == 1
    for key, value in (("colour", "red"), ("compression", 99), ("author", "\ud800"), ("default-branch", None)):
        with pytest.raises(UsageError):
            repository.set(key, value)
    assert repository.settings["default-branch"] == "main"


# --- commits, restore, discard, import ---


def test_a_commit_takes_all_or_some(main: Branch):
    with main.transaction() as made:
        for name in ("raw/a", "raw/b", "c"):
            made.write_text(name, name)
    assert texts(main.commit("some", "raw/a", main / "c")) == {"raw/a": "raw/a", "c": "c"}
    assert changes(main.status()) == [("added", "raw/b")]
    assert set(texts(main.commit("the rest", "."))) == {"raw/a", "raw/b", "c"}
    with pytest.raises(NothingToCommitError):
        main.commit("nothing")
    assert main.commit("empty", allow_empty=True).number == 3
    with pytest.raises(NotFoundError):
        main.commit("none", "none")


def test_what_cannot_be_kept_with_a_commit_is_refused_before_it(main: Branch):
    (main / "a").write_text("a")
    for message in ("", " \n", "x" * (1 << 21), "\ud800"):
        with pytest.raises(UsageError):
            main.commit(message)
    for metadata in ({"accuracy": 0.93}, {3: "x"}, {"": "x"}, {"a=b": "x"}, {"a": "\ud800"}):
        with pytest.raises(UsageError):
            main.commit("x", metadata=metadata)  # type: ignore[arg-type]
    for author in ("two\nlines", "\ud800"):
        with pytest.raises(UsageError):
            main.commit("x", author=author)
    assert main.head.number == 0


def test_restore_and_discard_bring_back(main: Branch):
    (main / "raw/a").write_text("1")
    first = main.commit("first")
    (main / "raw/a").write_text("2")
    (main / "b").write_text("b")
    main.commit("second")
    (main / "raw/a").write_text("3")
    (main / "new").write_text("new")
    main.restore("raw")
    assert texts(main) == {"raw/a": "2", "b": "b", "new": "new"}
    main.restore(main / "raw/a", source=first)
    assert texts(main) == {"raw/a": "1", "b": "b", "new": "new"}
    main.discard("new")
    main.restore(".", source="main@1")
    assert texts(main) == {"raw/a": "1"}
    main.discard()
    assert texts(main) == {"raw/a": "2", "b": "b"}
    assert main.status() == []
    with pytest.raises(UsageError):
        main.restore()
    fails(
        lambda: main.restore("none"),
        lambda: main.restore("b", source=first),
        lambda: main.discard("none"),
        of=NotFoundError,
    )


def test_a_folder_is_imported(main: Branch, tmp_path: Path):
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/a").write_text("a")
    (source / "b").write_bytes(random.Random(3).randbytes(3_000_000))
    os.link(source / "b", source / "same")
    (source / "link").symlink_to("d/a")
    (main / "raw/old").write_text("goes")
    assert main.import_files(source, "raw") == []
    assert [str(path) for path in main.path().rglob("*")] == [
        "raw", "raw/b", "raw/d", "raw/link", "raw/same", "raw/d/a",
    ]  # fmt: skip
    assert (main / "raw/same").read_bytes() == (source / "b").read_bytes()
    version = main.commit("imported")
    (main / "raw/same").write_text("another file now")
    assert (main / "raw/b").read_bytes() == (version / "raw/same").read_bytes() == (source / "b").read_bytes()
    assert main.import_files(str(source / "d/a"), main / "deep/one") == []
    assert (main / "deep/one").read_text() == "a"
    assert main.import_files(source / "d", "") == []
    assert texts(main) == {"a": "a"}


def test_what_cannot_be_imported_is_told_and_left_out(main: Branch, tmp_path: Path, repository: Repository):
    with pytest.raises(NotFoundError):
        main.import_files(tmp_path / "none", "raw")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        main.import_files(tmp_path / "file", "")
    with pytest.raises(AnabranchError):
        main.import_files(repository.path, "raw")
    with pytest.raises(UsageError):
        main.import_files("a\0b", "raw")
    (main / "raw/repo/kept").write_text("kept")
    failed = main.import_files(repository.path.parent, "raw")
    assert [path for path, _ in failed] == ["repo"]
    assert (main / "raw/repo/kept").read_text() == "kept"


# --- transactions ---


def test_a_transaction_is_done_at_its_end_in_the_order_of_its_steps(main: Branch):
    with main.transaction() as first:
        first.write_text("old/a", "a")
        first.write_text("old/b", "b")
        first.write_bytes("c", b"c")
        assert texts(main) == {}
    with main.transaction() as second:
        second.remove("old")
        second.write_text("old/new", "1")
        second.write_text("old/new", "2")
        second.remove("c")
        second.mkdir("c")
        second.write_text("c/below", "below")
        second.write_text("gone", "gone")
        second.remove("gone")
        second.write_text("gone too/x", "gone")
        second.remove("gone too")
        second.symlink("link", "c")
        second.write_text("link/by the link", "x")
        with second.open("d/e/text", newline="\r\n") as text:
            print("line", file=text)
        with second.open(main / "d/bytes", "wb") as data:
            data.write(b"1")
        with second.open("d/bytes", "ab") as data:
            data.write(b"2")
        open_still = second.open("left open")
        open_still.write("closed at the end")
    assert open_still.closed
    assert texts(main) == {
        "old/new": "2", "c/below": "below", "c/by the link": "x", "d/e/text": "line\n", "d/bytes": "12",
        "left open": "closed at the end",
    }  # fmt: skip
    assert (main / "d/e/text").read_bytes() == b"line\r\n"


def test_a_transaction_that_fails_or_is_given_up_does_nothing(main: Branch):
    (main / "a/b").write_text("b")
    before = texts(main)
    with pytest.raises(KeyError), main.transaction() as given_up:
        given_up.write_text("x", "x")
        left = given_up.open("y")
        left.write("y")
        raise KeyError
    assert left.closed
    for path, step, error in (
        ("a/b/c", "write_text", UsageError), ("a", "write_text", UsageError), ("a/b", "mkdir", ExistsError),
        ("a", "symlink", ExistsError), ("none", "remove", NotFoundError), ("", "remove", UsageError),
        ("", "write_text", UsageError), ("x" * 256, "write_text", UsageError), (".ana/x", "write_text", UsageError),
        (".ana", "mkdir", UsageError), ("", "mkdir", ExistsError), ("a/b/../c", "write_text", UsageError),
    ):  # fmt: skip
        with pytest.raises(error), main.transaction() as failing:
            failing.write_text("first", "never")
            getattr(failing, step)(path, *(["x"] if step in ("write_text", "symlink") else []))
        assert texts(main) == before, path
    with pytest.raises(ExistsError), main.transaction() as twice:
        twice.write_text("x", "1")
        with twice.open("x", "x") as file:
            file.write("2")
    with pytest.raises(UsageError), main.transaction() as below_a_file:
        below_a_file.write_text("x", "1")
        below_a_file.write_text("x/y", "1")
    assert texts(main) == before


def test_a_transaction_is_used_within_its_block(main: Branch):
    transaction = main.transaction()
    with pytest.raises(UsageError, match="with"):
        transaction.write_text("a", "a")
    with transaction:
        transaction.write_text("a", "a")
    fails(
        lambda: transaction.write_text("b", "b"),
        lambda: transaction.open("b"),
        lambda: transaction.remove("a"),
        lambda: transaction.mkdir("b"),
        lambda: transaction.symlink("b", "a"),
        transaction.__enter__,
        of=RefusedError,
        match="has ended",
    )
    with main.transaction():
        pass
    assert texts(main) == {"a": "a"}


def test_a_written_file_keeps_the_permissions_of_the_one_that_was_there(repo: Repo, tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "run").write_text("1")
    (source / "run").chmod(0o750)
    old = os.umask(0o027)
    try:
        with Repository(repo.path) as repository:
            main = repository.branch()
            main.import_files(source, "bin")
            (main / "bin/run").write_text("2")
            (main / "made/new").write_text("new")
            main.path("dir").mkdir()
            modes = [(main / path).stat().mode for path in ("bin/run", "made/new", "made", "dir")]
            assert list(map(oct, modes)) == ["0o750", "0o640", "0o750", "0o750"]
            main.commit("modes").export(tmp_path / "out")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out/bin/run").stat().st_mode) == 0o750


def test_single_changes_of_a_path(main: Branch):
    (main / "a/b").mkdir()
    (main / "a/link").symlink_to("b")
    fails(
        lambda: (main / "a/b").mkdir(), lambda: (main / "a").mkdir(), lambda: (main / "a/link").mkdir(), of=ExistsError
    )
    with pytest.raises(ExistsError):
        (main / "a/link").symlink_to("c")
    assert (main / "a/link").is_dir()
    (main / "a").remove()
    assert list(main.path().iterdir()) == []
    with pytest.raises(NotFoundError):
        (main / "a").remove()


def test_a_thousand_files_in_one_transaction_keep_no_descriptors(main: Branch):
    before = len(os.listdir("/proc/self/fd"))
    with main.transaction() as many:
        for number in range(2000):
            with many.open(f"{number % 10}/{number}", "wb") as file:
                file.write(b"%d" % number)
        assert len(os.listdir("/proc/self/fd")) < before + 20
        for number in range(0, 2000, 2):
            many.remove(f"{number % 10}/{number}")
    assert len(texts(main.commit("many"))) == 1000


# --- what the machine does not allow ---


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_who_may_not_is_told(open_path: Path, fresh_repository: Path):
    path = open_path / "repo"
    shutil.copytree(fresh_repository, path)
    code = """
import os, sys
from anabranch import DeniedError, Repository
os.setgid(65534); os.setuid(65534)
for call in (lambda: Repository(sys.argv[1]), lambda: Repository.init(sys.argv[2])):
    try:
        call()
    except DeniedError as error:
        print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", code, path, open_path / "new"], capture_output=True, text=True, check=True
    )
    assert len(said.stdout.splitlines()) == 2, said
    path.chmod(0o755)
    for each in path.rglob("*"):
        each.chmod(0o755 if each.is_dir() else 0o644)
    code = """
import os, sys
from anabranch import AnabranchError, Repository
os.setgid(65534); os.setuid(65534)
try:
    with Repository(sys.argv[1]) as repository:
        (repository.branch() / "a").write_text("a")
except AnabranchError as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert said.stdout.startswith(DeniedError.__name__), said


def test_merging_and_taking_back_p97_p98_p100_p101(tmp_path: Path):
    with Repository.init(tmp_path / "repo") as repository:
        main = repository.branch("main")
        with main.transaction() as transaction:
            for name in ("a", "b"):
                transaction.write_text(main / name, name)
        main.commit("first")
        exp = repository.create_branch("exp")
        (exp / "a").write_text("of exp")
        exp.commit("on exp")
        (main / "b").write_text("of main")
        main.commit("on main")
        assert main.conflicts("exp") == []
        merged = main.merge("exp", metadata={"run": "1"})
        assert (merged.message, merged.metadata, len(merged.parents)) == ("Merge exp@1 into main", {"run": "1"}, 2)
        assert [(main / name).read_text() for name in ("a", "b")] == ["of exp", "of main"]
        assert main.merge("exp") == merged
        assert main.revert(merged, "Not that").message == "Not that"
        assert (main / "a").read_text() == "a"
        assert main.cherry_pick("exp@1").message == "on exp"
        with pytest.raises(anabranch.NothingToCommitError):
            main.cherry_pick("exp@1")
        assert main.reset("main@2").id == repository.version("main@2").id
        (main / "a").write_text("of main")
        with pytest.raises(anabranch.RefusedError, match="uncommitted"):
            main.reset("main@1")
        main.commit("also a")
        assert [(it.path, it.kind, it.base_size, it.our_size) for it in main.conflicts("exp")] == [
            ("a", "both modified", 1, 7)
        ]
        with pytest.raises(anabranch.MergeConflictError, match="disagree on a"):
            main.merge("exp")
        (tmp_path / "both").write_text("of both")
        main.merge("exp", resolve={"*": "theirs", "a": str(tmp_path / "both")}, squash=True)
        assert (main / "a").read_text() == "of both"
        assert len(main.head.parents) == 1
        assert exp.merge("main", ff_only=False, strategy="theirs") == exp.head
        before = exp.head.number or 0
        (exp / "a").write_text("not committed")
        assert exp.reset("main@1", force=True).id == repository.version("main@1").id
        assert repository.version(f"exp@{before + 1}").message == "Before the reset to main@1"
