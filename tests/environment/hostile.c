/* Environments that no program hopes for: row R13 of the scorecard.
 *
 *     hostile DIRECTORY TRIALS SEED [NAME]
 *                                       runs the cases in turn until so many were run; of the many files that something odd can
 *                                       stand in the place of, fewer where the trials are few. NAME: only cases with it in their name
 *     hostile fds                       (executed by a case) 0 when only descriptors 0 to 2 are open
 *
 * Each case is a process with a copy of a store, and a directory of its own as current one. No call may take a second. What
 * the environment forbids is an error that names the path and says what to do; once it is gone, the store has all that
 * was acknowledged. */
#include "cases_descriptors.h"
#include "cases_directory.h"
#include "cases_odd_files.h"
#include "cases_paths.h"
#include "cases_permissions.h"
#include "cases_process.h"

struct named {
    const char *name;
    void (*run)(void);
};

#define CASE(name) {#name, name}

static void stdin_closed(void) { standard_descriptors_closed(1); }
static void stdout_closed(void) { standard_descriptors_closed(2); }
static void stderr_closed(void) { standard_descriptors_closed(4); }
static void all_standard_closed(void) { standard_descriptors_closed(7); }
static void stack_of_64_kib(void) { small_stack(64 << 10); }
static void stack_of_128_kib(void) { small_stack(128 << 10); }
static void stack_of_256_kib(void) { small_stack(256 << 10); }
static void memory_of_64_mib(void) { little_memory(64 << 20); }
static void memory_of_16_mib(void) { little_memory(16 << 20); }
static void file_size_of_0(void) { file_size_limit(0, 0, 1); }
static void file_size_of_20_kib(void) { file_size_limit(20000, 0, 1); }
static void file_size_of_300_kib(void) { file_size_limit(300000, 0, 1); }
static void file_size_below_a_segment(void) { file_size_limit(MIB - 5000, 0, 0); }
static void file_size_below_a_segment_without_helper(void) { file_size_limit(MIB - 5000, BATPAK_STORE_NO_HELPER_THREAD, 0); }

static const struct named cases[] = {
    CASE(descriptors_at_open), CASE(descriptors_at_making), CASE(descriptors_at_poll), CASE(descriptors_at_poll_without_any),
    CASE(descriptors_at_rotation), CASE(descriptors_at_rotation_without_helper), CASE(descriptors_at_rotation_of_storage),
    CASE(descriptors_at_sync), CASE(descriptors_at_checkpoint), CASE(descriptors_at_notifying), CASE(descriptors_at_close),
    CASE(read_only_directory), CASE(read_only_parent), CASE(closed_parent), CASE(unreadable_store_file), CASE(unreadable_lock),
    CASE(unreadable_segments), CASE(unreadable_active_segment), CASE(unreadable_sealed_files), CASE(permission_to_write_lost),
    CASE(permission_to_write_lost_without_helper), CASE(permission_lost_at_close), CASE(checkpoints_unwritable),
    CASE(read_only_mount), CASE(directory_deleted), CASE(directory_renamed), CASE(directory_renamed_for_good),
    CASE(directory_replaced_by_another_store), CASE(directory_replaced_by_a_copy), CASE(directory_replaced_by_an_empty_one),
    CASE(path_too_long), CASE(path_nearly_too_long), CASE(path_with_spaces), CASE(path_in_utf8), CASE(path_with_newlines),
    CASE(path_not_utf8), CASE(path_with_percent), CASE(path_with_a_nul), CASE(path_empty), CASE(path_relative),
    CASE(path_current_directory), CASE(path_current_directory_deleted), CASE(path_is_a_file), CASE(path_is_no_store),
    CASE(path_is_a_link), CASE(path_is_a_dangling_link), CASE(path_is_a_loop), CASE(path_parent_missing), CASE(path_is_a_device),
    CASE(without_variables), CASE(umask_of_everything), CASE(umask_of_everything_at_rotation), CASE(stdin_closed),
    CASE(stdout_closed), CASE(stderr_closed), CASE(all_standard_closed), CASE(executes_with_descriptors_closed),
    CASE(interrupted_by_signals), CASE(broken_pipes), CASE(stack_of_64_kib), CASE(stack_of_128_kib), CASE(stack_of_256_kib),
    CASE(memory_of_64_mib), CASE(memory_of_16_mib), CASE(file_size_of_0), CASE(file_size_of_20_kib), CASE(file_size_of_300_kib),
    CASE(file_size_below_a_segment), CASE(file_size_below_a_segment_without_helper), CASE(file_size_limit_while_open),
    CASE(no_threads),
};
enum { NAMED = sizeof cases / sizeof cases[0], ALL = NAMED + KINDS * PLACES };

