/* What the parameters of the misuse program's calls are given: numbers, texts, structs, functions. In each the first variant is right. */
#ifndef SLOTS_H
#define SLOTS_H

#include "handles.h"

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

struct number {
    uint64_t value;
    enum verdict verdict;
    batpak_status_t code;
};

#define NUMBERS(...) (const struct number[]){__VA_ARGS__}, sizeof((const struct number[]){__VA_ARGS__}) / sizeof(struct number)

static uint64_t number_slot(struct call *call, int slot, const char *name, const struct number *numbers, size_t n) {
    size_t variant = (size_t)call->variant[slot];
    char text[32];
    if (variant >= n) {
        over(call);
        return 0;
    }
    if (variant > 0) {
        snprintf(text, sizeof text, "%" PRId64, (int64_t)numbers[variant].value);
        deviate(call, name, text, numbers[variant].verdict, numbers[variant].code);
    }
    return numbers[variant].value;
}

/* Any number will do; what it selects may not be there. */
static uint64_t any_number_slot(struct call *call, int slot, const char *name) {
    return number_slot(call, slot, name,
                       NUMBERS({0, FINE, 0}, {1, MAYBE, 0}, {255, MAYBE, 0}, {INT32_MAX, MAYBE, 0}, {UINT32_MAX, MAYBE, 0},
                               {INT64_MAX, MAYBE, 0}, {UINT64_MAX - 1, MAYBE, 0}, {UINT64_MAX, MAYBE, 0}));
}

/* How many at most: nothing is not enough, and all is fine. */
static size_t limit_slot(struct call *call, int slot, const char *name) {
    return number_slot(call, slot, name,
                       NUMBERS({1, FINE, 0}, {0, REFUSED, BATPAK_E_INVALID_ARGUMENT}, {2, FINE, 0}, {UINT32_MAX, FINE, 0},
                               {SIZE_MAX / 2, FINE, 0}, {SIZE_MAX, FINE, 0}));
}

/* An index or count where only the first is sure to be. */
static size_t index_slot(struct call *call, int slot, const char *name) {
    return number_slot(call, slot, name,
                       NUMBERS({0, FINE, 0}, {1, MAYBE, 0}, {UINT32_MAX, REFUSED, BATPAK_E_INVALID_ARGUMENT},
                               {SIZE_MAX / 2, REFUSED, BATPAK_E_INVALID_ARGUMENT}, {SIZE_MAX, REFUSED, BATPAK_E_INVALID_ARGUMENT}));
}

static uint32_t kind_slot(struct call *call, int slot, const char *name) {
    return (uint32_t)number_slot(
        call, slot, name,
        NUMBERS({0x1001, FINE, 0}, {0, REFUSED, BATPAK_E_KIND_RESERVED}, {0xD001, REFUSED, BATPAK_E_KIND_RESERVED},
                {0x10000, REFUSED, BATPAK_E_KIND_OUT_OF_RANGE}, {INT32_MAX, REFUSED, BATPAK_E_KIND_OUT_OF_RANGE},
                {0x80000000, REFUSED, BATPAK_E_KIND_OUT_OF_RANGE}, {UINT32_MAX, REFUSED, BATPAK_E_KIND_OUT_OF_RANGE}));
}

static uint32_t durability_slot(struct call *call, int slot, const char *name) {
    return (uint32_t)number_slot(call, slot, name,
                                 NUMBERS({0, FINE, 0}, {1, FINE, 0}, {2, FINE, 0}, {3, REFUSED, BATPAK_E_INVALID_ARGUMENT},
                                         {255, REFUSED, BATPAK_E_INVALID_ARGUMENT}, {INT32_MAX, REFUSED, BATPAK_E_INVALID_ARGUMENT},
                                         {0x80000000, REFUSED, BATPAK_E_INVALID_ARGUMENT},
                                         {UINT32_MAX, REFUSED, BATPAK_E_INVALID_ARGUMENT}));
}

static uint32_t watermark_slot(struct call *call, int slot, const char *name) {
    return (uint32_t)number_slot(call, slot, name,
                                 NUMBERS({1, FINE, 0}, {2, FINE, 0}, {0, REFUSED, BATPAK_E_INVALID_ARGUMENT},
                                         {3, REFUSED, BATPAK_E_INVALID_ARGUMENT}, {255, REFUSED, BATPAK_E_INVALID_ARGUMENT},
                                         {INT32_MAX, REFUSED, BATPAK_E_INVALID_ARGUMENT},
                                         {UINT32_MAX, REFUSED, BATPAK_E_INVALID_ARGUMENT}));
}

