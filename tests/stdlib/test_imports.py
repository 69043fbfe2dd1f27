"""Modules that are CAPIO files; sources that a traceback asks for."""

from __future__ import annotations

import importlib
import sys
import sysconfig
from pathlib import Path
from typing import Any

from pycapio.proxies.importing import Finder


def test_a_module_just_written_can_be_imported(capio: Any) -> None:
    capio.run(
        "producer",
        """
        import importlib, inspect, os, sys

        os.mkdir("made")
        with open("made/one.py", "w") as file:
            file.write("import made_too\\nvalue = 1\\ndef name(): return __name__\\n")
        with open("made/made_too.py", "w") as file:
            file.write("value = 2\\n")
        sys.path.insert(0, os.path.abspath("made"))
        import one
        assert (one.value, one.made_too.value, one.name()) == (1, 2, "one")
        assert one.__file__ == os.path.join(os.getcwd(), "made", "one.py"), one.__file__
        assert one.__spec__.origin == one.__file__ and one.__spec__.has_location
        assert inspect.getsource(one).startswith("import made_too")

        with open("made/one.py", "w") as file:
            file.write("value = 'changed'\\n")
        assert importlib.reload(one).value == "changed"

        # Packages, submodules, relative imports, resources.
        os.makedirs("made/package/inner")
        for name, text in (
            ("package/__init__.py", "from .sub import value"),
            ("package/sub.py", "value = 'sub'"),
            ("package/inner/__init__.py", "from ..sub import value as outer"),
        ):
            with open("made/" + name, "w") as file:
                file.write(text)
        import package.inner
        assert (package.value, package.inner.outer) == ("sub", "sub")
        assert package.__path__ == [os.path.join(os.getcwd(), "made", "package")]
        assert package.__spec__.loader.get_data(package.__file__) == b"from .sub import value"

        # A namespace package with a part elsewhere.
        os.makedirs("made/space")
        with open("made/space/here.py", "w") as file:
            file.write("where = 'here'")
        elsewhere = sys.argv[1]
        os.makedirs(elsewhere + "/space")
        with open(elsewhere + "/space/there.py", "w") as file:
            file.write("where = 'there'")
        sys.path.append(elsewhere)
        import space.here, space.there
        assert (space.here.where, space.there.where) == ("here", "there")

        # Relative entries, and the current directory.
        with open("beside.py", "w") as file:
            file.write("value = 'beside'")
        sys.path.insert(0, "")
        import beside
        assert beside.value == "beside"

        os.remove("beside.py")
        del sys.modules["beside"]
        try:
            import beside
        except ModuleNotFoundError as error:
            assert error.name == "beside"
        else:
            raise SystemExit("imported what was removed")
        """,
        str(capio.tmp_path / "elsewhere"),
    )
    assert not (capio.dir / "made" / "__pycache__").exists()


def test_order_of_the_path_counts(capio: Any) -> None:
    """An entry outside, before the managed one, is first; real files in CAPIO_DIR are imported."""
    for number, place in enumerate((capio.tmp_path / "first", capio.dir / "real")):
        place.mkdir()
        (place / "both.py").write_text(f"number = {number}")
    (capio.dir / "real" / "only.py").write_text("number = 'real'")
    capio.run(
        "producer",
        """
        import os, sys
        os.mkdir("made")
        with open("made/both.py", "w") as file:
            file.write("number = 2")
        with open("made/json.py", "w") as file:
            file.write("raise SystemExit('not the standard library')")
        sys.path[:0] = [sys.argv[1]]
        sys.path.append(os.path.abspath("made"))
        sys.path.append(os.path.abspath("real"))
        import both, only, json
        assert both.number == 0
        assert only.number == "real"
        assert only.__file__ == os.path.abspath("real/only.py")
        json.dumps({})
        """,
        str(capio.tmp_path / "first"),
    )


def test_broken_modules_fail_as_ever(capio: Any) -> None:
    step = capio.run(
        "producer",
        """
        import os, sys
        sys.path.insert(0, os.getcwd())
        with open("wrong.py", "w") as file:
            file.write("def broken(:\\n")
        try:
            import wrong
        except SyntaxError as error:
            assert error.filename == os.path.abspath("wrong.py") and error.text.startswith("def b")
        with open("raising.py", "w") as file:
            file.write("def fail():\\n    raise KeyError('on this line')\\n")
        import raising
        raising.fail()
        """,
        status=1,
    )
    assert "raise KeyError('on this line')" in step.stderr
    assert f'File "{capio.dir}/raising.py", line 2, in fail' in step.stderr


