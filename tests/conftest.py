"""Fixtures: a repository, and a mount of it that is never left behind."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import REQUIRED, Mount, Repo, done, run_ana


def pytest_sessionstart() -> None:
    """A shell's background job ignores Ctrl-C, and so would every process that the tests press it in."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without /dev/fuse the mounted tests are skipped; with it never."""
    if item.get_closest_marker("mounted") and not Path("/dev/fuse").exists():
        if REQUIRED:
            pytest.fail("/dev/fuse is missing, and ANABRANCH_REQUIRE_FUSE=1", pytrace=False)
        pytest.skip("/dev/fuse is missing")


@pytest.fixture(scope="session")
def fresh_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ana init` makes; tests work on copies, which are quicker to have."""
    path = tmp_path_factory.mktemp("fresh") / "repo"
    done(run_ana("init", "--no-ignore", path, cwd=path.parent))
    return path


@pytest.fixture
def repo(tmp_path: Path, fresh_repository: Path) -> Repo:
    """A new repository, not mounted."""
    return Repo(shutil.copytree(fresh_repository, tmp_path / "repo"))


@pytest.fixture
def mountable(repo: Repo, tmp_path: Path) -> Iterator[Mount]:
    """A new repository and an empty directory; whatever a test mounts there is cleared away."""
    root = tmp_path / "mnt"
    root.mkdir()
    with Mount(repo.path, root).kept_tidy() as mount:
        yield mount


@pytest.fixture
def mount(mountable: Mount) -> Mount:
    """A new repository, mounted."""
    mountable.mount()
    return mountable


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """An empty directory of an ordinary filesystem."""
    path = tmp_path / "beside"
    path.mkdir()
    return path


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A new directory that every user can reach, which tmp_path is not."""
    with tempfile.TemporaryDirectory(prefix="anabranch-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path
