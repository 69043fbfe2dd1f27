"""Which of CPython's test modules are run, and the tests that need not pass under pycapio."""

from __future__ import annotations

from module_runs import Expected

# Run by every test run, with the interpreter that runs the tests.
DEFAULT = (
    "test_bufio",
    "test_csv",
    "test_dbm_dumb",
    "test_file",
    "test_filecmp",
    "test_fileinput",
    "test_fileio",
    "test_genericpath",
    "test_glob",
    "test_gzip",
    "test_largefile",
    "test_linecache",
    "test_mmap",
    "test_netrc",
    "test_plistlib",
    "test_posixpath",
    "test_tempfile",
    "test_univnewlines",
    "test_wave",
)
# Run by `make conformance`, with every version of Python.
ALL = (
    *DEFAULT,
    "test_bz2",
    "test_configparser",
    "test_io",
    "test_logging",
    "test_lzma",
    "test_mailbox",
    "test_os",
    "test_pathlib",
    "test_posix",
    "test_shelve",
    "test_shutil",
    "test_tarfile",
    "test_threadedtempfile",
    "test_zipfile",
)

# Nothing of these may appear in the real directory while they run.
THROUGH_CAPIO_ONLY = (
    "test_bufio",
    "test_bz2",
    "test_configparser",
    "test_csv",
    "test_dbm_dumb",
    "test_file",
    "test_filecmp",
    "test_fileinput",
    "test_gzip",
    "test_io",
    "test_largefile",
    "test_linecache",
    "test_lzma",
    "test_mmap",
    "test_netrc",
    "test_plistlib",
    "test_threadedtempfile",
    "test_univnewlines",
    "test_wave",
)

_POSIX = "posix, the module behind os that the import system uses, is left alone"
_MOCK = "the test replaces a function of os and expects it to be asked about its own paths"
_COMPILE = "py_compile reads and writes through the import system"
_SQLITE = "sqlite3 opens its file in native code"
_SOCKET = "the address of a socket is the kernel's"
_BYTES_LIKE = "what is no path goes to the original, also where that takes it with a warning"
_CHILDREN = "children started with -I or -E, or by calls not covered yet, see CAPIO_DIR itself"

EXPECTED: tuple[Expected, ...] = (
    Expected(
        "test.test_posix.*", _POSIX, r"posix\.\w+\(|posix, '\w+'|FileNotFoundError|not found in"
    ),
    Expected("test.test_posixpath.PosixPathTest.test_ismount_d*", _MOCK),
    Expected("test.test_shelve.*", _SQLITE, "dbm.sqlite3.error", since=(3, 13)),
    Expected("test.test_zipfile.*PyZipFileTests.test_write_py*", _COMPILE),
    Expected("test.test_zipfile.*PyZipFileTests.test_write_pathlike", _COMPILE),
    Expected("test.test_os.TestScandir.test_bytes_like", _BYTES_LIKE, "bytearray"),
    Expected("test.test_pathlib.*.test_is_socket_true", _SOCKET),
    # To be removed with the limit they are about.
    Expected("*", _CHILDREN, r"subprocess|script_helper|assert_python|spawn"),
    Expected("test.test_logging.*.test_multiprocessing_*", _CHILDREN),
    Expected("test.test_zipfile.*CommandLineTest.test_create_command", _CHILDREN),
)