def test_compiled_modules(capio: Any) -> None:
    """Byte code without a source, and an extension module."""
    libraries = Path(sysconfig.get_path("stdlib"), "lib-dynload")
    extension = next(libraries.glob(f"_heapq*{sysconfig.get_config_var('EXT_SUFFIX')}"), "")
    capio.run(
        "producer",
        """
        import importlib.util, marshal, os, shutil, sys
        sys.path.insert(0, os.getcwd())
        with open("bare.pyc", "wb") as file:
            file.write(importlib.util.MAGIC_NUMBER + bytes(12))
            marshal.dump(compile("value = 'compiled'", "source.py", "exec"), file)
        import bare
        assert bare.value == "compiled" and bare.__file__ == os.path.abspath("bare.pyc")
        if sys.argv[1]:
            shutil.copy(sys.argv[1], "_heapq.so")
            sys.modules.pop("_heapq", None)
            sys.path.remove(os.path.dirname(sys.argv[1]))
            import _heapq
            assert _heapq.__file__ == os.path.abspath("_heapq.so"), _heapq.__file__
        """,
        str(extension),
    )


def test_the_finder_is_there_only_inside(capio: Any, original_functions: None) -> None:
    before = list(sys.meta_path)
    with capio.context("producer"):
        names = [getattr(finder, "__name__", "") for finder in sys.meta_path]
        assert names.index("Finder") == names.index("PathFinder") - 1
        (capio.dir / "inside_only.py").write_text("value = 3")
        sys.path.append(str(capio.dir))
        try:
            module = importlib.import_module("inside_only")
        finally:
            sys.path.remove(str(capio.dir))
            sys.modules.pop("inside_only", None)
        assert module.value == 3
    assert sys.meta_path == before
    assert Finder.find_spec("inside_only", [str(capio.dir)]) is None


def test_tracebacks_never_wait(capio: Any) -> None:
    """Code that calls itself by the name of a file that a step has yet to produce."""
    capio.pair(["*"], committed="on_close")
    capio.leaves_server = True
    step = capio.step(
        "consumer",
        """
        import inspect, linecache, traceback, warnings
        code = compile("def fail():\\n    raise KeyError('shown')\\n", "later.txt", "exec")
        names = {}
        exec(code, names)
        try:
            names["fail"]()
        except KeyError:
            traceback.print_exc()
        assert linecache.getline("later.txt", 1) == ""
        linecache.checkcache()
        warnings.warn_explicit("careful", UserWarning, "later.txt", 2)
        try:
            inspect.getsource(names["fail"])
        except OSError:
            pass
        print("through", flush=True)
        """,
    )
    step.expect("through")
    step.finish()
    assert 'File "later.txt", line 2, in fail' in step.stderr


def test_scripts_in_capio_dir_under_a_rule_for_everything(capio: Any) -> None:
    """A consumer's own script and its modules lie in CAPIO_DIR, declared as somebody's output."""
    capio.pair(["*"], committed="on_termination")
    capio.leaves_server = True
    (capio.dir / "helper.py").write_text("value = 'helped'\n")
    script = capio.dir / "script.py"
    script.write_text("import helper\nprint(helper.value, flush=True)\nraise KeyError(__file__)\n")
    step = capio.start([sys.executable, "-m", "pycapio", *capio.options("consumer"), str(script)])
    step.expect("helped")
    step.finish(1)
    assert f"KeyError: '{script}'" in step.stderr
    assert "raise KeyError(__file__)" in step.stderr


def test_resolve_gives_the_kernels_path(capio: Any) -> None:
    capio.run(
        "producer",
        """
        import os, pathlib, subprocess, pycapio
        with open("f", "w") as file:
            file.write("content")
        path = pycapio.resolve("f")
        assert path != os.path.abspath("f")
        assert subprocess.check_output(["cat", path]) == b"content"
        assert pycapio.resolve(pathlib.Path("f")) == path == os.fsdecode(pycapio.resolve(b"f"))
        assert pycapio.resolve("/etc/passwd") == "/etc/passwd"
        try:
            pycapio.resolve("absent")
        except FileNotFoundError as error:
            assert error.filename == "absent"
        else:
            raise SystemExit("resolved what does not exist")
        """,
    )


