/* What a poll costs (D3): it starts at the scanned bound, never at the last match; nothing costs the events before the cursor.
 * Costs are bytes read (the kernel's count) and ratios of times, so that the machine does not matter. */
#include "events.h"

enum { EVENTS = 200000, SECOND = 1000, LAST = 40000, ROUNDS = 200 };

static batpak_store_t *store;
static char *dir;

/* Bytes that this process has read by any system call. */
static uint64_t bytes_read(void) {
    char line[128];
    uint64_t bytes = 0;
    FILE *file = fopen("/proc/self/io", "r");
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL);
    CHECK(sscanf(line, "rchar: %" SCNu64, &bytes) == 1);
    fclose(file);
    return bytes;
}

/* 200,000 events of 1,000 entities and common scope and kind, but three, the last of them 160,000 events before the end. */
static void fill(uint64_t segment_bytes) {
    static char names[1000][16], payload[301];
    static batpak_append_t items[1000];
    batpak_append_options_t options = durably(BATPAK_DURABILITY_PROCESS);
    dir = make_dir();
    store = open_store_with(dir, segment_bytes, BATPAK_DURABILITY_PROCESS);
    memset(payload, 'p', 300);
    for (uint64_t at = 0; at < EVENTS; at += 1000) {
        for (uint64_t i = 0; i < 1000; i++) {
            int is_rare = at + i == 0 || at + i == SECOND || at + i == LAST;
            snprintf(names[i], 16, "entity:%03d", (int)i);
            items[i] = item_of(is_rare ? "rare:one" : names[i], payload);
            if (is_rare) {
                items[i].scope = "rare";
                items[i].scope_len = 4;
                items[i].kind = 0x2001;
            }
        }
        CHECK_OK(batpak_store_append(store, items, 1000, &options, NULL, &error), error);
    }
}

static void reopen(uint64_t segment_bytes) {
    close_store(store);
    store = open_store_with(dir, segment_bytes, BATPAK_DURABILITY_PROCESS);
}

static void discard(void) {
    close_store(store);
    remove_dir(dir);
}

/* Five regions with the three rare events only. */
enum { REGIONS = 5 };
static const char *const region_names[REGIONS] = {"scope", "kind", "category", "entity", "prefix"};

static batpak_region_t rare_region(int number) {
    batpak_region_t region = region_of(BATPAK_ENTITY_ANY, NULL);
    switch (number) {
    case 0:
        region.scope = "rare";
        region.scope_len = 4;
        break;
    case 1:
        region.kind_match = BATPAK_KIND_EXACT;
        region.kind = 0x2001;
        break;
    case 2:
        region.kind_match = BATPAK_KIND_CATEGORY;
        region.kind = 2;
        break;
    default:
        region = number == 3 ? region_of(BATPAK_ENTITY_EXACT, "rare:one") : region_of(BATPAK_ENTITY_PREFIX, "rare");
    }
    return region;
}

/* The median time of an empty poll, each after one more event that does not match. */
static uint64_t empty_poll_ns(batpak_cursor_t *cursor) {
    uint64_t times[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        batpak_batch_t *batch = NULL;
        append(store, "entity:001", "x");
        times[i] = now_ns();
        CHECK(batpak_cursor_poll(cursor, 64, 0, 0, &batch, &error) == BATPAK_EMPTY);
        times[i] = now_ns() - times[i];
    }
    return median(times, ROUNDS);
}

/* One cursor has its last match 160,000 events ago, the other was set to the end: their empty polls cost the same. */
static void compare_empty_polls(void) {
    for (int number = 0; number < REGIONS; number++) {
        batpak_region_t region = rare_region(number);
        batpak_cursor_t *far = open_cursor(store, &region, NULL), *near = open_cursor(store, &region, NULL);
        EXPECT_NEXT(far, 1, 0);
        CHECK_OK(batpak_cursor_seek(far, 1, &error), error);
        EXPECT_NEXT(far, 9, SECOND, LAST);
        EXPECT_EMPTY(far);
        CHECK_OK(batpak_cursor_seek_end(near, &error), error);
        EXPECT_EMPTY(near);
        uint64_t far_ns = empty_poll_ns(far), near_ns = empty_poll_ns(near), before = bytes_read();
        for (int i = 0; i < ROUNDS; i++) {
            EXPECT_EMPTY(far);
        }
        uint64_t bytes = bytes_read() - before;
        printf("  %s: an empty poll takes %" PRIu64 " ns far from the last match, %" PRIu64 " ns at the end\n",
               region_names[number], far_ns, near_ns);
        CHECK(far_ns <= 5 * near_ns + 20000);
        CHECK(bytes < 64 * 1024);
        close_cursor(far);
        close_cursor(near);
    }
}