static uint32_t abi_slot(struct call *call, int slot, const char *name) {
    return (uint32_t)number_slot(call, slot, name,
                                 NUMBERS({BATPAK_ABI_VERSION, FINE, 0}, {0, REFUSED, BATPAK_E_UNSUPPORTED},
                                         {BATPAK_ABI_VERSION + 1, REFUSED, BATPAK_E_UNSUPPORTED},
                                         {INT32_MAX, REFUSED, BATPAK_E_UNSUPPORTED}, {UINT32_MAX, REFUSED, BATPAK_E_UNSUPPORTED}));
}

static batpak_status_t status_slot(struct call *call, int slot, const char *name) {
    return (batpak_status_t)number_slot(call, slot, name,
                                        NUMBERS({0, FINE, 0}, {1, FINE, 0}, {(uint64_t)-1, FINE, 0}, {(uint64_t)-10000, FINE, 0},
                                                {10000, FINE, 0}, {INT32_MAX, FINE, 0}, {(uint64_t)INT32_MIN, FINE, 0}));
}

static int64_t time_slot(struct call *call, int slot, const char *name) {
    return (int64_t)number_slot(call, slot, name,
                                NUMBERS({0, FINE, 0}, {(uint64_t)-1, FINE, 0}, {INT64_MAX, FINE, 0}, {(uint64_t)INT64_MIN, FINE, 0}));
}

/* `may_wait`: alone, a call with it has nothing to wait for. */
static int64_t timeout_slot(struct call *call, int slot, const char *name, int may_wait) {
    if (!may_wait || call->is_combined) {
        return (int64_t)number_slot(call, slot, name,
                                    NUMBERS({0, FINE, 0}, {1, FINE, 0}, {(uint64_t)-2, REFUSED, BATPAK_E_INVALID_ARGUMENT},
                                            {(uint64_t)INT64_MIN, REFUSED, BATPAK_E_INVALID_ARGUMENT}));
    }
    return (int64_t)number_slot(call, slot, name,
                                NUMBERS({0, FINE, 0}, {1, FINE, 0}, {(uint64_t)-2, REFUSED, BATPAK_E_INVALID_ARGUMENT},
                                        {(uint64_t)INT64_MIN, REFUSED, BATPAK_E_INVALID_ARGUMENT}, {(uint64_t)-1, FINE, 0},
                                        {INT64_MAX, FINE, 0}));
}

/* ---- texts ---------------------------------------------------------------------------------------------------------- */

struct bytes {
    const char *at;
    size_t len;
};

/* What a text is for: each has a right value, and says for which others it is refused, and how. */
struct text_rule {
    const char *right;
    /* Nothing may be there: of length 0. */
    enum verdict empty;
    batpak_status_t empty_code;
    /* More than can be. */
    enum verdict long_one;
    batpak_status_t long_code;
    /* The length is looked at before the bytes: one that is beyond all bounds reads nothing. */
    int is_bounded;
    enum verdict not_utf8;
    batpak_status_t not_utf8_code;
    enum verdict with_nul;
};

static const struct text_rule a_coordinate = {"e", REFUSED, BATPAK_E_COORDINATE_EMPTY, REFUSED, BATPAK_E_COORDINATE_TOO_LONG, 1,
                                              REFUSED, BATPAK_E_COORDINATE_NOT_UTF8, REFUSED};
static const struct text_rule a_prefix = {"e", FINE, 0, REFUSED, BATPAK_E_COORDINATE_TOO_LONG, 1, REFUSED,
                                          BATPAK_E_COORDINATE_NOT_UTF8, REFUSED};
static const struct text_rule some_bytes = {"e", FINE, 0, MAYBE, 0, 0, MAYBE, 0, MAYBE};
static const struct text_rule a_message = {"it failed", FINE, 0, FINE, 0, 0, FINE, 0, FINE};
static const struct text_rule a_name = {"append", FINE, 0, FINE, 0, 0, FINE, 0, FINE};
static const struct text_rule a_checkpoint_id = {"spare", REFUSED, BATPAK_E_CHECKPOINT_ID_INVALID, REFUSED,
                                                 BATPAK_E_CHECKPOINT_ID_INVALID, 1, REFUSED, BATPAK_E_CHECKPOINT_ID_INVALID, REFUSED};
