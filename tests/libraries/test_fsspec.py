"""fsspec's own tests of a file system, with its local one in CAPIO_DIR."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("fsspec.tests.abstract", reason="fsspec is not installed: make test-libraries")

from fsspec.implementations.local import LocalFileSystem, make_path_posix
from fsspec.tests import abstract

from twins import Twin


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc]
    @pytest.fixture
    def fs(self) -> LocalFileSystem:
        return LocalFileSystem(auto_mkdir=True)

    @pytest.fixture
    def fs_path(self, twin: Twin) -> Iterator[str]:
        inside = twin.roots()[2]
        with twin.context:
            yield inside

    @pytest.fixture
    def fs_sanitize_path(self) -> Callable[[str], str]:
        return make_path_posix  # type: ignore[no-any-return]


class TestCopy(abstract.AbstractCopyTests, Fixtures):  # type: ignore[misc]
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):  # type: ignore[misc]
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):  # type: ignore[misc]
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):  # type: ignore[misc]
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):  # type: ignore[misc]
    pass
