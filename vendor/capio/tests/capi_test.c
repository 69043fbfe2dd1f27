/* The whole C API from plain C11, against a real server and a store of its own. */
#define _GNU_SOURCE /* POSIX calls beside those of C11 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capio/capio.h"

static int failures = 0;

static void check(int ok, const char* what, int line) {
  if (ok) return;
  ++failures;
  fprintf(stderr, "capi_test.c:%d: %s; capio_last_error: '%s'\n", line, what, capio_last_error());
}
#define CHECK(condition) check((condition), #condition, __LINE__)
#define REQUIRE(condition)            \
  do {                                \
    int ok_ = (condition);            \
    check(ok_, #condition, __LINE__); \
    if (!ok_) exit(1);                \
  } while (0)

static char root[256];

static void join(char* out, size_t cap, const char* a, const char* b) {
  int n = snprintf(out, cap, "%s/%s", a, b);
  if (n < 0 || (size_t)n >= cap) abort();
}

static void write_text(const char* path, const char* text) {
  FILE* f = fopen(path, "w");
  REQUIRE(f != NULL);
  REQUIRE(fputs(text, f) >= 0);
  REQUIRE(fclose(f) == 0);
}

static capio_session* open_session(const char* dir, const char* app, const char* workflow,
                                   const char* config, uint32_t flags) {
  capio_session_options options;
  capio_session* session = NULL;
  int result;
  capio_session_options_init(&options);
  options.capio_dir = dir;
  options.app_name = app;
  options.workflow_name = workflow;
  options.server_path = CAPIO_TEST_SERVER;
  options.config_path = config;
  options.await_server_ms = 20000;
  options.flags = flags;
  result = capio_session_open(&options, &session);
  if (result != 0) fprintf(stderr, "capio_session_open: %d %s\n", result, capio_last_error());
  return result == 0 ? session : NULL;
}

/* capio_open; what it tells beside the handle is checked here. */
static int open_file(capio_session* session, const char* path, int flags, uint32_t mode,
                     capio_file** file) {
  capio_opened_t opened;
  struct stat st;
  int fd;
  memset(&opened, 0xff, sizeof opened);
  capio_opened_init(&opened);
  CHECK(opened.struct_size == sizeof opened && opened.file == NULL);
  fd = capio_open(session, path, strlen(path), flags, mode, &opened);
  CHECK(fd >= 0 || opened.file == NULL);
  if (opened.file != NULL) {
    CHECK((int)opened.status == capio_file_status(opened.file) && opened.size == -1);
  } else {
    CHECK(opened.status == 0);
    CHECK(opened.size == (fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : -1));
  }
  *file = opened.file;
  return fd;
}

/* Calls that wait give -EINTR once a second. */
#define AGAIN(variable, call) \
  do {                        \
    (variable) = (call);      \
  } while ((variable) == -EINTR)

static int64_t read_all(capio_file* file, int fd, char* buf, size_t cap) {
  size_t done = 0;
  while (done < cap) {
    int64_t n;
    if (file == NULL) {
      n = read(fd, buf + done, cap - done);
    } else {
      AGAIN(n, capio_read(file, buf + done, cap - done, -1, 0));
    }
    if (n < 0) return n;
    if (n == 0) break;
    done += (size_t)n;
  }
  return (int64_t)done;
}

static void test_library(void) {
  capio_session_options options;
  capio_session* session = NULL;
  CHECK(capio_abi_version() == CAPIO_ABI_VERSION);
  CHECK(strchr(capio_version(), '.') != NULL);
  CHECK(strcmp(capio_wait_needs(), "") == 0);
  memset(&options, 0xff, sizeof options);
  capio_session_options_init(&options);
  CHECK(options.struct_size == sizeof options);
  CHECK(strcmp(options.capio_dir, ".") == 0);
  CHECK(strcmp(options.app_name, "writer") == 0);
  CHECK(strcmp(options.workflow_name, "workflow") == 0);
  CHECK(options.await_server_ms == 2000);
  CHECK(options.flags == 0);
  options.struct_size = 1;
  CHECK(capio_session_open(&options, &session) == -EINVAL);
  CHECK(capio_last_error()[0] != '\0');
  CHECK(session == NULL);
  CHECK(capio_session_open(NULL, &session) == -EINVAL);
  capio_session_options_init(&options);
  options.server_path = CAPIO_TEST_SERVER;
  options.capio_dir = "/does/not/exist";
  CHECK(capio_session_open(&options, &session) == -ENOENT);
  options.capio_dir = "/dev/null";
  CHECK(capio_session_open(&options, &session) == -ENOTDIR);
  options.capio_dir = root;
  options.app_name = "";
  CHECK(capio_session_open(&options, &session) == -EINVAL);
  options.app_name = "a";
  options.workflow_name = "";
  CHECK(capio_session_open(&options, &session) == -EINVAL);
  options.workflow_name = "w";
  options.server_path = "/does/not/exist";
  CHECK(capio_session_open(&options, &session) == -ENOENT);
  CHECK(strstr(capio_last_error(), "/does/not/exist") != NULL);
}

/* Memory of any place and size may be expected to be filled, and is afterwards what it was. */
static void test_expected_bytes(void) {
  const size_t huge = 2 << 20;
  size_t size = 4 * huge;
  char* memory = malloc(size);
  REQUIRE(memory != NULL);
  memset(memory, 'a', size);
  capio_expect_bytes(memory, size);
  capio_expect_bytes(memory + 1, size - 2);
  capio_expect_bytes(memory + 100, 10);
  capio_expect_bytes(memory, 0);
  capio_expect_bytes(NULL, 0);
  for (size_t i = 0; i < size; i += 1024) CHECK(memory[i] == 'a');
  free(memory);
}

static void test_one_session(void) {
  char dir[512], path[600], other[600], buf[4096], info[4096];
  capio_session* session;
  capio_file *file = NULL, *reader = NULL;
  capio_opened_t opened;
  capio_dir* listing = NULL;
  capio_stat_t st;
  int fd, n;
  int64_t got;
  struct stat real_st;
  char pid_text[32];

  join(dir, sizeof dir, root, "one");
  REQUIRE(mkdir(dir, 0755) == 0);
  join(path, sizeof path, dir, "input.txt");
  write_text(path, "real input\n");
  session = open_session(dir, "step", "one session", NULL, CAPIO_SESSION_TEARDOWN);
  REQUIRE(session != NULL);

  CHECK(capio_session_info(session, CAPIO_INFO_DIR, info, sizeof info) == (int)strlen(dir));
  CHECK(strcmp(info, dir) == 0);
  CHECK(capio_session_info(session, CAPIO_INFO_DIR, info, 3) == -ERANGE);
  CHECK(capio_session_info(session, CAPIO_INFO_REALDIR, info, sizeof info) > 0);
  CHECK(capio_session_info(session, CAPIO_INFO_STORE, info, sizeof info) > 0);
  CHECK(stat(info, &real_st) == 0 && (real_st.st_mode & 0777) == 0700);
  CHECK(capio_session_info(session, CAPIO_INFO_TREE, info, sizeof info) > 0);
  CHECK(capio_session_info(session, CAPIO_INFO_APP, info, sizeof info) == 4);
  CHECK(strcmp(info, "step") == 0);
  CHECK(capio_session_info(session, CAPIO_INFO_WORKFLOW, info, sizeof info) == 11);
  CHECK(capio_session_info(session, CAPIO_INFO_HAS_CONFIG, info, sizeof info) == 1);
  CHECK(info[0] == '0');
  CHECK(capio_session_info(session, CAPIO_INFO_SERVER_PID, pid_text, sizeof pid_text) > 0);
  CHECK(atoi(pid_text) > 0);
  CHECK(capio_session_info(session, 99, info, sizeof info) == -EINVAL);

  CHECK(capio_is_managed(session, path, strlen(path)) == 1);
  CHECK(capio_is_managed(session, "/etc/passwd", 11) == 0);
  CHECK(capio_is_input(session, path, strlen(path)) == 0);
  CHECK(capio_is_input(session, "/etc/passwd", 11) == 0);
  CHECK(open_file(session, "/etc/passwd", O_RDONLY, 0, &file) == CAPIO_UNMANAGED);
  opened.struct_size = 1;
  CHECK(capio_open(session, path, strlen(path), O_RDONLY, 0, &opened) == -EINVAL);
  CHECK(strstr(capio_last_error(), "capio_opened_init") != NULL);
  CHECK(capio_open(session, path, strlen(path), O_RDONLY, 0, NULL) == -EINVAL);

  /* Real input needs no watching. */
  fd = open_file(session, path, O_RDONLY, 0, &file);
  REQUIRE(fd >= 0);
  CHECK(file == NULL);
  CHECK(read_all(NULL, fd, buf, sizeof buf) == 11 && memcmp(buf, "real input\n", 11) == 0);
  CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
  CHECK(close(fd) == 0);
  join(other, sizeof other, dir, "absent");
  CHECK(open_file(session, other, O_RDONLY, 0, &file) == -ENOENT);

  /* A new file: written, read back, measured. */
  join(path, sizeof path, dir, "out.bin");
  fd = open_file(session, path, O_RDWR | O_CREAT | O_EXCL, 0640, &file);
  REQUIRE(fd >= 0 && file != NULL);
  CHECK(capio_fd(file) == fd);
  CHECK(capio_file_status(file) == (int)CAPIO_FILE_WRITER);
  CHECK(capio_write(file, "hello world", 11, -1) == 11);
  CHECK(capio_write(file, "W", 1, 6) == 1);
  CHECK(capio_lseek(file, 0, SEEK_CUR) == 11);
  CHECK(capio_lseek(file, 0, SEEK_SET) == 0);
  CHECK(capio_read(file, buf, 5, -1, CAPIO_READ_FULL) == 5 && memcmp(buf, "hello", 5) == 0);
  CHECK(capio_read(file, buf, 5, 6, 0) == 5 && memcmp(buf, "World", 5) == 0);
  CHECK(capio_truncate(file, 5) == 0);
  CHECK(capio_publish(file) == 0);
  CHECK(capio_wait_commit(file) == 0);
  CHECK(access(path, F_OK) != 0); /* it is in the store, not in CAPIO_DIR */
  CHECK(capio_expose(file) == fd);
  CHECK(capio_close(file, CAPIO_CLOSE_COUNT, CAPIO_FD_CLOSE) == 0);
  CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
  CHECK(open_file(session, path, O_RDWR | O_CREAT | O_EXCL, 0640, &file) == -EEXIST);

  capio_stat_init(&st);
  CHECK(capio_stat(session, path, strlen(path), CAPIO_FOR_CONTENT, &st) == 0);
  CHECK(capio_stat(session, path, strlen(path), CAPIO_FOR_CREATE, &st) == -EINVAL);
  CHECK(capio_mode(session, path, strlen(path), CAPIO_FOR_EXISTENCE) == (int)st.mode);
  CHECK(st.size == 5 && (st.mode & S_IFMT) == S_IFREG && st.nlink == 1);
  n = capio_resolve(session, path, strlen(path), CAPIO_FOR_LOOKUP, buf, sizeof buf);
  CHECK(n > 0 && stat(buf, &real_st) == 0 && real_st.st_ino == st.ino);
  CHECK(st.dev == real_st.st_dev && st.mode == real_st.st_mode && st.nlink == real_st.st_nlink);
  CHECK(st.uid == real_st.st_uid && st.gid == real_st.st_gid && st.size == real_st.st_size);
  CHECK(st.blksize == real_st.st_blksize && st.blocks == real_st.st_blocks);
  CHECK(st.rdev == real_st.st_rdev && st.mtime == real_st.st_mtim.tv_sec);
  CHECK(st.mtime_ns == real_st.st_mtim.tv_sec * 1000000000 + real_st.st_mtim.tv_nsec);
  CHECK(st.mtime_s >= (double)st.mtime && st.mtime_s < (double)st.mtime + 1);
  CHECK(st.atime_ns / 1000000000 == st.atime && st.ctime_ns / 1000000000 == st.ctime);
  CHECK(capio_resolve(session, path, strlen(path), CAPIO_FOR_LOOKUP, buf, 4) == -ERANGE);
  CHECK(capio_resolve(session, "/etc", 4, CAPIO_FOR_LOOKUP, buf, sizeof buf) == CAPIO_UNMANAGED);
  CHECK(capio_resolve(session, path, strlen(path), 77, buf, sizeof buf) == -EINVAL);
  for (uint32_t purpose = CAPIO_FOR_LOOKUP; purpose <= CAPIO_FOR_CREATE; ++purpose) {
    CHECK(capio_resolve(session, path, strlen(path), purpose | CAPIO_RESOLVE_NOFOLLOW, buf,
                        sizeof buf) > 0);
  }
  fd = open_file(session, path, O_RDONLY, 0, &reader);
  CHECK(fd >= 0 && reader == NULL); /* its own file: producers never wait */
  CHECK(read_all(NULL, fd, buf, sizeof buf) == 5);
  close(fd);

  /* FD_KEEP and FD_CLOSED. */
  join(other, sizeof other, dir, "kept");
  fd = open_file(session, other, O_WRONLY | O_CREAT | O_TRUNC, 0644, &file);
  REQUIRE(fd >= 0 && file != NULL);
  CHECK(capio_close(file, CAPIO_CLOSE_COUNT, CAPIO_FD_KEEP) == 0);
  CHECK(write(fd, "x", 1) == 1);
  CHECK(close(fd) == 0);
  fd = open_file(session, other, O_WRONLY | O_CREAT | O_APPEND, 0644, &file);
  REQUIRE(fd >= 0 && file != NULL);
  CHECK(capio_write(file, "y", 1, -1) == 1);
  CHECK(close(fd) == 0);
  CHECK(capio_close(file, CAPIO_CLOSE_COUNT, CAPIO_FD_CLOSED) == 0);
  CHECK(capio_stat(session, other, strlen(other), CAPIO_FOR_CONTENT, &st) == 0 && st.size == 2);

  /* Names. */
  join(path, sizeof path, dir, "d");
  CHECK(capio_mkdir(session, path, strlen(path), 0755) == 0);
  CHECK(capio_mkdir(session, path, strlen(path), 0755) == -EEXIST);
  CHECK(capio_mkdir(session, "/nowhere/x", 10, 0755) == CAPIO_UNMANAGED);
  join(path, sizeof path, dir, "d/moved");
  CHECK(capio_rename(session, other, strlen(other), path, strlen(path)) == 0);
  CHECK(capio_stat(session, other, strlen(other), CAPIO_FOR_CONTENT, &st) == -ENOENT);
  CHECK(capio_mode(session, other, strlen(other), CAPIO_FOR_CONTENT) == -ENOENT);
  CHECK(capio_stat(session, path, strlen(path), CAPIO_FOR_CONTENT | CAPIO_RESOLVE_NOFOLLOW, &st) ==
        0);
  CHECK(st.size == 2);
  CHECK(capio_rename(session, "/a", 2, "/b", 2) == CAPIO_UNMANAGED);
  join(other, sizeof other, dir, "d");
  CHECK(capio_rmdir(session, other, strlen(other)) == -ENOTEMPTY);
  CHECK(capio_opendir(session, other, strlen(other), &listing) == 0);
  got = capio_readdir(listing, buf, sizeof buf);
  CHECK(got > 0);
  {
    capio_dirent entry;
    memcpy(&entry, buf, sizeof entry);
    CHECK(entry.reclen == got && entry.namelen == 5 && entry.type == DT_REG && entry.layer == 0);
    CHECK(strcmp(buf + sizeof entry, "moved") == 0);
  }
  CHECK(capio_readdir(listing, buf, sizeof buf) == 0);
  CHECK(capio_closedir(listing) == 0);
  CHECK(capio_opendir(session, other, strlen(other), &listing) == 0);
  CHECK(capio_readdir(listing, buf, 8) == -ERANGE);
  CHECK(capio_closedir(listing) == 0);
  CHECK(capio_opendir(session, dir, strlen(dir), &listing) == 0);
  n = 0;
  while ((got = capio_readdir(listing, buf, 64)) > 0) {
    for (int64_t at = 0; at < got; ++n) {
      capio_dirent entry;
      memcpy(&entry, buf + at, sizeof entry);
      at += entry.reclen;
    }
  }
  CHECK(got == 0 && n == 3); /* input.txt, out.bin, d */
  CHECK(capio_closedir(listing) == 0);
  CHECK(capio_opendir(session, path, strlen(path), &listing) == -ENOTDIR);
  CHECK(capio_unlink(session, path, strlen(path)) == 0);
  CHECK(capio_unlink(session, path, strlen(path)) == -ENOENT);
  CHECK(capio_rmdir(session, other, strlen(other)) == 0);
  CHECK(capio_rmdir(session, other, strlen(other)) == -ENOENT);

  /* The ends. */
  CHECK(capio_session_set_flags(session, CAPIO_SESSION_PERSIST, 0) == 0);
  CHECK(capio_session_fail_abandoned(session) == 0);
  CHECK(capio_session_goodbye_child(session, 999999999) == 0);
  CHECK(capio_session_goodbye(session, CAPIO_END_CLEAN) == 0);
  CHECK(capio_session_close(session, 20000) == 0);
  join(path, sizeof path, dir, "out.bin"); /* PERSIST, no CAPIO-CL file */
  CHECK(stat(path, &real_st) == 0 && real_st.st_size == 5 && (real_st.st_mode & 0777) == 0640);
}

static const char kConfig[] =
    "{\"name\": \"pair\", \"IO_Graph\": ["
    "{\"name\": \"maker\", \"input_stream\": [], \"output_stream\": [\"flow\", \"whole\"],"
    " \"streaming\": [{\"name\": [\"flow\"], \"committed\": \"on_close\", \"mode\": \"no_update\"},"
    "                 {\"name\": [\"whole\"], \"committed\": \"on_close\"}]},"
    "{\"name\": \"taker\", \"input_stream\": [\"flow\", \"whole\"], \"output_stream\": []}]}";

enum { kChunk = 1000, kChunks = 64 };

/* The consumer: reads both files to the end while they are made. */
static int taker(const char* dir, const char* config, int ready) {
  char path[600], buf[kChunk * (kChunks + 1)];
  capio_file* file = NULL;
  capio_stat_t st;
  int fd, result;
  int64_t n;
  capio_session* session = open_session(dir, "taker", "pair", config, CAPIO_SESSION_TEARDOWN);
  REQUIRE(session != NULL);
  REQUIRE(write(ready, "r", 1) == 1);
  join(path, sizeof path, dir, "flow");
  AGAIN(fd, open_file(session, path, O_RDONLY, 0, &file));
  REQUIRE(fd >= 0);
  /* The maker writes the rest only when it hears of the first bytes. */
  if (file != NULL) {
    CHECK(capio_file_status(file) == (int)(CAPIO_FILE_CONSUMER | CAPIO_FILE_STREAMED));
    AGAIN(n, capio_read(file, buf, kChunk, -1, CAPIO_READ_FULL));
    REQUIRE(n == kChunk);
    REQUIRE(write(ready, "g", 1) == 1);
    n = read_all(file, fd, buf + kChunk, sizeof buf - kChunk);
    CHECK(n == kChunk * (kChunks - 1));
    CHECK((capio_file_status(file) & (int)CAPIO_FILE_COMMITTED) != 0);
    CHECK(capio_close(file, CAPIO_CLOSE_COUNT, CAPIO_FD_CLOSE) == 0);
  } else {
    CHECK(!"the first open must see a growing file");
  }
  for (int i = 0; i < kChunk * kChunks; ++i) {
    if (buf[i] != (char)('a' + i / kChunk % 26)) {
      CHECK(!"wrong bytes");
      break;
    }
  }
  join(path, sizeof path, dir, "whole");
  capio_stat_init(&st);
  AGAIN(result, capio_stat(session, path, strlen(path), CAPIO_FOR_CONTENT, &st));
  CHECK(result == 0 && st.size == 5);
  AGAIN(fd, open_file(session, path, O_RDONLY, 0, &file));
  CHECK(fd >= 0 && file == NULL);
  CHECK(read_all(NULL, fd, buf, sizeof buf) == 5 && memcmp(buf, "12345", 5) == 0);
  close(fd);
  CHECK(capio_session_close(session, 20000) == 0);
  return failures == 0 ? 0 : 1;
}

static void test_two_processes(void) {
  char dir[512], config[600], path[600], chunk[kChunk], byte;
  int pipes[2], fd, status = -1;
  capio_session* session;
  capio_file* file = NULL;
  pid_t child;
  join(dir, sizeof dir, root, "pair");
  REQUIRE(mkdir(dir, 0755) == 0);
  join(config, sizeof config, root, "pair.json");
  write_text(config, kConfig);
  REQUIRE(pipe(pipes) == 0);
  child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    close(pipes[0]);
    exit(taker(dir, config, pipes[1]));
  }
  close(pipes[1]);
  session = open_session(dir, "maker", "pair", config, CAPIO_SESSION_TEARDOWN);
  REQUIRE(session != NULL);
  REQUIRE(read(pipes[0], &byte, 1) == 1);
  join(path, sizeof path, dir, "flow");
  fd = open_file(session, path, O_WRONLY | O_CREAT | O_TRUNC, 0644, &file);
  REQUIRE(fd >= 0 && file != NULL);
  for (int i = 0; i < kChunks; ++i) {
    memset(chunk, 'a' + i % 26, sizeof chunk);
    CHECK(capio_write(file, chunk, sizeof chunk, -1) == (int64_t)sizeof chunk);
    if (i == 0) REQUIRE(read(pipes[0], &byte, 1) == 1);
  }
  CHECK(capio_close(file, CAPIO_CLOSE_COUNT, CAPIO_FD_CLOSE) == 0);
  join(path, sizeof path, dir, "whole");
  fd = open_file(session, path, O_WRONLY | O_CREAT | O_TRUNC, 0644, &file);
  REQUIRE(fd >= 0 && file != NULL);
  CHECK(capio_write(file, "12345", 5, -1) == 5);
  CHECK(capio_close(file, CAPIO_CLOSE_COUNT, CAPIO_FD_CLOSE) == 0);
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  close(pipes[0]);
  capio_cancel_waits(1);
  join(path, sizeof path, dir, "other");
  capio_cancel_waits(0);
  CHECK(capio_session_close(session, 20000) == 0);
}

int main(void) {
  char template[] = "/tmp/capio-capi-XXXXXX";
  char store[300], command[400];
  struct stat st;
  alarm(100); /* the watchdog */
  /* What the environment of the caller says must not matter. */
  unsetenv("CAPIO_APP_NAME");
  unsetenv("CAPIO_WORKFLOW_NAME");
  unsetenv("CAPIO_WAIT_TIMEOUT");
  REQUIRE(mkdtemp(template) != NULL);
  snprintf(root, sizeof root, "%s", template);
  join(store, sizeof store, root, "store");
  REQUIRE(mkdir(store, 0755) == 0);
  REQUIRE(setenv("CAPIO_STORE", store, 1) == 0);
  test_library();
  test_expected_bytes();
  test_one_session();
  test_two_processes();
  /* The servers remove what they made, and the directory that holds the stores. */
  if (failures == 0) {
    char left[400];
    snprintf(left, sizeof left, "%s/capio-%ld", store, (long)getuid());
    for (int i = 0; i < 1; ++i) CHECK(stat(left, &st) != 0);
  }
  snprintf(command, sizeof command, "rm -rf '%s'", root);
  if (system(command) != 0) ++failures;
  if (failures != 0) fprintf(stderr, "%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}