def test_modules_loaded_by_their_path_and_compiled(capio: Any) -> None:
    capio.run(
        "producer",
        """
        import compileall, importlib.util, os, py_compile, sys
        from importlib.machinery import SourcelessFileLoader

        def load(path):
            spec = importlib.util.spec_from_file_location("loaded", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module

        os.makedirs("made/deep")
        for name in ("made/one.py", "made/deep/two.py"):
            with open(name, "w") as file:
                file.write("value = __file__\\n")
        path = os.path.abspath("made/one.py")
        assert load(path).value == path
        assert load(path).__loader__.get_source("loaded") == "value = __file__\\n"
        assert not os.path.exists("made/__pycache__")  # the workflow has no byte code of imports

        compiled = py_compile.compile("made/one.py", doraise=True)
        assert compiled == importlib.util.cache_from_source("made/one.py") and os.path.exists(compiled)
        assert os.listdir(os.path.dirname(compiled)) == [os.path.basename(compiled)]
        compiled = py_compile.compile("made/one.py", "made/alone.pyc", doraise=True)
        assert SourcelessFileLoader("loaded", compiled).get_code("loaded").co_filename == "made/one.py"
        assert compileall.compile_dir("made", quiet=1)
        assert os.path.exists(importlib.util.cache_from_source("made/deep/two.py"))

        try:
            load("made/missing.py")
        except FileNotFoundError as error:
            assert error.filename == os.path.abspath("made/missing.py"), error.filename
        else:
            raise SystemExit("loaded what is not there")
        """,
    )
    assert sorted(path.name for path in (capio.dir / "made").rglob("*.pyc")) == sorted(
        [
            "alone.pyc",
            f"one.{sys.implementation.cache_tag}.pyc",
            f"two.{sys.implementation.cache_tag}.pyc",
        ]
    )


def test_zip_files_and_directories_that_are_run(capio: Any) -> None:
    """By the interpreter, by runpy, and as entries of sys.path."""
    capio.run(
        "producer",
        """
        import importlib, os, runpy, subprocess, sys, zipapp, zipimport

        os.mkdir("app")
        with open("app/__main__.py", "w") as file:
            file.write("import sys, inner\\nprint(__file__, sys.path[0], inner.__file__, inner.f())\\n")
        with open("app/inner.py", "w") as file:
            file.write("def f(): return 7\\ndef g(): 1 / 0\\n")
        zipapp.create_archive("app", "app.pyz")
        here = os.getcwd()
        for name in ("app.pyz", "app", here + "/app.pyz"):
            full = os.path.join(here, name)
            done = subprocess.run([sys.executable, name], capture_output=True, text=True, check=True)
            assert done.stdout.split() == [f"{full}/__main__.py", full, f"{full}/inner.py", "7"], done
            assert runpy.run_path(name)["inner"].f() == 7
            del sys.modules["inner"]

        sys.path.insert(0, here + "/app.pyz")
        import inner
        assert inner.__file__ == here + "/app.pyz/inner.py"
        assert isinstance(inner.__loader__, zipimport.zipimporter)
        assert inner.__loader__.archive == here + "/app.pyz"
        assert inner.__loader__.get_data(inner.__file__).startswith(b"def f")
        assert importlib.reload(inner).f() == 7
        try:
            inner.g()
        except ZeroDivisionError:
            import traceback
            assert "def g(): 1 / 0" in traceback.format_exc()

        with open("no.pyz", "w") as file:
            file.write("raise SystemExit(5)")
        assert subprocess.run([sys.executable, "no.pyz"]).returncode == 5
        for name in ("no.pyz", "none.pyz"):
            try:
                zipimport.zipimporter(here + "/" + name)
            except zipimport.ZipImportError as error:
                assert "Zip file" in str(error) and here in error.path, error
            else:
                raise AssertionError(name)
        """,
    )


