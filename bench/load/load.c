/*
 * Many WebSocket clients in one thread: opens connections, answers heartbeats and pings, counts what arrives, says when.
 *
 * Commands are lines on standard input, answers are JSON lines on standard output. Times are microseconds of
 * CLOCK_MONOTONIC. Connections are in groups; a command names its group by a small number.
 *
 *   open GROUP COUNT WINDOW FIRST SOURCES RCVBUF WELCOME HOST PORT PATH
 *       COUNT connections more, at most WINDOW of them under way, from SOURCES addresses 127.0.0.FIRST and up, or
 *       from the kernel's choice if SOURCES is 0. One is
 *       open when the 101 is there and, if WELCOME is 1, the first message too. RCVBUF bytes of receive buffer and
 *       segments as on an Ethernet, or 0 for the kernel's choice. Answers "opened" when the last one is open or has failed.
 *   expect GROUP MESSAGES
 *       Count from now on. Answers "expecting", and "received" when every connection has MESSAGES messages or is gone.
 *       A message is a text frame with "at": and the microsecond at which it was published; other frames do not count.
 *   read GROUP 0|1      Stop or go on reading.
 *   probe GROUP COUNT INTERVAL
 *       The group's connections in turn send COUNT probes, one every INTERVAL microseconds; a round trip counts from
 *       the moment at which the probe was due. Answers "probed".
 *   close GROUP         Reset all connections. Answers "closed".
 *   usage               Answers "usage" with this process's CPU seconds and the heartbeats that it answered.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "measure.h"

#define GROUPS 16
#define HEAD 160 /* bytes of a payload that are looked at */

enum state { CONNECTING, UPGRADING, WELCOMING, OPEN, GONE };

struct connection {
    int fd;
    int group;
    enum state state;
    int64_t began;
    int64_t messages; /* since "expect" */
    /* The frame that is being read: */
    uint64_t size;   /* bytes of its payload */
    uint64_t left;   /* those that have not come */
    uint32_t held;   /* bytes of its payload in head */
    uint8_t opcode;
    uint8_t prefix_used; /* bytes of its header, or of the HTTP answer's end, that have come */
    uint8_t prefix[14];
    char head[HEAD];
};

struct group {
    struct connection **members;
    int size, room;
    /* open: */
    int wanted, started, settled, failed, window, first, sources, rcvbuf, welcome;
    char host[64], why[128], request[512];
    size_t request_size;
    int port;
    int64_t began;
    struct histogram opening;
    /* expect: */
    int64_t expected, outstanding, frames, bytes, first_at, last;
    int gone;
    struct histogram delivery;
    /* probe: */
    int64_t probes, sent, answered, interval, due;
    struct histogram trips;
};

static struct group groups[GROUPS];
static struct lines commands;
static int poller, timer;
static char buffer[1 << 18];
static int64_t heartbeats;

static void start_more(struct group *g);
static void upgraded(struct connection *c);

static void watch(int operation, struct connection *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &e))
        die("epoll_ctl");
}

/* --- what is said --- */

static void say_opened(struct group *g) {
    printf("{\"event\":\"opened\",\"group\":%d,\"opened\":%d,\"failed\":%d,\"why\":\"%s\",\"began\":%lld,\"ended\":%lld,",
           (int)(g - groups), g->wanted - g->failed, g->failed, g->why, (long long)g->began, (long long)now_us());
    histogram_print(&g->opening);
    printf("}\n");
    fflush(stdout);
}

static void say_received(struct group *g) {
    printf("{\"event\":\"received\",\"group\":%d,\"messages\":%lld,\"bytes\":%lld,\"gone\":%d,\"began\":%lld,"
           "\"ended\":%lld,",
           (int)(g - groups), (long long)g->frames, (long long)g->bytes, g->gone, (long long)g->first_at,
           (long long)g->last);
    histogram_print(&g->delivery);
    printf("}\n");
    fflush(stdout);
    g->expected = 0;
}

static void say(const char *event, struct group *g) {
    printf("{\"event\":\"%s\",\"group\":%d}\n", event, (int)(g - groups));
    fflush(stdout);
}

/* --- the life of a connection --- */

/* An attempt came to its end, one way or the other. */
static void settle(struct group *g) {
    g->settled++;
    if (g->settled == g->wanted)
        say_opened(g);
    else
        start_more(g);
}

