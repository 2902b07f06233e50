/* An event loop of one thread over two descriptors: standard input and a cursor's notify descriptor.
 *
 *     event-loop DIR         each line read is appended; each event not yet seen is printed
 *
 * The descriptor is readable while there may be events. It belongs to the cursor: only poll(2), epoll or the like may
 * use it, and only a batpak_cursor_poll that returns BATPAK_EMPTY clears it. So drain until EMPTY before waiting again.
 */
#define _POSIX_C_SOURCE 200809L
#include <batpak.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIND_LINE 0x1001 /* category 1, type 1 */
#define CHECKPOINT_ID "event-loop"
#define LINE_BYTES_MAX 4096

static int report(const char *what, batpak_error_t *err)
{
    fprintf(stderr, "event-loop: %s: %s\n", what, batpak_error_message(err, NULL));
    batpak_error_free(err);
    return -1;
}

/* Prints what the cursor has until it has no more, and saves the position after each batch. */
static int drain(batpak_cursor_t *cursor)
{
    for (;;) {
        batpak_error_t *err;
        batpak_batch_t *batch;
        batpak_status_t status = batpak_cursor_poll(cursor, 64, 0, 0, &batch, &err);
        if (status < 0) return report("cannot poll", err);
        if (status == BATPAK_EMPTY) return 0;
        if (status != BATPAK_OK) continue; /* interrupted: look again */
        size_t n;
        const batpak_event_t *events = batpak_batch_events(batch, &n);
        for (size_t i = 0; i < n; i++)
            printf("%" PRIu64 " %.*s\n", events[i].sequence, (int)events[i].payload_len, (const char *)events[i].payload);
        batpak_batch_free(batch);
        if (fflush(stdout) != 0) {
            fprintf(stderr, "event-loop: cannot write: %s\n", strerror(errno));
            return -1; /* not checkpointed: the next run prints this batch again */
        }
        if (batpak_cursor_checkpoint(cursor, &err) < 0) return report("cannot save the position", err);
    }
}

struct input {
    char bytes[LINE_BYTES_MAX];
    size_t length;
};

static int append_line(batpak_store_t *store, const char *line, size_t length)
{
    batpak_error_t *err;
    if (batpak_store_append_one(store, "terminal:1", 10, "lines", 5, KIND_LINE, line, length, NULL, &err) < 0)
        return report("cannot append", err);
    return 0;
}

/* Reads what is there and appends the whole lines. Returns 1 to go on, 0 at the end of the input, -1 on error. */
static int read_lines(struct input *input, batpak_store_t *store)
{
    ssize_t got = read(STDIN_FILENO, input->bytes + input->length, sizeof input->bytes - input->length);
    if (got < 0) {
        if (errno == EINTR || errno == EAGAIN) return 1;
        fprintf(stderr, "event-loop: cannot read: %s\n", strerror(errno));
        return -1;
    }
    if (got == 0) return input->length > 0 ? append_line(store, input->bytes, input->length) : 0;
    input->length += (size_t)got;

    size_t start = 0;
    for (char *newline; (newline = memchr(input->bytes + start, '\n', input->length - start)) != NULL;) {
        size_t end = (size_t)(newline - input->bytes);
        if (append_line(store, input->bytes + start, end - start) < 0) return -1;
        start = end + 1;
    }
    memmove(input->bytes, input->bytes + start, input->length - start);
    input->length -= start;
    if (input->length < sizeof input->bytes) return 1;
    fprintf(stderr, "event-loop: a line is longer than %d bytes\n", LINE_BYTES_MAX);
    return -1;
}

static int loop(batpak_store_t *store, batpak_cursor_t *cursor)
{
    batpak_error_t *err;
    int32_t notify_fd;
    if (batpak_cursor_notify_fd(cursor, &notify_fd, &err) < 0) return report("no notify descriptor", err);

    struct input input = {.length = 0};
    struct pollfd fds[] = {{.fd = notify_fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0) {
            if (errno == EINTR) continue;
            fprintf(stderr, "event-loop: poll: %s\n", strerror(errno));
            return -1;
        }
        if (fds[0].revents != 0 && drain(cursor) < 0) return -1;
        if (fds[1].revents != 0) {
            int more = read_lines(&input, store);
            if (more < 0) return -1;
            if (more == 0) return drain(cursor); /* what was appended last */
        }
    }
}

static int open_cursor(batpak_store_t *store, batpak_cursor_t **cursor)
{
    batpak_error_t *err;
    batpak_cursor_options_t options;
    if (batpak_cursor_options_init(&options, sizeof options, &err) < 0) return report("options", err);
    options.checkpoint_id = CHECKPOINT_ID;
    options.checkpoint_id_len = strlen(CHECKPOINT_ID);
    if (batpak_cursor_open(store, NULL, &options, cursor, &err) < 0) return report("cannot open the cursor", err);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIR\n", argv[0]);
        return 2;
    }
    batpak_error_t *err;
    batpak_store_t *store;
    if (batpak_store_open_z(argv[1], NULL, &store, &err) < 0) {
        report("cannot open the store", err);
        return EXIT_FAILURE;
    }
    batpak_cursor_t *cursor = NULL;
    int result = open_cursor(store, &cursor);
    if (result == 0) result = loop(store, cursor);
    batpak_cursor_free(cursor);
    if (batpak_store_close(store, -1, &err) < 0) result = report("cannot close", err);
    batpak_store_free(store);
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
