/* The machine's limits: what the same bytes cost with nothing around them.
 *
 * Nothing here uses the library. Files are made, filled with zeros and synced before the time starts; so are mappings.
 */
#ifndef RAW_H
#define RAW_H

#include <stddef.h>
#include <stdint.h>

#include "measure.h"

/* A frame is at most so long. */
#define RAW_FRAME_BYTES_MAX ((size_t)128 << 10)

/* memcpy and CRC32C of n frames into a prepared mapping. Returns seconds. */
double raw_append(const char *directory, size_t frame_bytes, size_t n);

/* A preallocated file of zeros, for the two below. */
typedef struct raw_file_t raw_file_t;
raw_file_t *raw_file_open(const char *directory);
void raw_file_close(raw_file_t *file);

/* pwrite of one group, fdatasync, again and again. With `build`, the group is made of `frames` frames by memcpy and CRC32C
 * first. Returns groups per second; each one's time goes to latencies, which may be NULL. */
double raw_commits(raw_file_t *file, size_t frame_bytes, size_t frames, bool build, double seconds, latencies_t *latencies);

/* Threads that each want one frame durable: when all have come, one of them writes and syncs for all. Returns frames per
 * second; the time of each, on its thread, goes to latencies. */
double raw_group_commits(raw_file_t *file, size_t frame_bytes, size_t threads, double seconds, latencies_t *latencies);

/* The event frames of a store's segment files, found by docs/FORMAT.md. */
typedef struct raw_log_t raw_log_t;
raw_log_t *raw_log_open(const char *store);
void raw_log_close(raw_log_t *log);
size_t raw_log_events(const raw_log_t *log);
/* Bytes of the frames, with their padding. */
uint64_t raw_log_bytes(const raw_log_t *log);

/* Reads all frames in order, 256 KiB at once, with CRC32C, and touches the payloads. Returns seconds. */
double raw_replay(const raw_log_t *log, size_t payload_bytes);

/* The same with a position made durable per `most` events: a file beside, written, synced, renamed, its directory synced. Ends
 * after `seconds`, begins again at the end of the log. Returns events per second. */
double raw_consume(const raw_log_t *log, const char *directory, size_t most, size_t payload_bytes, double seconds);

/* Reads the frames of the given sequences, one by one, with CRC32C. Returns seconds. */
double raw_scattered(const raw_log_t *log, const uint32_t *sequences, size_t n);

/* Wakes a thread by futex every `interval_ns`, n times; how long each took to come. */
void raw_wakes(uint64_t interval_ns, latencies_t *latencies, size_t n);

/* What every reader here and of the library does with a payload: the sum of its first and last eight bytes. */
uint64_t touch(const void *payload, size_t bytes);

/* Where sums go, so that no work is left out. */
extern volatile uint64_t sink;

#endif
