/* What an append refuses: one code for each cause, alone and in a batch, and nothing of it is in the log. */
#include "events.h"

static batpak_store_t *store;

/* No two appends at one time. */
static int64_t tick(void *user_data) {
    return *(int64_t *)user_data += 1;
}

static void refuse(batpak_append_t item, batpak_status_t expected) {
    batpak_append_t items[2] = {item_of("fine", "x"), item};
    uint64_t before = marks_of(store).appended;
    CHECK_STATUS(batpak_store_append(store, &item, 1, NULL, NULL, &error), expected, error);
    CHECK_STATUS(batpak_store_append(store, items, 2, NULL, NULL, &error), expected, error);
    CHECK_EQUAL(marks_of(store).appended, before);
}

static void accept(batpak_append_t item) {
    uint64_t before = marks_of(store).appended;
    CHECK_EQUAL(append_item(store, item).sequence, before);
}

/* The item with another entity, or with another scope. */
static batpak_append_t with_part(int is_scope, const char *text, size_t len) {
    batpak_append_t item = item_of("a", "x");
    if (is_scope) {
        item.scope = text;
        item.scope_len = len;
    } else {
        item.entity = text;
        item.entity_len = len;
    }
    return item;
}

static void coordinates_have_one_code_per_cause(void) {
    static const struct {
        const char *text;
        batpak_status_t status;
    } bad[] = {
        {"", BATPAK_E_COORDINATE_EMPTY},
        {"*", BATPAK_E_COORDINATE_WILDCARD},
        {"\xff", BATPAK_E_COORDINATE_NOT_UTF8},
        {"abcdefgh\xc3", BATPAK_E_COORDINATE_NOT_UTF8},
        {"\xed\xa0\x80", BATPAK_E_COORDINATE_NOT_UTF8},
        {"\xc0\xaf", BATPAK_E_COORDINATE_NOT_UTF8},
        {"a/b", BATPAK_E_COORDINATE_CHARACTER},
        {"a|b", BATPAK_E_COORDINATE_CHARACTER},
        {"a=b", BATPAK_E_COORDINATE_CHARACTER},
        {"..", BATPAK_E_COORDINATE_CHARACTER},
        {"abcdefg..hij", BATPAK_E_COORDINATE_CHARACTER},
        {"a\nb", BATPAK_E_COORDINATE_CHARACTER},
        {"a\x7f", BATPAK_E_COORDINATE_CHARACTER},
    };
    static const char *const good[] = {"a", "*a", "**", "a.b.c", ".", "a b", "a:b:c", ":", "\xc5\xbc\xc3\xb3\xc5\x82w", "~{}"};
    char text[1025];
    memset(text, 'e', sizeof text);
    for (int is_scope = 0; is_scope < 2; is_scope++) {
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            refuse(with_part(is_scope, bad[i].text, strlen(bad[i].text)), bad[i].status);
        }
        for (int byte = 0; byte < 0x20; byte++) {
            char control[3] = {'a', (char)byte, 'b'};
            refuse(with_part(is_scope, control, 3), BATPAK_E_COORDINATE_CHARACTER);
        }
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
            accept(with_part(is_scope, good[i], strlen(good[i])));
        }
        refuse(with_part(is_scope, text, 1025), BATPAK_E_COORDINATE_TOO_LONG);
        accept(with_part(is_scope, text, 1024));
        accept(with_part(is_scope, text, 1));
        refuse(with_part(is_scope, NULL, 3), BATPAK_E_INVALID_ARGUMENT);
        refuse(with_part(is_scope, NULL, 0), BATPAK_E_COORDINATE_EMPTY);
    }
    batpak_append_t item = with_part(1, "a/b", 3);
    CHECK(batpak_store_append(store, &item, 1, NULL, NULL, &error) == BATPAK_E_COORDINATE_CHARACTER);
    CHECK(strcmp(batpak_error_detail(error, "part", 4, NULL), "scope") == 0);
    CHECK(strcmp(batpak_error_detail(error, "value", 5, NULL), "a/b") == 0);
    batpak_error_free(error);
    error = NULL;
}

