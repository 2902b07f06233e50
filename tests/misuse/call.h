/* One call of the misuse program: which slots of it are wrong and how, what it may then do, and whether it did. A slot is a parameter, or
 * two that belong together, such as a text and its length. The program itself is generated (program.rs). */
#ifndef CALL_H
#define CALL_H

#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum kind { STORE, FENCE, CURSOR, BATCH, GAP_LIST, CHECKPOINT, CHECKPOINT_LIST, ENTITY_LIST, WORKER, DELIVERY, ERROR, KINDS };

static const char *const kind_names[KINDS] = {"store",           "fence",       "cursor", "batch",    "gap list", "checkpoint",
                                              "checkpoint list", "entity list", "worker", "delivery", "error"};

/* What a wrong slot makes of the call. */
enum verdict {
    /* It is as good as the right one. */
    FINE,
    /* Some documented status. */
    MAYBE,
    /* An error. */
    REFUSED,
};

enum { SLOTS_MAX = 12, GUARD = 32, PLACE_MAX = 1024 };

struct call;

/* Whether an out-parameter may be NULL. WRITTEN_ANYHOW: it may, and there is no status that could tell of a misaligned place.
 * WRITTEN_ON_FAILURE: it may not, and a failure may write it. */
enum { IS_REQUIRED, IS_OPTIONAL, WRITTEN_ANYHOW, WRITTEN_ON_FAILURE };

/* An out-parameter: `size` bytes of 0xA5, and a guard behind them. */
struct place {
    _Alignas(16) unsigned char bytes[PLACE_MAX + GUARD];
    size_t size;
    /* 1: misaligned by it. */
    size_t shift;
    /* A handle, to be freed; else KINDS. */
    enum kind kind;
    int use;
};

struct function {
    const char *name;
    void (*run)(struct call *call);
    const batpak_status_t *documented;
    /* The function ends the handle that it is given. */
    int is_free, is_close;
    /* Variants of each slot, learnt by calling with each alone. */
    int variants[SLOTS_MAX];
    int slots;
    int is_of_delivery;
    /* It takes a handle that a forked child may not use. */
    int takes_inherited;
};

struct call {
    struct function *function;
    int variant[SLOTS_MAX];
    /* A slot has no such variant: nothing is called. */
    int is_over;
    int deviations;
    enum verdict verdict;
    /* With one deviation: the very error; 0: any. */
    batpak_status_t code;
    char text[512];
    struct place *places;
    int place_count;
    struct {
        enum kind kind;
        void *handle;
    } made[SLOTS_MAX * 2];
    int made_count;
    /* user_data_free functions that were handed over. */
    int frees_expected;
    /* More than one slot may be wrong: nothing is passed that could wait for ever. */
    int is_combined;
    batpak_error_t *err;
    batpak_error_t **err_place;
    _Alignas(16) char unaligned[16];
    int is_err_misaligned;
    int has_failed;
};

static unsigned long calls_made;
static atomic_int frees;
/* In a forked child: handles are the parent's. */
static int is_child;
static char current[1024];
static char *root;

static void fail(struct call *call, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s(%s)%s: ", call->function->name, call->text, is_child ? " in a forked child" : "");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

/* Says how a slot is wrong, and what is to come of it. */
static void deviate(struct call *call, const char *slot, const char *how, enum verdict verdict, batpak_status_t code) {
    size_t length = strlen(call->text);
    snprintf(call->text + length, sizeof call->text - length, "%s%s=%s", length ? ", " : "", slot, how);
    call->deviations++;
    call->code = call->deviations == 1 ? code : 0;
    if (verdict > call->verdict) {
        call->verdict = verdict;
    }
}

static void refuse(struct call *call, const char *slot, const char *how) {
    deviate(call, slot, how, REFUSED, BATPAK_E_INVALID_ARGUMENT);
}

/* No such variant. */
static void *over(struct call *call) {
    call->is_over = 1;
    return NULL;
}

static void keep(struct call *call, enum kind kind, void *handle) {
    call->made[call->made_count].kind = kind;
    call->made[call->made_count++].handle = handle;
}

/* ---- out-parameters ------------------------------------------------------------------------------------------------- */

static struct place *new_place(struct call *call, size_t size, enum kind kind) {
    struct place *place = &call->places[call->place_count++];
    CHECK(size <= PLACE_MAX);
    memset(place->bytes, 0xA5, sizeof place->bytes);
    place->size = size;
    place->kind = kind;
    place->use = IS_REQUIRED;
    place->shift = 0;
    return place;
}

static int all_bytes_are(const unsigned char *bytes, size_t n, unsigned char value) {
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != value) {
            return 0;
        }
    }
    return 1;
}

/* Memory for a value or a handle to be written to. */
static void *out_slot(struct call *call, int slot, const char *name, size_t size, enum kind kind, int use) {
    struct place *place = new_place(call, size, kind);
    /* A failure leaves it, or says so in zeros where there is no status to look at first. */
    place->use = use;
    switch (call->variant[slot]) {
    case 0:
        return place->bytes;
    case 1:
        deviate(call, name, "NULL", use == IS_OPTIONAL || use == WRITTEN_ANYHOW ? FINE : REFUSED, BATPAK_E_INVALID_ARGUMENT);
        place->kind = KINDS;
        return NULL;
    case 2:
        if (size >= 4 && size != 16 && size != 32) {
            /* A place for a value, at an address that no such value has: where that cannot be refused, it is written. */
            deviate(call, name, "misaligned", use == WRITTEN_ANYHOW ? FINE : REFUSED, BATPAK_E_INVALID_ARGUMENT);
            place->kind = KINDS;
            place->shift = 1;
            place->size++;
            return place->bytes + 1;
        }
        return over(call);
    default:
        return over(call);
    }
}

