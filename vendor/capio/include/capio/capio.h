/* capio.h - the C API of libcapio, the only public header.
 *
 * CAPIO streams files between the steps (apps) of a workflow. Every file under CAPIO_DIR is a real kernel
 * file of a shadow tree; libcapio adds what the kernel does not know: which files are complete, who writes
 * them, and how to wait for them.
 *
 * Conventions, for every call unless it says otherwise:
 *  - Return: >= 0 is success. A negative value is a negated errno, or CAPIO_UNMANAGED. capio_last_error()
 *    then gives one sentence about the last failed call of the calling thread ("" if errno says it all).
 *  - Paths are byte strings with an explicit length; they need no terminating NUL and may be relative to the
 *    current directory. A path outside CAPIO_DIR, or excluded by CAPIO-CL, gives CAPIO_UNMANAGED: do with it
 *    what you would do without CAPIO.
 *  - Blocking: only calls marked [waits] block on other processes. They return -EINTR when a signal arrives
 *    and at least once a second, so that the caller can run its signal handlers and call again; a repeated
 *    wait for the same thing counts as one wait. They fail with
 *      -EOWNERDEAD  a producer died or ended badly: what it made is incomplete,
 *      -ETIMEDOUT   CAPIO_WAIT_TIMEOUT seconds passed,
 *      -EDEADLK     nobody who could end the wait can still run,
 *      -ECANCELED   capio_cancel_waits() was called,
 *      -ESTALE      the file was started anew while it was being read.
 *  - Threads: every call may be made from any thread. A capio_file that one thread closes while others use it is
 *    closed when their calls have returned; calls on one that is closed give -EBADF, also in a thread that waits.
 *  - fork(): the child attaches as a new client on its first call. Files inherited from the parent are
 *    borrowed: closing them counts for nothing unless the child wrote.
 *  - Ownership: what a call hands out is released by the matching close, and by nothing else.
 *  - Versions: structs begin with struct_size and are filled by their _init function, so that fields can be
 *    added. CAPIO_ABI_VERSION changes only when old callers would break.
 */
#ifndef CAPIO_CAPIO_H_
#define CAPIO_CAPIO_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CAPIO_EXPORT __attribute__((visibility("default")))
#else
#define CAPIO_EXPORT
#endif

/* CDEF-BEGIN: from here to CDEF-END the text is also read by pycapio/_build_ffi.py. */

#define CAPIO_ABI_VERSION 1

/* The path is not CAPIO's: outside CAPIO_DIR or excluded. Beyond every errno. */
#define CAPIO_UNMANAGED (-4097)

typedef struct capio_session capio_session; /* one client: this process, in one workflow, as one app */
typedef struct capio_file capio_file;       /* one open file that CAPIO has to watch */
typedef struct capio_dir capio_dir;         /* one directory being listed */

/* ---- Library ---------------------------------------------------------------------------------------- */

/* The ABI version of the loaded library; refuse to go on if it is not CAPIO_ABI_VERSION. Never fails. */
CAPIO_EXPORT uint32_t capio_abi_version(void);
/* The release, "0.1.0". Static storage. */
CAPIO_EXPORT const char *capio_version(void);
/* What went wrong in the last failed call of this thread, one sentence; "" if the errno says it all.
 * Valid until the thread's next call. */
CAPIO_EXPORT const char *capio_last_error(void);
/* Makes every wait of this process return -ECANCELED, now and (if on) until called with 0: for a process
 * that is unwinding while other threads wait. */
CAPIO_EXPORT void capio_cancel_waits(int on);
/* After -EINTR: the apps that this thread's wait needs, if all their processes are this one, else "". One name a
 * line. Who called us from inside such an app waits for itself: a deadlock. Valid until the thread's next call. */
CAPIO_EXPORT const char *capio_wait_needs(void);

/* ---- Sessions --------------------------------------------------------------------------------------- */

#define CAPIO_SESSION_PERSIST 1u    /* keep everything this session writes, when no CAPIO-CL file says otherwise */
#define CAPIO_SESSION_RESUME 2u     /* real files of an earlier run count as already produced */
#define CAPIO_SESSION_SILENT 4u     /* no summary on stderr if the run ends with this session */
#define CAPIO_SESSION_TEARDOWN 8u   /* the server may stop when the last client has gone */
#define CAPIO_SESSION_NO_CONFIG 16u /* run without CAPIO-CL on purpose (same as an empty config_path) */
#define CAPIO_SESSION_WORKER 32u    /* a worker that its pool may end: its death fails only what it has open */

