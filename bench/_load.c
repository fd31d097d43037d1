/* A crowd of WebSocket clients that counts what it is sent; bench/_crowd.py compiles and runs it, and lists the options.
 *
 * It shares the processors with the servers that it measures, so it does little for each delivery: one epoll loop, reads
 * of up to 1 MiB into one buffer for all connections, and one search for a stamp in each message. A stamp is
 * "@@<ns>@@<n>@@": when the message was published, by CLOCK_MONOTONIC, and its number, counted from 0. A message may
 * hold several (servers that join events); one without any is not a delivery.
 *
 * It prints one line of JSON when all stand, and one with the figures when each connection has had its deliveries, when
 * the time is over, or at the end of its standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (1 << 20)
#define PORTS 16        /* that connections are dealt to in turn */
#define SOURCES 8       /* addresses 127.0.0.1 and up: one alone has 28,000 ports */
#define UNDER_WAY 64    /* handshakes at a time: below any server's backlog */
#define PATIENCE_S 60   /* for all handshakes */

enum state { CONNECTING, UPGRADING, OPENING, UP, CLOSED };

struct client {
    int fd;
    enum state state;
    int sent;          /* opening messages */
    unsigned char *rest; /* the beginning of a message whose end has not come */
    size_t rest_size;
    long got, next;    /* deliveries; the number that should come next */
    uint64_t begun, done;
};

static int count = 100, port_count, first_port[PORTS], nul;
static long each;
static double seconds = 60;
static const char *path = "/", *subprotocol, *authorization, *opening[2], *ready_text;

static struct client *clients;
static int epoll, begun, up, closed, complete;
static unsigned char *buffer;
static uint64_t *latencies, first_stamp, last_receive, started;
static size_t latency_count, latency_room;
static long misordered, skipped;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void fail(const char *what, const char *detail) {
    fprintf(stderr, "%s: %s\n", what, detail);
    exit(1);
}

static void send_all(struct client *c, const void *data, size_t size) {
    if (write(c->fd, data, size) != (ssize_t)size) fail("cannot write", strerror(errno));
}

/* -- opening ------------------------------------------------------------------------------------------------------ */

static void begin(struct client *c, int number) {
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("no socket", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number % SOURCES);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(first_port[number % port_count]);
    if (bind(c->fd, (void *)&from, sizeof from)) fail("cannot bind", strerror(errno));
    if (connect(c->fd, (void *)&to, sizeof to) && errno != EINPROGRESS) fail("cannot connect", strerror(errno));
    struct epoll_event want = {.events = EPOLLOUT, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &want);
    c->begun = now_ns();
    begun++;
}

static void upgrade(struct client *c) {
    char request[8192];
    int error = 0, size, port = first_port[(c - clients) % port_count];
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) fail("cannot connect", strerror(error));
    size = snprintf(request, sizeof request,
                    "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                    "Origin: http://127.0.0.1:%d\r\n%s%s%s%s%s%s\r\n",
                    path, port, port, subprotocol ? "Sec-WebSocket-Protocol: " : "", subprotocol ? subprotocol : "",
                    subprotocol ? "\r\n" : "", authorization ? "Authorization: " : "",
                    authorization ? authorization : "", authorization ? "\r\n" : "");
    if (size >= (int)sizeof request) fail("the request is too long", authorization);
    send_all(c, request, size);
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &want);
    c->state = UPGRADING;
}

/* One text frame under a mask of zeros, which leaves the payload as it is. */
static void say(struct client *c, const char *text) {
    unsigned char frame[8192];
    size_t size = strlen(text) + nul, head = 0;
    if (size > sizeof frame - 8) fail("an opening message is too long", text);
    frame[head++] = 0x81;
    if (size < 126) {
        frame[head++] = 0x80 | size;
    } else {
        frame[head++] = 0x80 | 126;
        frame[head++] = size >> 8;
        frame[head++] = size & 255;
    }
    memset(frame + head, 0, 4);
    memcpy(frame + head + 4, text, size); /* with the NUL that ends the string, if that is wanted */
    send_all(c, frame, head + 4 + size);
}

