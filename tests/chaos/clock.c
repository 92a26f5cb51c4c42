/* A wall clock that can be wrong: loaded before libc, adds what `chaos_offset_ns` points at to every reading.
   The monotonic clocks stay right, as they do on a real machine whose date is set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <sys/time.h>
#include <time.h>

static const volatile long long none = 0;
const volatile long long *chaos_offset_ns = &none;

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        long long ns = now->tv_nsec + *chaos_offset_ns % 1000000000LL;
        now->tv_sec += *chaos_offset_ns / 1000000000LL;
        if (ns < 0) { ns += 1000000000LL; now->tv_sec--; }
        if (ns >= 1000000000LL) { ns -= 1000000000LL; now->tv_sec++; }
        now->tv_nsec = ns;
    }
    return failed;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone) {
    (void)zone;
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