static const struct text_rule a_payload = {"payload", FINE, 0, FINE, 0, 0, FINE, 0, FINE};
static const struct text_rule a_path = {NULL, REFUSED, BATPAK_E_INVALID_ARGUMENT, REFUSED, BATPAK_E_IO, 0, FINE, 0, REFUSED};

enum { LONG = 6000 };

static struct bytes text_slot(struct call *call, int slot, const char *name, const struct text_rule *rule) {
    static char long_text[LONG];
    const char *right = rule->right ? rule->right : path_of("opened");
    struct bytes text = {right, strlen(right)};
    memset(long_text, 'x', sizeof long_text);
    if (rule == &a_checkpoint_id && !is_child) {
        /* There is one, in whatever store. */
        CHECK_OK(batpak_checkpoint_save(store, "spare", 5, NULL, 2, &error), error);
        CHECK_OK(batpak_checkpoint_save(other, "spare", 5, NULL, 2, &error), error);
    }
    switch (call->variant[slot]) {
    case 0:
        return text;
    case 1:
        refuse(call, name, "NULL");
        return (struct bytes){NULL, 1};
    case 2:
        refuse(call, name, "of length SIZE_MAX");
        return (struct bytes){right, SIZE_MAX};
    case 3:
        deviate(call, name, "NULL of length 0", rule->empty, rule->empty_code);
        return (struct bytes){NULL, 0};
    case 4:
        deviate(call, name, "of length 0", rule->empty, rule->empty_code);
        return (struct bytes){right, 0};
    case 5:
        deviate(call, name, "not UTF-8", rule->not_utf8, rule->not_utf8_code);
        return (struct bytes){"\xC3\x28\xFF", 3};
    case 6:
        deviate(call, name, "cut UTF-8", rule->not_utf8, rule->not_utf8_code);
        return (struct bytes){"e\xE2\x82", 3};
    case 7:
        deviate(call, name, "with a NUL", rule->with_nul, 0);
        return (struct bytes){"a\0b", 3};
    case 8:
        deviate(call, name, "long", rule->long_one, rule->long_code);
        return (struct bytes){long_text, sizeof long_text};
    case 9:
        if (rule->is_bounded) {
            deviate(call, name, "of length SIZE_MAX / 2", rule->long_one, rule->long_code);
            return (struct bytes){right, SIZE_MAX / 2};
        }
        break;
    case 10:
        if (rule->is_bounded) {
            deviate(call, name, "of length UINT32_MAX", rule->long_one, rule->long_code);
            return (struct bytes){right, UINT32_MAX};
        }
        break;
    default:
        over(call);
    }
    return text;
}

static const char *terminated_slot(struct call *call, int slot, const char *name) {
    static char long_text[LONG];
    switch (call->variant[slot]) {
    case 0:
        return path_of("opened");
    case 1:
        refuse(call, name, "NULL");
        return NULL;
    case 2:
        refuse(call, name, "empty");
        return "";
    case 3:
        memset(long_text, 'x', sizeof long_text - 1);
        deviate(call, name, "long", REFUSED, BATPAK_E_IO);
        return long_text;
    case 4:
        deviate(call, name, "not UTF-8", FINE, 0);
        return "\xC3\x28\xFF";
    default:
        return over(call);
    }
}

/* The place for a text of the caller's. */
static struct bytes buffer_slot(struct call *call, int slot, const char *name) {
    struct place *place = new_place(call, 256, KINDS);
    struct bytes buffer = {(const char *)place->bytes, 256};
    switch (call->variant[slot]) {
    case 0:
        return buffer;
    case 1:
        deviate(call, name, "NULL with a capacity", MAYBE, 0);
        return (struct bytes){NULL, 1};
    case 2:
        deviate(call, name, "NULL of length 0", FINE, 0);
        return (struct bytes){NULL, 0};
    case 3:
        refuse(call, name, "of length 0");
        buffer.len = 0;
        return buffer;
    case 4:
        refuse(call, name, "of length 1");
        buffer.len = 1;
        return buffer;
    default:
        over(call);
        return buffer;
    }
}