/* Nothing matches at all: then only the scanned bound says how far the cursor is. */
static void compare_empty_polls_without_any_match(void) {
    batpak_region_t region = rare_region(1);
    region.kind = 0x3001;
    batpak_cursor_t *cursor = open_cursor(store, &region, NULL);
    uint64_t first = now_ns();
    EXPECT_EMPTY(cursor);
    first = now_ns() - first;
    CHECK(position_of(cursor).position == BATPAK_NO_SEQUENCE && position_of(cursor).scanned >= EVENTS);
    uint64_t later = empty_poll_ns(cursor);
    printf("  no match: the first poll takes %" PRIu64 " ns, a later one %" PRIu64 " ns\n", first, later);
    CHECK(later <= first / 5);
    close_cursor(cursor);
}

static void D3_a_poll_starts_at_scanned_and_not_at_the_last_match(void) {
    fill(0);
    compare_empty_polls();
    compare_empty_polls_without_any_match();
    reopen(0);
    compare_empty_polls();
    compare_empty_polls_without_any_match();
    discard();
}

/* The bytes that one pass over a region with three matches reads; what was read once may be kept. */
static uint64_t pass_bytes(const batpak_region_t *region) {
    uint64_t before = bytes_read(), sequences[9];
    batpak_cursor_t *cursor = open_cursor(store, region, NULL);
    size_t n = 0;
    for (size_t more; (more = poll_sequences(cursor, 1, sequences + n)) > 0; n += more) {
        CHECK(n < 8);
    }
    CHECK(n == 3 && sequences[0] == 0 && sequences[1] == SECOND && sequences[2] == LAST);
    close_cursor(cursor);
    return bytes_read() - before;
}

static void D3_entity_regions_read_their_matches_and_a_probe_per_segment(void) {
    fill(MIB);
    for (int number = 3; number < REGIONS; number++) {
        reopen(MIB);
        batpak_region_t region = rare_region(number);
        uint64_t bytes = pass_bytes(&region), log = stats_of(store).bytes_on_disk, segments = stats_of(store).segments;
        printf("  %s: %" PRIu64 " bytes read of %" PRIu64 " in %" PRIu64 " segments\n", region_names[number], bytes, log, segments);
        CHECK(segments > 50);
        CHECK(bytes < log / 20);
    }
    discard();
}

static void D3_scope_and_kind_filters_read_columns_and_no_payloads(void) {
    fill(MIB);
    for (int number = 0; number < 3; number++) {
        reopen(MIB);
        batpak_region_t region = rare_region(number);
        uint64_t bytes = pass_bytes(&region), log = stats_of(store).bytes_on_disk;
        printf("  %s: %" PRIu64 " bytes read of %" PRIu64 "\n", region_names[number], bytes, log);
        CHECK(bytes < log / 20);
    }
    discard();
}

/* Batches cost the same at the end of the log as at its beginning: draining it is no quadratic work. */
static void D3_the_thousandth_batch_costs_what_the_first_does(void) {
    enum { BATCHES = EVENTS / 100 };
    static uint64_t times[BATCHES];
    fill(MIB);
    for (int number = 0; number < 3; number++) {
        static const char *const names[] = {"everything", "kind", "prefix"};
        batpak_region_t region = region_of(number == 2 ? BATPAK_ENTITY_PREFIX : BATPAK_ENTITY_ANY, number == 2 ? "entity" : NULL);
        if (number == 1) {
            region.kind_match = BATPAK_KIND_EXACT;
            region.kind = 0x1001;
        }
        batpak_cursor_t *cursor = open_cursor(store, &region, NULL);
        for (int i = 0; i < BATCHES - 1; i++) {
            uint64_t sequences[100];
            times[i] = now_ns();
            CHECK_EQUAL(poll_sequences(cursor, 100, sequences), 100);
            times[i] = now_ns() - times[i];
        }
        close_cursor(cursor);
        uint64_t early = median(times, 200), late = median(times + BATCHES - 201, 200);
        printf("  %s: a batch of 100 takes %" PRIu64 " ns at first, %" PRIu64 " ns at last\n", names[number], early, late);
        CHECK(late <= 5 * early + 20000);
    }
    discard();
}

int main(void) {
    RUN(D3_a_poll_starts_at_scanned_and_not_at_the_last_match);
    RUN(D3_entity_regions_read_their_matches_and_a_probe_per_segment);
    RUN(D3_scope_and_kind_filters_read_columns_and_no_payloads);
    RUN(D3_the_thousandth_batch_costs_what_the_first_does);
    return 0;
}
