/* Preloaded before the C library: counts the calls that a program makes below one directory, and lets some of them fail.
 *
 *     SHIM_DIRECTORY   calls on paths below it, and on descriptors of such, count; no others
 *     SHIM_REPORT      a file that lines are appended to, shared with the program
 *     SHIM_FAULT       kind:first:last:every:error:short, all numbers: of the calls of this kind, those from the first to the last,
 *                      every so many, fail with the error. With short=1 a transfer is cut to half and does not fail; with
 *                      short=2 the first one is, and those after it fail
 *     SHIM_ALLOC       the least size of an allocation that counts; only those that the library itself makes do
 *     SHIM_LOG         set: writes, syncs and renames are told one by one
 *
 * Lines: "F kind number error path" a fault; "w thread path result marks" a write that has returned, with the marks (as
 * the victim's payloads have them) of what it wrote; "b thread path" a sync that begins; "s thread path result" its end;
 * "n thread path result" a rename to the path; "N kind count" at the end of the program.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

enum kind { WRITE, READ, SYNC, OPEN, RENAME, UNLINK, MKDIR, TRUNCATE, LOCK, STAT, LIST, RESOLVE, MAP, ALLOC, KINDS };
static const char *const kind_names[KINDS] = {"write", "read", "sync", "open", "rename", "unlink", "mkdir", "truncate",
                                              "lock", "stat", "list", "resolve", "map", "alloc"};

static struct {
    enum kind kind;
    uint64_t first, last, every;
    int error, cut;
} fault = {.kind = KINDS};

static atomic_uint_fast64_t counts[KINDS];
static char directory[PATH_MAX];
static size_t directory_length;
static int report = -1, logs, ready;
static size_t alloc_least = SIZE_MAX;
static uintptr_t library_start, library_end;

/* ---- what is in scope ----------------------------------------------------------------------------------------------- */

enum { DESCRIPTORS = 4096, NAME_BYTES = 160 };
static char names[DESCRIPTORS][NAME_BYTES]; /* empty: not in scope */

static int is_path(const char *path) {
    return ready && path != NULL && strncmp(path, directory, directory_length) == 0
           && (path[directory_length] == '/' || path[directory_length] == 0);
}

static const char *name_of(int fd) {
    return ready && fd >= 0 && fd < DESCRIPTORS && names[fd][0] ? names[fd] : NULL;
}

static const char *short_name(const char *path) {
    return path[directory_length] == '/' && path[directory_length + 1] ? path + directory_length + 1 : ".";
}

static void set_name(int fd, const char *path) {
    if (fd >= 0 && fd < DESCRIPTORS) {
        snprintf(names[fd], NAME_BYTES, "%s", path ? short_name(path) : "");
    }
}

/* ---- telling -------------------------------------------------------------------------------------------------------- */

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...) {
    char line[4096];
    int saved = errno;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length > 0 && report >= 0) {
        syscall(SYS_write, report, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
    }
    errno = saved;
}

static long thread(void) {
    return syscall(SYS_gettid);
}

/* The victim's payloads begin with these bytes, then the call and the item: which of them a write has. */
static const char mark[8] = {'S', 'H', 'I', 'M', 'M', 'A', 'R', 'K'};

static void say_write(const char *name, const void *bytes, ssize_t written) {
    char marks[2048] = "";
    size_t used = 0;
    const char *at = bytes, *end = at + (written > 0 ? written : 0);
    while (used + 32 < sizeof marks && (at = memmem(at, (size_t)(end - at), mark, 8)) != NULL && end - at >= 16) {
        uint32_t words[2];
        memcpy(words, at + 8, 8);
        used += (size_t)snprintf(marks + used, sizeof marks - used, " %u:%u", words[0], words[1]);
        at += 16;
    }
    say("w %ld %s %zd%s\n", thread(), name, written, marks);
}

/* ---- the plan ------------------------------------------------------------------------------------------------------- */

enum { GO_ON = 0, CUT = -1 };

/* Counts a call. GO_ON, CUT, or the error that it is to fail with. */
static int next_call(enum kind kind, const char *name) {
    uint64_t n = atomic_fetch_add(&counts[kind], 1) + 1;
    if (kind != fault.kind || n < fault.first || n > fault.last || (n - fault.first) % fault.every != 0) {
        return GO_ON;
    }
    int cut = fault.cut == 1 || (fault.cut == 2 && n == fault.first);
    say("F %s %llu %d %s\n", kind_names[kind], (unsigned long long)n, cut ? 0 : fault.error, name);
    return cut ? CUT : fault.error;
}

static int fails(enum kind kind, const char *name) {
    int answer = next_call(kind, name);
    if (answer <= 0) {
        return 0;
    }
    errno = answer;
    return 1;
}