typedef struct capio_session_options {
  size_t struct_size;         /* set by capio_session_options_init */
  const char *capio_dir;      /* the managed directory; must exist. Default "." */
  const char *app_name;       /* default: $CAPIO_APP_NAME, else "writer" */
  const char *workflow_name;  /* default: $CAPIO_WORKFLOW_NAME, else "workflow"; any characters */
  const char *server_path;    /* path, or name to look for beside libcapio and on PATH. Default "capio_server" */
  const char *config_path;    /* CAPIO-CL file; NULL or "" for none. Read by the server that is started */
  const char *resolve_prefix; /* what relative CAPIO-CL entries are taken from; NULL: CAPIO_DIR */
  uint32_t await_server_ms;   /* how long to wait for the server to become ready. Default 2000 */
  uint32_t flags;             /* CAPIO_SESSION_* */
  const char *handover;       /* what capio_session_exec wrote before exec(2) had this program begin. NULL: nothing */
} capio_session_options;

CAPIO_EXPORT void capio_session_options_init(capio_session_options *options);

/* Attaches to the workflow, starting its server if there is none. [waits for the server, at most
 * await_server_ms]
 * Errors: -ENOTDIR/-ENOENT capio_dir; -EINVAL names, CAPIO_APP_PROCS or the CAPIO-CL file (the sentence holds its errors);
 * -ETIMEDOUT the server was not ready in time; -ENOENT the server was not found; -EBUSY another CAPIO_DIR or
 * CAPIO-CL file is in use for this workflow name; -EAGAIN no free client slot; -EPERM the store belongs to
 * somebody else; -ENOSPC no room in the store; -EADDRINUSE another store, which this process does not see,
 * serves the workflow on the same CAPIO_DIR (the sentence names both). */
CAPIO_EXPORT int capio_session_open(const capio_session_options *options, capio_session **out);

#define CAPIO_END_CLEAN 0      /* the step did its work */
#define CAPIO_END_BAD 1        /* uncaught exception or non-zero exit: what it would commit by ending fails */
#define CAPIO_END_TAKEN_BACK 2 /* an announced clean end, or exec, does not come after all */

/* Announces how this process will end; the end itself is the end of the process (or capio_session_close).
 * May be called again; BAD is final. Never blocks. */
CAPIO_EXPORT int capio_session_goodbye(capio_session *session, int outcome);
/* Announces that this process is about to become another program by exec(2). For the app it goes on as that, and ends
 * when that does: well. Writing descriptors that exec closes count as closed; a file is complete when nobody has those
 * that it leaves open. If that program opens a session of the same app with what is written to buf (NUL-terminated;
 * 256 bytes are enough) as its handover, it is the client that this one was, and ends as any does. Several of them may be
 * joined by spaces. attaches: it is sure to do so, and has died if it ends before.
 * After an exec that failed, CAPIO_END_TAKEN_BACK undoes it. Returns the length; 0 if the process is no client, as a
 * child by fork that has not used the session. Never blocks. */
CAPIO_EXPORT int capio_session_exec(capio_session *session, int attaches, char *buf, size_t cap);
/* After a session was opened with a handover: the next descriptor that was open for writing before exec(2) and still is,
 * and in *out its handle. -ENOENT: no more. Never blocks. */
CAPIO_EXPORT int capio_session_inherited(capio_session *session, capio_file **out);
/* Announces how a child process of this one, with process id pid as seen here, is about to be ended by us
 * (a pool that terminates its workers): its end then is no death of the step. What it has closed is good, what it
 * has open fails. Never blocks. */
CAPIO_EXPORT int capio_session_goodbye_child(capio_session *session, int64_t pid);
/* Fails every file this session left by an exception (CAPIO_CLOSE_ABANDONED). Never blocks. */
CAPIO_EXPORT int capio_session_fail_abandoned(capio_session *session);
/* Ends the session now with the announced outcome (clean if none was): what its end commits is committed.
 * With wait_ms > 0, waits for the server to have written back what this end commits: wait_ms for its answer,
 * then as long as the disk needs, while the server shows every second that it is at work. -ETIMEDOUT if it
 * does not answer, or falls silent for five times wait_ms.
 * Files still open stay usable as plain descriptors. The handle is freed. [waits for the server] */