static const uint8_t *id_slot(struct call *call, int slot, const char *name, int is_optional) {
    static const uint8_t zero[16], ones[16] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    static uint8_t id[16];
    switch (call->variant[slot]) {
    case 0:
        if (!is_child) {
            memcpy(id, batpak_batch_events(live[BATCH], &(size_t){0})->id, 16);
        }
        return is_optional ? NULL : id;
    case 1:
        deviate(call, name, "NULL", is_optional ? FINE : REFUSED, BATPAK_E_INVALID_ARGUMENT);
        return NULL;
    case 2:
        deviate(call, name, "zero", MAYBE, 0);
        return zero;
    case 3:
        deviate(call, name, "ones", MAYBE, 0);
        return ones;
    case 4:
        deviate(call, name, "an event's", MAYBE, 0);
        return id;
    default:
        return over(call);
    }
}

/* ---- functions ------------------------------------------------------------------------------------------------------ */

static int64_t some_batpak_clock_fn(void *user_data) {
    (void)user_data;
    return INT64_MIN;
}

static void some_batpak_log_fn(void *user_data, uint32_t level, const char *target, size_t target_len, const char *message,
                               size_t message_len) {
    (void)user_data, (void)level, (void)target, (void)target_len, (void)message, (void)message_len;
}

static void some_batpak_restart_budget_fn(void *user_data) {
    (void)user_data;
}

static void some_batpak_checkpoint_failure_fn(void *user_data, const char *id, size_t id_len, batpak_status_t code, const char *message,
                                              size_t message_len) {
    (void)user_data, (void)id, (void)id_len, (void)code, (void)message, (void)message_len;
}

static batpak_handler_fn handler_slot(struct call *call, int slot, const char *name) {
    if (call->variant[slot] == 0) {
        return take_all;
    }
    if (call->variant[slot] == 1) {
        refuse(call, name, "NULL");
        return NULL;
    }
    over(call);
    return NULL;
}

static batpak_wake_fn wake_slot(struct call *call, int slot, const char *name) {
    if (call->variant[slot] == 0) {
        return no_wake;
    }
    if (call->variant[slot] == 1) {
        deviate(call, name, "NULL", FINE, 0);
        return NULL;
    }
    over(call);
    return NULL;
}

static batpak_user_data_free_fn free_slot(struct call *call, int slot, const char *name) {
    if (call->variant[slot] == 0) {
        call->frees_expected++;
        return count_free;
    }
    if (call->variant[slot] == 1) {
        deviate(call, name, "NULL", FINE, 0);
        return NULL;
    }
    over(call);
    return NULL;
}

static void *user_data_slot(struct call *call, int slot, const char *name) {
    if (call->variant[slot] == 0) {
        return zeros;
    }
    if (call->variant[slot] == 1) {
        deviate(call, name, "NULL", FINE, 0);
        return NULL;
    }
    return over(call);
}

/* ---- structs -------------------------------------------------------------------------------------------------------- */

/* A struct with its size first, and what may lie behind it when a newer header has more of it. */
struct versioned {
    _Alignas(16) unsigned char bytes[1024];
};

/* The variants that every such struct has, from 1 on; `variant` is counted down by them. NULL: it is none of them. */
static void *struct_of_wrong_size(struct call *call, const char *name, struct versioned *memory, size_t size, int *variant, int is_out) {
    static const uint32_t impossible[] = {0, 1, 4, 7, 9, 4097, 65536, INT32_MAX, 0x80000000, UINT32_MAX};
    enum { IMPOSSIBLE = sizeof impossible / sizeof *impossible };
    static char how[64];
    uint32_t given = (uint32_t)size;
    if (*variant >= 1 && *variant <= IMPOSSIBLE) {
        given = impossible[*variant - 1];
        snprintf(how, sizeof how, "of struct_size %" PRIu32, given);
        refuse(call, name, how);
    } else if (*variant == IMPOSSIBLE + 1) {
        refuse(call, name, "misaligned");
        return memory->bytes + 1;
    } else if (*variant == IMPOSSIBLE + 2) {
        deviate(call, name, "older", MAYBE, 0);
        memset(memory->bytes + 8, 0xFF, sizeof memory->bytes - 8);
        given = 8;
    } else if (*variant == IMPOSSIBLE + 3) {
        deviate(call, name, "newer", FINE, 0);
        given += 16;
    } else if (*variant == IMPOSSIBLE + 4) {
        deviate(call, name, "newer and in use", is_out ? FINE : REFUSED, BATPAK_E_UNSUPPORTED);
        given += 16;
        memory->bytes[size + 15] = 1;
    } else {
        *variant -= IMPOSSIBLE + 4;
        return NULL;
    }
    memcpy(memory->bytes, &given, sizeof given);
    return memory->bytes;
}

