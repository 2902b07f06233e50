/* Which entities there are: every one once, sorted, in pages of any size, with its last event; and what a page costs. */
#include "events.h"

static batpak_entity_list_t *entities(batpak_store_t *store, const char *prefix, const char *after, size_t max) {
    batpak_entity_list_t *list = NULL;
    CHECK_OK(batpak_store_entities(store, prefix, prefix ? strlen(prefix) : 0, after, after ? strlen(after) : 0, max, &list,
                                   &error),
             error);
    return list;
}

/* The names of one page, each followed by a blank. */
static const char *names(batpak_store_t *store, const char *prefix, const char *after, size_t max) {
    static char text[1000];
    size_t n = 7;
    batpak_entity_list_t *list = entities(store, prefix, after, max);
    const batpak_entity_t *entity = batpak_entity_list_entities(list, &n);
    text[0] = 0;
    for (size_t i = 0; i < n; i++) {
        CHECK(strlen(entity[i].entity) == entity[i].entity_len);
        strcat(strcat(text, entity[i].entity), " ");
    }
    batpak_entity_list_free(list);
    return text;
}

static void names_are_sorted_by_their_bytes(void) {
    static const char *const appended[] = {"b", "a:2", "a", "a:1", "a!", "a;", "B", "\xC3\xA9", "a:1:x", "ab", "a"};
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    CHECK(strcmp(names(store, NULL, NULL, 9), "") == 0);
    for (size_t i = 0; i < sizeof appended / sizeof *appended; i++) {
        append(store, appended[i], "x");
    }
    for (int round = 0; round < 2; round++) {
        CHECK(strcmp(names(store, NULL, NULL, 99), "B a a! a:1 a:1:x a:2 a; ab b \xC3\xA9 ") == 0);
        CHECK(strcmp(names(store, NULL, NULL, 3), "B a a! ") == 0);
        CHECK(strcmp(names(store, NULL, "a!", 3), "a:1 a:1:x a:2 ") == 0);
        CHECK(strcmp(names(store, NULL, "a:0", 1), "a:1 ") == 0);
        CHECK(strcmp(names(store, NULL, "\xFF", 9), "") == 0);
        CHECK(strcmp(names(store, "a", NULL, 99), "a a:1 a:1:x a:2 ") == 0);
        CHECK(strcmp(names(store, "a", "a", 2), "a:1 a:1:x ") == 0);
        CHECK(strcmp(names(store, "a:1", NULL, 99), "a:1 a:1:x ") == 0);
        CHECK(strcmp(names(store, "a:", NULL, 99), "") == 0);
        CHECK(strcmp(names(store, "batpak", NULL, 99), "") == 0);
        close_store(store);
        store = open_store(dir);
    }
    batpak_entity_list_t *list = entities(store, "a", NULL, 1);
    size_t n = 0;
    close_store(store);
    /* A list outlives its store. */
    const batpak_entity_t *entity = batpak_entity_list_entities(list, &n);
    CHECK(n == 1 && strcmp(entity->entity, "a") == 0 && entity->clock == 1 && entity->last_sequence == 10);
    CHECK(entity->reserved[0] == 0 && entity->reserved[3] == 0);
    batpak_entity_list_free(list);
    remove_dir(dir);
}

static void bad_prefixes_are_refused(void) {
    char *dir = make_dir();
    batpak_store_t *store = open_store(dir);
    batpak_entity_list_t *list = (batpak_entity_list_t *)&dir;
    CHECK_STATUS(batpak_store_entities(store, "a/b", 3, NULL, 0, 1, &list, &error), BATPAK_E_COORDINATE_CHARACTER, error);
    CHECK(list == NULL);
    CHECK_STATUS(batpak_store_entities(store, "\xFF", 1, NULL, 0, 1, &list, &error), BATPAK_E_COORDINATE_NOT_UTF8, error);
    CHECK_STATUS(batpak_store_entities(store, NULL, 0, NULL, 0, 0, &list, &error), BATPAK_E_INVALID_ARGUMENT, error);
    close_store(store);
    remove_dir(dir);
}