static void entities_of_the_library_are_refused(void) {
    refuse(with_part(0, "batpak", 6), BATPAK_E_ENTITY_RESERVED);
    refuse(with_part(0, "batpak:", 7), BATPAK_E_ENTITY_RESERVED);
    refuse(with_part(0, "batpak:audit", 12), BATPAK_E_ENTITY_RESERVED);
    accept(with_part(0, "batpak2", 7));
    accept(with_part(0, "batpa", 5));
    accept(with_part(0, "x:batpak:x", 10));
    accept(with_part(1, "batpak", 6));
    accept(with_part(1, "batpak:audit", 12));
    CHECK(batpak_store_append_one(store, "batpak:x", 8, "s", 1, 0x1001, "", 0, NULL, NULL) == BATPAK_E_ENTITY_RESERVED);
}

static void kinds_of_the_library_are_refused(void) {
    batpak_append_t item = item_of("a", "x");
    for (uint32_t category = 0; category < 16; category++) {
        for (uint32_t type = 0; type < 0x1000; type += 0xfff) {
            item.kind = category << 12 | type;
            if (category == 0x0 || category == 0xD) {
                refuse(item, BATPAK_E_KIND_RESERVED);
            } else {
                accept(item);
            }
        }
    }
    item.kind = 0x10000;
    refuse(item, BATPAK_E_KIND_OUT_OF_RANGE);
    item.kind = UINT32_MAX;
    refuse(item, BATPAK_E_KIND_OUT_OF_RANGE);
    item.kind = 0x11001;
    refuse(item, BATPAK_E_KIND_OUT_OF_RANGE);
}

static void a_schema_is_a_u16(void) {
    batpak_append_t item = item_of("a", "x");
    item.schema = 65536;
    refuse(item, BATPAK_E_INVALID_ARGUMENT);
    item.schema = 65535;
    accept(item);
}

static void a_payload_has_0_bytes_up_to_the_limit(void) {
    batpak_append_t item = item_of("a", "");
    char *payload = calloc(1, 16 * MIB + 1);
    CHECK(payload != NULL);
    accept(item);
    item.payload = NULL;
    accept(item);
    item.payload_len = 1;
    refuse(item, BATPAK_E_INVALID_ARGUMENT);
    item.payload = payload;
    item.payload_len = 16 * MIB;
    accept(item);
    item.payload_len++;
    refuse(item, BATPAK_E_PAYLOAD_TOO_LARGE);
    CHECK(batpak_store_append(store, &item, 1, NULL, NULL, &error) == BATPAK_E_PAYLOAD_TOO_LARGE);
    CHECK(strcmp(batpak_error_detail(error, "limit", 5, NULL), "16777216") == 0);
    CHECK(strcmp(batpak_error_detail(error, "length", 6, NULL), "16777217") == 0);
    batpak_error_free(error);
    error = NULL;
    free(payload);
}

static void an_event_has_up_to_64_causes(void) {
    batpak_receipt_t cause = append(store, "a", "cause");
    uint8_t ids[65][16];
    uint32_t indexes[65] = {0};
    batpak_append_t items[2] = {item_of("a", "x"), item_of("a", "x")};
    for (int i = 0; i < 65; i++) {
        memcpy(ids[i], cause.id, 16);
    }
    for (size_t of_batch = 0; of_batch <= 65; of_batch += 13) {
        for (size_t excess = 0; excess < 2; excess++) {
            items[1].causes = ids[0];
            items[1].cause_count = of_batch <= 64 + excess ? 64 + excess - of_batch : 0;
            items[1].batch_causes = indexes;
            items[1].batch_cause_count = of_batch;
            size_t count = items[1].cause_count + of_batch;
            batpak_status_t expected = count > 64 ? BATPAK_E_TOO_MANY_CAUSES : BATPAK_OK;
            CHECK_STATUS(batpak_store_append(store, items, 2, NULL, NULL, &error), expected, error);
        }
    }
}