static void name_of(unsigned number, char *name, size_t capacity) {
    if (number < NAMED) {
        snprintf(name, capacity, "%s", cases[number].name);
    } else {
        unsigned odd = number - NAMED;
        snprintf(name, capacity, "%s in place of %s", kinds[odd % KINDS], places[odd / KINDS]);
    }
}

/* Returns how it went. */
static int run_case(unsigned number, const char *dir) {
    int status = 0;
    char name[PATH_MAX], place[PATH_MAX];
    name_of(number, name, sizeof name);
    CHECK((size_t)snprintf(place, sizeof place, "%s/%u", dir, number) < sizeof place);
    remove_tree(place);
    CHECK(mkdir(place, 0755) == 0);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(30);
        CHECK(chdir(place) == 0);
        if (number < NAMED) {
            cases[number].run();
        } else {
            odd_place((enum kind)((number - NAMED) % KINDS), places[(number - NAMED) / KINDS]);
        }
        fflush(NULL);
        _exit(PASSED);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) != FAILED && WEXITSTATUS(status) < 5) {
        if (WEXITSTATUS(status) != PASSED) {
            printf("  (%s)\n", name);
        }
        if (WEXITSTATUS(status) == PASSED) {
            remove_tree(place);
        }
        return WEXITSTATUS(status);
    }
    fprintf(stderr, "%s: %s %d, in %s\n", name, WIFEXITED(status) ? "status" : "signal",
            WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), place);
    return FAILED;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "fds") == 0) {
        return open_descriptors() == 3 ? 0 : 1;
    }
    CHECK(argc >= 4 && realpath("/proc/self/exe", program) != NULL);
    uint64_t trials = strtoull(argv[2], NULL, 0), seed = strtoull(argv[3], NULL, 0), done = 0, skipped = 0, failed = 0;
    CHECK(chdir(argv[1]) == 0 && getcwd(template, sizeof template) != NULL);
    strcat(template, "/template");
    remove_tree(template);
    /* In a process of its own, so that the cases start with nothing of the library's. */
    ledger = new_ledger(seed);
    struct ledger *shared = ledger;
    pid_t child = fork();
    if (child == 0) {
        make_template(template, seed);
        memcpy(shared, ledger, sizeof *shared);
        _exit(0);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    name_segments();
    struct ledger *pristine = new_ledger(seed);
    memcpy(pristine, ledger, sizeof *pristine);
    /* Every so-manieth of the odd places, beginning with another one for another seed. */
    uint64_t stride = trials >= ALL || trials <= NAMED ? 1 : (KINDS * PLACES + trials - NAMED - 1) / (trials - NAMED);
    for (uint64_t number = 0; number < trials || number < ALL; number++) {
        char name[PATH_MAX];
        name_of((unsigned)(number % ALL), name, sizeof name);
        if (argc > 4 && strstr(name, argv[4]) == NULL) {
            continue;
        }
        if (number >= NAMED && number < ALL && (number + seed) % stride != 0) {
            continue;
        }
        memcpy(ledger, pristine, sizeof *ledger);
        int how = run_case((unsigned)(number % ALL), argv[1]);
        if (how == SLOW) {
            /* The machine may have been busy: twice is no accident. */
            memcpy(ledger, pristine, sizeof *ledger);
            how = run_case((unsigned)(number % ALL), argv[1]);
        }
        skipped += how == SKIPPED;
        done += how != SKIPPED;
        failed += how != SKIPPED && how != PASSED;
    }
    printf("trials=%" PRIu64 " failures=%" PRIu64 " skipped=%" PRIu64 " of %d cases\n", done, failed, skipped, ALL);
    return 0;
}