static uint64_t bytes_read(void) {
    char line[128];
    uint64_t bytes = 0;
    FILE *file = fopen("/proc/self/io", "r");
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL);
    CHECK(sscanf(line, "rchar: %" SCNu64, &bytes) == 1);
    fclose(file);
    return bytes;
}

static uint64_t resident_kib(void) {
    uint64_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%*s %" SCNu64, &pages) == 1);
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

/* BATPAK_TEST_ENTITIES makes more of them. */
static void every_page_costs_what_is_on_it(void) {
    static char entity[1000][32];
    static batpak_append_t items[1000];
    const char *asked = getenv("BATPAK_TEST_ENTITIES");
    uint64_t count = asked ? strtoull(asked, NULL, 10) / 1000 * 1000 : 300000;
    char *dir = make_dir();
    batpak_append_options_t options = durably(BATPAK_DURABILITY_PROCESS);
    uint64_t segment_bytes = asked ? 0 : 4 * MIB;
    batpak_store_t *store = open_store_with(dir, segment_bytes, BATPAK_DURABILITY_PROCESS);
    /* In an order that has nothing to do with the names'. */
    for (uint64_t at = 0; at < count; at += 1000) {
        for (uint64_t i = 0; i < 1000; i++) {
            snprintf(entity[i], sizeof entity[i], "user:%010" PRIu64, (at + i) * 7919 % count);
            items[i] = item_of(entity[i], "payload");
        }
        CHECK_OK(batpak_store_append(store, items, 1000, &options, NULL, &error), error);
    }
    CHECK(stats_of(store).segments >= 4);
    for (int round = 0; round < 2; round++) {
        char after[32] = "";
        uint64_t resident_before = resident_kib();
        uint64_t found = 0, slowest_ns = 0, start_ns = now_ns(), first = bytes_read(), last_bytes = 0;
        for (size_t n = 1000; n == 1000;) {
            uint64_t page_ns = now_ns(), before = bytes_read();
            batpak_entity_list_t *list = entities(store, round ? "user" : NULL, after, 1000);
            const batpak_entity_t *row = batpak_entity_list_entities(list, &n);
            for (size_t i = 0; i < n; i++, found++) {
                CHECK_EQUAL(strtoull(row[i].entity + 5, NULL, 10), found);
                CHECK_EQUAL(row[i].last_sequence * 7919 % count, found);
                CHECK_EQUAL(row[i].clock, 0);
            }
            if (n > 0) {
                memcpy(after, row[n - 1].entity, row[n - 1].entity_len + 1);
            }
            batpak_entity_list_free(list);
            page_ns = now_ns() - page_ns;
            slowest_ns = found > 1000 && page_ns > slowest_ns ? page_ns : slowest_ns;
            last_bytes = bytes_read() - before;
        }
        CHECK_EQUAL(found, count);
        printf("  %" PRIu64 " entities in %" PRIu64 " segments, pages of 1000: %" PRIu64 " ns an entity, the slowest page %" PRIu64
               " us, %" PRIu64 " bytes read an entity; resident before and after %" PRIu64 " and %" PRIu64 " KiB\n",
               count, stats_of(store).segments, (now_ns() - start_ns) / count, slowest_ns / 1000,
               (bytes_read() - first) / count, resident_before, resident_kib());
        CHECK(last_bytes < 2 * MIB);
        close_store(store);
        store = open_store_with(dir, segment_bytes, BATPAK_DURABILITY_PROCESS);
    }
    close_store(store);
    remove_dir(dir);
}

int main(void) {
    RUN(names_are_sorted_by_their_bytes);
    RUN(bad_prefixes_are_refused);
    RUN(every_page_costs_what_is_on_it);
    return 0;
}