/* The numbers that a member is tried with. */
static int member_number(struct call *call, const char *name, int number, uint64_t *value) {
    static const uint64_t extremes[] = {1, 2, 255, INT32_MAX, 0x80000000, UINT32_MAX, INT64_MAX, UINT64_MAX};
    static char how[96];
    if (number >= (int)(sizeof extremes / sizeof *extremes)) {
        return 0;
    }
    *value = extremes[number];
    snprintf(how, sizeof how, "%" PRIu64, *value);
    deviate(call, name, how, MAYBE, 0);
    return 1;
}

enum { MEMBER_NUMBERS = 8, MEMBER_ARRAYS = 8 };

/* What a member that is a pointer is tried with, and the member that is its length. */
static void member_array(struct call *call, const char *name, int number, const void **at, size_t *len) {
    static _Alignas(8) char long_text[LONG];
    static const char *how[MEMBER_ARRAYS] = {"NULL",     "of length SIZE_MAX", "NULL of length 0", "of length 0",
                                             "not UTF-8", "with a NUL",        "long",             "short"};
    /* Long enough for as many ids, if it is an array of them. */
    static _Alignas(8) const char text[64] = "a name that will do for all", not_utf8[64] = "\xC3\x28\xFF", with_nul[64] = "a\0b";
    deviate(call, name, how[number], number < 2 ? REFUSED : MAYBE, number < 2 ? BATPAK_E_INVALID_ARGUMENT : 0);
    memset(long_text, 'x', sizeof long_text);
    *at = number == 0 || number == 2 ? NULL : number == 4 ? not_utf8 : number == 5 ? with_nul : text;
    *len = number == 1 ? SIZE_MAX : number == 2 || number == 3 ? 0 : 1;
    if (number == 4 || number == 5) {
        *len = 3;
    } else if (number == 6) {
        /* As above. */
        *at = long_text;
        *len = LONG / 16;
    }
}

static void right_batpak_region_t(batpak_region_t *region) {
    CHECK_OK(batpak_region_init(region, sizeof *region, &error), error);
}

static void right_batpak_store_options_t(batpak_store_options_t *options) {
    CHECK_OK(batpak_store_options_init(options, sizeof *options, &error), error);
}

static void right_batpak_append_t(batpak_append_t *item) {
    CHECK_OK(batpak_append_init(item, sizeof *item, &error), error);
    item->kind = 0x1001;
    item->entity = "e", item->entity_len = 1;
    item->scope = "s", item->scope_len = 1;
}

static void right_batpak_append_options_t(batpak_append_options_t *options) {
    CHECK_OK(batpak_append_options_init(options, sizeof *options, &error), error);
}

static void right_batpak_fence_options_t(batpak_fence_options_t *options) {
    CHECK_OK(batpak_fence_options_init(options, sizeof *options, &error), error);
}

static void right_batpak_cursor_options_t(batpak_cursor_options_t *options) {
    CHECK_OK(batpak_cursor_options_init(options, sizeof *options, &error), error);
}

static void right_batpak_worker_options_t(batpak_worker_options_t *options) {
    CHECK_OK(batpak_worker_options_init(options, sizeof *options, &error), error);
}

static void right_batpak_import_options_t(batpak_import_options_t *options) {
    CHECK_OK(batpak_import_options_init(options, sizeof *options, &error), error);
}

static void right_batpak_store_stats_t(batpak_store_stats_t *stats) {
    CHECK_OK(batpak_store_stats_init(stats, sizeof *stats, &error), error);
}

static void right_batpak_worker_stats_t(batpak_worker_stats_t *stats) {
    CHECK_OK(batpak_worker_stats_init(stats, sizeof *stats, &error), error);
}

typedef void *(*struct_function)(struct call *call, const char *name, struct versioned *memory, int variant);

/* A pointer to such a struct. */
static void *struct_slot(struct call *call, int slot, const char *name, struct_function make, int is_optional) {
    static struct versioned memory[SLOTS_MAX];
    if (call->variant[slot] == 1) {
        deviate(call, name, "NULL", is_optional ? FINE : REFUSED, BATPAK_E_INVALID_ARGUMENT);
        return NULL;
    }
    return make(call, name, &memory[slot], call->variant[slot] == 0 ? 0 : call->variant[slot] - 1);
}