static void stands(struct client *c) {
    c->state = UP;
    up++;
    if (begun < count) begin(&clients[begun], begun);
    if (up == count) {
        printf("{\"connections\": %d, \"handshake_s\": %.3f}\n", count, (now_ns() - started) / 1e9);
        fflush(stdout);
    }
}

/* Say what is next to be said; stand when there is nothing to wait for. */
static void go_on(struct client *c) {
    if (c->sent < 2 && opening[c->sent]) say(c, opening[c->sent++]);
    if (!ready_text && (c->sent == 2 || !opening[c->sent])) stands(c);
}

/* -- deliveries --------------------------------------------------------------------------------------------------- */

static void deliver(struct client *c, uint64_t stamp, long number, uint64_t now) {
    if (latency_count == latency_room) {
        latency_room = latency_room ? 2 * latency_room : 1 << 16;
        latencies = realloc(latencies, latency_room * sizeof *latencies);
        if (!latencies) fail("no memory", "for the latencies");
    }
    latencies[latency_count++] = now > stamp ? now - stamp : 0;
    if (!first_stamp || stamp < first_stamp) first_stamp = stamp;
    last_receive = now;
    if (number < c->next) misordered++;
    if (number > c->next) skipped += number - c->next;
    c->next = number + 1;
    if (++c->got == each) {
        c->done = now;
        complete++;
    }
}

static void look(struct client *c, const unsigned char *payload, size_t size, uint64_t now) {
    const unsigned char *end = payload + size, *found = payload;
    while ((found = memmem(found, end - found, "@@", 2))) {
        uint64_t stamp = 0;
        long number = 0;
        const unsigned char *at = found + 2;
        while (at < end && *at >= '0' && *at <= '9') stamp = stamp * 10 + *at++ - '0';
        if (end - at < 4 || at[0] != '@' || at[1] != '@') {
            found += 2;
            continue;
        }
        for (at += 2; at < end && *at >= '0' && *at <= '9';) number = number * 10 + *at++ - '0';
        deliver(c, stamp, number, now);
        found = at + 2 < end ? at + 2 : end;
    }
    if (c->state == OPENING && (c->sent < 2 && opening[c->sent])) {
        go_on(c);
    } else if (c->state == OPENING && ready_text && memmem(payload, size, ready_text, strlen(ready_text))) {
        stands(c);
    }
}

/* How much of these bytes were whole messages. */
static size_t parse(struct client *c, const unsigned char *data, size_t size, uint64_t now) {
    size_t at = 0;
    if (c->state == UPGRADING) {
        const unsigned char *end = memmem(data, size, "\r\n\r\n", 4);
        if (!end) return 0;
        if (size < 12 || memcmp(data, "HTTP/1.1 101", 12)) {
            fprintf(stderr, "refused: %.*s\n", (int)(size < 2000 ? size : 2000), data);
            exit(1);
        }
        at = end + 4 - data;
        c->state = OPENING;
        go_on(c);
    }
    while (size - at >= 2) {
        const unsigned char *frame = data + at;
        size_t length = frame[1] & 127, head = 2;
        int opcode = frame[0] & 15;
        if (length == 126) {
            head = 4;
            if (size - at < head) break;
            length = frame[2] << 8 | frame[3];
        } else if (length == 127) {
            head = 10;
            if (size - at < head) break;
            length = 0;
            for (int i = 2; i < 10; i++) length = length << 8 | frame[i];
        }
        if (size - at < head + length) break;
        if (opcode < 3) look(c, frame + head, length, now);
        if (opcode == 8) fprintf(stderr, "closed: %.*s\n", length > 2 ? (int)length - 2 : 0, frame + head + 2);
        if (opcode == 9) { /* a ping: at most 125 bytes, and they come back */
            unsigned char pong[131] = {0x8a, 0x80 | length};
            memcpy(pong + 6, frame + head, length);
            send_all(c, pong, 6 + length);
        }
        at += head + length;
    }
    return at;
}