CAPIO_EXPORT int capio_session_close(capio_session *session, uint32_t wait_ms);
/* Ends every session as exit(3) with a bad status does, and waits for the server as that does: for a process that is about
 * to end by a signal that it sends itself, which runs no exit handlers (as Python ends after an uncaught
 * KeyboardInterrupt). Has the type of a handler of atexit(3). [waits for the server] */
CAPIO_EXPORT void capio_end_by_signal(void);
/* Changes CAPIO_SESSION_* flags after the fact (PERSIST and TEARDOWN). */
CAPIO_EXPORT int capio_session_set_flags(capio_session *session, uint32_t set, uint32_t clear);

#define CAPIO_INFO_DIR 1        /* CAPIO_DIR, absolute, as given */
#define CAPIO_INFO_REALDIR 2    /* CAPIO_DIR, symlinks resolved */
#define CAPIO_INFO_STORE 3      /* the store's directory */
#define CAPIO_INFO_TREE 4       /* the memory tree, resolved */
#define CAPIO_INFO_SERVER_PID 5 /* decimal; "0" if no server is running */
#define CAPIO_INFO_APP 6
#define CAPIO_INFO_WORKFLOW 7
#define CAPIO_INFO_HAS_CONFIG 8 /* "1" if a CAPIO-CL file rules this workflow, else "0" */
/* Copies one of the above, NUL-terminated, into buf. Returns its length, or -ERANGE if cap is too small. */
CAPIO_EXPORT int capio_session_info(capio_session *session, int what, char *buf, size_t cap);

/* ---- CAPIO-CL --------------------------------------------------------------------------------------- */

/* Adds rules to the running workflow, for all its clients at once; they outlive the server. json: a list of
 * objects with the keys
 *   "path" (required; a name or a pattern, relative ones are taken from CAPIO_DIR),
 *   "committed", "fire", "close_count", "directory_n_file_expected", "is_directory", "file_dependencies",
 *   "is_permanent", "is_excluded", "producers", "consumers" (lists of app names);
 * null, and 0 for a number, mean "not given". Rules that are there already change nothing. Never blocks.
 * Errors: -EINVAL the rules are wrong, or form a cycle with others (one line for each error); -EBUSY they
 * contradict rules that hold, or files made under them; the sentence names both. Then none of them is added.
 * -ENOSPC no room in the store. */
CAPIO_EXPORT int capio_session_add_rules(capio_session *session, const char *json, size_t len);

typedef struct capio_cl_options {
  size_t struct_size;         /* set by capio_cl_options_init */
  const char *path;           /* the CAPIO-CL file */
  const char *capio_dir;      /* what it is for; need not exist. Default "." */
  const char *resolve_prefix; /* what relative entries are taken from; NULL: CAPIO_DIR */
} capio_cl_options;

CAPIO_EXPORT void capio_cl_options_init(capio_cl_options *options);
/* Reads a CAPIO-CL file as the server would. *out gets a JSON object, NUL-terminated, to be released with
 * capio_cl_free:
 *   "file", "name", "version", "configuration", "apps" (the steps' names), "warnings" (lines of text),
 *   "errors": objects with "line", "column" (0: unknown), "pointer", "message", and all that as "text",
 *   "entries" (none if there are errors): for every path or pattern of the file what holds for it, with
 *     "path" (relative to CAPIO_DIR, "" being itself), "pattern", "directory", "producers", "consumers",
 *     "committed" ("on_close:2"), "fire", "n_files" (0: not given), "file_deps", "permanent", "excluded",
 *     "storage", "home".
 * Returns the number of errors in the file. Fails with -EINVAL for the arguments, and with the errno of
 * reading the file. */
CAPIO_EXPORT int capio_cl_check(const capio_cl_options *options, char **out);
CAPIO_EXPORT void capio_cl_free(char *text);

/* ---- Paths ------------------------------------------------------------------------------------------ */

