/* The checkpoint's file: how it is written (C2), what it says of its region (C3), the calls that need no cursor (C6), and that
 * idle consumers keep it fresh (C8). The program has fdatasync, fsync and rename of its own, which the library finds first. */
#include "events.h"

/* What was done to files since it was last cleared, as lines of "call name". */
static struct {
    pthread_mutex_t mutex;
    char text[65536];
    const char *failing; /* calls whose line contains this fail with EIO */
} trace = {PTHREAD_MUTEX_INITIALIZER, "", NULL};

static int traced(const char *call, const char *path) {
    char line[PATH_MAX + 32];
    const char *name = strrchr(path, '/');
    snprintf(line, sizeof line, "%s %s\n", call, name ? name + 1 : path);
    pthread_mutex_lock(&trace.mutex);
    if (strlen(trace.text) + strlen(line) < sizeof trace.text) {
        strcat(trace.text, line);
    }
    int fails = trace.failing != NULL && strstr(line, trace.failing) != NULL;
    pthread_mutex_unlock(&trace.mutex);
    if (fails) {
        errno = EIO;
    }
    return fails;
}

static const char *name_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n < 0 ? 0 : n] = 0;
    return path;
}

int fdatasync(int fd) {
    char path[PATH_MAX];
    return traced("sync", name_of(fd, path)) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    char path[PATH_MAX];
    return traced("sync", name_of(fd, path)) ? -1 : (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to) {
    return traced("rename", to) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void trace_clear(const char *failing) {
    pthread_mutex_lock(&trace.mutex);
    trace.text[0] = 0;
    trace.failing = failing;
    pthread_mutex_unlock(&trace.mutex);
}

/* The lines stand in the trace in this order. */
static void check_order(const char *const *lines, size_t n) {
    const char *at = trace.text;
    for (size_t i = 0; i < n; i++) {
        const char *found = strstr(at, lines[i]);
        if (found == NULL) {
            fprintf(stderr, "no %s where it belongs in\n%s", lines[i], trace.text);
            exit(1);
        }
        at = found + strlen(lines[i]);
    }
}

static void C2_log_temporary_file_rename_directory_in_this_order(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    for (int i = 0; i < 3; i++) {
        append(store, "a", "x");
        CHECK_EQUAL(poll_sequences(cursor, 9, (uint64_t[9]){0}), 1);
        CHECK_EQUAL(marks_of(store).durable, i);
        trace_clear(NULL);
        CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
        static const char *const lines[] = {"sync 00000000000000000000.seg\n", "sync .c.tmp\n", "rename c.ckpt\n", "sync cursors\n"};
        check_order(lines, 4);
        CHECK_EQUAL(marks_of(store).durable, i + 1);
    }
    close_cursor(cursor);
    trace_clear(NULL);
    CHECK_OK(batpak_checkpoint_save(store, "c", 1, NULL, 1, &error), error);
    check_order((const char *const[]){"sync .c.tmp\n", "rename c.ckpt\n", "sync cursors\n"}, 3);
    trace_clear(NULL);
    CHECK_OK(batpak_checkpoint_delete(store, "c", 1, &error), error);
    check_order((const char *const[]){"sync cursors\n"}, 1);
    close_store(store);
    remove_dir(dir);
}

/* A sync of the log that fails leaves the checkpoint where it was: it is never ahead of the log. */
static void C2_a_checkpoint_is_never_ahead_of_the_log(void) {
    char *dir = make_dir(), before[1024], after[1024];
    batpak_store_t *store = open_store_with(dir, 0, BATPAK_DURABILITY_PROCESS);
    append(store, "a", "x");
    append(store, "a", "x");
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    EXPECT_NEXT(cursor, 1, 0);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    CHECK(marks_of(store).durable >= 1);
    size_t n = read_file(checkpoint_path(dir, "c"), before, sizeof before);
    append(store, "a", "x");
    EXPECT_NEXT(cursor, 9, 1, 2);
    trace_clear(".seg");
    CHECK_STATUS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_IO, error);
    CHECK(strstr(trace.text, "rename") == NULL);
    CHECK(read_file(checkpoint_path(dir, "c"), after, sizeof after) == n && memcmp(before, after, n) == 0);
    batpak_cursor_position_t position = position_of(cursor);
    CHECK(position.position == 2 && position.committed == 0);
    trace_clear(NULL);
    CHECK_STATUS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_POISONED, error);
    batpak_cursor_free(cursor);
    batpak_store_close(store, SOON_MS, NULL);
    batpak_store_free(store);
    store = open_store(dir);
    cursor = open_cursor(store, NULL, "c");
    CHECK_EQUAL(position_of(cursor).position, 0);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

/* At each step of the writing: an error, the former checkpoint, no rubbish; and it works again afterwards. */
static void C2_a_failure_leaves_the_former_checkpoint(void) {
    static const char *const steps[] = {"sync .c.tmp", "rename c.ckpt"};
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    for (int i = 0; i < 9; i++) {
        append(store, "a", "x");
    }
    batpak_cursor_t *cursor = open_cursor(store, NULL, "c");
    for (uint64_t i = 0; i < 4; i++) {
        EXPECT_NEXT(cursor, 1, 2 * i);
        CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
        EXPECT_NEXT(cursor, 1, 2 * i + 1);
        trace_clear(steps[i % 2]);
        CHECK_STATUS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_IO, error);
        trace_clear(NULL);
        CHECK_EQUAL(saved_position(store, "c"), 2 * i);
        CHECK_EQUAL(position_of(cursor).committed, 2 * i);
        CHECK_EQUAL(position_of(cursor).position, 2 * i + 1);
        CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
        CHECK_EQUAL(saved_position(store, "c"), 2 * i + 1);
    }
    trace_clear("sync cursors");
    EXPECT_NEXT(cursor, 1, 8);
    CHECK_STATUS(batpak_cursor_checkpoint(cursor, &error), BATPAK_E_IO, error);
    trace_clear(NULL);
    CHECK_EQUAL(position_of(cursor).committed, 7);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    CHECK_EQUAL(position_of(cursor).committed, 8);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

static void C2_the_directory_is_made_when_it_is_needed(void) {
    char *dir = make_dir(), path[PATH_MAX];
    batpak_checkpoint_list_t *list = NULL;
    batpak_checkpoint_t *checkpoint = NULL;
    batpak_store_t *store = open_store(dir);
    append(store, "a", "x");
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    EXPECT_NEXT(cursor, 9, 0);
    close_cursor(cursor);
    CHECK_OK(batpak_checkpoint_list(store, &list, &error), error);
    CHECK_EQUAL(batpak_checkpoint_list_count(list), 0);
    batpak_checkpoint_list_free(list);
    CHECK_STATUS(batpak_checkpoint_load(store, "c", 1, &checkpoint, &error), BATPAK_E_CHECKPOINT_NOT_FOUND, error);
    CHECK_STATUS(batpak_checkpoint_delete(store, "c", 1, &error), BATPAK_E_CHECKPOINT_NOT_FOUND, error);
    snprintf(path, sizeof path, "%s/cursors", dir);
    CHECK(access(path, F_OK) != 0);
    trace_clear(NULL);
    cursor = open_cursor(store, NULL, "c");
    EXPECT_NEXT(cursor, 9, 0);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    CHECK(access(checkpoint_path(dir, "c"), F_OK) == 0);
    const char *name = strrchr(dir, '/') + 1;
    char parent[PATH_MAX + 8];
    snprintf(parent, sizeof parent, "sync %s\n", name);
    CHECK(strstr(trace.text, parent) != NULL);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

/* ---- C3 ------------------------------------------------------------------------------------------------------------- */

static const char *identity_of(const batpak_region_t *region) {
    static char identity[4096];
    size_t len = 0, asked = 0;
    CHECK_OK(batpak_region_identity(region, NULL, 0, &asked, &error), error);
    CHECK_OK(batpak_region_identity(region, identity, sizeof identity, &len, &error), error);
    CHECK(len == strlen(identity) && len == asked);
    return identity;
}

static void C3_the_identity_is_text_as_documented(void) {
    batpak_region_t region = region_of(BATPAK_ENTITY_ANY, NULL);
    CHECK(strcmp(identity_of(NULL), "entity=*|scope=*|fact=none|clock=*") == 0);
    CHECK(strcmp(identity_of(&region), "entity=*|scope=*|fact=none|clock=*") == 0);
    region.kind_match = BATPAK_KIND_ANY;
    CHECK(strcmp(identity_of(&region), "entity=*|scope=*|fact=any|clock=*") == 0);
    region.kind_match = BATPAK_KIND_CATEGORY;
    region.kind = 0xF;
    CHECK(strcmp(identity_of(&region), "entity=*|scope=*|fact=category:f|clock=*") == 0);
    region.kind = 0;
    CHECK(strcmp(identity_of(&region), "entity=*|scope=*|fact=category:0|clock=*") == 0);
    region.kind_match = BATPAK_KIND_EXACT;
    region.kind = 0xA0BC;
    CHECK(strcmp(identity_of(&region), "entity=*|scope=*|fact=exact:a:bc|clock=*") == 0);
    region.has_clock_range = 1;
    region.clock_end = UINT64_MAX;
    CHECK(strcmp(identity_of(&region), "entity=*|scope=*|fact=exact:a:bc|clock=0-18446744073709551615") == 0);
    region = region_of(BATPAK_ENTITY_PREFIX, "a");
    CHECK(strcmp(identity_of(&region), "entity=a|scope=*|fact=none|clock=*") == 0);
    region.entity_match = BATPAK_ENTITY_EXACT;
    region.scope = "s";
    region.scope_len = 1;
    CHECK(strcmp(identity_of(&region), "entity=a|scope=s|fact=none|clock=*|match=exact") == 0);
}

/* 6,480 regions, no two of one identity. */
static int compare_text(const void *one, const void *other) {
    return strcmp(*(char *const *)one, *(char *const *)other);
}

static void C3_different_regions_have_different_identities(void) {
    static const char *const names[] = {NULL, "a", "a*", "**", "match:exact", "a:scope", "none", "a,scope"};
    static char *identities[20000];
    size_t n = 0;
    for (int entity = 0; entity < 15; entity++) {
        for (int scope = 0; scope < 8; scope++) {
            for (int kind = 0; kind < 9; kind++) {
                for (int clock = 0; clock < 6; clock++) {
                    static const uint32_t kinds[] = {0, 0, 0, 1, 0xf, 0x0001, 0x0010, 0x1000, 0xffff};
                    static const uint32_t matches[] = {BATPAK_KIND_NONE,     BATPAK_KIND_ANY,   BATPAK_KIND_CATEGORY,
                                                       BATPAK_KIND_CATEGORY, BATPAK_KIND_CATEGORY, BATPAK_KIND_EXACT,
                                                       BATPAK_KIND_EXACT,    BATPAK_KIND_EXACT, BATPAK_KIND_EXACT};
                    static const uint64_t ranges[][2] = {{0, 0}, {0, 0}, {0, 1}, {1, 1}, {1, 11}, {11, 11}};
                    uint32_t match = entity == 0 ? BATPAK_ENTITY_ANY : entity % 2 ? BATPAK_ENTITY_PREFIX : BATPAK_ENTITY_EXACT;
                    batpak_region_t region = region_of(match, names[(entity + 1) / 2]);
                    region.scope = names[scope];
                    region.scope_len = names[scope] ? strlen(names[scope]) : 0;
                    region.kind_match = matches[kind];
                    region.kind = kinds[kind];
                    region.has_clock_range = clock > 0;
                    region.clock_start = ranges[clock][0];
                    region.clock_end = ranges[clock][1];
                    identities[n] = strdup(identity_of(&region));
                    CHECK(identities[n++] != NULL);
                }
            }
        }
    }
    qsort(identities, n, sizeof *identities, compare_text);
    for (size_t i = 0; i < n; i++) {
        CHECK(i + 1 == n || strcmp(identities[i], identities[i + 1]) != 0);
        if (i > 0) {
            free(identities[i - 1]);
        }
    }
    free(identities[n - 1]);
}

/* What would break the identity's punctuation, or selects nothing, is refused by cause. */
static void C3_regions_obey_the_rules_of_coordinates(void) {
    batpak_region_t region = region_of(BATPAK_ENTITY_PREFIX, "a|scope=b");
    size_t len = 0;
    CHECK_STATUS(batpak_region_identity(&region, NULL, 0, &len, &error), BATPAK_E_COORDINATE_CHARACTER, error);
    region = region_of(BATPAK_ENTITY_EXACT, "*");
    CHECK_STATUS(batpak_region_identity(&region, NULL, 0, &len, &error), BATPAK_E_COORDINATE_WILDCARD, error);
    region = region_of(BATPAK_ENTITY_EXACT, "");
    CHECK_STATUS(batpak_region_identity(&region, NULL, 0, &len, &error), BATPAK_E_COORDINATE_EMPTY, error);
    region = region_of(BATPAK_ENTITY_ANY, NULL);
    region.scope = "*";
    region.scope_len = 1;
    CHECK_STATUS(batpak_region_identity(&region, NULL, 0, &len, &error), BATPAK_E_COORDINATE_WILDCARD, error);
    region = region_of(BATPAK_ENTITY_ANY, NULL);
    region.kind_match = BATPAK_KIND_CATEGORY;
    region.kind = 16;
    CHECK_STATUS(batpak_region_identity(&region, NULL, 0, &len, &error), BATPAK_E_KIND_OUT_OF_RANGE, error);
    region.kind_match = BATPAK_KIND_EXACT;
    region.kind = 0x10000;
    CHECK_STATUS(batpak_region_identity(&region, NULL, 0, &len, &error), BATPAK_E_KIND_OUT_OF_RANGE, error);
    region = region_of(BATPAK_ENTITY_ANY, NULL);
    region.has_clock_range = 1;
    region.clock_start = 2;
    region.clock_end = 1;
    CHECK_STATUS(batpak_region_identity(&region, NULL, 0, &len, &error), BATPAK_E_CLOCK_RANGE_INVERTED, error);
}

/* ---- C6 ------------------------------------------------------------------------------------------------------------- */

static void C6_load_save_list_and_delete_need_no_cursor(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_region_t region = region_of(BATPAK_ENTITY_PREFIX, "a");
    batpak_checkpoint_t *checkpoint = NULL;
    batpak_checkpoint_list_t *list = NULL;
    uint8_t id[16], store_id[16];
    batpak_receipt_t receipt = {0};
    for (int i = 0; i < 5; i++) {
        batpak_receipt_t now = append(store, "a", "x");
        receipt = i == 2 ? now : receipt;
    }
    CHECK_OK(batpak_store_id(store, store_id, &error), error);
    CHECK_OK(batpak_checkpoint_save(store, "z", 1, &region, 3, &error), error);
    CHECK_OK(batpak_checkpoint_save(store, "a.b:c-d_E", 9, NULL, 0, &error), error);
    CHECK_OK(batpak_checkpoint_load(store, "z", 1, &checkpoint, &error), error);
    CHECK(batpak_checkpoint_started(checkpoint) == 1 && batpak_checkpoint_position(checkpoint) == 2);
    CHECK_EQUAL(batpak_checkpoint_scanned(checkpoint), 3);
    CHECK(batpak_checkpoint_position_id(checkpoint, id) == 1 && memcmp(id, receipt.id, 16) == 0);
    CHECK(batpak_checkpoint_store_id(checkpoint, id) == 1 && memcmp(id, store_id, 16) == 0);
    CHECK(strcmp(batpak_checkpoint_region_identity(checkpoint, NULL), "entity=a|scope=*|fact=none|clock=*") == 0);
    batpak_checkpoint_free(checkpoint);
    CHECK_OK(batpak_checkpoint_load(store, "a.b:c-d_E", 9, &checkpoint, &error), error);
    CHECK(batpak_checkpoint_started(checkpoint) == 0 && batpak_checkpoint_position(checkpoint) == BATPAK_NO_SEQUENCE);
    batpak_checkpoint_free(checkpoint);

    CHECK_OK(batpak_checkpoint_list(store, &list, &error), error);
    CHECK_EQUAL(batpak_checkpoint_list_count(list), 2);
    CHECK(strcmp(batpak_checkpoint_list_id(list, 0, NULL), "a.b:c-d_E") == 0);
    CHECK(strcmp(batpak_checkpoint_list_id(list, 1, NULL), "z") == 0);
    batpak_checkpoint_list_free(list);

    batpak_cursor_t *cursor = open_cursor(store, &region, "z");
    EXPECT_NEXT(cursor, 9, 3, 4);
    close_cursor(cursor);
    CHECK_OK(batpak_checkpoint_delete(store, "z", 1, &error), error);
    CHECK(!is_saved(store, "z"));
    CHECK_STATUS(batpak_checkpoint_delete(store, "z", 1, &error), BATPAK_E_CHECKPOINT_NOT_FOUND, error);
    cursor = open_cursor(store, &region, "z");
    EXPECT_NEXT(cursor, 9, 0, 1, 2, 3, 4);
    close_cursor(cursor);

    CHECK(batpak_checkpoint_save(store, "z", 1, NULL, 6, NULL) == BATPAK_E_INVALID_ARGUMENT);
    CHECK(batpak_checkpoint_save(store, "z", 1, NULL, UINT64_MAX, NULL) == BATPAK_E_INVALID_ARGUMENT);
    CHECK(!is_saved(store, "z"));
    CHECK_OK(batpak_checkpoint_save(store, "z", 1, NULL, 5, &error), error);
    cursor = open_cursor(store, NULL, "z");
    EXPECT_EMPTY(cursor);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

/* ---- C8 ------------------------------------------------------------------------------------------------------------- */

static uint64_t saved_scanned(batpak_store_t *store, const char *id) {
    batpak_checkpoint_t *checkpoint = NULL;
    CHECK_OK(batpak_checkpoint_load(store, id, strlen(id), &checkpoint, &error), error);
    uint64_t scanned = batpak_checkpoint_scanned(checkpoint);
    batpak_checkpoint_free(checkpoint);
    return scanned;
}

/* A rare region: one match, committed, then nothing but others' events, over several segments. */
static void C8_an_idle_cursor_refreshes_its_checkpoint_when_a_segment_seals_and_at_close(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    batpak_region_t rare = region_of(BATPAK_ENTITY_EXACT, "rare");
    batpak_cursor_t *cursor = open_cursor(store, &rare, "c");
    append(store, "rare", "x");
    EXPECT_NEXT(cursor, 9, 0);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    append(store, "other", "x");
    EXPECT_EMPTY(cursor);
    CHECK_EQUAL(saved_scanned(store, "c"), 1); /* no segment was sealed: it is not written for every event */
    for (uint64_t events = 2002; events <= 10002; events += 2000) {
        uint64_t sealed = stats_of(store).segments_sealed;
        append_many(store, "other", 2000, 1000);
        CHECK(stats_of(store).segments_sealed > sealed);
        EXPECT_EMPTY(cursor);
        CHECK(saved_position(store, "c") == 0 && saved_scanned(store, "c") == events);
    }
    append_many(store, "other", 3, 1);
    EXPECT_EMPTY(cursor);
    close_cursor(cursor);
    CHECK(saved_position(store, "c") == 0 && saved_scanned(store, "c") == 10005);

    cursor = open_cursor(store, &rare, "c");
    CHECK_EQUAL(position_of(cursor).scanned, 10005);
    append_many(store, "other", 3, 1);
    EXPECT_EMPTY(cursor);
    close_store(store); /* the store's close does it too */
    batpak_cursor_free(cursor);
    store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    CHECK_EQUAL(saved_scanned(store, "c"), 10008);
    cursor = open_cursor(store, &rare, "c");
    append(store, "rare", "x");
    EXPECT_NEXT(cursor, 9, 10008);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

/* What was delivered and not committed is no idle progress: no refresh may commit it. */
static void C8_a_refresh_commits_no_delivery(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    batpak_region_t rare = region_of(BATPAK_ENTITY_EXACT, "rare");
    append(store, "rare", "x");
    append(store, "rare", "x");
    batpak_cursor_t *cursor = open_cursor(store, &rare, "c");
    EXPECT_NEXT(cursor, 1, 0);
    CHECK_OK(batpak_cursor_checkpoint(cursor, &error), error);
    EXPECT_NEXT(cursor, 1, 1);
    append_many(store, "other", 4000, 1000);
    EXPECT_EMPTY(cursor);
    CHECK(saved_position(store, "c") == 0 && saved_scanned(store, "c") == 1);
    close_cursor(cursor);
    CHECK(saved_position(store, "c") == 0 && saved_scanned(store, "c") == 1);
    cursor = open_cursor(store, &rare, "c");
    EXPECT_NEXT(cursor, 9, 1);
    append_many(store, "other", 3, 1);
    EXPECT_EMPTY(cursor);
    close_store(store);
    batpak_cursor_free(cursor);
    store = open_store(dir);
    CHECK_EQUAL(saved_position(store, "c"), 0);
    close_store(store);
    remove_dir(dir);
}

static int32_t never_called(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)delivery, (void)events, (void)n;
    CHECK(!"an event matches");
    return BATPAK_HANDLER_STOP;
}

static void C8_an_idle_worker_refreshes_its_checkpoint(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store_with(dir, MIB, BATPAK_DURABILITY_PROCESS);
    batpak_region_t rare = region_of(BATPAK_ENTITY_EXACT, "rare");
    batpak_worker_options_t options;
    batpak_worker_t *worker = NULL;
    CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
    options.checkpoint_id = "w";
    options.checkpoint_id_len = 1;
    options.idle_wait_ms = 60000;
    CHECK_OK(batpak_worker_start(store, &rare, &options, never_called, NULL, NULL, &worker, &error), error);
    append_many(store, "other", 5000, 1000);
    for (uint64_t start = now_us(); !is_saved(store, "w") || saved_scanned(store, "w") < 1000; sched_yield()) {
        CHECK(now_us() - start < SOON_MS * 1000);
    }
    append_many(store, "other", 3, 1);
    CHECK_OK(batpak_worker_stop_and_join(worker, SOON_MS, &error), error);
    batpak_worker_free(worker);
    CHECK(saved_scanned(store, "w") >= 1000 && saved_position(store, "w") == BATPAK_NO_SEQUENCE);
    batpak_cursor_t *cursor = open_cursor(store, &rare, "w");
    append(store, "rare", "x");
    EXPECT_NEXT(cursor, 9, 5003);
    close_cursor(cursor);
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(C2_log_temporary_file_rename_directory_in_this_order);
    RUN(C2_a_checkpoint_is_never_ahead_of_the_log);
    RUN(C2_a_failure_leaves_the_former_checkpoint);
    RUN(C2_the_directory_is_made_when_it_is_needed);
    RUN(C3_the_identity_is_text_as_documented);
    RUN(C3_different_regions_have_different_identities);
    RUN(C3_regions_obey_the_rules_of_coordinates);
    RUN(C6_load_save_list_and_delete_need_no_cursor);
    RUN(C8_an_idle_cursor_refreshes_its_checkpoint_when_a_segment_seals_and_at_close);
    RUN(C8_a_refresh_commits_no_delivery);
    RUN(C8_an_idle_worker_refreshes_its_checkpoint);
    return 0;
}