static void lose(struct connection *c, const char *why) {
    struct group *g = &groups[c->group];
    enum state before = c->state;
    close(c->fd);
    c->fd = -1;
    c->state = GONE;
    g->gone++;
    if (before != OPEN) {
        g->failed++;
        snprintf(g->why, sizeof g->why, "%s", why);
        settle(g);
    } else if (g->expected) {
        g->outstanding -= g->expected - c->messages;
        if (g->outstanding <= 0)
            say_received(g);
    }
}

static void opened(struct connection *c) {
    struct group *g = &groups[c->group];
    c->state = OPEN;
    histogram_add(&g->opening, now_us() - c->began);
    settle(g);
}

static void request(struct connection *c) {
    struct group *g = &groups[c->group];
    ssize_t n = send(c->fd, g->request, g->request_size, MSG_NOSIGNAL);
    if (n == (ssize_t)g->request_size)
        upgraded(c);
    else if (n < 0 && (errno == EAGAIN || errno == ENOTCONN))
        watch(EPOLL_CTL_ADD, c, EPOLLIN | EPOLLOUT);
    else
        lose(c, n < 0 ? strerror(errno) : "short write");
}

/* The request is out: from here on only reading matters. */
static void upgraded(struct connection *c) {
    c->state = UPGRADING;
    watch(EPOLL_CTL_ADD, c, EPOLLIN);
}

static int bind_to(int fd, uint32_t address) {
    int on = 1;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    return setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) ||
           bind(fd, (struct sockaddr *)&from, sizeof from);
}

static void start(struct group *g) {
    struct connection *c = calloc(1, sizeof *c);
    if (!c)
        die("calloc");
    if (g->size == g->room) {
        g->room = g->room ? g->room * 2 : 1024;
        g->members = realloc(g->members, (size_t)g->room * sizeof *g->members);
        if (!g->members)
            die("realloc");
    }
    g->members[g->size++] = c;
    c->group = (int)(g - groups);
    c->began = now_us();
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    if (g->rcvbuf) {
        /* The segments of a loopback are so large that the server's kernel alone would buffer megabytes. */
        int segment = 1400;
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &g->rcvbuf, sizeof g->rcvbuf);
        setsockopt(c->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)g->port)};
    inet_pton(AF_INET, g->host, &to.sin_addr);
    int number = g->started++;
    if ((g->sources && bind_to(c->fd, 0x7f000000u + (unsigned)(g->first + number % g->sources))) ||
        (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS))
        lose(c, strerror(errno));
    else
        request(c);
}

/* Not recursive through settle(): a refused connection fails at once, and ten thousand of them would fill the stack. */
static void start_more(struct group *g) {
    static int starting;
    if (starting)
        return;
    starting = 1;
    while (g->started < g->wanted && g->started - g->settled < g->window)
        start(g);
    starting = 0;
}

/* --- frames --- */

static void reply(struct connection *c, uint8_t opcode, const char *payload, size_t size) {
    char frame[8 + 125] = {(char)(0x80 | opcode), (char)(0x80 | size)}; /* masked with 0: as it is */
    memcpy(frame + 6, payload, size);
    if (send(c->fd, frame, 6 + size, MSG_NOSIGNAL) < 0 && errno != EAGAIN && errno != ECONNRESET && errno != EPIPE)
        die("send");
}

