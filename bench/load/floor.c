/*
 * The least that a WebSocket server can do, in one thread: a canned 101 for everybody, and raw send() calls.
 *
 * It is what the load generator is measured against (its ceiling), and the floor of the broadcast. Commands are lines on
 * standard input, answers are JSON lines on standard output; the first answer is "listening" with the port.
 *
 *   burst 0 COUNT SIZE JOIN
 *       COUNT messages of SIZE bytes to every connection, one after the other, JOIN of them in one send(). A connection
 *       whose socket is full is waited for. Answers "burst".
 *   close 0             Forget all connections. Answers "closed".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "measure.h"

#define MOST 20000

static const char welcome[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static struct lines commands;
static int poller, listener;
static int open_fds[MOST], place[1 << 16], count_open; /* place: 1 + index in open_fds of an upgraded descriptor */
static char joined[1 << 20];

static void forget(int fd) {
    int at = place[fd] - 1;
    if (at >= 0) {
        open_fds[at] = open_fds[--count_open];
        place[open_fds[at]] = at + 1;
        place[fd] = 0;
    }
    close(fd);
}

static void accept_all(void) {
    int on = 1;
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* as every server measured does */
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

static void readable(int fd) {
    char request[4096];
    ssize_t n = recv(fd, request, sizeof request, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            forget(fd);
    } else if (!place[fd] && count_open < MOST) {
        if (send(fd, welcome, sizeof welcome - 1, MSG_NOSIGNAL) != (ssize_t)sizeof welcome - 1) {
            forget(fd);
            return;
        }
        open_fds[count_open++] = fd;
        place[fd] = count_open;
    }
}

static int write_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd full = {.fd = fd, .events = POLLOUT};
            poll(&full, 1, 1000);
        } else {
            return -1;
        }
    }
    return 0;
}

/* A text frame with {"at":MICROSECOND,"fill":"xxx"} of "size" bytes; returns the size of the frame. */
static size_t message(char *frame, size_t size) {
    size_t header = size < 126 ? 2 : 4;
    frame[0] = (char)0x81;
    frame[1] = (char)(size < 126 ? size : 126);
    if (header == 4) {
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
    }
    char *payload = frame + header;
    memset(payload, 'x', size);
    int used = sprintf(payload, "{\"at\":%lld,\"fill\":\"", (long long)now_us());
    payload[used] = 'x';
    memcpy(payload + size - 2, "\"}", 2);
    return header + size;
}

static void burst(int count, int size, int join) {
    int64_t began = now_us();
    double cpu = cpu_seconds();
    int connections = count_open;
    for (int sent = 0; sent < count; sent += join) {
        size_t used = 0;
        for (int i = 0; i < join && sent + i < count; i++)
            used += message(joined + used, (size_t)size);
        for (int i = count_open - 1; i >= 0; i--)
            if (write_all(open_fds[i], joined, used))
                forget(open_fds[i]);
    }
    printf("{\"event\":\"burst\",\"connections\":%d,\"began\":%lld,\"ended\":%lld,\"cpu\":%.6f}\n", connections,
           (long long)began, (long long)now_us(), cpu_seconds() - cpu);
    fflush(stdout);
}

static void command(char *line) {
    int count, size, join;
    if (sscanf(line, "burst 0 %d %d %d", &count, &size, &join) == 3 && size >= 40 && size < 1 << 16 && join > 0 &&
        (size_t)join * (size_t)(size + 4) <= sizeof joined) {
        burst(count, size, join);
    } else if (!strcmp(line, "close 0")) {
        while (count_open)
            forget(open_fds[0]);
        printf("{\"event\":\"closed\"}\n");
        fflush(stdout);
    } else {
        exit(2);
    }
}

int main(void) {
    static struct epoll_event events[1024];
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    int on = 1;
    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&at, &size))
        die("listen");
    poller = epoll_create1(EPOLL_CLOEXEC);
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, input = {.events = EPOLLIN, .data.fd = 0};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e) || epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input))
        die("epoll");
    printf("{\"event\":\"listening\",\"port\":%d}\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poller, events, 1024, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == 0)
                lines_read(&commands, command);
            else if (events[i].data.fd == listener)
                accept_all();
            else
                readable(events[i].data.fd);
        }
    }
}
