"""Libraries of the field: one process produces a file through each, another consumes it.

They come with ``pip install pycapio[libraries]`` (make test-libraries); what is not installed is
skipped. The consumer is started first and waits; the producer lives on until the consumer is done,
so that it is the close that hands each file over.
"""

from __future__ import annotations

import stat
import sys
import textwrap
from typing import Any, NamedTuple

import pytest

ABSENT = "{} is not installed: pip install pycapio[libraries]"


class Case(NamedTuple):
    modules: str  # that have to be installed
    write: str
    read: str  # prints, line by line, what is expected
    expected: str
    rule: str = "on_close"
    files: str = "f*"


CASES = {
    "numpy_save": Case(
        "numpy",
        "numpy.save('f.npy', numpy.arange(100_000))",
        "a = numpy.load('f.npy'); print(a.sum(), a.shape)",
        "4999950000 (100000,)",
    ),
    "numpy_load_mapped": Case(
        "numpy",
        "numpy.save('f.npy', numpy.arange(100_000))",
        "a = numpy.load('f.npy', mmap_mode='r'); print(type(a).__name__, a[99_999])",
        "memmap 99999",
    ),
    "numpy_savez": Case(
        "numpy",
        "numpy.savez_compressed('f.npz', a=numpy.ones(10), b=numpy.zeros(3))",
        "f = numpy.load('f.npz'); print(sorted(f.files), f['a'].sum())",
        "['a', 'b'] 10.0",
    ),
    "numpy_raw": Case(
        "numpy",
        "numpy.arange(1000, dtype='i4').tofile('f.raw')",
        "a = numpy.fromfile('f.raw', dtype='i4'); print(len(a), a[-1])\n"
        "with open('f.raw', 'rb') as file: print(numpy.fromfile(file, 'i4', 3, offset=8))",
        "1000 999\n[2 3 4]",
    ),
    "numpy_tofile_of_a_file": Case(
        "numpy",
        "with open('f.raw', 'wb') as file:\n"
        "    file.write(b'head')\n"
        "    numpy.arange(1000, dtype='i4').tofile(file)\n"
        "    file.write(b'tail')",
        "with open('f.raw', 'rb') as file: print(len(file.read()))",
        "4008",
    ),
    "numpy_memmap": Case(
        "numpy",
        "m = numpy.memmap('f.map', dtype='f8', mode='w+', shape=(100,))\n"
        "m[:] = 1.5\nm.flush()\ndel m",
        "print(numpy.memmap('f.map', dtype='f8', mode='r').sum())",
        "150.0",
    ),
    # It opens and closes its file twice: docs/semantics.md.
    "numpy_savetxt": Case(
        "numpy",
        "numpy.savetxt('f.txt', numpy.arange(6).reshape(2, 3), fmt='%d')",
        "print(numpy.loadtxt('f.txt').sum(), numpy.genfromtxt('f.txt').shape)",
        "15.0 (2, 3)",
        rule="on_close:2",
    ),
    "numpy_savetxt_of_a_file": Case(
        "numpy",
        "with open('f.txt', 'w') as file: numpy.savetxt(file, numpy.ones((2, 2)))",
        "print(numpy.loadtxt('f.txt').sum())",
        "4.0",
    ),
    "pandas_csv": Case(
        "pandas",
        "pandas.DataFrame({'a': range(1000), 'b': 'x'}).to_csv('f.csv', index=False)",
        "t = pandas.read_csv('f.csv'); print(t.shape, t.a.sum())\n"
        "print(sum(len(part) for part in pandas.read_csv('f.csv', chunksize=300)))",
        "(1000, 2) 499500\n1000",
    ),
    "pandas_parquet": Case(
        "pandas pyarrow",
        "t = pandas.DataFrame({'a': range(1000)})\nt.to_parquet('f.one')\n"
        "with open('f.two', 'wb') as file: t.to_parquet(file)",
        "print(pandas.read_parquet('f.one').a.sum())\n"
        "with open('f.two', 'rb') as file: print(pandas.read_parquet(file).a.sum())",
        "499500\n499500",
    ),
    "pandas_pickle_and_json": Case(
        "pandas",
        "t = pandas.DataFrame({'a': [1, 2]})\nt.to_pickle('f.pickle.gz')\nt.to_json('f.json')",
        "print(pandas.read_pickle('f.pickle.gz').a.sum(), pandas.read_json('f.json').a.sum())",
        "3 3",
    ),
    "pyarrow": Case(
        "pyarrow",
        "import pyarrow.parquet\n"
        "t = pyarrow.table({'a': list(range(100))})\n"
        "with open('f.parquet', 'wb') as file: pyarrow.parquet.write_table(t, file)\n"
        "with open('f.arrow', 'wb') as file, pyarrow.ipc.new_stream(file, t.schema) as out:\n"
        "    out.write_table(t)",
        "import pyarrow.parquet\n"
        "with open('f.parquet', 'rb') as file: print(pyarrow.parquet.read_table(file).num_rows)\n"
        "with open('f.arrow', 'rb') as file: print(pyarrow.ipc.open_stream(file).read_all().num_rows)",
        "100\n100",
    ),
    "h5py_of_a_file": Case(
        "h5py numpy",
        "with open('f.h5', 'w+b') as file, h5py.File(file, 'w') as out:\n"
        "    out['data'] = numpy.arange(10_000)",
        "with open('f.h5', 'rb') as file, h5py.File(file, 'r') as h: print(h['data'][...].sum())",
        "49995000",
    ),
    "netcdf4_in_memory": Case(
        "netCDF4 numpy",
        "d = netCDF4.Dataset('memory', 'w', memory=1)\n"
        "d.createDimension('x', 5)\nd.createVariable('v', 'f8', ('x',))[:] = numpy.arange(5)\n"
        "with open('f.nc', 'wb') as file: file.write(d.close())",
        "with open('f.nc', 'rb') as file: d = netCDF4.Dataset('memory', memory=file.read())\n"
        "print(d['v'][:].sum())",
        "10.0",
    ),
    "zarr_zip": Case(
        "zarr numpy",
        "store = zarr.storage.ZipStore('f.zip', mode='w')\n"
        "zarr.create_array(store, data=numpy.arange(50))\nstore.close()",
        "print(zarr.open_array(zarr.storage.ZipStore('f.zip', mode='r'), mode='r')[...].sum())",
        "1225",
    ),
    # Which format it is zarr asks by looking for files of each, unless it is told: docs/limits.md.
    "zarr_directory": Case(
        "zarr numpy",
        "a = zarr.open_array('f.zarr', mode='w', shape=(50,), chunks=(10,), dtype='i8')\n"
        "a[:] = numpy.arange(50)\nopen('f.done', 'w').close()",
        "open('f.done').close()\nprint(zarr.open_array('f.zarr', mode='r', zarr_format=3)[...].sum())",
        "1225",
        files="f.done f.zarr/*",
    ),
    "pillow": Case(
        "PIL",
        "import PIL.Image\nPIL.Image.new('RGB', (30, 20), 'red').save('f.png')",
        "import PIL.Image\nwith PIL.Image.open('f.png') as i: print(i.size, i.getpixel((3, 3)))",
        "(30, 20) (255, 0, 0)",
    ),
    # lxml reads by path what it would have opened itself.
    "lxml": Case(
        "lxml",
        "import gzip\n"
        "with open('f.xml', 'wb') as file: file.write(b'<r><c>1</c><c>2</c></r>')\n"
        "with gzip.open('f.xml.gz', 'wb') as file: file.write(b'<r/>')\n"
        "with open('f.bad', 'wb') as file: file.write(b'<r>')",
        "from pathlib import Path\n"
        "from lxml import etree, html, objectify\n"
        "tree = etree.parse('f.xml'); print(len(tree.getroot()), tree.docinfo.URL)\n"
        "print(html.parse(Path('f.xml')).docinfo.URL, objectify.parse(b'f.xml').getroot().c[1])\n"
        "print(etree.parse('f.xml.gz').getroot().tag, len(list(etree.iterparse('f.xml'))))\n"
        "try: etree.parse('f.bad')\nexcept etree.XMLSyntaxError as error: print(error.filename)\n"
        "try: etree.parse('absent')\nexcept OSError as error: print(error)",
        "2 f.xml\nf.xml 2\nr 3\nf.bad\n"
        "Error reading file 'absent': failed to load \"absent\": No such file or directory",
    ),
    "pandas_html": Case(
        "pandas lxml",
        "pandas.DataFrame({'a': [1, 2]}).to_html('f.html')",
        "print(pandas.read_html('f.html')[0].a.sum())",
        "3",
    ),
    "aiofiles": Case(
        "aiofiles",
        "import asyncio, aiofiles.os\n"
        "async def main():\n"
        "    async with aiofiles.open('f.txt', 'w') as file:\n"
        "        await file.write('asynchronous\\n' * 3)\n"
        "asyncio.run(main())",
        "import asyncio, aiofiles.os\n"
        "async def main():\n"
        "    async with aiofiles.open('f.txt') as file:\n"
        "        print(len([line async for line in file]), await aiofiles.os.path.getsize('f.txt'))\n"
        "asyncio.run(main())",
        "3 39",
    ),
    "joblib": Case(
        "joblib numpy",
        "joblib.dump({'a': numpy.arange(1000)}, 'f.joblib')\n"
        "joblib.dump(list(range(99)), 'f.joblib.gz', compress=3)",
        "print(joblib.load('f.joblib')['a'].sum(), len(joblib.load('f.joblib.gz')))\n"
        "print(joblib.load('f.joblib', mmap_mode='r')['a'].sum())",
        "499500 99\n499500",
    ),
    "joblib_parallel_processes": Case(
        "joblib",
        "def work(i):\n    with open(f'f.{i}', 'w') as out: out.write(str(i))\n"
        "joblib.Parallel(2)(joblib.delayed(work)(i) for i in range(4))",
        "def work(i): return int(open(f'f.{i}').read())\n"
        "print(joblib.Parallel(2)(joblib.delayed(work)(i) for i in range(4)))",
        "[0, 1, 2, 3]",
    ),
    "joblib_parallel_threads": Case(
        "joblib",
        "def work(i):\n    with open(f'f.{i}', 'w') as out: out.write(str(i))\n"
        "joblib.Parallel(2, prefer='threads')(joblib.delayed(work)(i) for i in range(4))",
        "def work(i): return int(open(f'f.{i}').read())\n"
        "print(joblib.Parallel(2, prefer='threads')(joblib.delayed(work)(i) for i in range(4)))",
        "[0, 1, 2, 3]",
    ),
    "dill": Case(
        "dill",
        "with open('f.dill', 'wb') as file: dill.dump(lambda x: x + 1, file)",
        "with open('f.dill', 'rb') as file: print(dill.load(file)(1))",
        "2",
    ),
    "cloudpickle": Case(
        "cloudpickle",
        "with open('f.pickle', 'wb') as file: cloudpickle.dump(lambda x: x + 1, file)",
        "with open('f.pickle', 'rb') as file: print(cloudpickle.load(file)(1))",
        "2",
    ),
    "tqdm": Case(
        "tqdm",
        "with open('f.txt', 'w') as file:\n"
        "    for i in tqdm.tqdm(range(1000)): print(i, file=file)",
        "with open('f.txt') as file: print(sum(int(line) for line in tqdm.tqdm(file)))\n"
        "with open('f.txt', 'rb') as file, tqdm.tqdm.wrapattr(file, 'read') as w: print(len(w.read()))",
        "499500\n3890",
    ),
    "matplotlib": Case(
        "matplotlib PIL",
        "import matplotlib; matplotlib.use('Agg')\nimport matplotlib.pyplot as plt\n"
        "plt.plot([1, 2, 3])\nfor kind in ('png', 'svg', 'pdf'): plt.savefig('f.' + kind)",
        "import PIL.Image\nprint(PIL.Image.open('f.png').size)\n"
        "print(open('f.svg').read(5), open('f.pdf', 'rb').read(4))",
        "(640, 480)\n<?xml b'%PDF'",
    ),
    "fsspec_local": Case(
        "fsspec",
        "import os\nwith fsspec.open('file://' + os.path.abspath('f.txt'), 'wt') as file:\n"
        "    file.write('by fsspec')\n"
        "fs = fsspec.filesystem('file')\nwith fs.open('f.gz', 'wb', compression='gzip') as file:\n"
        "    file.write(b'packed')",
        "fs = fsspec.filesystem('file')\nprint(fs.cat('f.txt'), fs.exists('f.txt'), fs.size('f.txt'))\n"
        "with fsspec.open('f.gz', 'rb', compression='infer') as file: print(file.read())",
        "b'by fsspec' True 9\nb'packed'",
    ),
}