/* An id with this store's tag must be one of its events, time included. */
static void a_local_cause_that_is_no_event_is_unknown(void) {
    batpak_append_t item = item_of("a", "x");
    uint8_t id[16];
    item.causes = id;
    item.cause_count = 1;
    batpak_receipt_t receipt = append(store, "a", "cause");
    memcpy(id, receipt.id, 16);
    accept(item);
    id[5] ^= 1; /* another millisecond */
    refuse(item, BATPAK_E_CAUSE_UNKNOWN);
    memcpy(id, receipt.id, 16);
    id[13] ^= 1; /* another sequence */
    refuse(item, BATPAK_E_CAUSE_UNKNOWN);
    memcpy(id, receipt.id, 16);
    id[8] |= 0x3f; /* a sequence far beyond the end */
    refuse(item, BATPAK_E_CAUSE_UNKNOWN);
    memcpy(id, receipt.id, 16);
    id[15] ^= 1; /* another store's tag: foreign, and taken as it is */
    accept(item);
}

static void a_batch_cause_is_an_earlier_item(void) {
    batpak_append_t items[3] = {item_of("a", "x"), item_of("a", "x"), item_of("a", "x")};
    for (uint32_t cause = 0; cause < 5; cause++) {
        items[1].batch_causes = &cause;
        items[1].batch_cause_count = 1;
        batpak_status_t expected = cause == 0 ? BATPAK_OK : BATPAK_E_CAUSE_NOT_EARLIER;
        CHECK_STATUS(batpak_store_append(store, items, 3, NULL, NULL, &error), expected, error);
    }
    uint32_t itself = 0;
    items[0].batch_causes = &itself;
    items[0].batch_cause_count = 1;
    CHECK_STATUS(batpak_store_append(store, items, 1, NULL, NULL, &error), BATPAK_E_CAUSE_NOT_EARLIER, error);
}

static void a_store_opened_for_reading_refuses_appends(void) {
    char *dir = make_dir();
    batpak_store_options_t options;
    batpak_store_t *reading = NULL;
    batpak_append_t item = item_of("a", "x");
    close_store(open_store(dir));
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.flags = BATPAK_STORE_READ_ONLY;
    CHECK_OK(batpak_store_open_z(dir, &options, &reading, &error), error);
    CHECK_STATUS(batpak_store_append(reading, &item, 1, NULL, NULL, &error), BATPAK_E_READ_ONLY, error);
    CHECK_STATUS(batpak_store_sync(reading, &error), BATPAK_E_READ_ONLY, error);
    close_store(reading);
    remove_dir(dir);
}

static void a_closed_store_refuses_appends(void) {
    char *dir = make_dir();
    batpak_store_t *closed = open_store(dir);
    batpak_append_t item = item_of("a", "x");
    CHECK_OK(batpak_store_close(closed, 0, &error), error);
    CHECK_STATUS(batpak_store_append(closed, &item, 1, NULL, NULL, &error), BATPAK_E_CLOSED, error);
    batpak_store_free(closed);
    remove_dir(dir);
}

int main(void) {
    char *dir = make_dir();
    int64_t now = 1700000000000000;
    batpak_store_options_t options;
    CHECK_OK(batpak_store_options_init(&options, sizeof options, &error), error);
    options.durability = BATPAK_DURABILITY_PROCESS;
    options.clock = tick;
    options.clock_user_data = &now;
    CHECK_OK(batpak_store_open_z(dir, &options, &store, &error), error);
    RUN(coordinates_have_one_code_per_cause);
    RUN(entities_of_the_library_are_refused);
    RUN(kinds_of_the_library_are_refused);
    RUN(a_schema_is_a_u16);
    RUN(a_payload_has_0_bytes_up_to_the_limit);
    RUN(an_event_has_up_to_64_causes);
    RUN(a_local_cause_that_is_no_event_is_unknown);
    RUN(a_batch_cause_is_an_earlier_item);
    RUN(a_store_opened_for_reading_refuses_appends);
    RUN(a_closed_store_refuses_appends);
    /* Nothing that was refused is in the log. */
    uint64_t events = marks_of(store).appended;
    close_store(store);
    store = open_store(dir);
    CHECK_EQUAL(marks_of(store).appended, events);
    batpak_cursor_t *cursor = open_cursor(store, NULL, NULL);
    expect_run(cursor, 0, events - 1);
    batpak_cursor_free(cursor);
    close_store(store);
    remove_dir(dir);
    return 0;
}
