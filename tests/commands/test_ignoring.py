"""`.anaignore` files, and commits of some paths: what stays out of a commit stays in the working tree (P52, P53)."""

import json
import subprocess
from pathlib import Path

import pytest

from anabranch.commit import Note
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.testing import consistency
from anabranch.versions.objects import EntryKind
from tests.harness import Repo, done, hinted, refused, run_ana
from tests.unit.helpers import WHO, Branch

MAIN = RefName("main")


class Tree:
    """Files written into main by the owner of the repository, as a mount would."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo

    def write(self, files: dict[str, str | None]) -> None:
        """Write files, directories above them too; None removes one."""
        with Repository(self.repo.path, writable=True) as repository:
            tree = repository.branch(MAIN).tree
            for path, text in files.items():
                *above, name = path.encode().split(b"/")
                ino = tree.root
                for part in above:
                    found = tree.table.child(tree.table.get(ino), part)
                    ino = (found or tree.create(ino, part, EntryKind.DIRECTORY, 0o755, 0, 0)).ino
                old = tree.table.child(tree.table.get(ino), name)
                if text is None:
                    tree.unlink(ino, name)
                    continue
                file = old or tree.create(ino, name, EntryKind.FILE, 0o644, 0, 0)
                tree.write(file.ino, 0, text.encode())
            repository.settle_down()

    def committed(self, revision: str = "main") -> set[str]:
        """The paths of files in a version."""
        with Repository(self.repo.path) as repository:
            consistency.check(repository)
            version = repository.version(repository.resolve(revision).id)
            paths, todo = set(), [(b"", version.root)]
            for prefix, directory in todo:
                for name, entry in version.children(directory):
                    if entry.kind is EntryKind.DIRECTORY:
                        todo.append((prefix + name + b"/", entry))
                    else:
                        paths.add((prefix + name).decode())
            return paths

    def status(self, *options: str) -> dict[str, object]:
        return dict(json.loads(done(self.repo.ana("status", "--json", *options))))

    def uncommitted(self) -> set[str]:
        changes = self.status()["changes"]
        assert isinstance(changes, list)
        return {change["path"] for change in changes}

    def ignored(self) -> set[str]:
        paths = self.status("--ignored")["ignored"]
        assert isinstance(paths, list)
        return {row["path"] for row in paths}


@pytest.fixture
def tree(repo: Repo) -> Tree:
    return Tree(repo)


def test_what_matches_stays_in_the_working_tree_and_out_of_commits(tree: Tree) -> None:
    tree.write({
        ".anaignore": "*.crc\n_temporary/\n", "a.csv": "1", ".a.csv.crc": "x", "out/part-0": "2",
        "out/.part-0.crc": "y", "out/_temporary/0/part": "z",
    })  # fmt: skip
    assert tree.uncommitted() == {".anaignore", "a.csv", "out", "out/part-0"}
    assert tree.ignored() == {".a.csv.crc", "out/.part-0.crc", "out/_temporary"}
    assert "4 files changed" not in done(tree.repo.ana("commit", "-m", "first"))
    assert tree.committed() == {".anaignore", "a.csv", "out/part-0"}
    assert tree.uncommitted() == set()
    assert tree.ignored() == {".a.csv.crc", "out/.part-0.crc", "out/_temporary"}
    hinted(tree.repo.ana("commit", "-m", "again"), 1, "ignored, or as in the last commit", "--ignored")


def test_what_a_commit_has_is_followed_though_it_matches_later(tree: Tree) -> None:
    tree.write({"log.txt": "1", "d/old": "2"})
    done(tree.repo.ana("commit", "-m", "first"))
    tree.write({".anaignore": "log.txt\nd/\n", "log.txt": "changed", "d/old": "changed", "d/new": "3"})
    assert tree.uncommitted() == {".anaignore", "log.txt", "d/old"}
    done(tree.repo.ana("commit", "-m", "second"))
    assert tree.committed() == {".anaignore", "log.txt", "d/old"}
    tree.write({"log.txt": None})
    assert tree.uncommitted() == {"log.txt"}
    done(tree.repo.ana("commit", "-m", "third"))
    assert tree.committed() == {".anaignore", "d/old"}


def test_the_nearest_file_decides_and_nothing_below_an_ignored_directory_comes_back(tree: Tree) -> None:
    tree.write({
        ".anaignore": "*.tmp\ncache/\n/top\n", "a.tmp": "", "keep/.anaignore": "!*.tmp\n", "keep/b.tmp": "",
        "cache/.anaignore": "!*\n", "cache/c": "", "top": "", "keep/top": "",
    })  # fmt: skip
    done(tree.repo.ana("commit", "-m", "first"))
    assert tree.committed() == {".anaignore", "keep/.anaignore", "keep/b.tmp", "keep/top"}
    assert tree.ignored() == {"a.tmp", "cache", "top"}


def test_lines_that_are_no_patterns_are_passed_over(tree: Tree) -> None:
    tree.write({".anaignore": "!\n# a comment\n\n*.tmp\n", "a.tmp": "", "b": ""})
    done(tree.repo.ana("commit", "-m", "first"))
    assert tree.committed() == {".anaignore", "b"}


def test_a_new_repository_has_a_first_file(tmp_path: Path) -> None:
    fresh = Repo(tmp_path / "fresh")
    done(run_ana("init", fresh.path, cwd=tmp_path))
    tree = Tree(fresh)
    assert tree.uncommitted() == {".anaignore"}
    tree.write({"out/.part.crc": "", "nb/.ipynb_checkpoints/x": "", "nb/a.ipynb": "", "out/_temporary/0": ""})
    done(fresh.ana("commit", "-m", "first"))
    assert tree.committed() == {".anaignore", "nb/a.ipynb"}


def test_discard_and_restore_leave_what_is_ignored(tree: Tree) -> None:
    tree.write({".anaignore": "*.tmp\n", "a": "1", "d/b": "2"})
    done(tree.repo.ana("commit", "-m", "first"))
    tree.write({"a": "x", "new": "y", "c.tmp": "z", "d/c.tmp": "z"})
    done(tree.repo.ana("discard"))
    assert tree.uncommitted() == set()
    assert tree.ignored() == {"c.tmp", "d/c.tmp"}
    done(tree.repo.ana("discard", "c.tmp"))
    assert tree.ignored() == {"d/c.tmp"}


def test_a_branch_with_nothing_but_ignored_files_is_clean(tree: Tree) -> None:
    tree.write({".anaignore": "*.tmp\n"})
    done(tree.repo.ana("commit", "-m", "first"))
    done(tree.repo.ana("branch", "exp"))
    tree.write({"a.tmp": ""})
    assert tree.status()["clean"]
    done(tree.repo.ana("branch", "-d", "exp"))


def test_a_commit_of_some_paths_leaves_the_rest_uncommitted(tree: Tree) -> None:
    tree.write({"a": "1", "b": "2", "raw/x": "3", "raw/y": "4", "raw/deep/z": "5"})
    assert "1 file changed" in done(tree.repo.ana("commit", "b", "-m", "only b"))
    assert tree.committed() == {"b"}
    assert tree.uncommitted() == {"a", "raw", "raw/x", "raw/y", "raw/deep", "raw/deep/z"}
    done(tree.repo.ana("commit", "raw/x", "raw/deep", "-m", "some"))
    assert tree.committed() == {"b", "raw/x", "raw/deep/z"}
    assert tree.uncommitted() == {"a", "raw/y"}
    tree.write({"b": None, "raw/x": "changed"})
    done(tree.repo.ana("commit", "b", "-m", "a deletion"))
    assert tree.committed() == {"raw/x", "raw/deep/z"}
    assert tree.uncommitted() == {"a", "raw/x", "raw/y"}
    done(tree.repo.ana("commit", "-m", "the rest"))
    assert tree.uncommitted() == set()


def test_a_path_that_is_nowhere_or_did_not_change_is_no_commit(tree: Tree) -> None:
    tree.write({"a": "1", "b": "2"})
    done(tree.repo.ana("commit", "-m", "first"))
    tree.write({"b": "changed"})
    hinted(tree.repo.ana("commit", "none", "-m", "x"), 1, "none", "status")
    refused(tree.repo.ana("commit", "a", "-m", "x"), 1, "nothing to commit")
    hinted(tree.repo.ana("commit", "../a", "-m", "x"), 2, "out of the branch")
    assert tree.uncommitted() == {"b"}


def test_an_import_leaves_out_what_is_ignored(tree: Tree, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name, text in {
        "a": "1", "a.crc": "x", "out/b": "2", "out/b.crc": "x", "out/_temporary/c": "x", "own/.anaignore": "*.log\n",
        "own/d.log": "x", "own/d": "3", "kept.crc": "4",
    }.items():  # fmt: skip
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    tree.write({"data/kept.crc": "0", ".anaignore": "*.csv\n"})
    done(tree.repo.ana("commit", "-m", "before anything is ignored"))
    tree.write({".anaignore": "*.crc\n_temporary/\n"})
    expected = {".anaignore", "data/a", "data/out/b", "data/own/.anaignore", "data/own/d", "data/kept.crc"}
    assert "4 paths ignored" in done(tree.repo.ana("import", source, "data"))
    done(tree.repo.ana("commit", "-m", "a folder"))
    assert tree.committed() == expected
    packed = tmp_path / "source.tar"
    subprocess.run(["tar", "-cf", packed, "-C", source, "."], check=True)
    assert tree.repo.json("import", packed, "more")["ignored"] == 5  # nothing of it is in the last commit
    done(tree.repo.ana("commit", "-m", "a tar file"))
    assert tree.committed() == expected | {path.replace("data/", "more/") for path in expected} - {"more/kept.crc"}


def test_a_pattern_that_nobody_can_read_or_match_in_time_is_passed_over(tree: Tree) -> None:
    tree.write({".anaignore": f"[z-a]\n{'*a' * 9}b\n*.tmp\n", "a" * 200: "", "b.tmp": ""})
    assert tree.uncommitted() == {".anaignore", "a" * 200}
    done(tree.repo.ana("commit", "-m", "first"))


def test_a_commit_that_fails_brings_back_no_name_that_was_removed_meanwhile(repo: Repo) -> None:
    """Though the commit had put it back already, as something that it leaves out."""
    with Repository(repo.path, writable=True) as repository:
        branch = Branch(repository)
        branch.write("kept", b"1")
        branch.mkdir("left")
        branch.write("left/gone", b"2")
        commits = repository.commits
        frozen = commits.freeze(MAIN)
        branch.write("left/new", b"3")
        built = commits.conclude(commits.build(frozen, [b"kept"]), Note("a message"), WHO)
        repository.keeper.keep(commits.cut(MAIN, built))
        branch.unlink("left/gone")
        commits.thaw(MAIN)
        assert branch.names("left") == ["new"]
        branch.commit()
        repository.settle_down()
    assert Tree(repo).committed() == {"kept", "left/new"}


def test_discard_leaves_what_is_ignored_in_a_new_directory_too(tree: Tree) -> None:
    tree.write({".anaignore": "scratch/\n*.tmp\n"})
    done(tree.repo.ana("commit", "-m", "first"))
    tree.write({"new/scratch/b": "1", "new/x.tmp": "2", "new/c": "3", "new/deep/y.tmp": "4", "new/deep/d": "5"})
    done(tree.repo.ana("discard"))
    assert tree.uncommitted() == {"new", "new/deep"}
    assert tree.ignored() == {"new/scratch", "new/x.tmp", "new/deep/y.tmp"}
    done(tree.repo.ana("discard", "new/scratch"))
    assert tree.ignored() == {"new/x.tmp", "new/deep/y.tmp"}


def test_who_goes_back_and_forth_keeps_what_the_last_commit_ignores(tree: Tree) -> None:
    tree.write({".anaignore": "*.tmp\n", "a": "1"})
    done(tree.repo.ana("commit", "-m", "first"))
    tree.write({".anaignore": "*.tmp\nscratch/\n"})
    done(tree.repo.ana("commit", "-m", "second"))
    tree.write({"scratch/model": "12 hours of work"})
    done(tree.repo.ana("restore", "main@1", "."))
    done(tree.repo.ana("discard"))
    assert tree.uncommitted() == set()
    assert tree.ignored() == {"scratch"}
