/* Does with stores what its parent, tests/locking.rs, tells it on stdin, a line a command, and answers each with a number.
 *
 * Whatever it forks lives until the parent lets go of stdin. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define SLOTS 8
#define NOT_POSSIBLE 1000
#define TWO_AT_ONCE -1000

static batpak_store_t *stores[SLOTS];

static void stay(void) {
    struct pollfd leash = {0, 0, 0};
    while (poll(&leash, 1, -1) < 0 && errno == EINTR) {
    }
}

static batpak_status_t open_store(batpak_store_t **store, uint32_t flags, const char *path) {
    batpak_store_options_t options;
    CHECK(batpak_store_options_init(&options, sizeof options, NULL) == BATPAK_OK);
    options.flags = flags;
    options.segment_bytes = 1 << 20;
    options.durability = BATPAK_DURABILITY_PROCESS;
    return batpak_store_open_z(path, &options, store, NULL);
}

/* Frees what it closes. */
static batpak_status_t close_store(batpak_store_t **store) {
    batpak_status_t status = batpak_store_close(*store, -1, NULL);
    batpak_store_free(*store);
    *store = NULL;
    return status;
}

static batpak_status_t append(batpak_store_t *store, int n) {
    static const char payload[2048];
    batpak_status_t status = BATPAK_OK;
    for (int i = 0; i < n && status == BATPAK_OK; i++) {
        status = batpak_store_append_one(store, "e", 1, "s", 1, 0x1001, payload, sizeof payload, NULL, NULL);
    }
    return status;
}

static int64_t count(batpak_store_t *store) {
    batpak_watermarks_t marks;
    batpak_status_t status = batpak_store_watermarks(store, &marks, NULL);
    return status == BATPAK_OK ? (int64_t)marks.visible : status;
}

/* Every event, read. */
static int64_t read_all(batpak_store_t *store) {
    batpak_cursor_t *cursor;
    batpak_batch_t *batch;
    batpak_status_t status = batpak_cursor_open(store, NULL, NULL, &cursor, NULL);
    int64_t total = 0;
    if (status != BATPAK_OK) {
        return status;
    }
    while ((status = batpak_cursor_poll(cursor, 256, 0, 0, &batch, NULL)) == BATPAK_OK) {
        size_t n;
        CHECK(batpak_batch_events(batch, &n)[0].sequence == (uint64_t)total);
        total += (int64_t)n;
        batpak_batch_free(batch);
    }
    batpak_cursor_free(cursor);
    return status < 0 ? status : total;
}

/* ---- children ---- */

/* The child of a fork: the handle is no use, and the store is another's. Returns what went wrong, or 0. */
static int use_inherited(batpak_store_t *store, const char *path) {
    batpak_store_t *own = NULL;
    if (append(store, 1) != BATPAK_E_FORKED || batpak_store_close(store, -1, NULL) != BATPAK_E_FORKED) {
        return 1;
    }
    if (open_store(&own, 0, path) != BATPAK_E_LOCKED) {
        return 2;
    }
    batpak_store_free(store);
    return open_store(&own, 0, path) == BATPAK_E_LOCKED ? 0 : 3;
}

/* A child, and a child of that, that stay. Answers when both have used what they inherited. */
static int64_t fork_and_stay(batpak_store_t *store, const char *path) {
    int told[2];
    CHECK(pipe(told) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pid_t grandchild = fork();
        unsigned char wrong = (unsigned char)use_inherited(store, path);
        CHECK(grandchild >= 0 && write(told[1], &wrong, 1) == 1);
        close(told[1]);
        stay();
        _exit(0);
    }
    close(told[1]);
    unsigned char wrong[2] = {9, 9};
    ssize_t first = read(told[0], wrong, 1), second = read(told[0], wrong + 1, 1);
    close(told[0]);
    return first == 1 && second == 1 ? wrong[0] * 10 + wrong[1] : 99;
}

/* Another program, which stays. */
static int64_t fork_and_exec(void) {
    int told[2];
    char byte;
    CHECK(pipe2(told, O_CLOEXEC) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execl("/proc/self/exe", "holder", "stay", (char *)NULL);
        _exit(1);
    }
    close(told[1]);
    /* The pipe's end is closed by the exec. */
    int64_t answer = read(told[0], &byte, 1);
    close(told[0]);
    return answer;
}

static void *fork_all_the_time(void *times) {
    for (int i = 0; i < *(int *)times; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            stay();
            _exit(0);
        }
        usleep(300);
    }
    return NULL;
}

/* Opens and closes while another thread forks children that stay; the last opening is kept. */
static int64_t open_under_forks(batpak_store_t **store, int times, const char *path) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fork_all_the_time, &times) == 0);
    batpak_status_t status = BATPAK_OK;
    for (int i = 0; i < 3 && status == BATPAK_OK; i++) {
        status = open_store(store, 0, path);
        status = status == BATPAK_OK ? close_store(store) : status;
    }
    status = status == BATPAK_OK ? open_store(store, 0, path) : status;
    pthread_join(thread, NULL);
    return status;
}