#define CAPIO_FOR_LOOKUP 0    /* where it is now; never waits. -ENOENT if it is nowhere */
#define CAPIO_FOR_EXISTENCE 1 /* a consumer waits until a declared output exists [waits] */
#define CAPIO_FOR_CONTENT 2   /* a consumer waits until it is committed, too: size, times, mmap [waits] */
#define CAPIO_FOR_CHANGE 3    /* about to be changed in place (chmod, utime, truncate): waits as EXISTENCE does */
#define CAPIO_FOR_CREATE 4    /* where a new entry of this name belongs; its parents are made. Never waits */
#define CAPIO_FOR_ENTRY 5     /* a directory to enter: CAPIO_DIR's own one, if there is one; waits as EXISTENCE does */
/* Or-ed to the purpose: */
#define CAPIO_RESOLVE_NOFOLLOW 256u /* the last component is not followed if it is a symbolic link */
#define CAPIO_RESOLVE_NOWAIT 512u   /* -EAGAIN stands for a wait, and for the failure of what was waited for */

/* Translates a path to its backing path, which any kernel call may use. Writes it NUL-terminated to buf and
 * returns its length; -ERANGE if cap is too small; CAPIO_UNMANAGED. Where symbolic links lead out of CAPIO_DIR, or
 * the current directory is one of the store's and the path leads out of that, it is the path outside. */
CAPIO_EXPORT int capio_resolve(capio_session *session, const char *path, size_t len, uint32_t purpose, char *buf,
                               size_t cap);
/* The path in CAPIO_DIR of a directory or file that the kernel calls by this absolute name: what getcwd(2) or a link
 * of /proc/self/fd says may be a name in the store. Writes it NUL-terminated to buf and returns its length; -ERANGE;
 * CAPIO_UNMANAGED if it is neither in the store nor in CAPIO_DIR. Touches no file. */
CAPIO_EXPORT int capio_user_path(capio_session *session, const char *path, size_t len, char *buf, size_t cap);
/* 1 if the path is CAPIO's (inside CAPIO_DIR and not excluded), else 0. Touches no file. */
CAPIO_EXPORT int capio_is_managed(capio_session *session, const char *path, size_t len);
/* 1 if other apps, and not this one, are declared to write the path: a call about it may wait. Else 0. Touches no
 * file, never waits. */
CAPIO_EXPORT int capio_is_input(capio_session *session, const char *path, size_t len);

typedef struct capio_stat_t { /* in the order of Python's os.stat_result */
  size_t struct_size;         /* set by capio_stat_init */
  uint64_t mode, ino, dev, nlink;
  int64_t uid, gid; /* -1: no such */
  int64_t size;
  int64_t atime, mtime, ctime;          /* seconds since the epoch, rounded down */
  double atime_s, mtime_s, ctime_s;     /* the same with their fraction, as far as a double goes */
  int64_t atime_ns, mtime_ns, ctime_ns; /* the same in nanoseconds */
  int64_t blksize, blocks;
  uint64_t rdev;
} capio_stat_t;
CAPIO_EXPORT void capio_stat_init(capio_stat_t *st);
/* stat(2) of a path once it is what the purpose asks for (not CAPIO_FOR_CREATE; with CAPIO_RESOLVE_NOFOLLOW, lstat):
 * with CAPIO_FOR_CONTENT a consumer gets the final size. [waits] as capio_resolve does. */
CAPIO_EXPORT int capio_stat(capio_session *session, const char *path, size_t len, uint32_t purpose, capio_stat_t *st);
/* The same, of which only st_mode is wanted: returned, and positive. */
CAPIO_EXPORT int capio_mode(capio_session *session, const char *path, size_t len, uint32_t purpose);

CAPIO_EXPORT int capio_mkdir(capio_session *session, const char *path, size_t len, uint32_t mode);
CAPIO_EXPORT int capio_rmdir(capio_session *session, const char *path, size_t len);
CAPIO_EXPORT int capio_unlink(capio_session *session, const char *path, size_t len);
/* rename(2), in every layer. A consumer waits for a declared output it renames. Between a managed and an
 * unmanaged path the bytes are copied when the two are on different file systems. -EXDEV: a directory that
 * exists both in the store and in CAPIO_DIR, or that would cross the boundary. CAPIO_UNMANAGED: neither path
 * is CAPIO's. [waits] */
CAPIO_EXPORT int capio_rename(capio_session *session, const char *from, size_t from_len, const char *to, size_t to_len);

/* Says that another program has changed the bytes of a file in the store: if it was complete, it is written to
 * CAPIO_DIR once more. Counts for nothing else. Never waits. */