static long long number_after(const char *text, size_t size, const char *key) {
    const char *at = memmem(text, size, key, strlen(key));
    if (!at)
        return -1;
    long long value = 0;
    for (at += strlen(key); at < text + size && *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (*at - '0');
    return value;
}

static int begins(const char *text, size_t size, const char *with) {
    return size >= strlen(with) && !memcmp(text, with, strlen(with));
}

static void message(struct connection *c, int64_t at, uint64_t size) {
    struct group *g = &groups[c->group];
    c->messages++;
    if (!g->expected || c->messages > g->expected)
        return;
    g->frames++;
    g->bytes += (int64_t)size;
    g->last = now_us();
    if (!g->first_at || at < g->first_at)
        g->first_at = at;
    histogram_add(&g->delivery, g->last - at);
    if (--g->outstanding == 0)
        say_received(g);
}

static void pong(struct connection *c, const char *head, size_t size) {
    long long ms = now_us() / 1000;
    char text[125];
    int length = snprintf(text, sizeof text, "{\"type\":\"pong\",\"seq\":%lld,\"received\":%lld,\"sent\":%lld}",
                          number_after(head, size, "\"seq\":"), ms, ms);
    reply(c, 1, text, (size_t)length);
    heartbeats++;
}

static void probed(struct group *g, int64_t due) {
    histogram_add(&g->trips, now_us() - due);
    if (++g->answered == g->probes) {
        printf("{\"event\":\"probed\",\"group\":%d,", (int)(g - groups));
        histogram_print(&g->trips);
        printf("}\n");
        fflush(stdout);
    }
}

/* A whole frame: "head" is the first part of its payload, "size" all of it. */
static void frame(struct connection *c, const char *head, size_t held, uint64_t size) {
    if (c->opcode == 9) {
        reply(c, 10, head, held <= 125 ? held : 125);
        return;
    }
    if (c->opcode != 1)
        return;
    if (c->state == WELCOMING)
        opened(c);
    long long at = number_after(head, held, "\"at\":");
    if (at >= 0)
        message(c, at, size);
    else if (begins(head, held, "{\"type\":\"heartbeat\""))
        pong(c, head, held);
    else if (begins(head, held, "{\"type\":\"probe_ok\""))
        probed(&groups[c->group], number_after(head, held, "\"id\":\""));
}

/* Bytes of one connection after its 101. Frames that lie whole in "data" are not copied. */
static void frames(struct connection *c, const char *data, size_t size) {
    const char *end = data + size;
    while (data < end && c->state != GONE) {
        if (c->left) {
            size_t part = c->left < (uint64_t)(end - data) ? (size_t)c->left : (size_t)(end - data);
            size_t kept = HEAD - c->held < part ? HEAD - c->held : part;
            memcpy(c->head + c->held, data, kept);
            c->held += (uint32_t)kept;
            data += part;
            c->left -= part;
            if (!c->left)
                frame(c, c->head, c->held, c->size);
            continue;
        }
        c->prefix[c->prefix_used++] = (uint8_t)*data++;
        uint8_t short_size = c->prefix_used > 1 ? c->prefix[1] & 0x7f : 0;
        uint8_t needed = short_size < 126 ? 2 : short_size == 126 ? 4 : 10;
        if (c->prefix_used < 2 || c->prefix_used < needed)
            continue;
        uint64_t length = short_size < 126 ? short_size : 0;
        for (int i = 2; i < needed; i++)
            length = length << 8 | c->prefix[i];
        c->opcode = c->prefix[0] & 0x0f;
        c->prefix_used = 0;
        if (c->opcode == 8) {
            lose(c, "close frame");
        } else if (length <= (uint64_t)(end - data)) {
            frame(c, data, length < HEAD ? (size_t)length : HEAD, length);
            data += length;
        } else {
            c->size = c->left = length;
            c->held = 0;
        }
    }
}

/* The HTTP answer; what comes after its blank line are frames. */
static void answer(struct connection *c, const char *data, size_t size) {
    static const char blank[] = "\r\n\r\n";
    struct group *g = &groups[c->group];
    if (c->held < 12) {
        size_t kept = size < 12 - c->held ? size : 12 - c->held;
        memcpy(c->head + c->held, data, kept);
        c->held += (uint32_t)kept;
        if (c->held == 12 && memcmp(c->head, "HTTP/1.1 101", 12)) {
            char why[32];
            snprintf(why, sizeof why, "answer %.3s", c->head + 9);
            lose(c, why);
            return;
        }
    }
    for (size_t i = 0; i < size; i++) {
        c->prefix_used = data[i] == blank[c->prefix_used] ? c->prefix_used + 1 : data[i] == '\r';
        if (c->prefix_used == 4) {
            c->prefix_used = 0;
            c->held = 0;
            if (g->welcome)
                c->state = WELCOMING;
            else
                opened(c);
            frames(c, data + i + 1, size - i - 1);
            return;
        }
    }
}

static void ready(struct connection *c, uint32_t events) {
    if (c->state == GONE)
        return;
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            lose(c, strerror(error));
        } else if (events & EPOLLOUT) {
            epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
            request(c);
        }
        return;
    }
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        lose(c, n ? strerror(errno) : "end of stream");
    else if (c->state == UPGRADING)
        answer(c, buffer, (size_t)n);
    else
        frames(c, buffer, (size_t)n);
}

/* --- commands --- */

