// Stands in for NCCL: ranks on one host meet in shared memory. Communicators do not block, as asked: they answer "in progress" and have to
// be asked a few times before they have settled. SIROCCO_FAKE makes them misbehave.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE_ERROR = 6, IN_PROGRESS = 7 };
enum { RANKS = 4, ROOM = 1 << 16, BYTE = 1, SINGLE = 7, BRAIN = 9 };

typedef struct {
    volatile int arrived;
    char room[RANKS][ROOM];
    volatile int full[RANKS][RANKS];
    char letters[RANKS][RANKS][ROOM];
} Shared;

typedef struct {
    Shared *shared;
    int rank, ranks, meetings, busy;
} Comm;

typedef struct {
    char text[128];
} Id;

typedef struct {
    size_t size;
    unsigned magic, version;
    int blocking;
} Config;

typedef struct {
    Comm *comm;
    const void *from;
    void *to;
    size_t bytes;
    int peer;
} Letter;

static Letter letters[16];
static int written, group;
static Comm *grouped;  // the one that a group has made work for

static int misbehaves(const char *how) {
    const char *fake = getenv("SIROCCO_FAKE");
    return fake && !strcmp(fake, how);
}

static volatile int *hang(void) {
    static volatile int *flag;
    if (!flag) {
        flag = dlsym(dlopen("libcuda.so.1", RTLD_NOW), "fake_hang");
    }
    return flag;
}

static size_t bytes(size_t elements, int type) { return elements * (type == SINGLE ? 4 : type == BRAIN ? 2 : 1); }

static int working(Comm *comm) {
    if (group) {
        grouped = comm;
        return IN_PROGRESS;
    }
    comm->busy = 3;
    return IN_PROGRESS;
}

static void meet(Comm *comm) {
    __sync_add_and_fetch(&comm->shared->arrived, 1);
    comm->meetings++;
    while (comm->shared->arrived < comm->meetings * comm->ranks) {
        usleep(20);
    }
}

int ncclGetVersion(int *version) {
    *version = 22809;
    return SUCCESS;
}

int ncclGetUniqueId(Id *id) {
    if (misbehaves("no id")) {
        return SYSTEM_ERROR;
    }
    memset(id, 0, sizeof *id);
    snprintf(id->text, sizeof id->text, "/sirocco-fake-nccl-%d-%d", (int)getpid(), rand());
    return SUCCESS;
}

const char *ncclGetErrorString(int code) { return code == REMOTE_ERROR ? "remote process exited" : "fake text"; }
const char *ncclGetLastError(void *comm) { return "fake detail"; }

int ncclCommInitRankConfig(Comm **made, int ranks, Id id, int rank, Config *config) {
    if (config->magic != 0xcafebeef || config->blocking != 0 || ranks > RANKS || rank >= ranks) {
        return INVALID_ARGUMENT;
    }
    int file = shm_open(id.text, O_CREAT | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) {
        return SYSTEM_ERROR;
    }
    Comm *comm = calloc(1, sizeof *comm);
    comm->shared = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    comm->rank = rank;
    comm->ranks = ranks;
    close(file);
    meet(comm);
    shm_unlink(id.text);
    *made = comm;
    return working(comm);
}

int ncclCommGetAsyncError(Comm *comm, int *state) {
    *state = comm->busy > 0 ? IN_PROGRESS : misbehaves("ill") && *hang() ? REMOTE_ERROR : SUCCESS;
    comm->busy -= comm->busy > 0;
    return SUCCESS;
}

int ncclCommFinalize(Comm *comm) {
    fprintf(stderr, "fake nccl: finalize\n");
    return working(comm);
}

int ncclCommDestroy(Comm *comm) {
    fprintf(stderr, "fake nccl: destroy\n");
    return comm->busy ? INVALID_USAGE : SUCCESS;
}

int ncclCommAbort(Comm *comm) {
    fprintf(stderr, "fake nccl: abort\n");
    *hang() = 0;
    return SUCCESS;
}

int ncclAllReduce(const void *from, void *to, size_t elements, int type, int operation, Comm *comm, void *stream) {
    if (comm->busy || type != SINGLE || operation != 0) {
        return INVALID_USAGE;
    }
    if (misbehaves("hang") || misbehaves("ill")) {
        *hang() = 1;
        return working(comm);
    }
    memcpy(comm->shared->room[comm->rank], from, bytes(elements, type));
    meet(comm);
    for (size_t i = 0; i < elements; i++) {
        float sum = 0;
        for (int rank = 0; rank < comm->ranks; rank++) {
            sum += ((float *)comm->shared->room[rank])[i];
        }
        ((float *)to)[i] = sum;
    }
    meet(comm);
    return working(comm);
}

int ncclReduceScatter(const void *from, void *to, size_t elements, int type, int operation, Comm *comm, void *stream) {
    if (comm->busy || type != SINGLE || operation != 0) {
        return INVALID_USAGE;
    }
    memcpy(comm->shared->room[comm->rank], from, bytes(elements * comm->ranks, type));
    meet(comm);
    for (size_t i = 0; i < elements; i++) {
        float sum = 0;
        for (int rank = 0; rank < comm->ranks; rank++) {
            sum += ((float *)comm->shared->room[rank])[comm->rank * elements + i];
        }
        ((float *)to)[i] = sum;
    }
    meet(comm);
    return working(comm);
}

int ncclAllGather(const void *from, void *to, size_t elements, int type, Comm *comm, void *stream) {
    if (comm->busy) {
        return INVALID_USAGE;
    }
    size_t part = bytes(elements, type);
    memcpy(comm->shared->room[comm->rank], from, part);
    meet(comm);
    for (int rank = 0; rank < comm->ranks; rank++) {
        memcpy((char *)to + rank * part, comm->shared->room[rank], part);
    }
    meet(comm);
    return working(comm);
}

int ncclGroupStart(void) {
    written = 0;
    grouped = NULL;
    group = 1;
    return SUCCESS;
}

static int write_down(Letter letter) {
    if (!group || letter.comm->busy) {
        return INVALID_USAGE;
    }
    letters[written++] = letter;
    return IN_PROGRESS;
}

int ncclSend(const void *from, size_t elements, int type, int peer, Comm *comm, void *stream) {
    return write_down((Letter){comm, from, NULL, bytes(elements, type), peer});
}

int ncclRecv(void *to, size_t elements, int type, int peer, Comm *comm, void *stream) {
    return write_down((Letter){comm, NULL, to, bytes(elements, type), peer});
}

int ncclGroupEnd(void) {
    group = 0;
    for (Letter *letter = letters; letter < letters + written; letter++) {
        Comm *comm = letter->comm;
        if (letter->from) {
            memcpy(comm->shared->letters[comm->rank][letter->peer], letter->from, letter->bytes);
            comm->shared->full[comm->rank][letter->peer] = 1;
        }
    }
    for (Letter *letter = letters; letter < letters + written; letter++) {
        Comm *comm = letter->comm;
        while (letter->to && !comm->shared->full[letter->peer][comm->rank]) {
            usleep(20);
        }
        if (letter->to) {
            memcpy(letter->to, comm->shared->letters[letter->peer][comm->rank], letter->bytes);
            comm->shared->full[letter->peer][comm->rank] = 0;
        }
    }
    grouped = written ? letters[0].comm : grouped;
    return grouped ? working(grouped) : SUCCESS;
}
