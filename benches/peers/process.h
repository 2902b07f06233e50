/* Directories, processes and the machine. */
#ifndef PROCESS_H
#define PROCESS_H

#include <stddef.h>
#include <stdint.h>

void remove_tree(const char *path);

/* What the files of a directory take on the disk. */
uint64_t disk_bytes(const char *path);

/* Writes back what other rows left in memory, so that it does not come in between. */
void sync_disk(const char *path);

double resident_mib(void);

/* Processor time that this process has used, in milliseconds. */
double cpu_ms(void);

/* Runs this program anew with the arguments, ended by NULL, and reads n numbers from its output. Returns the wait status. */
int run_self(const char *const *arguments, double *values, size_t n);

/* Processor, file system of the directory. */
void print_machine(const char *directory);
void print_load(const char *when);

#endif