@pytest.mark.parametrize("mode", ["update", "no_update"])
@pytest.mark.parametrize("name", CASES)
def test_producer_and_consumer(capio: Any, name: str, mode: str) -> None:
    case = CASES[name]
    for module in case.modules.split():
        pytest.importorskip(module, reason=ABSENT.format(module))
    capio.env["MPLCONFIGDIR"] = str(capio.tmp_path)
    capio.pair(case.files.split(), committed=case.rule, mode=mode)
    imports = "import " + ", ".join(case.modules.split()) + "\n"
    consumer = capio.step("consumer", imports + textwrap.dedent(case.read) + "\n")
    producer = capio.step(
        "producer",
        f"{imports}{case.write}\nimport sys\nprint('written', flush=True)\nsys.stdin.readline()\n",
    )
    producer.expect("written")
    assert consumer.finish().stdout == case.expected + "\n"
    producer.send()
    producer.finish()


def test_files_are_there_for_those_without_pycapio(capio: Any) -> None:
    """Undeclared: kept, and written to CAPIO_DIR at the end."""
    pytest.importorskip("numpy", reason=ABSENT.format("numpy"))
    capio.run("producer", "import numpy\nnumpy.save('f.npy', numpy.arange(3))\n")
    assert capio.wait_for_server_end()
    assert (capio.dir / "f.npy").stat().st_size == 128 + 24