/* Opens under another name that a mount gives, in a namespace of a child's. */
static int64_t open_bound(const char *path, const char *other) {
    int status = 0;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        batpak_store_t *store;
        if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
            mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mount(path, other, NULL, MS_BIND, NULL) != 0) {
            _exit(1);
        }
        _exit(open_store(&store, 0, other) == BATPAK_E_LOCKED ? 0 : 2);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status) == 1 ? NOT_POSSIBLE : WEXITSTATUS(status);
}

/* ---- descriptors of others ---- */

/* A lock of POSIX's would be gone with the close of any descriptor of its file. */
static int64_t open_and_close(const char *path) {
    char name[PATH_MAX + 8];
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    snprintf(name, sizeof name, "%s/LOCK", path);
    int file = open(name, O_RDWR), directory = open(path, O_RDONLY), copy = dup(file);
    CHECK(file >= 0 && directory >= 0 && copy >= 0);
    fcntl(file, F_SETLK, &whole);
    /* Unlocks what this descriptor holds, which is nothing. */
    flock(copy, LOCK_UN);
    flock(directory, LOCK_UN);
    return close(copy) | close(file) | close(directory);
}

/* ---- races ---- */

static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    return z ^ z >> 31;
}

/* Whoever holds the store makes the marker, and nobody else may have. */
static int mark(const char *marker) {
    int file = open(marker, O_WRONLY | O_CREAT | O_EXCL, 0600);
    return file >= 0 && close(file) == 0;
}

/* Opens whenever it can, `wins` times, and dies while it holds the store when chance has it. Answers how often it was refused. */
static int64_t race(int wins, uint32_t one_in, uint64_t seed, const char *path, const char *marker) {
    int64_t refused = 0;
    while (wins > 0) {
        batpak_store_t *store;
        batpak_status_t status = open_store(&store, 0, path);
        if (status == BATPAK_E_LOCKED) {
            refused++;
            sched_yield();
            continue;
        }
        if (status != BATPAK_OK) {
            return status;
        }
        if (!mark(marker)) {
            return TWO_AT_ONCE;
        }
        status = append(store, 1);
        uint64_t chance = next_random(&seed);
        usleep((useconds_t)(chance >> 40) % 500);
        CHECK(unlink(marker) == 0);
        if (one_in != 0 && chance % one_in == 0) {
            kill(getpid(), SIGKILL);
        }
        batpak_status_t closed = close_store(&store);
        if (status != BATPAK_OK || closed != BATPAK_OK) {
            return status != BATPAK_OK ? status : closed;
        }
        wins--;
    }
    return refused;
}

/* ---- commands ---- */

/* NUMBER NUMBER NUMBER PATH OTHER: what the numbers are depends on the command; the first is mostly a slot. */
static int64_t obey(const char *command, uint64_t a, uint64_t b, uint64_t c, const char *path, const char *other) {
    batpak_store_t **store = &stores[a % SLOTS];
    uint8_t id[16];
    uint64_t number;
    if (strcmp(command, "open") == 0) {
        return open_store(store, (uint32_t)b, path);
    } else if (strcmp(command, "append") == 0) {
        return append(*store, (int)b);
    } else if (strcmp(command, "count") == 0) {
        return count(*store);
    } else if (strcmp(command, "read") == 0) {
        return read_all(*store);
    } else if (strcmp(command, "id") == 0) {
        CHECK(batpak_store_id(*store, id, NULL) == BATPAK_OK);
        memcpy(&number, id, sizeof number);
        return (int64_t)(number >> 1);
    } else if (strcmp(command, "close") == 0) {
        return close_store(store);
    } else if (strcmp(command, "fork") == 0) {
        return fork_and_stay(*store, path);
    } else if (strcmp(command, "exec") == 0) {
        return fork_and_exec();
    } else if (strcmp(command, "storm") == 0) {
        return open_under_forks(store, (int)b, path);
    } else if (strcmp(command, "bound") == 0) {
        return open_bound(path, other);
    } else if (strcmp(command, "unrelated") == 0) {
        return open_and_close(path);
    } else if (strcmp(command, "go") == 0) {
        return chdir(path);
    } else if (strcmp(command, "race") == 0) {
        return race((int)a, (uint32_t)b, c, path, other);
    } else if (strcmp(command, "exit") == 0) {
        exit(0);
    }
    return INT64_MIN;
}

int main(int argc, char **argv) {
    char line[3 * PATH_MAX], command[32], path[PATH_MAX], other[PATH_MAX];
    if (argc > 1 && strcmp(argv[1], "stay") == 0) {
        stay();
        return 0;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t a = 0, b = 0, c = 0;
        path[0] = other[0] = 0;
        CHECK(sscanf(line, "%31s %" SCNu64 " %" SCNu64 " %" SCNu64 " %4095s %4095s", command, &a, &b, &c, path, other) >= 1);
        printf("%" PRId64 "\n", obey(command, a, b, c, path, other));
        fflush(stdout);
    }
    return 0;
}