static batpak_error_t **err_slot(struct call *call, int slot) {
    memset(&call->err, 0xA5, sizeof call->err);
    call->err_place = &call->err;
    switch (call->variant[slot]) {
    case 0:
        return call->err_place;
    case 1:
        deviate(call, "err", "NULL", FINE, 0);
        call->err_place = NULL;
        return NULL;
    case 2:
        deviate(call, "err", "misaligned", FINE, 0);
        call->is_err_misaligned = 1;
        return (batpak_error_t **)(call->unaligned + 1);
    default:
        return over(call);
    }
}

/* ---- judging -------------------------------------------------------------------------------------------------------- */

static void free_handle(enum kind kind, void *handle);

static void judge_places(struct call *call, int is_written) {
    for (int i = 0; i < call->place_count; i++) {
        struct place *place = &call->places[i];
        void *handle = NULL;
        if (!all_bytes_are(place->bytes + place->size, GUARD, 0xA5)) {
            fail(call, "wrote beyond an out-parameter of %zu bytes", place->size);
        }
        if (place->kind == KINDS) {
            int is_zero = place->use == WRITTEN_ANYHOW && all_bytes_are(place->bytes + place->shift, place->size - place->shift, 0);
            if (!is_written && place->use != WRITTEN_ON_FAILURE && !is_zero && !all_bytes_are(place->bytes, place->size, 0xA5)) {
                fail(call, "failed, and wrote an out-parameter");
            }
            continue;
        }
        memcpy(&handle, place->bytes, sizeof handle);
        if (is_written != (handle != NULL)) {
            fail(call, "left %p for a handle", handle);
        }
        if (is_written) {
            keep(call, place->kind, handle);
        }
    }
}

static void judge_error(struct call *call, batpak_status_t status) {
    if (call->err_place == NULL) {
        return;
    }
    if ((status < 0) != (call->err != NULL)) {
        fail(call, "is %s, and err is %p", batpak_status_name(status), (void *)call->err);
    }
    if (call->err != NULL) {
        size_t len = 0;
        const char *message = batpak_error_message(call->err, &len);
        if (batpak_error_code(call->err) != status || len == 0 || strlen(message) != len) {
            fail(call, "is %s, and its error says %d: %s", batpak_status_name(status), (int)batpak_error_code(call->err), message);
        }
    }
}

static const char *message_of(struct call *call) {
    return call->err_place != NULL && call->err != NULL ? batpak_error_message(call->err, NULL) : "";
}

static void judge_status(struct call *call, batpak_status_t status) {
    const batpak_status_t *documented = call->function->documented;
    if (call->is_err_misaligned) {
        memcpy(&call->err, call->unaligned + 1, sizeof call->err);
    }
    while (*documented != status && *documented != BATPAK_E_INTERNAL) {
        documented++;
    }
    if (*documented == BATPAK_E_INTERNAL) {
        fail(call, "is %s, which is not documented for it: %s", batpak_status_name(status), message_of(call));
    }
    if (call->verdict == FINE && status < 0) {
        fail(call, "is %s: %s", batpak_status_name(status), message_of(call));
    }
    if (call->verdict == REFUSED && (status >= 0 || (call->deviations == 1 && call->code != 0 && status != call->code))) {
        fail(call, "is %s, not %s: %s", batpak_status_name(status), call->code ? batpak_status_name(call->code) : "an error",
             message_of(call));
    }
    call->has_failed = status < 0;
    judge_error(call, status);
    judge_places(call, status == BATPAK_OK);
    if (call->err_place != NULL) {
        batpak_error_free(call->err);
    }
}

/* The answer of a function without a status: `is_nothing` is what it is documented to say of no object. Its out-parameters are then
 * untouched or zero, unless it has something to say all the same. */
static void judge_answer(struct call *call, int is_nothing, int says_why) {
    if (call->verdict == REFUSED && !is_nothing) {
        fail(call, "answers as if it were an object");
    }
    call->has_failed = call->verdict == REFUSED;
    judge_places(call, !call->has_failed || says_why);
}

/* Gives back what the call was given and what it made, and checks that user data were freed as often as they were handed over. */
static void finish(struct call *call) {
    for (int i = call->made_count; i-- > 0;) {
        free_handle(call->made[i].kind, call->made[i].handle);
    }
    int expected = call->has_failed || call->is_over ? 0 : call->frees_expected;
    if (!call->is_over && !is_child && atomic_load(&frees) != expected) {
        fail(call, "user data were freed %d times, not %d", atomic_load(&frees), expected);
    }
    atomic_store(&frees, 0);
}

/* Before the call, so that a crash or hang names it. */
static void announce(struct call *call) {
    snprintf(current, sizeof current, "\n%s(%s)%s\n", call->function->name, call->text, is_child ? " in a forked child" : "");
    calls_made++;
    alarm(60);
}

#endif
