"""Many small files: created, committed, looked at and read cold, renamed, unlinked."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks import data
from benchmarks.filesystems import Filesystem
from benchmarks.scenarios import FILES_A_SECOND, Case, Scenario, count_wrong, expect, make_cold
from benchmarks.timing import Stopwatch

_FILES_A_FOLDER = 200


class SmallScenario(Scenario):
    """The life of `count` texts, 200 in a folder."""

    name = "small"

    def __init__(self, count: int) -> None:
        self._count = count
        made = ("small-create", "small-commit")
        self.cases = (
            Case("small-create", FILES_A_SECOND, self._create),
            Case("small-commit", FILES_A_SECOND, self._commit, made[:1], is_commit=True),
            Case("small-stat-cold", FILES_A_SECOND, self._stat_cold, made, is_cold=True),
            Case("small-read-cold", FILES_A_SECOND, self._read_cold, made, is_cold=True),
            Case("small-rename", FILES_A_SECOND, self._rename, made),
            Case("small-unlink", FILES_A_SECOND, self._unlink, made),
        )

    def prepare(self, folder: Path) -> None:
        self._texts = data.small_texts(self._count)
        self._sizes = [len(text) for text in self._texts]

    def _create(self, filesystem: Filesystem) -> float:
        paths = _paths(filesystem.tree, self._count)
        for folder in dict.fromkeys(map(os.path.dirname, paths)):
            os.mkdir(folder)
        os.sync()
        with Stopwatch() as watch:
            for path, text in zip(paths, self._texts, strict=True):
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                os.write(file, text)
                os.close(file)
        expect("the sizes of the small files", [os.stat(path).st_size for path in paths], self._sizes)
        return self._count / watch.seconds

    def _commit(self, filesystem: Filesystem) -> float:
        with Stopwatch() as watch:
            filesystem.commit()
        found = _list(filesystem.last_version())
        expect("the small files of the version", len(found), self._count)
        return self._count / watch.seconds

    def _stat_cold(self, filesystem: Filesystem) -> float:
        paths = _paths(filesystem.tree, self._count)
        make_cold(filesystem)
        with Stopwatch() as watch:
            sizes = [os.stat(path).st_size for path in paths]
        expect("the sizes of the small files", sizes, self._sizes)
        return self._count / watch.seconds

    def _read_cold(self, filesystem: Filesystem) -> float:
        paths = _paths(filesystem.tree, self._count)
        make_cold(filesystem)
        with Stopwatch() as watch:
            texts = [_read_small(path) for path in paths]
        expect("the lengths of the small files read", [len(text) for text in texts], self._sizes)
        if filesystem.keeps_content:
            expect("the number of wrong small files", count_wrong(texts, self._texts), 0)
        return self._count / watch.seconds

    def _rename(self, filesystem: Filesystem) -> float:
        old = _list(filesystem.tree)
        new = [f"{path}.renamed" for path in old]
        _warm(old)
        with Stopwatch() as watch:
            for source, target in zip(old, new, strict=True):
                os.rename(source, target)
        expect("the new names", sorted(_list(filesystem.tree)), sorted(new))
        return self._count / watch.seconds

    def _unlink(self, filesystem: Filesystem) -> float:
        paths = _list(filesystem.tree)
        _warm(paths)
        with Stopwatch() as watch:
            for path in paths:
                os.unlink(path)
        expect("the names left", _list(filesystem.tree), [])
        return self._count / watch.seconds


def _paths(tree: Path, count: int) -> list[str]:
    return [f"{tree}/d{number // _FILES_A_FOLDER:04}/{number:06}.txt" for number in range(count)]


def _list(tree: Path) -> list[str]:
    """All small files, in the order of their names."""
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(tree) for name in names)


def _warm(paths: list[str]) -> None:
    for path in paths:
        os.stat(path)


def _read_small(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 64 << 10)
    finally:
        os.close(file)