# By module: calls that open a path in native code.
NATIVE = {
    "duckdb": ("duckdb.connect('f.duckdb')",),
    "h5py": ("h5py.File('f.h5', 'w')",),
    "netCDF4": ("netCDF4.Dataset('f.nc', 'w')", "netCDF4.Dataset(filename='f.nc')"),
    "pandas": (
        "pandas.DataFrame({'a': [1]}).to_parquet('f.parquet')",
        "pandas.read_parquet('absent.parquet')",
    ),
    "pyarrow.csv": ("pyarrow.csv.read_csv('f.csv')", "pyarrow.csv.open_csv('f.csv')"),
    "pyarrow.dataset": (
        "pyarrow.dataset.dataset(source='f.parquet')",
        "pyarrow.dataset.dataset(['f.parquet', 'g.parquet'])",
    ),
    "pyarrow.feather": ("pyarrow.feather.write_feather(pyarrow.table({'a': [1]}), 'f.feather')",),
    "pyarrow.parquet": (
        "pyarrow.parquet.write_table(pyarrow.table({'a': [1]}), 'f.parquet')",
        "pyarrow.parquet.read_table('f.parquet')",
        "pyarrow.parquet.ParquetFile('f.parquet')",
    ),
    "pysam": ("pysam.FastaFile('f.fa')", "pysam.AlignmentFile(filename='f.bam')"),
    "rasterio": ("rasterio.open('f.tif')",),
    "sqlalchemy": ("sqlalchemy.create_engine('sqlite:///f.db').connect()",),
    "sqlite3": ("sqlite3.connect('f.db')",),
}


