// Cross-entropy of rows of logits (see ops/cross_entropy.rs). One block a row. The row may be a slice of the vocabulary: the ids from
// `first` on.

// known [2, rows]: log of the sum of exp over the row; the target's logit, zero where it is outside the slice.
template <typename T>
__device__ void normalisers(float *known, const T *logits, const long long *wanted, long long first, long long rows, long long width) {
    const T *row = logits + (long long)blockIdx.x * width;
    float highest = Max::none(), sum = 0.0f, eight[8];
    for (long long at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        load8(row, at, width, eight);
        for (int i = 0; i < 8 && at + i < width; i++) {
            highest = Max::join(highest, eight[i]);
        }
    }
    highest = over_block<Max>(highest);
    for (long long at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        load8(row, at, width, eight);
        for (int i = 0; i < 8 && at + i < width; i++) {
            sum += expf(eight[i] - highest);
        }
    }
    sum = over_block<Sum>(sum);
    if (threadIdx.x == 0) {
        long long place = wanted[blockIdx.x] - first;
        known[blockIdx.x] = highest + logf(sum);
        known[rows + blockIdx.x] = place >= 0 && place < width ? widen(row[place]) : 0.0f;
    }
}

// logits [rows, width] become (softmax - one-hot) scale; known [2, rows] as above, over the whole vocabulary.
template <typename T>
__device__ void logits_into_gradients(T *logits, const float *known, const long long *wanted, long long first, long long rows,
                                      long long width, float scale) {
    T *row = logits + (long long)blockIdx.x * width;
    float log_sum = known[blockIdx.x], logit = known[rows + blockIdx.x], eight[8];
    long long place = wanted[blockIdx.x] - first;
    for (long long at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        load8(row, at, width, eight);
        for (int i = 0; i < 8; i++) {
            eight[i] = at + i == place ? (expf(logit - log_sum) - 1.0f) * scale : expf(eight[i] - log_sum) * scale;
        }
        store8(row, at, width, eight);
    }
}

#define CROSS_ENTROPY(T, NAME)                                                                                                          \
    extern "C" __global__ void normalisers_##NAME(float *known, const T *logits, const long long *wanted, long long first,              \
                                                  long long rows, long long width) {                                                    \
        normalisers<T>(known, logits, wanted, first, rows, width);                                                                      \
    }                                                                                                                                   \
    extern "C" __global__ void logits_into_gradients_##NAME(T *logits, const float *known, const long long *wanted, long long first,    \
                                                            long long rows, long long width, float scale) {                             \
        logits_into_gradients<T>(logits, known, wanted, first, rows, width, scale);                                                     \
    }
CROSS_ENTROPY(float, f32)
CROSS_ENTROPY(bf16, bf16)