static uint64_t next_number(char **text) {
    uint64_t number = strtoull(*text, text, 10);
    *text += **text == ':';
    return number;
}

static int find_library(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size, (void)data;
    if (strstr(info->dlpi_name, "libbatpak.so") == NULL) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && header->p_flags & PF_X) {
            library_start = info->dlpi_addr + header->p_vaddr;
            library_end = library_start + header->p_memsz;
        }
    }
    return 1;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIM_REPORT"), *least = getenv("SHIM_ALLOC");
    char *plan = getenv("SHIM_FAULT");
    snprintf(directory, sizeof directory, "%s", getenv("SHIM_DIRECTORY") ? getenv("SHIM_DIRECTORY") : "");
    directory_length = strlen(directory);
    report = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    logs = getenv("SHIM_LOG") != NULL;
    alloc_least = least ? strtoull(least, NULL, 10) : SIZE_MAX;
    dl_iterate_phdr(find_library, NULL);
    if (plan) {
        fault.kind = next_number(&plan);
        fault.first = next_number(&plan);
        fault.last = next_number(&plan);
        fault.every = next_number(&plan);
        fault.error = (int)next_number(&plan);
        fault.cut = (int)next_number(&plan);
    }
    ready = directory_length > 0;
}

__attribute__((destructor)) static void end(void) {
    for (int kind = 0; kind < KINDS; kind++) {
        say("N %s %llu\n", kind_names[kind], (unsigned long long)counts[kind]);
    }
}

/* The function that this one stands before. */
#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (real == NULL) { \
        real = (result(*)(__VA_ARGS__))(uintptr_t)dlsym(RTLD_NEXT, #name); \
    }

static size_t half(size_t n) {
    return n > 1 ? n / 2 : n;
}

/* ---- reading and writing -------------------------------------------------------------------------------------------- */

#define READS(name, ...) \
    const char *path = name_of(fd); \
    if (path != NULL) { \
        int answer = next_call(READ, path); \
        if (answer > 0) { \
            errno = answer; \
            return -1; \
        } \
        n = answer == CUT ? half(n) : n; \
    } \
    return real(__VA_ARGS__)

#define WRITES(...) \
    const char *path = name_of(fd); \
    if (path == NULL) { \
        return real(__VA_ARGS__); \
    } \
    int answer = next_call(WRITE, path); \
    ssize_t result = -1; \
    if (answer > 0) { \
        errno = answer; \
    } else { \
        n = answer == CUT ? half(n) : n; \
        result = real(__VA_ARGS__); \
    } \
    if (logs) { \
        say_write(path, bytes, result); \
    } \
    return result

PUBLIC ssize_t read(int fd, void *bytes, size_t n) {
    REAL(ssize_t, read, int, void *, size_t)
    READS(read, fd, bytes, n);
}

PUBLIC ssize_t pread(int fd, void *bytes, size_t n, off_t offset) {
    REAL(ssize_t, pread, int, void *, size_t, off_t)
    READS(pread, fd, bytes, n, offset);
}

PUBLIC ssize_t pread64(int fd, void *bytes, size_t n, off64_t offset) {
    REAL(ssize_t, pread64, int, void *, size_t, off64_t)
    READS(pread64, fd, bytes, n, offset);
}

PUBLIC ssize_t write(int fd, const void *bytes, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t)
    WRITES(fd, bytes, n);
}

PUBLIC ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t)
    WRITES(fd, bytes, n, offset);
}

PUBLIC ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t offset) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t)
    WRITES(fd, bytes, n, offset);
}

/* Vectors are written one after the other, each counted. */
static ssize_t write_vectors(int fd, const struct iovec *vectors, int count, off64_t offset) {
    ssize_t sum = 0;
    for (int i = 0; i < count; i++) {
        ssize_t written = offset < 0 ? write(fd, vectors[i].iov_base, vectors[i].iov_len)
                                     : pwrite64(fd, vectors[i].iov_base, vectors[i].iov_len, offset + sum);
        if (written < 0) {
            return sum > 0 ? sum : -1;
        }
        sum += written;
        if ((size_t)written < vectors[i].iov_len) {
            break;
        }
    }
    return sum;
}

PUBLIC ssize_t writev(int fd, const struct iovec *vectors, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int)
    return name_of(fd) == NULL ? real(fd, vectors, count) : write_vectors(fd, vectors, count, -1);
}

PUBLIC ssize_t pwritev(int fd, const struct iovec *vectors, int count, off_t offset) {
    REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t)
    return name_of(fd) == NULL ? real(fd, vectors, count, offset) : write_vectors(fd, vectors, count, offset);
}

PUBLIC ssize_t pwritev64(int fd, const struct iovec *vectors, int count, off64_t offset) {
    REAL(ssize_t, pwritev64, int, const struct iovec *, int, off64_t)
    return name_of(fd) == NULL ? real(fd, vectors, count, offset) : write_vectors(fd, vectors, count, offset);
}

