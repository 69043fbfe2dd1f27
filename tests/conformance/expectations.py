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
# What is still to be translated: docs/limits.md has the list.
_TABLE = "os.link, os.symlink, os.mkfifo and the like act on CAPIO_DIR itself so far"
_CHDIR = "directories that exist only in the store cannot be entered so far"
_DIR_FD = "directory descriptors and dir_fd mean the real directory so far"
_CHILDREN = "children started with -I or -E, or by calls not covered yet, see CAPIO_DIR itself"

EXPECTED: tuple[Expected, ...] = (
    Expected(
        "test.test_posix.*", _POSIX, r"posix\.\w+\(|posix, '\w+'|FileNotFoundError|not found in"
    ),
    Expected("test.test_posixpath.PosixPathTest.test_ismount_d*", _MOCK),
    Expected("test.test_shelve.*", _SQLITE, "dbm.sqlite3.error", since=(3, 13)),
    Expected("test.test_zipfile.*PyZipFileTests.test_write_py*", _COMPILE),
    Expected("test.test_zipfile.*PyZipFileTests.test_write_pathlike", _COMPILE),
    # To be removed with the limits they are about.
    Expected("*", _TABLE, r"os\.(symlink|link|mkfifo|mknod|truncate|lchown)\b"),
    Expected("test.test_glob.*.test_selflink", _TABLE, "FileExistsError"),
    Expected("test.test_mailbox.*.test_lock_conflict", _TABLE),
    Expected("test.test_os.TestScandir.test_bytes_like", _TABLE, "bytearray"),
    Expected("test.test_pathlib.*", _TABLE, "FileExistsError", since=(3, 13)),
    Expected("test.test_shutil.TestRmTree.test_rmtree_on_symlink", _TABLE),
    Expected("test.test_shutil.TestZeroCopySendfile.*", _TABLE, since=(3, 13)),
    Expected("test.test_tarfile.TestExtractionFilters.*", _TABLE),
    Expected("*", _CHDIR, r"os\.f?chdir\("),
    Expected("test.test_shutil.TestArchives.test_make_archive_cwd", _CHDIR),
    Expected("*", _DIR_FD, r"dir_fd="),
    Expected("*", _CHILDREN, r"subprocess|script_helper|assert_python|spawn"),
    Expected("test.test_logging.*.test_multiprocessing_*", _CHILDREN),
    Expected("test.test_os.SpawnTests.*", _CHILDREN),
    Expected("test.test_zipfile.*CommandLineTest.test_create_command", _CHILDREN),
)
