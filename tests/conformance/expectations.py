"""Which of CPython's test modules are run, and the exceptions, each with its reason."""

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
    "test_argparse",
    "test_array",
    "test_asyncio.test_sendfile",
    "test_asyncio.test_unix_events",
    "test_bz2",
    "test_codecs",
    "test_configparser",
    "test_gettext",
    "test_http_cookiejar",
    "test_httpservers",
    "test_inspect",
    "test_io",
    "test_logging",
    "test_lzma",
    "test_mailbox",
    "test_os",
    "test_pathlib",
    "test_pickle",
    "test_pkg",
    "test_pkgutil",
    "test_posix",
    "test_py_compile",
    "test_runpy",
    "test_sax",
    "test_shelve",
    "test_shutil",
    "test_subprocess",
    "test_tarfile",
    "test_threadedtempfile",
    "test_unicode_file_functions",
    "test_urllib",
    "test_xml_etree",
    "test_zipapp",
    "test_zipfile",
    "test_zipimport",
    "test_zoneinfo",
)

_MOCK = "the test has os.lstat replaced and expects it to be asked about its own paths"
_WARNING = "what Python warns of in a call comes from where pycapio makes it"
_BYTES_LIKE = "what is no path goes to the original, also where that takes it with a warning"

# Tests that fail under pycapio.
EXPECTED: tuple[Expected, ...] = (
    Expected("test.test_fileio.COtherFileTests.testBooleanFd", _WARNING, since=(3, 13)),
    Expected("test.test_os.TestScandir.test_bytes_like", _BYTES_LIKE, "bytearray", until=(3, 11)),
    Expected("test.test_posix.PosixTester.test_listdir_bytes_like", _BYTES_LIKE, until=(3, 11)),
    Expected("test.test_posix.PosixTester.test_stat", _BYTES_LIKE, "bytearray", until=(3, 11)),
    Expected("test.test_posix.TestPosixDirFd.test_stat_dir_fd", _WARNING, since=(3, 13)),
    Expected("test.test_posixpath.PosixPathTest.test_ismount_different_device", _MOCK),
    Expected("test.test_posixpath.PosixPathTest.test_ismount_directory_not_readable", _MOCK),
    Expected("test.test_zipimport.*ZipImportTestCase.testBytesPath", _BYTES_LIKE, until=(3, 10)),
)

_SOCKET = "the kernel makes a Unix socket, by its name"
_MANAGER = "multiprocessing's manager has such a socket below TMPDIR, and removes it when it ends"
_LINKS = "a child that is no client finds links to the files of its command line in CAPIO_DIR"
_ISOLATED = "a Python started with -I or -E is such a child"

# Tests that change the real directory.
ON_DISK: tuple[Expected, ...] = (
    Expected("test.test_asyncio.test_unix_events.*UnixSocketTests.test_create_unix_*", _SOCKET),
    Expected("test.test_asyncio.test_unix_events.TestFork.*", _SOCKET, since=(3, 12)),
    Expected("test.test_gzip.TestCommandLine.test_*compress_infile_outfile*", _ISOLATED),
    Expected("test.test_logging.ModuleLevelMiscTest.test_logging_at_shutdown_open", _ISOLATED),
    Expected("test.test_logging.Config*Test.*", _MANAGER, since=(3, 13)),
    Expected("test.test_logging.Unix*Test.*", _SOCKET),
    Expected("test.test_pathlib.*Test.test_is_socket_true", _SOCKET),
    Expected("test.test_posix.PosixTester.test_getgroups", _LINKS),
    Expected("test.test_posix.PosixTester.test_register_at_fork", _ISOLATED),
    Expected("test.test_posix.TestPosixSpawn*.*", _ISOLATED),
    Expected("test.test_py_compile.PyCompileCLITestCase.*", _ISOLATED),
    Expected("test.test_runpy.TestExit.test_pymain_run_*", _ISOLATED, since=(3, 11)),
    Expected("test.test_shutil.TestArchives.test_unzip_zipfile", _LINKS),
    Expected("test.test_subprocess.POSIXProcessTestCase.test_*_string", _LINKS),
    Expected("test.test_tarfile.CommandLineTest.*", _ISOLATED),
    Expected("test.test_tarfile.tearDownModule", _ISOLATED),
    Expected("test.test_tempfile.TestTemporaryDirectory.test_*_on_shutdown*", _ISOLATED),
    Expected("test.test_zipfile.*CommandLineTest.*", _ISOLATED),
)
