/* Cases of row R13: what a process can be like. */
#ifndef CASES_PROCESS_H
#define CASES_PROCESS_H

#include "hostile.h"

static void without_variables(void) {
    CHECK(clearenv() == 0);
    path_works("store");
    CHECK(setenv("TMPDIR", "/no/such/place", 1) == 0 && setenv("LC_ALL", "xx_YY", 1) == 0);
    path_works("other");
}

static void umask_of_everything(void) {
    batpak_store_t *store;
    become_nobody();
    umask(0777);
    if (MAY_FAIL(open_with("store", 0, &store), "store")) {
        MAY_FAIL(close_and_free(store), "store");
    }
    umask(022);
    CHECK(system("chmod -R u+rwX store") == 0);
    path_works("store");
}

static void umask_of_everything_at_rotation(void) {
    take_copy("store");
    become_nobody();
    batpak_store_t *store = open_here("store", 0);
    append_well(store, 1, BATPAK_DURABILITY_PROCESS);
    uint64_t segments = stats_of(store).segments;
    umask(0777);
    int failed = 0;
    for (int i = 0; i < 200 && failed < 3; i++) {
        if (TIMED(append_next(store, 16, BATPAK_DURABILITY_PROCESS)) != BATPAK_OK) {
            check_error(__LINE__, batpak_error_code(error), BATPAK_E_IO, EACCES, "store");
            decide(ledger, NOTHING);
            failed++;
        }
    }
    umask(022);
    CHECK(system("chmod -R u+rwX store") == 0);
    append_until_segments(store, segments + 1);
    append_well(store, 1, BATPAK_DURABILITY_STORAGE);
    verify(store, ledger);
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

/* What a program prints must not land in the log. */
static void standard_descriptors_closed(unsigned mask) {
    take_copy("store");
    close_other_descriptors();
    int kept[3];
    for (int fd = 0; fd < 3; fd++) {
        kept[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    }
    for (int fd = 0; fd < 3; fd++) {
        if (mask & 1u << fd) {
            close(fd);
        }
    }
    batpak_store_t *store = open_here("store", 0);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer");
    int32_t fd;
    uint64_t segments = stats_of(store).segments, sequences[10];
    CHECK_OK(batpak_cursor_notify_fd(cursor, &fd, &error), error);
    int notify = fd;
    CHECK_OK(batpak_store_durable_fd(store, &fd, &error), error);
    int durable = fd;
    append_until_segments(store, segments + 1);
    verify(store, ledger);
    poll_sequences(cursor, 10, sequences);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    int taken = 0;
    for (int closed = 0; closed < 3; closed++) {
        if (mask & 1u << closed) {
            taken |= fcntl(closed, F_GETFD) != -1;
            /* The host prints. */
            ssize_t printed = write(closed, "GARBAGE", 7) + pwrite(closed, "GARBAGE", 7, 100);
            (void)printed;
        }
    }
    close_cursor(cursor);
    CHECK_OK(close_and_free(store), error);
    for (int back = 0; back < 3; back++) {
        dup2(kept[back], back);
        close(kept[back]);
    }
    CHECK(!taken && notify > 2 && durable > 2);
    check_works("store");
}

static void executes_with_descriptors_closed(void) {
    take_copy("store");
    close_other_descriptors();
    batpak_store_t *store = open_here("store", 0);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "consumer");
    int32_t fd;
    CHECK_OK(batpak_cursor_notify_fd(cursor, &fd, &error), error);
    CHECK_OK(batpak_store_durable_fd(store, &fd, &error), error);
    append_until_segments(store, TEMPLATE_SEGMENTS + 1);
    verify(store, ledger);
    pid_t child = fork();
    if (child == 0) {
        execl(program, program, "fds", (char *)NULL);
        _exit(127);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close_cursor(cursor);
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

static void ignore_signal(int number) {
    (void)number;
}

/* A handler that interrupts calls, a thousand times a second, through everything. */
static void interrupted_by_signals(void) {
    struct sigaction action;
    struct itimerval timer = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};
    memset(&action, 0, sizeof action);
    action.sa_handler = ignore_signal;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    take_copy("store");
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    for (int turn = 0; turn < 4; turn++) {
        batpak_store_t *store = open_here("store", 0);
        uint64_t segments = stats_of(store).segments;
        append_until_segments(store, segments + 1);
        for (int i = 0; i < 50; i++) {
            append_well(store, 1, BATPAK_DURABILITY_STORAGE);
        }
        verify(store, ledger);
        batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
        batpak_batch_t *batch = NULL;
        CHECK_OK(batpak_cursor_seek_end(cursor, &error), error);
        uint64_t start = now_ns();
        CHECK_STATUS(batpak_cursor_poll(cursor, 1, 0, 50, &batch, &error), BATPAK_TIMEOUT, error);
        CHECK(now_ns() - start >= 45000000);
        CHECK_STATUS(batpak_store_wait(store, BATPAK_WATERMARK_DURABLE, ledger->end + 1, 50, &error), BATPAK_TIMEOUT, error);
        close_cursor(cursor);
        CHECK_OK(batpak_checkpoint_save(store, "other", 5, NULL, 5, &error), error);
        CHECK_OK(close_and_free(store), error);
    }
    CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
    check_works("store");
}

static void broken_pipes(void) {
    int pipes[2];
    struct sigaction action;
    CHECK(pipe(pipes) == 0 && close(pipes[0]) == 0);
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0);
    CHECK(action.sa_handler == SIG_DFL);
    take_copy("store");
    int saved = dup(1);
    CHECK(dup2(pipes[1], 1) == 1);
    check_works("store");
    CHECK(dup2(saved, 1) == 1);
    /* The host's handling is the host's. */
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
}

static void *use_store_on_small_stack(void *dir) {
    check_works(dir);
    return NULL;
}

static void small_stack(size_t bytes) {
    pthread_attr_t attributes;
    pthread_t thread;
    take_copy("store");
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, bytes) == 0);
    CHECK(pthread_create(&thread, &attributes, use_store_on_small_stack, "store") == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* Less and less memory: refused, or done; whatever comes, the files are whole. */
static void little_memory(size_t more) {
    char line[256];
    struct rlimit limit;
    size_t pages = 0;
    batpak_store_t *store;
    take_copy("store");
    items_of(ledger, ledger->end, ITEMS_MAX, items, contents);
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL && sscanf(line, "%zu", &pages) == 1);
    fclose(file);
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = pages * (size_t)sysconf(_SC_PAGESIZE) + more;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    if (MAY_FAIL(open_with("store", 0, &store), NULL)) {
        for (int i = 0; i < 40; i++) {
            if (TIMED(append_next(store, 16, i % 4 ? BATPAK_DURABILITY_PROCESS : BATPAK_DURABILITY_STORAGE)) != BATPAK_OK) {
                CHECK(batpak_error_code(error) == BATPAK_E_NO_MEMORY || batpak_error_code(error) == BATPAK_E_IO);
                batpak_error_free(error);
                error = NULL;
                decide(ledger, NOTHING);
            }
        }
        MAY_FAIL(close_and_free(store), NULL);
    }
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    check_works("store");
}

