#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

enum { ARGUMENTS_MAX = 16 };

extern char **environ;

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)status, (void)type, (void)place;
    return remove(path);
}

void remove_tree(const char *path) {
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        die("removing %s", path);
    }
}

static uint64_t bytes_found;

static int add_bytes(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)path, (void)place;
    bytes_found += type == FTW_F ? (uint64_t)status->st_blocks * 512 : 0;
    return 0;
}

uint64_t disk_bytes(const char *path) {
    /* Blocks are given to some files only when they are written back. */
    sync_disk(path);
    bytes_found = 0;
    if (nftw(path, add_bytes, 16, FTW_PHYS) != 0) {
        die("%s", path);
    }
    return bytes_found;
}

void sync_disk(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd) != 0 || close(fd) != 0) {
        die("%s", path);
    }
}

double resident_mib(void) {
    char line[256];
    double kib = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmRSS: %lf", &kib) == 1) {
            break;
        }
    }
    if (file == NULL || kib < 0) {
        die("/proc/self/status");
    }
    fclose(file);
    return kib / 1024;
}

double cpu_ms(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) {
        die("getrusage");
    }
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
}

int run_self(const char *const *arguments, double *values, size_t n) {
    char *argv[ARGUMENTS_MAX] = {"bench"};
    posix_spawn_file_actions_t actions;
    int pipe_fds[2], status;
    pid_t child;
    for (size_t i = 0; arguments[i] != NULL; i++) {
        argv[i + 1] = (char *)(uintptr_t)arguments[i];
    }
    if (pipe2(pipe_fds, O_CLOEXEC) != 0 || (errno = posix_spawn_file_actions_init(&actions)) != 0 ||
        (errno = posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO)) != 0 ||
        (errno = posix_spawn(&child, "/proc/self/exe", &actions, NULL, argv, environ)) != 0) {
        die("starting this program anew");
    }
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fds[1]);
    FILE *output = fdopen(pipe_fds[0], "r");
    if (output == NULL) {
        die("fdopen");
    }
    for (size_t i = 0; i < n; i++) {
        if (fscanf(output, "%lf", &values[i]) != 1) {
            errno = 0;
            die("%s %s: no answer", arguments[0], arguments[1]);
        }
    }
    fclose(output);
    while (waitpid(child, &status, 0) != child) {
        if (errno != EINTR) {
            die("waitpid");
        }
    }
    return status;
}

static void print_processor(void) {
    char line[512], model[256] = "an unnamed processor";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "model name : %255[^\n]", model) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    printf("%ld CPUs, %s", sysconf(_SC_NPROCESSORS_ONLN), model);
}

/* The type of the file system that is mounted with the directory's device number. */
static void print_file_system(const char *directory) {
    char line[4096], type[64] = "of an unnamed type";
    struct stat status;
    FILE *file = fopen("/proc/self/mountinfo", "r");
    if (stat(directory, &status) != 0) {
        die("%s", directory);
    }
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        unsigned int device_major, device_minor;
        const char *rest = strstr(line, " - ");
        if (sscanf(line, "%*d %*d %u:%u", &device_major, &device_minor) == 2 && rest != NULL &&
            device_major == major(status.st_dev) && device_minor == minor(status.st_dev) &&
            sscanf(rest, " - %63s", type) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    printf("; file system %s", type);
}

void print_machine(const char *directory) {
    print_processor();
    print_file_system(directory);
    printf("\n");
}

void print_load(const char *when) {
    double load = 0;
    if (getloadavg(&load, 1) == 1) {
        printf("load average %s: %.2f\n", when, load);
    }
}