NATIVE_WRITERS = {
    "sqlite3": "with sqlite3.connect(path) as base: base.execute('create table t (n)')",
    "sqlalchemy": "with sqlalchemy.create_engine('sqlite:///' + path).begin() as base:"
    " base.execute(sqlalchemy.text('create table t (n int)'))",
    "h5py": "with h5py.File(path, 'w') as file: file['n'] = [1, 2]",
    "netCDF4": "netCDF4.Dataset(path, 'w').close()",
    "pyarrow.feather": "pyarrow.feather.write_feather(pyarrow.table({'a': [1]}), path)",
}


@pytest.mark.parametrize("call", [(name, call) for name in NATIVE for call in NATIVE[name]])
def test_native_code_that_opens_by_path_is_pointed_out_once(
    capio: Any, call: tuple[str, str]
) -> None:
    name, text = call
    for needed in (name, "pyarrow") if "parquet" in text else (name,):
        pytest.importorskip(needed, reason=ABSENT.format(needed))
    step = capio.run(
        "producer",
        f"""
        import os
        import {name}
        for directory in (os.curdir, os.curdir, {str(capio.tmp_path)!r}):
            os.chdir(directory)
            try:
                {text}
            except Exception:  # the file is not there for it, which is what is warned of
                pass
        """,
    )
    warned = [line for line in step.stderr.splitlines() if "RuntimeWarning: pycapio:" in line]
    assert len(warned) == 1, step.stderr
    assert "native code" in warned[0] and "docs/limits.md" in warned[0]


