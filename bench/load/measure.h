/* Time, percentiles and the command line on standard input, for the two programs of this folder. */
#ifndef MEASURE_H
#define MEASURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Microseconds of CLOCK_MONOTONIC, which all processes of the machine share (Python: time.monotonic()). */
static inline int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* CPU seconds of this process so far. */
static inline double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Log-linear: 64 steps for each power of two, so that a percentile is at most 1.6 % off; largest and count are exact. */
#define STEPS 64
#define BUCKETS (STEPS * 40)
struct histogram {
    uint64_t count;
    int64_t largest;
    uint32_t bucket[BUCKETS];
};

static inline void histogram_add(struct histogram *h, int64_t value) {
    if (value < 0)
        value = 0;
    int shift = 0;
    int64_t v = value;
    while (v >= 2 * STEPS) {
        v >>= 1;
        shift++;
    }
    int index = shift * STEPS + (int)v;
    h->bucket[index < BUCKETS ? index : BUCKETS - 1]++;
    h->count++;
    if (value > h->largest)
        h->largest = value;
}

static inline double histogram_at(const struct histogram *h, double share) {
    uint64_t wanted = (uint64_t)((double)h->count * share), seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen > wanted) {
            int shift = i < 2 * STEPS ? 0 : i / STEPS - 1;
            double value = ((double)(i - shift * STEPS) + (shift ? 0.5 : 0.0)) * (double)(1ull << shift);
            return value < (double)h->largest ? value : (double)h->largest;
        }
    }
    return (double)h->largest;
}

/* The percentiles as members of a JSON object, in microseconds. */
static inline void histogram_print(const struct histogram *h) {
    printf("\"count\":%llu,\"p50\":%.0f,\"p90\":%.0f,\"p99\":%.0f,\"p999\":%.0f,\"max\":%lld",
           (unsigned long long)h->count, histogram_at(h, 0.5), histogram_at(h, 0.9), histogram_at(h, 0.99),
           histogram_at(h, 0.999), (long long)h->largest);
}

/* Lines from standard input, which is in non-blocking mode; the process ends with its input. */
struct lines {
    char text[4096];
    size_t used;
};

static inline void lines_read(struct lines *in, void (*each)(char *line)) {
    ssize_t n = read(0, in->text + in->used, sizeof in->text - in->used - 1);
    if (n == 0)
        exit(0);
    if (n < 0)
        return;
    in->used += (size_t)n;
    in->text[in->used] = 0;
    char *line = in->text, *end;
    while ((end = strchr(line, '\n'))) {
        *end = 0;
        each(line);
        line = end + 1;
    }
    in->used -= (size_t)(line - in->text);
    memmove(in->text, line, in->used);
    if (in->used == sizeof in->text - 1)
        exit(2);
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

#endif
