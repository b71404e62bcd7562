// The embedding's backward (see ops/embedding.rs). One block a row of the table; its tokens are added in their order, so that the sum is
// the same in every run.

// dtable [V, D] += dy [T, D]: row rows[b] gets the tokens order[starts[b]] .. order[starts[b + 1]].
template <typename T>
__device__ void embedding_backward(float *dtable, const T *dy, const int *rows, const int *starts, const int *order, long long width) {
    float *sums = dtable + (long long)rows[blockIdx.x] * width, sum[8], more[8];
    for (long long at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        load8(sums, at, width, sum);
        for (int token = starts[blockIdx.x]; token < starts[blockIdx.x + 1]; token++) {
            load8(dy + (long long)order[token] * width, at, width, more);
            for (int i = 0; i < 8; i++) {
                sum[i] += more[i];
            }
        }
        store8(sums, at, width, sum);
    }
}

#define EMBEDDING(T, NAME)                                                                                                              \
    extern "C" __global__ void embedding_backward_##NAME(float *dtable, const T *dy, const int *rows, const int *starts,                \
                                                         const int *order, long long width) {                                           \
        embedding_backward<T>(dtable, dy, rows, starts, order, width);                                                                  \
    }
EMBEDDING(float, f32)
EMBEDDING(bf16, bf16)
