"""The wheel, built once as a user would, and a clean virtual environment that holds it."""

from __future__ import annotations

import fcntl
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from build_helpers import ROOT, Distributions, Installation, run


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """sdist, and the wheel made from the sdist."""
    # Made once for all workers: two builds of an sdist in one tree remove each other's files.
    shared = tmp_path_factory.getbasetemp().parent
    out = shared / "dist"
    with open(shared / "dist.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            made = tmp_path_factory.mktemp("dist")
            run(sys.executable, "-m", "build", "--outdir", made, ROOT, cwd=made)
            made.rename(out)
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return Distributions(sdist, wheel)


@pytest.fixture(scope="session")
def unpacked_sdist(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    with tarfile.open(distributions.sdist) as archive:
        archive.extractall(out, filter="data")
    (tree,) = out.iterdir()
    return tree


@pytest.fixture(scope="session")
def installation(
    distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Installation:
    path = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", path, cwd=path)
    run(path / "bin" / "python", "-m", "pip", "install", "-q", distributions.wheel, cwd=path)
    return Installation(path)


@pytest.fixture
def path_without_compilers(tmp_path: Path) -> str:
    """A PATH of the few tools that every machine has, and no compiler."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for tool in ("bash", "dirname", "flock", "mkdir", "nproc", "rm", "sed", "uname"):
        found = shutil.which(tool)
        if found is not None:
            (directory / tool).symlink_to(found)
    return str(directory)