static void command_open(struct group *g, const char *arguments) {
    char path[256];
    if (sscanf(arguments, "%d %d %d %d %d %d %63s %d %255s", &g->wanted, &g->window, &g->first, &g->sources,
               &g->rcvbuf, &g->welcome, g->host, &g->port, path) != 9)
        exit(2);
    g->request_size = (size_t)snprintf(g->request, sizeof g->request,
                                       "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                                       path, g->host, g->port);
    g->started = g->settled = g->failed = 0;
    g->why[0] = 0;
    memset(&g->opening, 0, sizeof g->opening);
    g->began = now_us();
    start_more(g);
}

static void command_expect(struct group *g, const char *arguments) {
    g->expected = atoll(arguments);
    g->frames = g->bytes = g->first_at = g->last = 0;
    g->gone = 0;
    g->outstanding = 0;
    memset(&g->delivery, 0, sizeof g->delivery);
    for (int i = 0; i < g->size; i++)
        if (g->members[i]->state == OPEN) {
            g->members[i]->messages = 0;
            g->outstanding += g->expected;
        }
    say("expecting", g);
}

static void command_read(struct group *g, int on) {
    for (int i = 0; i < g->size; i++)
        if (g->members[i]->state == OPEN)
            watch(EPOLL_CTL_MOD, g->members[i], on ? EPOLLIN : 0);
    say("reading", g);
}

static void set_timer(int64_t due) {
    struct itimerspec at = {.it_value = {due / 1000000, due % 1000000 * 1000}};
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL))
        die("timerfd_settime");
}

static void command_probe(struct group *g, const char *arguments) {
    long long count, interval;
    if (sscanf(arguments, "%lld %lld", &count, &interval) != 2 || !g->size)
        exit(2);
    g->probes = count;
    g->interval = interval;
    g->sent = g->answered = 0;
    memset(&g->trips, 0, sizeof g->trips);
    for (int i = 0, on = 1; i < g->size; i++)
        setsockopt(g->members[i]->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    g->due = now_us() + interval;
    set_timer(g->due);
}

static void send_probes(void) {
    uint64_t expirations;
    int64_t next = 0;
    if (read(timer, &expirations, sizeof expirations) < 0)
        return;
    for (struct group *g = groups; g < groups + GROUPS; g++) {
        while (g->sent < g->probes && g->due <= now_us()) {
            char text[64];
            int size = snprintf(text, sizeof text, "{\"type\":\"probe\",\"id\":\"%lld\"}", (long long)g->due);
            reply(g->members[g->sent % g->size], 1, text, (size_t)size);
            g->sent++;
            g->due += g->interval;
        }
        if (g->sent < g->probes && (!next || g->due < next))
            next = g->due;
    }
    if (next)
        set_timer(next);
}

static void command_close(struct group *g) {
    struct linger reset = {1, 0}; /* no TIME_WAIT: the ports are needed again */
    for (int i = 0; i < g->size; i++) {
        if (g->members[i]->state != GONE) {
            setsockopt(g->members[i]->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            close(g->members[i]->fd);
        }
        free(g->members[i]);
    }
    g->size = 0;
    g->expected = 0;
    g->probes = g->sent = 0;
    say("closed", g);
}

static void command(char *line) {
    char word[16];
    int number = 0, used = 0;
    if (sscanf(line, "%15s %d%n", word, &number, &used) < 1 || number < 0 || number >= GROUPS)
        exit(2);
    struct group *g = &groups[number];
    const char *arguments = line + used;
    if (!strcmp(word, "open")) {
        command_open(g, arguments);
    } else if (!strcmp(word, "expect")) {
        command_expect(g, arguments);
    } else if (!strcmp(word, "read")) {
        command_read(g, atoi(arguments));
    } else if (!strcmp(word, "probe")) {
        command_probe(g, arguments);
    } else if (!strcmp(word, "close")) {
        command_close(g);
    } else if (!strcmp(word, "usage")) {
        printf("{\"event\":\"usage\",\"cpu\":%.6f,\"heartbeats\":%lld}\n", cpu_seconds(), (long long)heartbeats);
        fflush(stdout);
    } else {
        exit(2);
    }
}

int main(void) {
    static struct epoll_event events[1024];
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = &commands};
    struct epoll_event ticks = {.events = EPOLLIN, .data.ptr = &timer};
    if (poller < 0 || timer < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input) ||
        epoll_ctl(poller, EPOLL_CTL_ADD, timer, &ticks))
        die("epoll");
    for (;;) {
        int count = epoll_wait(poller, events, 1024, -1), told = 0;
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &commands)
                told = 1;
            else if (events[i].data.ptr == &timer)
                send_probes();
            else
                ready(events[i].data.ptr, events[i].events);
        }
        if (told) /* last: a command may free the connections of the other events */
            lines_read(&commands, command);
    }
}