@pytest.mark.parametrize("path", ["made/deep/f", "os.path.abspath('made/deep/f')"])
@pytest.mark.parametrize("name", NATIVE_WRITERS)
def test_native_code_writes_into_a_directory_that_python_has_made(
    capio: Any, name: str, path: str
) -> None:
    pytest.importorskip(name, reason=ABSENT.format(name))
    step = capio.run(
        "producer",
        f"""
        import os, warnings
        warnings.simplefilter("ignore")
        import {name}
        os.mkdir("made", 0o750)
        os.mkdir("made/deep", 0o700)
        path = {path if "(" in path else repr(path)}
        {NATIVE_WRITERS[name]}
        print(os.listdir("made/deep"), os.path.getsize(path) > 0)
        """,
    )
    step.expect("['f'] True")
    assert (capio.dir / "made/deep/f").stat().st_size > 0
    modes = [stat.S_IMODE((capio.dir / name).stat().st_mode) for name in ("made", "made/deep")]
    assert modes == [0o750, 0o700]


def test_native_code_that_cannot_have_its_directory_says_so(capio: Any) -> None:
    step = capio.run(
        "producer",
        """
        import os, sqlite3
        os.mkdir("made")
        for path in ("missing/f", "made/missing/f"):
            try:
                sqlite3.connect(path)
            except sqlite3.OperationalError as error:
                print(error)
        print(os.path.exists("missing"), os.listdir("made"))
        """,
    )
    step.expect("unable to open database file", "unable to open database file", "False []")


def test_a_class_that_is_watched_is_itself(capio: Any) -> None:
    pytest.importorskip("netCDF4", reason=ABSENT.format("netCDF4"))
    step = capio.run(
        "producer",
        """
        import netCDF4

        class Derived(netCDF4.Dataset):
            pass

        memory = netCDF4.Dataset("memory", "w", memory=1)
        derived = Derived("memory", "w", memory=1)
        assert isinstance(memory, netCDF4.Dataset) and isinstance(derived, netCDF4.Dataset)
        assert type(derived) is Derived and not isinstance(memory, Derived)
        assert issubclass(netCDF4.MFDataset, netCDF4.Dataset)
        assert netCDF4.Dataset.__name__ == type(memory).__name__ == "Dataset"
        """,
    )
    assert step.stderr.count("RuntimeWarning") <= 1


def test_what_native_code_writes_by_path_is_waited_for(capio: Any) -> None:
    """The consumer waits until it is there and nobody writes it."""
    for module in ("h5py", "numpy"):
        pytest.importorskip(module, reason=ABSENT.format(module))
    capio.pair(["f.h5"], committed="on_close", mode="update")
    consumer = capio.step(
        "consumer",
        """
        import h5py, os
        print(os.path.isfile("f.h5"), flush=True)
        print(h5py.File("f.h5")["data"][...].sum())
        """,
    )
    producer = capio.step(
        "producer",
        """
        import h5py, numpy, sys
        out = h5py.File("f.h5", "w")
        out["data"] = numpy.arange(100)
        print("open", flush=True)
        sys.stdin.readline()
        out.close()
        print("closed", flush=True)
        sys.stdin.readline()
        """,
    )
    producer.expect("open")
    producer.send()
    producer.expect("closed")
    consumer.expect("True", "4950")
    consumer.finish()
    producer.send()
    producer.finish()


