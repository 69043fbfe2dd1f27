"""What the wheel holds, and what it is once installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from build_helpers import ROOT, Distributions, Installation, clean_environment, run

# One worker builds the wheel; that takes as long as compiling the engine does.
pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(1500)]


def version() -> str:
    return (ROOT / "vendor" / "capio" / "VERSION").read_text().strip()


def test_one_wheel_serves_every_python_of_a_platform(distributions: Distributions) -> None:
    name, release, python, abi, platform = distributions.wheel.stem.split("-")
    assert (name, release, python, abi) == ("pycapio", version(), "py3", "none")
    assert re.fullmatch(r"manylinux_2_\d+_\w+", platform)
    with zipfile.ZipFile(distributions.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/WHEEL"))
        metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Root-Is-Purelib"] == "false"
    assert metadata.get_all("Tag") == [f"py3-none-{platform}"]


def test_auditwheel_agrees_with_the_tag(distributions: Distributions) -> None:
    shown = run(
        sys.executable,
        "-m",
        "auditwheel",
        "show",
        distributions.wheel,
        cwd=distributions.wheel.parent,
    )
    assert re.search(r'platform\s+tag:\s+"manylinux_2_\d+_\w+"', shown), shown
    needed = {int(minor) for minor in re.findall(r"'GLIBC_2\.(\d+)", shown)}
    assert f"manylinux_2_{max(needed | {17})}_" in distributions.wheel.name


def test_metadata(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Version"] == version()
    assert metadata["Requires-Python"] == ">=3.10"
    required = [entry for entry in metadata.get_all("Requires-Dist", []) if "extra" not in entry]
    assert required == ["cffi>=1.15"]


def test_contents(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as wheel:
        members = {info.filename: info for info in wheel.infolist()}
    package = {name for name in members if not name.startswith(f"pycapio-{version()}.dist-info/")}
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "pycapio").rglob("*.py")
        if path.name not in ("_capio_abi.py", "_version.py")
    }
    assert package == sources | {
        "pycapio/py.typed",
        "pycapio/_capio_abi.py",
        "pycapio/_version.py",
        "pycapio/_native/libcapio.so",
        "pycapio/_native/capio_server",
    }
    for name in ("pycapio/_native/libcapio.so", "pycapio/_native/capio_server"):
        assert members[name].external_attr >> 16 & 0o111 == 0o111, name


def test_sdist_is_the_source_tree(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    built = {name for name in names if name.endswith((".so", "_capio_abi.py", "_version.py"))}
    assert not built | (names & {"pycapio/_native/capio_server"})
    wanted = {"LICENSE", "README.md", "setup.py", "scripts/build_capio.sh", "vendor/capio/VERSION"}
    wanted |= {
        str(path.relative_to(ROOT))
        for path in (ROOT / "vendor" / "capio").rglob("*")
        if path.is_file()
    }
    assert wanted <= names


def test_binaries_need_only_libc(installation: Installation) -> None:
    for name in ("LIBRARY_NAME", "SERVER_NAME"):
        path = installation.evaluate(
            f"import pycapio._native as n, os; print(os.path.join(n.__path__[0], n.{name}))"
        )
        needed = re.findall(
            r"\(NEEDED\).*\[(.+)\]", run("readelf", "-dW", path, cwd=installation.path)
        )
        assert "libc.so.6" in needed
        assert not [lib for lib in needed if not re.match(r"lib[cm]\.so|ld-linux", lib)], needed


def test_installed_package_imports_and_loads_the_library(installation: Installation) -> None:
    code = (
        "import pycapio, pycapio._native as n; from pycapio._capio_abi import ffi; "
        "lib = ffi.dlopen(str(n.library_path())); "
        "abi = lib.capio_abi_version() == lib.CAPIO_ABI_VERSION; "
        "print(pycapio.__file__, n.library_path(), abi, "
        "ffi.string(lib.capio_version()).decode())"
    )
    package, library, abi, release = installation.evaluate(code).split()
    assert Path(package).is_relative_to(installation.path)
    assert Path(library).is_relative_to(installation.path)
    assert (abi, release) == ("True", version())


def test_commands_are_installed(installation: Installation) -> None:
    for command in ("pycapio", "pycapio-cl", "capio_server"):
        printed = run(installation.path / "bin" / command, "--version", cwd=installation.path)
        assert version() in printed


def test_capio_server_runs_under_its_own_name(installation: Installation) -> None:
    process = subprocess.Popen(
        [installation.path / "bin" / "capio_server", "--version"],
        stdout=subprocess.DEVNULL,
        env=clean_environment(),
    )
    # It has ended but not been reaped: /proc still tells what it was.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    name = Path(f"/proc/{process.pid}/comm").read_text().strip()
    assert process.wait() == 0
    assert name == "capio_server"


def test_broken_capio_lib_stops_the_server_command(
    installation: Installation, tmp_path: Path
) -> None:
    result = subprocess.run(
        [installation.path / "bin" / "capio_server", "--version"],
        env={**clean_environment(), "CAPIO_LIB": str(tmp_path / "absent")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(
        f"pycapio: CAPIO_LIB is '{tmp_path}/absent', which does not exist"
    )
    assert len(result.stderr.splitlines()) == 1


def test_pip_without_a_compiler_says_what_to_install(
    unpacked_sdist: Path, path_without_compilers: str, tmp_path: Path
) -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"),
            *("--wheel-dir", tmp_path, unpacked_sdist),
        ],
        env={**clean_environment(), "PATH": path_without_compilers},
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "no C++ compiler was found" in result.stdout + result.stderr
    assert "apt install g++" in result.stdout + result.stderr