def test_who_asks_the_path_finder_himself(capio: Any) -> None:
    capio.run(
        "producer",
        """
        import importlib.machinery, os, pkgutil, sys
        from importlib.resources import files

        os.makedirs("pk/sub")
        os.mkdir("pk/none")
        for name in ("__init__.py", "a.py", "b.txt", "sub/__init__.py", "sub/c.py", "none/d.py"):
            open("pk/" + name, "w").close()
        sys.path.insert(0, os.getcwd())
        import pk
        names = [module.name for module in pkgutil.walk_packages(pk.__path__, "pk.")]
        assert names == ["pk.a", "pk.sub", "pk.sub.c"], names
        assert [m.ispkg for m in pkgutil.iter_modules([os.getcwd()]) if m.name == "pk"] == [True]
        spec = importlib.machinery.PathFinder.find_spec("pk")
        assert spec.origin == os.getcwd() + "/pk/__init__.py"
        assert type(spec.loader) is importlib.machinery.SourceFileLoader
        assert importlib.machinery.PathFinder.find_spec("nowhere") is None
        assert files("pk").joinpath("b.txt").read_text() == ""
        """,
    )


def test_hooks_are_given_back(capio: Any) -> None:
    capio.python(
        """
        import os, pkgutil, sys
        from pycapio import CapioContext

        hooks = list(sys.path_hooks)
        with CapioContext(capio_dir=DIR, workflow_name=WF, await_server_timeout_seconds=60):
            assert len(sys.path_hooks) == len(hooks) + 1
            os.mkdir(DIR + "/made")
            open(DIR + "/made/one.py", "w").close()
            assert [m.name for m in pkgutil.iter_modules([DIR + "/made"])] == ["one"]
            assert DIR + "/made" in sys.path_importer_cache
        assert sys.path_hooks == hooks
        assert DIR + "/made" not in sys.path_importer_cache
        """
    ).finish()


def test_a_finder_that_is_kept(capio: Any) -> None:
    """Outside it finds what Python's own finds, inside again what is in the store."""
    (capio.dir / "made").mkdir()
    (capio.dir / "made" / "real.py").write_text("value = 1")
    capio.python(
        """
        import os, pkgutil
        from pycapio import CapioContext

        os.chdir(DIR)
        context = CapioContext(capio_dir=DIR, workflow_name=WF, await_server_timeout_seconds=60)
        with context:
            finder = pkgutil.get_importer("made")
            for name in ("made/one.py", "made/package/__init__.py", "made/space/two.py"):
                os.makedirs(os.path.dirname(name), exist_ok=True)
                open(name, "w").close()

        def found():
            names = ("real", "one", "package", "space", "nowhere")
            return [name for name in names if finder.find_spec(name) is not None]

        inside, outside = ["real", "one", "package", "space"], ["real"]
        assert found() == outside, found()
        os.chdir("/")
        assert found() == outside, found()
        spec = finder.find_spec("real")
        assert spec.origin == DIR + "/made/real.py"
        assert spec.loader.get_code("real").co_filename == spec.origin
        with context:
            assert found() == inside, found()
            assert finder.find_spec("one").origin == DIR + "/made/one.py"
            os.remove(DIR + "/made/real.py")
            assert found() == inside[1:], found()
        assert found() == [], found()
        """
    ).finish()


def test_pytest_in_capio_dir(capio: Any) -> None:
    """It finds, rewrites and caches test modules by its own means."""
    capio.run(
        "producer",
        """
        import os
        import pytest

        lines = (
            "import os",
            "def test_rewritten():",
            "    try:",
            "        assert len('four') == 5",
            "    except AssertionError as error:",
            "        assert '4 == 5' in str(error)",
            "def test_files(tmp_path, capfd):",
            "    (tmp_path / 'x').write_text('y')",
            "    os.system(f'cat {tmp_path}/x')",
            "    assert capfd.readouterr().out == 'y'",
        )
        os.makedirs("project/tests")
        with open("project/tests/test_it.py", "w") as file:
            file.write("\\n".join(lines))
        status = pytest.main(["-q", "--basetemp=base", "-p", "no:xdist", "project"])
        assert status == 0, status
        assert os.path.exists(".pytest_cache/README.md")
        """,
    )


def test_a_virtual_environment(capio: Any) -> None:
    capio.run(
        "producer",
        """
        import subprocess, venv

        venv.create("env", symlinks=True)
        code = "import sys; print(sys.prefix)"
        found = subprocess.run(["env/bin/python", "-c", code], capture_output=True, text=True)
        assert found.stdout.strip().endswith("/env"), found
        """,
    )