CAPIO_EXPORT int capio_notice_change(capio_session *session, const char *path, size_t len);
/* link(2): a further name of a file, which shares its state; flags CAPIO_RESOLVE_NOFOLLOW: a symbolic link itself gets
 * it. A consumer waits for a declared output. -EXDEV: a file of the store and a name outside. CAPIO_UNMANAGED: neither
 * path is CAPIO's. [waits] */
CAPIO_EXPORT int capio_link(capio_session *session, const char *from, size_t from_len, const char *to, size_t to_len,
                            uint32_t flags);
/* symlink(2): path becomes a symbolic link that holds target, as given. Links are followed over the union of store
 * and CAPIO_DIR. */
CAPIO_EXPORT int capio_symlink(capio_session *session, const char *target, size_t target_len, const char *path,
                               size_t len);

typedef struct capio_dirent { /* as getdents64(2) packs them: the next one is reclen bytes further */
  uint64_t ino;
  uint16_t reclen;
  uint16_t namelen;
  uint8_t type;  /* DT_* of <dirent.h> */
  uint8_t layer; /* 0 memory tree, 1 fs tree, 2 real directory */
  uint8_t reserved[2];
  /* The name follows: namelen bytes and a NUL. */
} capio_dirent;
/* Opens a directory for listing: the union of the layers, in creation order. [waits] for a declared one to
 * exist, and, under the update rule, to be committed. */
CAPIO_EXPORT int capio_opendir(capio_session *session, const char *path, size_t len, capio_dir **out);
/* Fills buf with whole capio_dirent records. Returns the bytes written, 0 at the end. [waits] for more entries
 * in a declared no_update directory. -ERANGE if not one record fits. */
CAPIO_EXPORT int64_t capio_readdir(capio_dir *dir, void *buf, size_t cap);
/* The same in columns: whole names into names, each with a NUL after it, and, where they are not NULL, the
 * DT_* and the inode numbers of at most max entries into types and inos. Returns the bytes of the names, 0 at the
 * end. [waits] */
CAPIO_EXPORT int64_t capio_readdir_columns(capio_dir *dir, char *names, size_t cap, uint8_t *types, uint64_t *inos,
                                           size_t max);
CAPIO_EXPORT int capio_closedir(capio_dir *dir);

/* ---- Files ------------------------------------------------------------------------------------------ */

/* Or-ed to the flags of an open for reading: -EAGAIN stands for a handle that would wait. */
#define CAPIO_OPEN_NOWAIT 0x40000000

typedef struct capio_opened_t {
  size_t struct_size; /* set by capio_opened_init */
  capio_file *file;   /* the handle that goes with the descriptor; NULL when nothing needs watching (a committed file
                         opened for reading): then the descriptor is an ordinary one and the caller's to close(2) */
  int64_t size;       /* without a handle: what the regular file held when it was opened, in bytes; else -1 */
  uint32_t status;    /* with a handle: what capio_file_status tells of it; else 0 */
} capio_opened_t;
CAPIO_EXPORT void capio_opened_init(capio_opened_t *opened);
/* open(2) on a managed path. Returns the descriptor (close-on-exec), a kernel descriptor of the backing file; *out
 * tells the rest.
 * A consumer waits for a declared output to exist. [waits]
 * Errors: those of open(2); CAPIO_UNMANAGED. out->file is NULL then. */
CAPIO_EXPORT int capio_open(capio_session *session, const char *path, size_t len, int flags, uint32_t mode,
                            capio_opened_t *out);

/* Says that n bytes of memory are about to be filled: the kernel may give it out in large pages, which for a large
 * file takes less than half of the time that small ones do. Advice: changes no bytes, never fails. */
CAPIO_EXPORT void capio_expect_bytes(void *memory, size_t n);
#define CAPIO_READ_FULL 1u /* return short only at the end of the file, as read(2) does on a regular file */
/* read(2)/pread(2). Waits until at least one byte (READ_FULL: all) is there, or the file is committed; 0 only
 * at the committed end. offset -1: at, and moving, the file position. [waits] */
CAPIO_EXPORT int64_t capio_read(capio_file *file, void *buf, size_t n, int64_t offset, uint32_t flags);
/* write(2)/pwrite(2) and publish. offset -1: at, and moving, the file position. May write less than n.
 * -ENOSPC: the store is full; the sentence names CAPIO_STORE. */