/* ---- syncs ---------------------------------------------------------------------------------------------------------- */

static int sync_with(int (*real)(int), int fd) {
    const char *path = name_of(fd);
    if (path == NULL) {
        return real(fd);
    }
    if (logs) {
        say("b %ld %s\n", thread(), path);
    }
    int result = fails(SYNC, path) ? -1 : real(fd);
    if (logs) {
        say("s %ld %s %d\n", thread(), path, result);
    }
    return result;
}

PUBLIC int fsync(int fd) {
    REAL(int, fsync, int)
    return sync_with(real, fd);
}

PUBLIC int fdatasync(int fd) {
    REAL(int, fdatasync, int)
    return sync_with(real, fd);
}

PUBLIC int sync_file_range(int fd, off64_t offset, off64_t n, unsigned flags) {
    REAL(int, sync_file_range, int, off64_t, off64_t, unsigned)
    const char *path = name_of(fd);
    return path != NULL && fails(SYNC, path) ? -1 : real(fd, offset, n, flags);
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */

static int open_with(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    if (!is_path(path)) {
        return real(path, flags, mode);
    }
    if (fails(OPEN, short_name(path))) {
        return -1;
    }
    int fd = real(path, flags, mode);
    set_name(fd, path);
    return fd;
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define MODE \
    va_list arguments; \
    va_start(arguments, flags); \
    mode_t mode = mode_of(flags, arguments); \
    va_end(arguments)

PUBLIC int open(const char *path, int flags, ...) {
    REAL(int, open, const char *, int, ...)
    MODE;
    return open_with(real, path, flags, mode);
}

PUBLIC int open64(const char *path, int flags, ...) {
    REAL(int, open64, const char *, int, ...)
    MODE;
    return open_with(real, path, flags, mode);
}

static int openat_with(int (*real)(int, const char *, int, ...), int at, const char *path, int flags, mode_t mode) {
    if (!is_path(path)) { /* a relative one is not the library's way */
        return real(at, path, flags, mode);
    }
    if (fails(OPEN, short_name(path))) {
        return -1;
    }
    int fd = real(at, path, flags, mode);
    set_name(fd, path);
    return fd;
}

PUBLIC int openat(int at, const char *path, int flags, ...) {
    REAL(int, openat, int, const char *, int, ...)
    MODE;
    return openat_with(real, at, path, flags, mode);
}

PUBLIC int openat64(int at, const char *path, int flags, ...) {
    REAL(int, openat64, int, const char *, int, ...)
    MODE;
    return openat_with(real, at, path, flags, mode);
}

PUBLIC int close(int fd) {
    REAL(int, close, int)
    set_name(fd, NULL);
    return real(fd);
}

static int rename_told(const char *to, int result) {
    if (logs) {
        say("n %ld %s %d\n", thread(), short_name(to), result);
    }
    return result;
}

PUBLIC int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *)
    if (!is_path(to)) {
        return real(from, to);
    }
    return rename_told(to, fails(RENAME, short_name(to)) ? -1 : real(from, to));
}

PUBLIC int renameat(int at, const char *from, int to_at, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *)
    if (!is_path(to)) {
        return real(at, from, to_at, to);
    }
    return rename_told(to, fails(RENAME, short_name(to)) ? -1 : real(at, from, to_at, to));
}

PUBLIC int renameat2(int at, const char *from, int to_at, const char *to, unsigned flags) {
    REAL(int, renameat2, int, const char *, int, const char *, unsigned)
    if (!is_path(to)) {
        return real(at, from, to_at, to, flags);
    }
    return rename_told(to, fails(RENAME, short_name(to)) ? -1 : real(at, from, to_at, to, flags));
}

PUBLIC int unlink(const char *path) {
    REAL(int, unlink, const char *)
    return is_path(path) && fails(UNLINK, short_name(path)) ? -1 : real(path);
}

PUBLIC int unlinkat(int at, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int)
    return is_path(path) && fails(UNLINK, short_name(path)) ? -1 : real(at, path, flags);
}

PUBLIC int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t)
    return is_path(path) && fails(MKDIR, short_name(path)) ? -1 : real(path, mode);
}

PUBLIC char *realpath(const char *restrict path, char *restrict resolved) {
    REAL(char *, realpath, const char *, char *)
    return is_path(path) && fails(RESOLVE, short_name(path)) ? NULL : real(path, resolved);
}

PUBLIC DIR *opendir(const char *path) {
    REAL(DIR *, opendir, const char *)
    if (!is_path(path)) {
        return real(path);
    }
    DIR *found = fails(LIST, short_name(path)) ? NULL : real(path);
    if (found != NULL) {
        set_name(dirfd(found), path);
    }
    return found;
}

