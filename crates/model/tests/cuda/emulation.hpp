// Stands in for a CUDA device: the kernels of src/ops/cuda/kernels compile after this as plain C++. The threads of a block are contexts
// of one system thread that take turns; __syncthreads and shuffles wait for each other as on a device. Blocks run one after the other.

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}

struct Dim {
    unsigned x, y, z;
};
static Dim gridDim, blockDim, blockIdx, threadIdx;

namespace emulation {

enum class State { Ready, AtWarp, AtBlock, Done };

struct Thread {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(1 << 16);
    State state;
};

static std::vector<Thread> threads;
static ucontext_t scheduler;
static unsigned current;
static std::function<void()> body;

static void enter() {
    body();
    threads[current].state = State::Done;
    swapcontext(&threads[current].context, &scheduler);
}

static void wait(State at) {
    threads[current].state = at;
    swapcontext(&threads[current].context, &scheduler);
}

static void resume(unsigned index) {
    current = index;
    threadIdx = {index, 0, 0};
    swapcontext(&scheduler, &threads[index].context);
}

// Lets those threads from `first` to `end` that wait at `at` go on, if all that are not done do.
static bool release(unsigned first, unsigned end, State at) {
    bool any = false;
    for (unsigned i = first; i < end; i++) {
        if (threads[i].state != at && threads[i].state != State::Done) {
            return false;
        }
        any |= threads[i].state == at;
    }
    for (unsigned i = first; i < end && any; i++) {
        threads[i].state = threads[i].state == at ? State::Ready : State::Done;
    }
    return any;
}

// Runs one block; false when its threads wait for each other for ever.
static bool run_block() {
    unsigned count = blockDim.x;
    for (unsigned i = 0; i < count; i++) {
        getcontext(&threads[i].context);
        threads[i].context.uc_stack.ss_sp = threads[i].stack.data();
        threads[i].context.uc_stack.ss_size = threads[i].stack.size();
        threads[i].context.uc_link = &scheduler;
        threads[i].state = State::Ready;
        makecontext(&threads[i].context, enter, 0);
    }
    for (;;) {
        bool ran = false, done = true;
        // Every other block backwards: a kernel that lacks a barrier must not pass because of an order.
        for (unsigned turn = 0; turn < count; turn++) {
            unsigned i = blockIdx.x % 2 ? count - 1 - turn : turn;
            if (threads[i].state == State::Ready) {
                resume(i);
                ran = true;
            }
            done &= threads[i].state == State::Done;
        }
        if (done) {
            return true;
        }
        bool released = false;
        for (unsigned first = 0; first < count; first += 32) {
            released |= release(first, first + 32, State::AtWarp);
        }
        if (!ran && !released && !release(0, count, State::AtBlock)) {
            return false;
        }
    }
}

template <typename... A, size_t... I> static void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*(A *)arguments[I]...);
}

template <typename... A> static std::function<void()> bound(void (*kernel)(A...), void **arguments) {
    return [=] { call(kernel, arguments, std::index_sequence_for<A...>()); };
}

static int launch(std::function<void()> work, unsigned x, unsigned y, unsigned count) {
    if (count == 0 || count % 32 != 0 || count > 1024) {
        return 2;
    }
    threads.resize(1024);
    body = work;
    gridDim = {x, y, 1};
    blockDim = {count, 1, 1};
    for (unsigned row = 0; row < y; row++) {
        for (unsigned column = 0; column < x; column++) {
            blockIdx = {column, row, 0};
            if (!run_block()) {
                return 3;
            }
        }
    }
    return 0;
}

}  // namespace emulation

static inline void __syncthreads() { emulation::wait(emulation::State::AtBlock); }

static inline float __shfl_xor_sync(unsigned, float value, int distance) {
    // Two buffers in turn: who writes to one again has waited for all to have read it.
    static float lanes[2][1024];
    static unsigned turns[1024];
    float *buffer = lanes[turns[threadIdx.x]++ % 2];
    buffer[threadIdx.x] = value;
    emulation::wait(emulation::State::AtWarp);
    return buffer[threadIdx.x ^ distance];
}
