/* Makes the calls: each function with each slot wrong alone, with all wrong at once, with several wrong at random, and in a forked child. */
#ifndef DRIVER_H
#define DRIVER_H

#include "slots.h"

static struct function functions[FUNCTIONS];

/* What was called when the process ends by a signal. */
static void name_the_call(int number) {
    ssize_t ignored = write(2, current, strlen(current));
    (void)ignored;
    signal(number, SIG_DFL);
    raise(number);
}

static void watch(void) {
    static const int fatal[] = {SIGABRT, SIGALRM, SIGILL, SIGFPE, SIGSEGV, SIGBUS};
#ifdef __SANITIZE_ADDRESS__
    /* It has handlers of its own for the last ones, which say more. */
    size_t n = 2;
#else
    size_t n = sizeof fatal / sizeof *fatal;
#endif
    for (size_t i = 0; i < n; i++) {
        signal(fatal[i], name_the_call);
    }
}

/* 0: a slot has no such variant. */
static int call_once(struct function *function, const int *variants, int is_combined) {
    static struct place places[SLOTS_MAX];
    struct call call;
    memset(&call, 0, sizeof call);
    call.function = function;
    call.places = places;
    call.is_combined = is_combined;
    memcpy(call.variant, variants, sizeof call.variant);
    function->run(&call);
    finish(&call);
    return !call.is_over;
}

static void call_with_each_wrong(struct function *function) {
    int variants[SLOTS_MAX] = {0};
    CHECK(call_once(function, variants, 0));
    for (int slot = 0; slot < function->slots; slot++) {
        int variant = 1;
        for (;; variant++) {
            variants[slot] = variant;
            if (!call_once(function, variants, 0)) {
                break;
            }
        }
        function->variants[slot] = variant;
        variants[slot] = 0;
    }
}

/* The first wrong variant of pointers is NULL. */
static void call_with_all_wrong(struct function *function) {
    int variants[SLOTS_MAX] = {0};
    for (int slot = 0; slot < function->slots; slot++) {
        variants[slot] = function->variants[slot] > 1;
    }
    call_once(function, variants, 1);
}

static uint64_t state;

static uint64_t draw(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static void call_with_some_wrong(struct function *function) {
    int variants[SLOTS_MAX] = {0};
    for (int slot = 0; slot < function->slots; slot++) {
        if (draw() % 2 == 0) {
            variants[slot] = (int)(draw() % (uint64_t)function->variants[slot]);
        }
    }
    /* A timeout that could be for ever is no variant any more: then nothing is called. */
    call_once(function, variants, 1);
}

/* ---- within a handler ----------------------------------------------------------------------------------------------- */

static void (*act)(struct function *function);
static unsigned long rounds;

static int32_t call_deliveries(void *user_data, batpak_delivery_t *delivery, const batpak_event_t *events, size_t n) {
    (void)user_data, (void)events, (void)n;
    delivery_here = delivery;
    for (unsigned long round = 0; round < rounds; round++) {
        for (size_t i = 0; i < FUNCTIONS; i++) {
            if (functions[i].is_of_delivery) {
                act(&functions[i]);
            }
        }
    }
    delivery_here = NULL;
    return BATPAK_HANDLER_STOP;
}

static void within_a_handler(void (*action)(struct function *function), unsigned long times) {
    batpak_worker_options_t options;
    batpak_worker_t *worker = NULL;
    act = action, rounds = times;
    CHECK_OK(batpak_worker_options_init(&options, sizeof options, &error), error);
    options.checkpoint_id = "here", options.checkpoint_id_len = 4;
    append_to(store);
    CHECK_OK(batpak_worker_start(store, NULL, &options, call_deliveries, NULL, NULL, &worker, &error), error);
    CHECK_OK(batpak_worker_join(worker, -1, &error), error);
    batpak_worker_free(worker);
}

/* ---- in a forked child ---------------------------------------------------------------------------------------------- */

static void call_in_a_child(void) {
#ifdef __SANITIZE_ADDRESS__
    /* Its allocator may be locked by another thread at the fork, and then hangs the child. */
    puts("SKIPPED: the address sanitizer cannot fork beside threads");
    return;
#endif
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int variants[SLOTS_MAX] = {0};
        is_child = 1;
        for (size_t i = 0; i < FUNCTIONS; i++) {
            if (functions[i].takes_inherited) {
                call_once(&functions[i], variants, 0);
            }
        }
        end_forked();
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    for (size_t i = 0; i < FUNCTIONS; i++) {
        calls_made += functions[i].takes_inherited != 0;
    }
}

/* program [random calls] [seed] */
int main(int argc, char **argv) {
    unsigned long random_calls = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
    state = argc > 2 ? strtoull(argv[2], NULL, 0) | 1 : 1;
    watch();
    root = make_dir();
    /* What an opened store is called when its name is no path of ours. */
    CHECK(chdir(root) == 0);
    set_stage();
    for (size_t i = 0; i < FUNCTIONS; i++) {
        if (!functions[i].is_of_delivery) {
            call_with_each_wrong(&functions[i]);
            call_with_all_wrong(&functions[i]);
            check_canaries();
        }
    }
    within_a_handler(call_with_each_wrong, 1);
    within_a_handler(call_with_all_wrong, 1);
    check_canaries();
    unsigned long alone = calls_made;
    call_in_a_child();
    check_canaries();
    while (calls_made - alone < random_calls) {
        struct function *function = &functions[draw() % FUNCTIONS];
        if (function->is_of_delivery) {
            within_a_handler(call_with_some_wrong, 10);
        } else {
            call_with_some_wrong(function);
        }
    }
    check_canaries();
    clear_stage();
    remove_dir(root);
    printf("calls %lu\n", calls_made);
    return 0;
}

#endif