/* SIGXFSZ ends a process that does not expect it; the library must not raise it. */
static void file_size_limit(uint64_t bytes, uint32_t flags, int is_new) {
    struct rlimit limit;
    batpak_store_t *store;
    int failed = 0;
    if (is_new) {
        ledger->end = ledger->announced = 0;
    } else {
        take_copy("store");
    }
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = bytes;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    if (TIMED(open_with("store", flags, &store)) == BATPAK_OK) {
        for (int i = 0; i < 200 && failed < 3; i++) {
            uint32_t durability = i % 2 ? BATPAK_DURABILITY_PROCESS : BATPAK_DURABILITY_STORAGE;
            if (TIMED(append_next(store, 16, durability)) != BATPAK_OK) {
                check_error(__LINE__, batpak_error_code(error), BATPAK_E_IO, EFBIG, "store");
                decide(ledger, NOTHING);
                CHECK_EQUAL(marks_of(store).appended, ledger->end);
                failed++;
            }
        }
        if (TIMED(batpak_checkpoint_save(store, "other", 5, NULL, 0, &error)) != BATPAK_OK) {
            check_error(__LINE__, batpak_error_code(error), BATPAK_E_IO, EFBIG, "store");
        }
        verify(store, ledger);
        /* What was acknowledged is synced; the frame that ends the log may find no room. */
        MAY_FAIL(close_and_free(store), "store");
        CHECK(failed > 0);
    } else {
        check_error(__LINE__, batpak_error_code(error), BATPAK_E_IO, EFBIG, "store");
    }
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    check_works("store");
}

/* The limit comes while the store is open, below what is prepared already. */
static void file_size_limit_while_open(void) {
    struct rlimit limit;
    take_copy("store");
    batpak_store_t *store = open_here("store", 0);
    int failed = 0;
    append_well(store, 16, BATPAK_DURABILITY_STORAGE);
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = 4096;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    for (int i = 0; i < 200 && failed < 3; i++) {
        batpak_status_t status = TIMED(append_next(store, 4, BATPAK_DURABILITY_STORAGE));
        if (status != BATPAK_OK) {
            CHECK(status == BATPAK_E_IO || status == BATPAK_E_POISONED);
            batpak_error_free(error);
            error = NULL;
            failed++;
            break;
        }
    }
    CHECK(failed > 0);
    MAY_FAIL(close_and_free(store), NULL);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    check_works("store");
}

/* No thread can be started. */
static void no_threads(void) {
    struct rlimit limit = {0, 0};
    take_copy("store");
    become_nobody();
    CHECK(setrlimit(RLIMIT_NPROC, &limit) == 0);
    batpak_store_t *store = open_here("store", 0);
    uint64_t segments = stats_of(store).segments;
    append_until_segments(store, segments + 3);
    append_well(store, 1, BATPAK_DURABILITY_STORAGE);
    verify(store, ledger);
    CHECK_OK(close_and_free(store), error);
    check_works("store");
}

#endif
