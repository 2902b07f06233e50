/* Imports: what one store holds is appended to another once, and says the same there. */
#include "events.h"
#include "writers.h"

#include <sys/time.h>

static batpak_import_result_t import_from(batpak_store_t *store, batpak_store_t *source, uint64_t from_sequence) {
    batpak_import_options_t options;
    batpak_import_result_t result;
    CHECK_OK(batpak_import_options_init(&options, sizeof options, &error), error);
    options.from_sequence = from_sequence;
    CHECK_OK(batpak_store_import(store, source, &options, &result, &error), error);
    return result;
}

static void check_result(batpak_import_result_t result, uint64_t next_sequence, uint64_t appended, uint64_t duplicates) {
    CHECK(result.next_sequence == next_sequence);
    CHECK(result.appended == appended);
    CHECK(result.duplicates == duplicates);
}

static batpak_batch_t *get(batpak_store_t *store, uint64_t sequence) {
    batpak_batch_t *batch = NULL;
    CHECK_OK(batpak_store_get(store, sequence, &batch, &error), error);
    CHECK(batch != NULL);
    return batch;
}

static const batpak_event_t *event_of(const batpak_batch_t *batch) {
    size_t n = 0;
    const batpak_event_t *events = batpak_batch_events(batch, &n);
    CHECK(n == 1);
    return events;
}

/* Event `sequence` of the source is event `sequence + shift` of the store: content, causes and correlation. */
static void check_same(batpak_store_t *source, batpak_store_t *store, uint64_t sequence, uint64_t shift) {
    batpak_batch_t *old = get(source, sequence), *new = get(store, sequence + shift);
    const batpak_event_t *was = event_of(old), *is = event_of(new);
    CHECK(was->entity_len == is->entity_len && memcmp(was->entity, is->entity, is->entity_len) == 0);
    CHECK(was->scope_len == is->scope_len && memcmp(was->scope, is->scope, is->scope_len) == 0);
    CHECK(was->payload_len == is->payload_len && memcmp(was->payload, is->payload, is->payload_len) == 0);
    CHECK(was->kind == is->kind && was->schema == is->schema && was->clock == is->clock);
    CHECK(memcmp(was->id, is->id, 16) != 0);
    CHECK(was->cause_count == is->cause_count);
    for (uint32_t i = 0; i < was->cause_count; i++) {
        const uint8_t *cause = was->causes[i], *found = is->causes[i];
        batpak_batch_t *local = NULL;
        if (batpak_store_get_by_id(source, cause, &local, &error) == BATPAK_EMPTY) {
            CHECK(memcmp(cause, found, 16) == 0);
            continue;
        }
        batpak_batch_t *there = get(store, event_of(local)->sequence + shift);
        CHECK(memcmp(event_of(there)->id, found, 16) == 0);
        batpak_batch_free(local);
        batpak_batch_free(there);
    }
    batpak_batch_t *root = NULL;
    CHECK_OK(batpak_store_get_by_id(source, was->correlation_id, &root, &error), error);
    batpak_batch_t *new_root = get(store, event_of(root)->sequence + shift);
    CHECK(memcmp(event_of(new_root)->id, is->correlation_id, 16) == 0);
    batpak_batch_free(root);
    batpak_batch_free(new_root);
    batpak_batch_free(old);
    batpak_batch_free(new);
}

/* Events that each name the one before, a far one, and one of another store. */
static void grow(batpak_store_t *store, uint64_t n, uint8_t last[16]) {
    static const uint8_t foreign[16] = "another's event";
    static uint8_t far[16];
    for (uint64_t i = 0; i < n; i++) {
        char entity[16], payload[16];
        uint8_t causes[48];
        snprintf(entity, sizeof entity, "e:%d", (int)(i % 7));
        snprintf(payload, sizeof payload, "%d", (int)i);
        memcpy(causes, last, 16);
        memcpy(causes + 16, far, 16);
        memcpy(causes + 32, foreign, 16);
        batpak_append_t item = item_of(entity, payload);
        item.schema = (uint32_t)(i % 3);
        item.causes = causes;
        item.cause_count = i == 0 && memcmp(last, (uint8_t[16]){0}, 16) == 0 ? 0 : i % 10 == 0 ? 3 : 1;
        batpak_receipt_t receipt = append_as(store, item, BATPAK_DURABILITY_PROCESS);
        memcpy(last, receipt.id, 16);
        if (i == 0) {
            memcpy(far, receipt.id, 16);
        }
    }
}