# Piece by piece: (modules, what opens, what writes the number i, what reads one at a time).
GROWING = {
    "pyarrow_stream": (
        "pyarrow",
        "out = open('f', 'wb'); schema = pyarrow.schema([('b', pyarrow.int64())])\n"
        "stream = pyarrow.ipc.new_stream(out, schema)",
        "stream.write_batch(pyarrow.record_batch([[i * i]], schema))",
        "(batch['b'][0].as_py() for batch in pyarrow.ipc.open_stream(open('f', 'rb')))",
    ),
    "numpy_tofile": (
        "numpy",
        "out = open('f', 'wb')",
        "numpy.array([i * i]).tofile(out)",
        "(numpy.frombuffer(source.read(8), 'i8')[0] for source in [open('f', 'rb')] * 4)",
    ),
    "tqdm": (
        "tqdm",
        "out = open('f', 'w')",
        "print(i * i, file=out)",
        "(int(line) for line in tqdm.tqdm(open('f')))",
    ),
    "dill": (
        "dill",
        "out = open('f', 'wb')",
        "dill.dump(i * i, out)",
        "(dill.load(source) for source in [open('f', 'rb')] * 4)",
    ),
    "aiofiles": (
        "aiofiles",
        "out = open('f', 'w')",
        "print(i * i, file=out)",
        "lines()",
    ),
}
HELPER = """
import asyncio
def lines():
    # One event loop for all of them.
    with asyncio.Runner() as runner:
        file = runner.run(opened())
        while line := runner.run(read(file)):
            yield int(line)

async def opened():
    return await aiofiles.open('f')

async def read(file):
    return await file.readline()
"""


def test_pandas_reads_chunks_of_a_growing_file(capio: Any) -> None:
    """It reads ahead, so not row by row."""
    pytest.importorskip("pandas", reason=ABSENT.format("pandas"))
    capio.pair(["f.csv"], committed="on_close", mode="no_update")
    consumer = capio.step(
        "consumer",
        """
        import pandas
        for part in pandas.read_csv("f.csv", chunksize=50_000):
            print(len(part), part.a.sum(), flush=True)
        """,
    )
    producer = capio.step(
        "producer",
        """
        import pandas, sys
        with open("f.csv", "w") as out:
            frame = pandas.DataFrame({"a": range(100_000)})
            frame.to_csv(out, index=False)
            out.flush()
            print("half", flush=True)
            sys.stdin.readline()
            frame.to_csv(out, index=False, header=False)
        """,
    )
    producer.expect("half")
    consumer.expect(f"50000 {sum(range(50_000))}")
    producer.send()
    producer.finish()
    consumer.expect(f"50000 {sum(range(50_000, 100_000))}", f"50000 {sum(range(50_000))}")
    consumer.finish()


@pytest.mark.parametrize("name", GROWING)
def test_a_consumer_follows_a_growing_file(capio: Any, name: str) -> None:
    """It has each piece before the next one is written."""
    modules, opening, write, read = GROWING[name]
    if name == "aiofiles" and sys.version_info < (3, 11):
        pytest.skip("asyncio.Runner came with 3.11")
    for module in modules.split():
        pytest.importorskip(module, reason=ABSENT.format(module))
    capio.pair(["f"], committed="on_close", mode="no_update")
    consumer = capio.step(
        "consumer",
        f"import {modules}\n{HELPER if name == 'aiofiles' else ''}\n"
        f"for value in {read}: print(value, flush=True)\n",
    )
    producer = capio.step(
        "producer",
        f"import sys, {modules}\n{opening}\nfor i in range(4):\n    {write}\n    out.flush()\n"
        "    print('wrote', i, flush=True)\n    sys.stdin.readline()\nout.close()\n",
    )
    for number in range(4):
        producer.expect(f"wrote {number}")
        consumer.expect(str(number * number))
        producer.send()
    producer.finish()
    consumer.finish()
