"""ana info: the same figures with and without a mount."""

import json
import random

import pytest

from tests.harness import Mount, done, refused, run_ana

LABELS = ["Repository", "Mounted at", "Branches", "Tags", "Versions", "Last version", "On disk", "Chunks",
          "Compression", "Deduplication"]  # fmt: skip


@pytest.mark.mounted
def test_figures_are_the_same_with_and_without_a_mount(mount: Mount) -> None:
    data = random.Random(1).randbytes(1_000_000)
    (mount.main / "noise").write_bytes(data)
    mount.commit()
    (mount.main / "copy").write_bytes(data)
    mount.commit()
    done(mount.ana("tag", "v1"))
    mounted = mount.json("info")
    text = done(run_ana("info", cwd=mount.main))
    assert [line.partition(":")[0] for line in text.splitlines()] == LABELS
    assert f"Mounted at:    {mount.root}\n" in text
    assert "Branches:      1, by default main\nTags:          1\nVersions:      3, 3.0 MB in all of them\n" in text
    assert "Last version:  main@2, 2 files, 2.0 MB\n" in text
    assert "Deduplication: 3.00 to 1\n" in text
    assert mounted["mounted_at"] == str(mount.root)
    mount.umount()
    unmounted = mount.json("info")
    assert unmounted["mounted_at"] is None
    for changing in ("mounted_at", "disk"):
        del mounted[changing], unmounted[changing]
    assert unmounted == mounted
    assert set(mounted) == {
        "path", "format", "default_branch", "branches", "tags", "versions", "last_version", "chunks", "version_bytes",
        "compression", "deduplication",
    }  # fmt: skip
    assert mounted["chunks"]["bytes"] == 1_000_000
    assert mounted["compression"] < 1.001


@pytest.mark.mounted
def test_nothing_is_mounted_any_more_when_the_daemon_has_died(mount: Mount) -> None:
    mount.kill()
    assert json.loads(done(mount.ana("info", "--json")))["mounted_at"] is None


def test_what_is_no_repository_is_refused(tmp_path) -> None:
    refused(run_ana("info", cwd=tmp_path), 2, "neither in a repository")
