"""ana log --graph, ana blame: what led to a branch, and which version last changed what is in it. P41, P42."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch import NotFoundError
from anabranch import Repository as Library
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.versions.objects import Commit, put_commit
from tests.harness import Mount, Repo, done, hinted, refused
from tests.unit.helpers import MAIN, WHO, Branch

EXP = RefName("exp")


@pytest.fixture
def merged(repo: Repo) -> Repo:
    """main, a branch of it that changed one file twice, and the merge of both."""
    with Repository(repo.path, writable=True) as repository:
        main = Branch(repository)
        main.mkdir("raw")
        main.write("raw/a", b"1")
        main.write("b:c", b"1")
        main.commit("first\nand why")
        repository.create_branch(EXP, repository.resolve("main").id, WHO)
        exp = Branch(repository, EXP)
        for content in (b"2", b"3"):
            exp.write("raw/a", content)
            exp.commit(f"a is {content.decode()}")
        main.write("d", b"1")
        main.commit("d is new")
        merge(repository, exp)
        repository.settle_down()
    return repo


def merge(repository: Repository, exp: Branch) -> None:
    """What both have, as main@3, without a working tree."""
    ours, theirs = (repository.resolve(name) for name in ("main", "exp"))
    raw = repository.trees.lookup(theirs.commit.root.tree, b"raw")
    tree = repository.trees.apply(ours.commit.root.tree, [(b"raw", raw)])
    root = repository.trees.directory(ours.commit.root, tree)
    last = theirs.commit.time_ns + 1
    commit = Commit(root, ours.commit.links, (ours.id, theirs.id), 4, "ann", last, "merge exp", {})
    made = put_commit(repository.objects, commit)
    repository.objects.flush()
    with repository.meta.write() as batch:
        repository.refs.create(batch, RefName("both"), made, WHO, tag=False)


def drawn(text: str) -> list[str]:
    """A graph without ids, times and authors."""
    return [re.sub(r"  [0-9a-f]{8}  .* UTC  \S+  ", "  ", line) for line in text.splitlines()]


GRAPH = [
    "* both@0  merge exp", "|\\", "| * exp@2  a is 3", "* | main@2  d is new", "| * exp@1  a is 2", "|/",
    "* main@1  first", "* main@0  (empty)",
]  # fmt: skip


def test_the_graph_of_a_branch_has_all_that_was_merged_each_by_a_name_that_leads_to_it(merged: Repo):
    text = done(merged.ana("log", "--graph", "-b", "both"))
    assert drawn(text) == GRAPH
    for line in text.splitlines():
        for version, digits in re.findall(r"(\S+@\d+)  (\w{8})", line):
            assert done(merged.ana("show", version)).startswith(f"{version}  {digits}")
    assert drawn(done(merged.ana("log", "--graph"))) == ["* main@2  d is new", *GRAPH[-2:]]


def test_a_graph_for_scripts_tells_the_parents(merged: Repo):
    rows = merged.json("log", "--graph", "-b", "both")
    ids = [row["id"] for row in rows]
    assert len(ids) == 6
    assert len(rows[0]["parents"]) == 2
    for place, row in enumerate(rows):
        assert all(ids.index(parent) > place for parent in row["parents"])
    assert [row["version"] for row in merged.json("log", "--graph", "-b", "both", "-n", "1")] == ["both@0"]


def test_a_graph_ends_after_so_many_or_goes_back_to_a_time(merged: Repo):
    rows = merged.json("log", "--graph", "-b", "both")
    times = {row["version"]: row["time"] for row in rows}
    assert drawn(done(merged.ana("log", "--graph", "-b", "both", "-n", "1"))) == GRAPH[:2]

    def versions(*options: str) -> set[str]:
        found = merged.json("log", "--graph", "-b", "both", *options)
        assert len(drawn(done(merged.ana("log", "--graph", "-b", "both", *options)))) >= len(found)
        return {row["version"] for row in found}

    for version in ("exp@1", "main@2", "both@0"):
        assert versions("--since", times[version]) == {each for each in times if times[each] >= times[version]}
        assert versions("--until", times[version]) == {each for each in times if times[each] <= times[version]}
    assert versions("--since", "2999-01-01") == set()
    assert versions("--until", "2999-01-01") == set(times)


def test_a_graph_of_some_paths_or_metadata_is_refused(merged: Repo):
    for words in (["--path", "raw"], ["--meta", "run=1"]):
        hinted(merged.ana("log", "--graph", *words), 2, "--graph takes neither --path nor --meta")
    hinted(merged.ana("log", "--graph", "-b", "none"), 1, "no branch or tag is called none")


# --- blame ---


def blamed(repo: Repo, *words: str) -> list[tuple[str, str]]:
    return [(row["path"], row["last_change"]["version"]) for row in repo.json("blame", *words)]


def test_blame_tells_of_each_name_the_version_that_last_changed_it(merged: Repo):
    text = done(merged.ana("blame", "both:"))
    assert re.sub(r"\d{4}-.{14} UTC", "TIME", text).splitlines() == [
        "main@1  TIME  ann  first     b:c",
        "main@2  TIME  ann  d is new  d",
        "exp@2   TIME  ann  a is 3    raw/",
    ]
    assert blamed(merged, "both:") == [("b:c", "main@1"), ("d", "main@2"), ("raw", "exp@2")]
    assert blamed(merged, ".") == [("b:c", "main@1"), ("d", "main@2"), ("raw", "main@1")]
    assert blamed(merged, "main@1:") == [("b:c", "main@1"), ("raw", "main@1")]
    assert blamed(merged, "-b", "exp", ".") == [("b:c", "exp@0"), ("raw", "exp@2")]
    assert blamed(merged, "-r", "both:") == [("b:c", "main@1"), ("d", "main@2"), ("raw/a", "exp@2")]
    assert {row["kind"] for row in merged.json("blame", "both:")} == {"file", "directory"}


def test_blame_of_a_file_is_its_line_alone_and_a_name_may_have_a_colon(merged: Repo):
    assert blamed(merged, "both:raw/a") == [("a", "exp@2")]
    assert blamed(merged, "exp@1:raw/a") == [("a", "exp@1")]
    assert blamed(merged, "-r", "raw/a") == [("a", "main@1")]
    assert blamed(merged, "b:c") == [("b:c", "main@1")]
    assert blamed(merged, "./b:c") == [("b:c", "main@1")]
    assert blamed(merged, "both:b:c") == [("b:c", "main@1")]
    hinted(merged.ana("blame", "none:x"), 1, "no branch or tag is called none")
    refused(merged.ana("blame", "none"), 1, "none: no such file or directory in this version")
    refused(merged.ana("blame", "raw/a/x"), 2, "not a directory")
    refused(merged.ana("blame", "main@9:raw"), 1, "main has no version 9")


def test_blame_of_a_tag_and_of_an_id_names_versions_of_branches(merged: Repo):
    done(merged.ana("tag", "v1", "both"))
    (identity,) = (row["id"] for row in merged.json("log", "-b", "both"))
    expected = [("b:c", "main@1"), ("d", "main@2"), ("raw", "exp@2")]
    assert blamed(merged, "v1:") == blamed(merged, f"@{identity[:12]}:") == expected


@pytest.fixture
def library(merged: Repo) -> Iterator[Library]:
    with Library(merged.path) as opened:
        yield opened


def test_the_library_tells_the_same(library: Library):
    both = library.version("both")
    assert {name: str(version) for name, version in both.blame().items()} == {
        "b:c": "main@1", "d": "main@2", "raw": "exp@2",
    }  # fmt: skip
    (raw,) = both.blame("raw").values()
    assert (raw.message, raw == library.version("exp"), (raw / "raw/a").read_text()) == ("a is 3", True, "3")
    assert [*both.blame(both / "raw/a")] == ["a"]
    with pytest.raises(NotFoundError):
        both.blame("none")


@pytest.mark.mounted
def test_in_a_mount_paths_count_from_where_one_is_and_uncommitted_changes_do_not(mount: Mount):
    raw = mount.main / "raw"
    raw.mkdir()
    (raw / "a").write_text("1")
    mount.commit("first")
    (mount.main / "b").write_text("1")
    mount.commit("second")
    (raw / "a").write_text("22")

    def said(cwd: Path, *words: str) -> list[tuple[str, str]]:
        rows = json.loads(done(mount.ana("blame", "--json", *words, cwd=cwd)))
        return [(row["path"], row["last_change"]["version"]) for row in rows]

    assert said(raw, ".") == said(mount.main, "raw") == said(mount.root, "raw") == [("a", "main@1")]
    assert said(raw, "..") == said(raw, str(mount.main)) == [("b", "main@2"), ("raw", "main@1")]
    assert said(raw, "main@1:") == [("raw", "main@1")], "with a version, from the top"
    assert said(mount.root / "main@1" / "raw", "..") == [("raw", "main@1")]
    assert said(raw, "-b", str(MAIN), "b") == [("b", "main@2")]
    mount.commit("third")
    assert said(raw, "a") == [("a", "main@3")]