static void what_is_imported_says_the_same_and_comes_once(void) {
    char *from = make_dir(), *dir = make_dir();
    uint8_t last[16] = {0};
    batpak_store_t *source = open_store(from), *store = open_store(dir);
    append(store, "own", "first");
    grow(source, 3000, last);
    check_result(import_from(store, source, 0), 3000, 3000, 0);
    CHECK(marks_of(store).durable == 3001);
    check_result(import_from(store, source, 0), 3000, 0, 3000);
    grow(source, 10, last);
    check_result(import_from(store, source, 3000), 3010, 10, 0);
    close_store(store);
    close_store(source);
    /* From a store that is only read, into one that was reopened. */
    source = open_set(from, (struct setting){.flags = BATPAK_STORE_READ_ONLY});
    store = open_store(dir);
    check_result(import_from(store, source, 0), 3010, 0, 3010);
    CHECK(marks_of(store).visible == 3011);
    for (uint64_t sequence = 0; sequence < 3010; sequence += sequence < 60 ? 1 : 37) {
        check_same(source, store, sequence, 1);
    }
    close_store(store);
    close_store(source);
    remove_dir(from);
    remove_dir(dir);
}

struct places {
    const char *from, *to;
    /* When the process is to die. */
    int after_us;
};

static void import_and_die(void *argument) {
    const struct places *places = argument;
    const struct itimerval timer = {.it_value = {.tv_usec = places->after_us}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    batpak_store_t *source = open_set(places->from, (struct setting){.flags = BATPAK_STORE_READ_ONLY});
    batpak_store_t *store = open_store(places->to);
    import_from(store, source, 0);
    for (;;) {
        pause();
    }
}

static void an_import_that_was_killed_is_finished_by_another(void) {
    char *from = make_dir(), *dir = make_dir();
    uint8_t last[16] = {0};
    struct places places = {from, dir, 0};
    batpak_store_t *source = open_store(from);
    grow(source, 4000, last);
    close_store(source);
    for (places.after_us = 1000; places.after_us < 40000; places.after_us *= 2) {
        int status = run_process(import_and_die, &places);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
    }
    source = open_set(from, (struct setting){.flags = BATPAK_STORE_READ_ONLY});
    batpak_store_t *store = open_store(dir);
    batpak_import_result_t result = import_from(store, source, 0);
    CHECK(result.appended + result.duplicates == 4000);
    CHECK(marks_of(store).visible == 4000);
    check_same(source, store, 3999, 0);
    close_store(store);
    close_store(source);
    remove_dir(from);
    remove_dir(dir);
}

static void what_cannot_be_imported_is_refused(void) {
    char *from = make_dir(), *dir = make_dir();
    batpak_store_t *source = open_store(from), *store = open_store(dir);
    batpak_import_options_t options;
    batpak_import_result_t result;
    append(source, "e", "1");
    CHECK_STATUS(batpak_store_import(store, store, NULL, &result, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_STATUS(batpak_store_import(NULL, source, NULL, &result, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_STATUS(batpak_store_import(store, NULL, NULL, &result, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_STATUS(batpak_store_import(store, source, NULL, NULL, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_STATUS(batpak_import_options_init(NULL, sizeof options, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK_OK(batpak_import_options_init(&options, sizeof options, &error), error);
    options.durability = 9;
    CHECK_STATUS(batpak_store_import(store, source, &options, &result, &error), BATPAK_E_INVALID_ARGUMENT, error);
    CHECK(marks_of(store).appended == 0);
    CHECK_OK(batpak_store_import(store, source, NULL, &result, &error), error);
    check_result(result, 1, 1, 0);
    CHECK_OK(batpak_store_close(source, SOON_MS, &error), error);
    CHECK_STATUS(batpak_store_import(store, source, NULL, &result, &error), BATPAK_E_CLOSED, error);
    batpak_store_free(source);
    close_store(store);
    remove_dir(from);
    remove_dir(dir);
}

/* Guards: a file in the place of the directory was "listing failed: Not a directory". */
static void a_file_is_not_a_store(void) {
    char *dir = make_dir(), path[4200];
    batpak_store_t *store = NULL;
    snprintf(path, sizeof path, "%s/file", dir);
    write_file(path, "x", 1);
    CHECK_STATUS(batpak_store_open_z(path, NULL, &store, &error), BATPAK_E_NOT_A_STORE, error);
    remove_dir(dir);
}

int main(void) {
    RUN(what_is_imported_says_the_same_and_comes_once);
    RUN(an_import_that_was_killed_is_finished_by_another);
    RUN(what_cannot_be_imported_is_refused);
    RUN(a_file_is_not_a_store);
    return 0;
}