/* The struct of an _init function, and the size that it is told; there is room for all that it accepts. */
static void *init_slot(struct call *call, int slot, const char *name, size_t right, size_t *size) {
    static _Alignas(16) unsigned char memory[8192];
    static const size_t sizes[] = {0, 1, 7, 9, 4097, 65536, UINT32_MAX, SIZE_MAX / 2, SIZE_MAX};
    static char how[64];
    int variant = call->variant[slot];
    memset(memory, 0xA5, sizeof memory);
    *size = right;
    if (variant == 1) {
        refuse(call, name, "NULL");
        return NULL;
    }
    if (variant == 2) {
        refuse(call, name, "misaligned");
        return memory + 1;
    }
    if (variant == 3 || variant == 4) {
        *size = variant == 3 ? 8 : right + 16;
        deviate(call, name, variant == 3 ? "older" : "newer", FINE, 0);
    } else if (variant > 4) {
        if (variant - 5 >= (int)(sizeof sizes / sizeof *sizes)) {
            return over(call);
        }
        *size = sizes[variant - 5];
        snprintf(how, sizeof how, "of size %zu", *size);
        refuse(call, name, how);
    }
    return memory;
}

/* ---- events to append ----------------------------------------------------------------------------------------------- */

static void *struct_batpak_append_t(struct call *call, const char *name, struct versioned *memory, int variant);

/* Items and their number. */
static const batpak_append_t *items_slot(struct call *call, int slot, const char *name, size_t *n) {
    static _Alignas(16) batpak_append_t items[2];
    static struct versioned memory;
    *n = 1;
    right_batpak_append_t(&items[0]), right_batpak_append_t(&items[1]);
    switch (call->variant[slot]) {
    case 0:
        return items;
    case 1:
        refuse(call, name, "NULL");
        return NULL;
    case 2:
        *n = 0;
        deviate(call, name, "none", REFUSED, BATPAK_E_BATCH_EMPTY);
        return items;
    case 3:
        *n = 0;
        deviate(call, name, "NULL of length 0", REFUSED, BATPAK_E_BATCH_EMPTY);
        return NULL;
    case 4:
        *n = SIZE_MAX;
        refuse(call, name, "of length SIZE_MAX");
        return items;
    case 5:
        *n = SIZE_MAX / 2;
        refuse(call, name, "of length SIZE_MAX / 2");
        return items;
    case 6:
        *n = 2;
        deviate(call, name, "two", FINE, 0);
        return items;
    case 7:
        *n = 2;
        items[1].struct_size += 8;
        refuse(call, name, "of two sizes");
        return items;
    case 8:
        *n = 2;
        items[1].batch_causes = (const uint32_t *)zeros, items[1].batch_cause_count = 65;
        deviate(call, name, "with too many causes", REFUSED, BATPAK_E_TOO_MANY_CAUSES);
        return items;
    case 9:
        items[0].batch_causes = (const uint32_t *)zeros, items[0].batch_cause_count = 1;
        deviate(call, name, "caused by itself", REFUSED, BATPAK_E_CAUSE_NOT_EARLIER);
        return items;
    case 10:
        items[0].batch_causes = (const uint32_t *)((const char *)zeros + 1), items[0].batch_cause_count = 1;
        refuse(call, name, "with misaligned causes");
        return items;
    case 11:
        items[0].payload = "", items[0].payload_len = SIZE_MAX / 2;
        deviate(call, name, "with an endless payload", REFUSED, BATPAK_E_PAYLOAD_TOO_LARGE);
        return items;
    case 12:
        items[0].entity_len = UINT32_MAX;
        deviate(call, name, "with an endless entity", REFUSED, BATPAK_E_COORDINATE_TOO_LONG);
        return items;
    case 13:
        items[0].causes = (const uint8_t *)zeros, items[0].cause_count = SIZE_MAX / 64;
        deviate(call, name, "with endless causes", REFUSED, BATPAK_E_TOO_MANY_CAUSES);
        return items;
    case 14:
        items[0].key = zeros, items[0].key_len = SIZE_MAX / 2;
        deviate(call, name, "with an endless key", REFUSED, BATPAK_E_KEY_LENGTH);
        return items;
    default:
        return struct_batpak_append_t(call, name, &memory, call->variant[slot] - 14);
    }
}

/* Receipts are optional, and as many as items. */
static batpak_receipt_t *receipts_slot(struct call *call, int slot, const char *name) {
    return out_slot(call, slot, name, 2 * sizeof(batpak_receipt_t), KINDS, IS_OPTIONAL);
}

#endif
