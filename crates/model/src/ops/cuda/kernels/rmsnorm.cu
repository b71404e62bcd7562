// RMSNorm with the residual addition before it (see ops/rmsnorm.rs). One block a row, except where it says otherwise.

// x [T, D] (+ delta [T, D], stored in x) -> y = x r w, r = 1 / sqrt(mean(x^2) + eps) in inverse_rms [T]. delta may be null.
template <typename T>
__device__ void rmsnorm_forward(T *y, float *inverse_rms, T *x, const T *delta, const T *w, long long width, float eps) {
    x += (long long)blockIdx.x * width;
    y += (long long)blockIdx.x * width;
    float squares = 0.0f, eight[8], more[8];
    for (long long at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        load8(x, at, width, eight);
        if (delta) {
            load8(delta + (long long)blockIdx.x * width, at, width, more);
            for (int i = 0; i < 8; i++) {
                T rounded;
                narrow(eight[i] + more[i], &rounded);
                eight[i] = widen(rounded);
            }
            store8(x, at, width, eight);
        }
        for (int i = 0; i < 8; i++) {
            squares += eight[i] * eight[i];
        }
    }
    float r = 1.0f / sqrtf(over_block<Sum>(squares) / (float)width + eps);
    if (threadIdx.x == 0) {
        inverse_rms[blockIdx.x] = r;
    }
    // Each thread reads back what it has stored itself.
    for (long long at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        load8(x, at, width, eight);
        load8(w, at, width, more);
        for (int i = 0; i < 8; i++) {
            eight[i] = eight[i] * r * more[i];
        }
        store8(y, at, width, eight);
    }
}

// dx [T, D] += r (g - n mean(g n)) with n = x r, g = dy w.
template <typename T>
__device__ void rmsnorm_backward(T *dx, const T *dy, const T *x, const T *w, const float *inverse_rms, long long width) {
    long long row = (long long)blockIdx.x * width;
    float r = inverse_rms[blockIdx.x], products = 0.0f, g[8], n[8], weight[8];
    for (long long at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        load8(dy + row, at, width, g);
        load8(x + row, at, width, n);
        load8(w, at, width, weight);
        for (int i = 0; i < 8; i++) {
            products += g[i] * weight[i] * n[i] * r;
        }
    }
    float mean = over_block<Sum>(products) / (float)width, sum[8];
    for (long long at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        load8(dy + row, at, width, g);
        load8(x + row, at, width, n);
        load8(w, at, width, weight);
        load8(dx + row, at, width, sum);
        for (int i = 0; i < 8; i++) {
            sum[i] += r * (g[i] * weight[i] - n[i] * r * mean);
        }
        store8(dx + row, at, width, sum);
    }
}

// partial [chunks, D]: sum of dy x r over `rows` rows of each chunk. One thread a column; blockIdx.y is the chunk.
template <typename T>
__device__ void rmsnorm_backward_weight(float *partial, const T *dy, const T *x, const float *inverse_rms, long long tokens,
                                        long long width, long long rows) {
    long long column = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) {
        return;
    }
    long long first = (long long)blockIdx.y * rows, end = first + rows < tokens ? first + rows : tokens;
    float sum = 0.0f;
    for (long long row = first; row < end; row++) {
        sum += widen(dy[row * width + column]) * widen(x[row * width + column]) * inverse_rms[row];
    }
    partial[(long long)blockIdx.y * width + column] = sum;
}

// x [n] += delta [n]. Any number of blocks.
template <typename T> __device__ void add(T *x, const T *delta, long long n) {
    float eight[8], more[8];
    for (long long at = first_eight(); at < n; at += next_eight()) {
        load8(x, at, n, eight);
        load8(delta, at, n, more);
        for (int i = 0; i < 8; i++) {
            eight[i] += more[i];
        }
        store8(x, at, n, eight);
    }
}

// dw [D] += the sum of partial [chunks, D] over the chunks, in order. One thread a column.
extern "C" __global__ void sum_chunks(float *dw, const float *partial, long long chunks, long long width) {
    long long column = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) {
        return;
    }
    float sum = dw[column];
    for (long long chunk = 0; chunk < chunks; chunk++) {
        sum += partial[chunk * width + column];
    }
    dw[column] = sum;
}

#define RMSNORM(T, NAME)                                                                                                                \
    extern "C" __global__ void rmsnorm_forward_##NAME(T *y, float *inverse_rms, T *x, const T *delta, const T *w, long long width,      \
                                                      float eps) {                                                                      \
        rmsnorm_forward<T>(y, inverse_rms, x, delta, w, width, eps);                                                                    \
    }                                                                                                                                   \
    extern "C" __global__ void rmsnorm_backward_##NAME(T *dx, const T *dy, const T *x, const T *w, const float *inverse_rms,            \
                                                       long long width) {                                                               \
        rmsnorm_backward<T>(dx, dy, x, w, inverse_rms, width);                                                                          \
    }                                                                                                                                   \
    extern "C" __global__ void rmsnorm_backward_weight_##NAME(float *partial, const T *dy, const T *x, const float *inverse_rms,        \
                                                              long long tokens, long long width, long long rows) {                      \
        rmsnorm_backward_weight<T>(partial, dy, x, inverse_rms, tokens, width, rows);                                                   \
    }                                                                                                                                   \
    extern "C" __global__ void add_##NAME(T *x, const T *delta, long long n) { add<T>(x, delta, n); }
RMSNORM(float, f32)
RMSNORM(bf16, bf16)
