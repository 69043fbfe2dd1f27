"""The native part of the build; everything else is in pyproject.toml."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
NATIVE = runpy.run_path(str(ROOT / "pycapio" / "_native" / "__init__.py"))
BINARIES: tuple[str, ...] = (NATIVE["LIBRARY_NAME"], NATIVE["SERVER_NAME"])
VERSION = (ROOT / "vendor" / "capio" / "VERSION").read_text(encoding="ascii").strip()


class NativeDistribution(Distribution):
    """One with compiled parts, though they are no extension modules."""

    def has_ext_modules(self) -> bool:
        return True


class Build(build):
    """Starts from an empty directory, or modules that no longer exist would get into the wheel."""

    sub_commands = [*build.sub_commands, ("build_native", None)]

    def run(self) -> None:
        if not self.get_finalized_command("build_native").editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildNative(Command):
    """Builds libcapio.so and capio_server and generates the modules git does not hold."""

    description = "build the native library and the server"
    user_options = [("inplace", "i", "put the results into the source tree")]
    boolean_options = ["inplace"]
    editable_mode = False
    done = False

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.inplace = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))
        self.editable_mode = self.editable_mode or bool(self.inplace)

    @property
    def package(self) -> Path:
        return (ROOT if self.editable_mode else Path(self.build_lib or "")) / "pycapio"

    def run(self) -> None:
        native = self.package.resolve() / "_native"
        native.mkdir(parents=True, exist_ok=True)
        script = str(ROOT / "scripts" / "build_capio.sh")
        environment = {**os.environ, "PYTHON": sys.executable}
        result = subprocess.run(["bash", script, "--native", str(native)], env=environment)
        if result.returncode != 0:
            raise SystemExit(
                "pycapio: the native part could not be built; the reason is printed above"
            )
        for name in BINARIES:
            if not os.access(native / name, os.X_OK):
                raise SystemExit(f"pycapio: {script} has made no {native / name}")
        (self.package / "_version.py").write_text(
            f'# Generated from vendor/capio/VERSION.\n__version__ = "{VERSION}"\n', encoding="ascii"
        )
        ffi = runpy.run_path(str(ROOT / "pycapio" / "_build_ffi.py"))
        ffi["generate"](self.package)
        self.done = True

    # What setuptools asks of a build step, so that it knows sources and results.

    def get_source_files(self) -> list[str]:
        return [
            "vendor/capio/VERSION",
            "vendor/capio/include/capio/capio.h",
            "scripts/build_capio.sh",
        ]

    def get_outputs(self) -> list[str]:
        native = [str(self.package / "_native" / name) for name in BINARIES]
        return [*native, str(self.package / "_version.py"), str(self.package / "_capio_abi.py")]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Wheel(bdist_wheel):
    """py3-none-<platform>: native code, but none that knows one Python from another."""

    def get_tag(self) -> tuple[str, str, str]:
        platform = super().get_tag()[2]
        step = self.get_finalized_command("build_native")
        if step.done:
            platform = manylinux(platform, [step.package / "_native" / name for name in BINARIES])
        return "py3", "none", platform


# Every libc of manylinux comes with these, so that a wheel may need them.
LIBC_PARTS = re.compile(r"(libc|libm|libdl|librt|libpthread|libresolv|ld-linux[\w-]*)\.so\.\d+")


def manylinux(platform: str, binaries: list[Path]) -> str:
    """The manylinux tag of the oldest glibc the binaries run on; platform if there is none."""
    match = re.fullmatch(r"linux_(\w+)", platform)
    readelf = shutil.which("readelf")
    if match is None or readelf is None:
        return platform
    oldest = (2, 17)
    for binary in binaries:
        text = subprocess.run(
            [readelf, "--wide", "--dynamic", "--version-info", str(binary)],
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
        )
        needed = re.findall(r"\(NEEDED\).*\[(.+)\]", text.stdout)
        if text.returncode != 0 or not all(LIBC_PARTS.fullmatch(name) for name in needed):
            return platform
        versions = re.findall(r"Name: GLIBC_(\d+)\.(\d+)", text.stdout)
        if not versions:  # statically linked, or a libc other than glibc
            return platform
        oldest = max(oldest, *((int(major), int(minor)) for major, minor in versions))
    return f"manylinux_{oldest[0]}_{oldest[1]}_{match[1]}"


setup(
    distclass=NativeDistribution,
    cmdclass={"build": Build, "build_native": BuildNative, "bdist_wheel": Wheel},
)