static void receive(struct client *c) {
    size_t size = c->rest_size;
    memcpy(buffer, c->rest, size);
    ssize_t got = read(c->fd, buffer + size, READ_BYTES);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        if (c->state != UP) fail("closed in the handshake", got ? strerror(errno) : "by the server");
        close(c->fd);
        c->state = CLOSED;
        closed++;
        return;
    }
    size += got;
    size_t used = parse(c, buffer, size, now_ns());
    if (size - used != c->rest_size) {
        c->rest_size = size - used;
        c->rest = realloc(c->rest, c->rest_size + 1);
        if (!c->rest) fail("no memory", "for a message");
    }
    memcpy(c->rest, buffer + used, c->rest_size);
    if (c->rest_size > READ_BYTES) fail("a message is too long", path);
}

/* -- figures ------------------------------------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double ms_of(const uint64_t *sorted, size_t size, double part) {
    return size ? sorted[(size_t)((size - 1) * part)] / 1e6 : 0;
}

static void report(void) {
    long least = clients[0].got, most = 0;
    uint64_t *caught_up = calloc(count, sizeof *caught_up);
    size_t caught = 0;
    for (int i = 0; i < count; i++) {
        if (clients[i].got < least) least = clients[i].got;
        if (clients[i].got > most) most = clients[i].got;
        if (clients[i].done) caught_up[caught++] = clients[i].done - clients[i].begun;
    }
    qsort(latencies, latency_count, sizeof *latencies, by_size);
    qsort(caught_up, caught, sizeof *caught_up, by_size);
    double taken = latency_count ? (last_receive - first_stamp) / 1e9 : 0;
    printf("{\"connections\": %d, \"deliveries\": %zu, \"least\": %ld, \"most\": %ld, \"misordered\": %ld, "
           "\"skipped\": %ld, \"closed\": %d, \"seconds\": %.4f, \"per_s\": %.0f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"max_ms\": %.3f, \"complete\": %d, \"complete_s\": %.4f, \"complete_p50_ms\": %.1f, "
           "\"complete_p99_ms\": %.1f, \"complete_max_ms\": %.1f}\n",
           count, latency_count, least, most, misordered, skipped, closed, taken,
           taken > 0 ? latency_count / taken : 0, ms_of(latencies, latency_count, 0.5),
           ms_of(latencies, latency_count, 0.99), ms_of(latencies, latency_count, 1), complete,
           latency_count ? (last_receive - started) / 1e9 : 0, ms_of(caught_up, caught, 0.5),
           ms_of(caught_up, caught, 0.99), ms_of(caught_up, caught, 1));
}

static void read_options(int argc, char **argv) {
    int option;
    while ((option = getopt(argc, argv, "n:p:u:s:a:m:r:e:t:0")) != -1) {
        if (option == 'n') count = atoi(optarg);
        else if (option == 'p' && port_count < PORTS) first_port[port_count++] = atoi(optarg);
        else if (option == 'u') path = optarg;
        else if (option == 's') subprotocol = optarg;
        else if (option == 'a') authorization = optarg;
        else if (option == 'm') opening[opening[0] ? 1 : 0] = optarg;
        else if (option == 'r') ready_text = optarg;
        else if (option == 'e') each = atol(optarg);
        else if (option == 't') seconds = atof(optarg);
        else if (option == '0') nul = 1;
        else exit(2);
    }
    if (!port_count || count < 1) fail("wanted", "-p PORT, and -n of one or more");
}

int main(int argc, char **argv) {
    struct epoll_event events[256], ended = {.events = EPOLLIN, .data.ptr = NULL};
    read_options(argc, argv);
    clients = calloc(count, sizeof *clients);
    buffer = malloc(2 * READ_BYTES + 1);
    epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &ended);
    started = now_ns();
    while (begun < count && begun < UNDER_WAY) begin(&clients[begun], begun);
    for (int over = 0; !over && closed < count && !(each && complete == count);) {
        double elapsed = (now_ns() - started) / 1e9;
        if (up < count && elapsed > PATIENCE_S) fail("not all connections stand", "in a minute");
        if (elapsed > seconds) break;
        int found = epoll_wait(epoll, events, 256, 100);
        for (int i = 0; i < found; i++) {
            struct client *c = events[i].data.ptr;
            if (!c) over = 1;
            else if (c->state == CONNECTING) upgrade(c);
            else if (c->state != CLOSED) receive(c);
        }
    }
    report();
    return 0;
}
