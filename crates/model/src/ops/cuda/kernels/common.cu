// What all kernels share: element types, loads of eight neighbours at a time, reductions over a block.
//
// NVRTC compiles these files at run time, one after the other as one program. They need no header, so that the same text also compiles
// as plain C++ for the tests (tests/cuda/emulation.hpp stands in for the device). Everything is computed in fp32 and stored as T.
// Blocks have a multiple of 32 threads, at most 1024, in one dimension; where a kernel reduces over its block, all threads take part.

struct bf16 {
    unsigned short bits;
};

__device__ inline float widen(float value) { return value; }
__device__ inline float widen(bf16 value) { return __uint_as_float((unsigned)value.bits << 16); }

// Rounds to nearest even; a NaN stays a NaN.
__device__ inline void narrow(float value, float *to) { *to = value; }
__device__ inline void narrow(float value, bf16 *to) {
    unsigned bits = __float_as_uint(value);
    unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    to->bits = (unsigned short)(value != value ? 0x7fc0u : rounded);
}

__device__ inline bool aligned(const void *at) { return ((unsigned long long)at & 15u) == 0; }

__device__ inline void load_vector(const float *from, float *eight) {
    float4 low = ((const float4 *)from)[0], high = ((const float4 *)from)[1];
    eight[0] = low.x, eight[1] = low.y, eight[2] = low.z, eight[3] = low.w;
    eight[4] = high.x, eight[5] = high.y, eight[6] = high.z, eight[7] = high.w;
}

__device__ inline void load_vector(const bf16 *from, float *eight) {
    uint4 raw = *(const uint4 *)from;
    unsigned pairs[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        eight[2 * i] = __uint_as_float(pairs[i] << 16);
        eight[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
    }
}

__device__ inline void store_vector(float *to, const float *eight) {
    ((float4 *)to)[0] = make_float4(eight[0], eight[1], eight[2], eight[3]);
    ((float4 *)to)[1] = make_float4(eight[4], eight[5], eight[6], eight[7]);
}

__device__ inline void store_vector(bf16 *to, const float *eight) {
    unsigned pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        bf16 low, high;
        narrow(eight[2 * i], &low);
        narrow(eight[2 * i + 1], &high);
        pairs[i] = (unsigned)low.bits | (unsigned)high.bits << 16;
    }
    *(uint4 *)to = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

// Elements at .. at + 8 of `row`, which has `length`; zeros past its end.
template <typename T> __device__ inline void load8(const T *row, long long at, long long length, float *eight) {
    if (at + 8 <= length && aligned(row + at)) {
        load_vector(row + at, eight);
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        eight[i] = at + i < length ? widen(row[at + i]) : 0.0f;
    }
}

// The same to store; nothing is stored past the end.
template <typename T> __device__ inline void store8(T *row, long long at, long long length, const float *eight) {
    if (at + 8 <= length && aligned(row + at)) {
        store_vector(row + at, eight);
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (at + i < length) {
            narrow(eight[i], row + at + i);
        }
    }
}

struct Sum {
    __device__ static float none() { return 0.0f; }
    __device__ static float join(float a, float b) { return a + b; }
};

struct Max {
    __device__ static float none() { return -__uint_as_float(0x7f800000u); }
    __device__ static float join(float a, float b) { return b > a ? b : a; }
};

template <typename R> __device__ inline float over_warp(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        value = R::join(value, __shfl_xor_sync(0xffffffffu, value, distance));
    }
    return value;
}

// The sum (or largest) of every thread's value, for every thread, in an order that is always the same.
template <typename R> __device__ inline float over_block(float value) {
    __shared__ float parts[32];
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    value = over_warp<R>(value);
    // An earlier reduction's parts may still be being read.
    __syncthreads();
    if (lane == 0) {
        parts[warp] = value;
    }
    __syncthreads();
    return over_warp<R>(lane < blockDim.x / 32 ? parts[lane] : R::none());
}

// For kernels without rows: the first element of this thread's first eight, and the distance to its next.
__device__ inline long long first_eight() { return ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 8; }
__device__ inline long long next_eight() { return (long long)gridDim.x * blockDim.x * 8; }