CAPIO_EXPORT int64_t capio_write(capio_file *file, const void *buf, size_t n, int64_t offset);
/* lseek(2). A consumer asking from the end waits for commit. [waits] */
CAPIO_EXPORT int64_t capio_lseek(capio_file *file, int64_t offset, int whence);
CAPIO_EXPORT int capio_truncate(capio_file *file, int64_t size);
/* Around a call other than capio_write that writes through the descriptor (writev, sendfile, fallocate): before
 * it, notes the gap that is left if it writes at offset (-1: at the file position); after it, publishes n bytes
 * written at offset (-1: up to the file position). A negative n is the negated errno of that call's failure, which
 * capio_wrote returns, with a sentence. -EBADF: not a writing handle. capio_will_write [waits] for room in memory,
 * capio_wrote never blocks. */
CAPIO_EXPORT int capio_will_write(capio_file *file, int64_t offset);
CAPIO_EXPORT int capio_wrote(capio_file *file, int64_t offset, int64_t n);
/* The handle of another descriptor of the same open file, one that dup(2) made, say, or the same one in other
 * hands. It may outlive `file`. Its close counts for no on_close; while it is open for writing the file is not
 * complete, and the death of this process fails it. Close it with CAPIO_FD_KEEP or CAPIO_FD_CLOSED if the
 * descriptor is not its own. Never blocks. */
CAPIO_EXPORT int capio_duplicate(capio_file *file, int fd, capio_file **out);
/* Wakes readers up to the file's present size: for code that wrote through the descriptor itself. */
CAPIO_EXPORT int capio_publish(capio_file *file);
/* The descriptor, without consequences: for poll, isatty, fstat of a writer. */
CAPIO_EXPORT int capio_fd(capio_file *file);
/* Says that the descriptor will be used by others (fileno, dup, mmap, a child's stdout). A reader waits for
 * commit first, since the descriptor knows no waiting; a writer's file then commits only when nobody has it
 * open for writing. Returns the descriptor. [waits] */
CAPIO_EXPORT int capio_expose(capio_file *file);
/* A consumer's handle: waits for commit. [waits] */
CAPIO_EXPORT int capio_wait_commit(capio_file *file);

#define CAPIO_FILE_WRITER 1u    /* opened for writing */
#define CAPIO_FILE_COMMITTED 2u /* will not change any more */
#define CAPIO_FILE_FAILED 4u    /* its producer died */
#define CAPIO_FILE_BORROWED 8u  /* inherited by fork */
#define CAPIO_FILE_CONSUMER 16u /* reads of it wait */
#define CAPIO_FILE_STREAMED 32u /* its bytes can be read before it is committed (no_update) */
/* The bits above. Never blocks. */
CAPIO_EXPORT int capio_file_status(capio_file *file);

#define CAPIO_CLOSE_COUNT 0     /* a close like any other */
#define CAPIO_CLOSE_ABANDONED 1 /* left by an exception: counts only if the process ends well */
#define CAPIO_CLOSE_FAILED 2    /* bytes were lost (a flush failed): the file fails */
#define CAPIO_FD_CLOSE 0        /* close the descriptor */
#define CAPIO_FD_KEEP 1         /* leave it open: the file then commits only once nobody has it open for writing */
#define CAPIO_FD_CLOSED 2       /* the caller has closed it */
/* To be called before somebody else closes the descriptor of a handle that other threads may be using: ends their
 * waits with -EBADF, lets no call in any more but capio_close, which has to follow, and returns when the last one has
 * left; else they might come to the descriptor's number when it is another file's. Blocks at most a second, and as
 * long as the kernel takes for reads and writes under way. -EBADF: the handle was closed. */
CAPIO_EXPORT int capio_quiesce(capio_file *file);
/* Ends the handle and frees it. With CAPIO_FD_CLOSE the last call that uses it closes the descriptor. Never blocks.
 * Returns 0, or the negated errno of close(2); the handle is gone either way. -EBADF: it was before. */
CAPIO_EXPORT int capio_close(capio_file *file, int how, int fd_fate);

/* CDEF-END */

#ifdef __cplusplus
}
#endif
#endif /* CAPIO_CAPIO_H_ */
