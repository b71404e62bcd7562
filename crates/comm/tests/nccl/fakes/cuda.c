// Stands in for the CUDA driver: as much of it as device collectives use. Streams run what they are given at once, "device" memory is
// that of the process, and every call that needs a current context fails without one, as on a device.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, NOT_READY = 600 };

typedef struct {
    double at;
    int open;
} Event;

// Set by the other library: what is recorded on a stream of our own from then on does not end until it is cleared.
volatile int fake_hang = 0;

static int context, made, destroyed, asked;
static __thread void *current;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

int cuInit(unsigned flags) { return SUCCESS; }

int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = 1;
    return SUCCESS;
}

static int rank(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    return rank ? atoi(rank) : 0;
}

static int misbehaves(const char *how) {
    const char *fake = getenv("SIROCCO_FAKE");
    return fake && !strcmp(fake, how);
}

int cuDeviceGetUuid(char *uuid, int device) {
    int own = misbehaves("same") ? 7 : rank() + 1;
    asked = 1;
    memset(uuid, 0, 16);
    uuid[15] = (char)own;
    return SUCCESS;
}

int cuDeviceGetUuid_v2(char *uuid, int device) { return cuDeviceGetUuid(uuid, device); }

int cuDevicePrimaryCtxRetain(void **made_context, int device) {
    *made_context = &context;
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    fprintf(stderr, "fake cuda: %d events left\n", made - destroyed);
    return SUCCESS;
}

int cuCtxGetCurrent(void **found) {
    *found = current;
    // From when a group is joined on, as after an error of the device that stays.
    return asked && rank() == 1 && misbehaves("unbound") ? INVALID_CONTEXT : SUCCESS;
}

int cuCtxSetCurrent(void *wanted) {
    current = wanted;
    return SUCCESS;
}

int cuCtxSynchronize(void) { return current ? SUCCESS : INVALID_CONTEXT; }

int cuStreamCreate(void **stream, unsigned flags) {
    *stream = malloc(1);
    return flags == 1 ? SUCCESS : INVALID_VALUE;  // one that does not wait for the null stream
}

int cuStreamDestroy_v2(void *stream) {
    free(stream);
    return SUCCESS;
}

int cuEventCreate(Event **event, unsigned flags) {
    *event = calloc(1, sizeof(Event));
    __sync_add_and_fetch(&made, 1);
    return SUCCESS;
}

int cuEventDestroy_v2(Event *event) {
    free(event);
    __sync_add_and_fetch(&destroyed, 1);
    return SUCCESS;
}

int cuEventRecord(Event *event, void *stream) {
    event->open = stream && fake_hang;
    event->at = now();
    return current ? SUCCESS : INVALID_CONTEXT;
}

int cuEventQuery(Event *event) { return event->open && fake_hang ? NOT_READY : SUCCESS; }

int cuEventSynchronize(Event *event) { return cuEventQuery(event); }

int cuEventElapsedTime(float *milliseconds, Event *start, Event *end) {
    *milliseconds = (float)((end->at - start->at) * 1e3);
    return SUCCESS;
}

int cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end) { return cuEventElapsedTime(milliseconds, start, end); }

int cuStreamWaitEvent(void *stream, Event *event, unsigned flags) { return current ? SUCCESS : INVALID_CONTEXT; }

// The first pages are nobody's; everything else is an allocation of 64 KiB of device 0.
int cuPointerGetAttribute(void *value, int attribute, uint64_t address) {
    if (address < 65536) {
        return INVALID_VALUE;
    }
    *(int *)value = attribute == 2 ? 2 : 0;
    return current ? SUCCESS : INVALID_CONTEXT;
}

int cuMemGetAddressRange_v2(uint64_t *base, size_t *size, uint64_t address) {
    *base = address;
    *size = 65536;
    return SUCCESS;
}

int cuGetErrorString(int code, const char **text) {
    *text = "fake text";
    return SUCCESS;
}

int cuGetErrorName(int code, const char **text) { return cuGetErrorString(code, text); }