PUBLIC struct dirent64 *readdir64(DIR *opened) {
    REAL(struct dirent64 *, readdir64, DIR *)
    const char *path = name_of(dirfd(opened));
    return path != NULL && fails(LIST, path) ? NULL : real(opened);
}

PUBLIC int closedir(DIR *opened) {
    REAL(int, closedir, DIR *)
    set_name(dirfd(opened), NULL);
    return real(opened);
}

/* ---- the rest ------------------------------------------------------------------------------------------------------- */

#define BY_DESCRIPTOR(kind, ...) \
    const char *path = name_of(fd); \
    return path != NULL && fails(kind, path) ? -1 : real(__VA_ARGS__)

PUBLIC int ftruncate(int fd, off_t length) {
    REAL(int, ftruncate, int, off_t)
    BY_DESCRIPTOR(TRUNCATE, fd, length);
}

PUBLIC int ftruncate64(int fd, off64_t length) {
    REAL(int, ftruncate64, int, off64_t)
    BY_DESCRIPTOR(TRUNCATE, fd, length);
}

PUBLIC int fallocate(int fd, int mode, off_t offset, off_t length) {
    REAL(int, fallocate, int, int, off_t, off_t)
    BY_DESCRIPTOR(TRUNCATE, fd, mode, offset, length);
}

PUBLIC int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    REAL(int, fallocate64, int, int, off64_t, off64_t)
    BY_DESCRIPTOR(TRUNCATE, fd, mode, offset, length);
}

PUBLIC int flock(int fd, int operation) {
    REAL(int, flock, int, int)
    BY_DESCRIPTOR(LOCK, fd, operation);
}

PUBLIC int fstat64(int fd, struct stat64 *found) {
    REAL(int, fstat64, int, struct stat64 *)
    BY_DESCRIPTOR(STAT, fd, found);
}

PUBLIC int stat64(const char *restrict path, struct stat64 *restrict found) {
    REAL(int, stat64, const char *, struct stat64 *)
    return is_path(path) && fails(STAT, short_name(path)) ? -1 : real(path, found);
}

PUBLIC int fstatat64(int fd, const char *restrict name, struct stat64 *restrict found, int flags) {
    REAL(int, fstatat64, int, const char *, struct stat64 *, int)
    BY_DESCRIPTOR(STAT, fd, name, found, flags);
}

PUBLIC int statx(int fd, const char *restrict name, int flags, unsigned mask, struct statx *restrict found) {
    REAL(int, statx, int, const char *, int, unsigned, struct statx *)
    if (is_path(name) && fails(STAT, short_name(name))) {
        return -1;
    }
    BY_DESCRIPTOR(STAT, fd, name, flags, mask, found);
}

static void *map_with(void *(*real)(void *, size_t, int, int, int, off64_t), void *at, size_t n, int protection, int flags,
                      int fd, off64_t offset) {
    const char *path = name_of(fd);
    return path != NULL && fails(MAP, path) ? MAP_FAILED : real(at, n, protection, flags, fd, offset);
}

PUBLIC void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    REAL(void *, mmap, void *, size_t, int, int, int, off64_t)
    return map_with(real, at, n, protection, flags, fd, offset);
}

PUBLIC void *mmap64(void *at, size_t n, int protection, int flags, int fd, off64_t offset) {
    REAL(void *, mmap64, void *, size_t, int, int, int, off64_t)
    return map_with(real, at, n, protection, flags, fd, offset);
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

/* The C library's own names: dlsym itself allocates. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static int refuses(size_t size, const void *caller) {
    char name[32];
    if (size < alloc_least || !ready || (uintptr_t)caller < library_start || (uintptr_t)caller >= library_end) {
        return 0;
    }
    snprintf(name, sizeof name, "%zu@%zx", size, (size_t)((uintptr_t)caller - library_start));
    if (logs) {
        say("m %ld %s\n", thread(), name);
    }
    return fails(ALLOC, name);
}

#define CALLER __builtin_return_address(0)

PUBLIC void *malloc(size_t size) {
    return refuses(size, CALLER) ? NULL : __libc_malloc(size);
}

PUBLIC void *calloc(size_t n, size_t size) {
    return refuses(n * size, CALLER) ? NULL : __libc_calloc(n, size);
}

PUBLIC void *realloc(void *old, size_t size) {
    return refuses(size, CALLER) ? NULL : __libc_realloc(old, size);
}

PUBLIC int posix_memalign(void **place, size_t alignment, size_t size) {
    void *found = refuses(size, CALLER) ? NULL : __libc_memalign(alignment, size);
    if (found == NULL) {
        return ENOMEM;
    }
    *place = found;
    return 0;
}

PUBLIC void *aligned_alloc(size_t alignment, size_t size) {
    return refuses(size, CALLER) ? NULL : __libc_memalign(alignment, size);
}
