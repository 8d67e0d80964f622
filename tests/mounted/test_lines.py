"""The changed lines of texts that programs are writing, and renames, as a mount tells them. P43."""

import os
import random
from pathlib import Path

import pytest

from anabranch.daemon.client import connect
from anabranch.daemon.protocol import READ_MAX
from anabranch.errors import DaemonError, NotFoundError, UsageError
from anabranch.ids import RefName
from tests.harness import Mount, done, run_ana

pytestmark = pytest.mark.mounted
MAIN = RefName("main")


def test_the_lines_of_a_file_that_is_still_open_are_those_that_were_written(mount: Mount):
    text = mount.main / "notes.txt"
    text.write_text("first\nsecond\n")
    mount.commit()
    with text.open("r+") as file:
        file.write("FIRST")
        file.flush()
        expected = "M  notes.txt  13 B -> 13 B\n    @@ -1,2 +1,2 @@\n    -first\n    +FIRST\n     second\n"
        assert done(mount.ana("diff")) == expected
        assert done(mount.ana("diff", "main@1", cwd=mount.main)) == expected
    mount.remount()
    assert done(mount.ana("diff")) == expected


def test_a_text_of_which_only_a_part_was_written_is_read_whole(mount: Mount):
    """Its other parts are in chunks that nobody has in memory."""
    lines = [f"{number:05} {random.Random(number).randbytes(8).hex()}\n" for number in range(20_000)]
    (mount.main / "large.txt").write_text("".join(lines))
    mount.commit()
    mount.remount()
    with (mount.main / "large.txt").open("r+") as file:
        file.seek(10_000 * len(lines[0]))
        file.write("10000 changed")
        file.flush()
        assert f"    -{lines[10_000]}    +10000 changed" in done(mount.ana("diff"))


def test_control_files_tell_renames_and_no_lines(mount: Mount):
    (mount.main / "old").mkdir()
    (mount.main / "old/data").write_bytes(os.urandom(100_000))
    (mount.main / "text").write_text("one\n")
    mount.commit()
    os.rename(mount.main / "old", mount.main / "new")
    (mount.main / "text").write_text("two\n")
    changes = "R  old/ -> new/\nR  old/data -> new/data  100.0 kB\nM  text  4 B -> 4 B\n"
    control = mount.main / ".ana"
    assert (control / "diff").read_text() == changes
    assert (control / "status").read_text().endswith(f"Uncommitted: 3 changes\n{changes}")
    for name in ("diff.json", "status.json"):
        assert '"old_path": "old/data"' in (control / name).read_text()


def test_who_asks_for_a_range_of_a_file_gets_that_or_is_told_why_not(mount: Mount):
    (mount.main / "d").mkdir()
    (mount.main / "file").write_bytes(b"0123456789")
    with connect(mount.path) as service:
        assert service.read(MAIN, b"file", 2, 3) == b"234"
        assert service.read(MAIN, b"file", 8, READ_MAX) == b"89"
        assert service.read(MAIN, b"file", 100, 1) == b""
        with pytest.raises(NotFoundError, match="main has no none"):
            service.read(MAIN, b"none", 0, 1)
        with pytest.raises(UsageError, match="d is not a file"):
            service.read(MAIN, b"d", 0, 1)
        for offset, length in ((0, READ_MAX + 1), (-1, 1), (0, -1)):
            with pytest.raises(DaemonError, match="cannot read the request"):
                service.read(MAIN, b"file", offset, length)


def test_a_repository_that_is_mounted_read_only_shows_the_lines_of_what_is_not_committed(mount: Mount):
    (mount.main / "text").write_text("one\n")
    mount.commit()
    (mount.main / "text").write_text("two\n")
    mount.umount()
    done(run_ana("mount", "--read-only", mount.path, mount.root, cwd=Path("/")))
    try:
        assert "    -one\n    +two\n" in done(mount.ana("diff"))
    finally:
        mount.umount()
