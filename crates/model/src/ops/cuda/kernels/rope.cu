// The rotary embedding in place (see ops/rope.rs): dim i turns with dim i + E/2.

// x [T, H, E]; cosines and sines [positions, E/2]; the position of each token [T]. sign -1 turns back. Any number of blocks; a thread
// takes eight pairs of dims of one head at a time.
template <typename T>
__device__ void rope(T *x, const float *cosines, const float *sines, const int *positions, long long tokens, long long heads,
                     long long half, float sign) {
    long long groups = (half + 7) / 8, total = tokens * heads * groups;
    float low[8], high[8], c[8], s[8];
    for (long long unit = (long long)blockIdx.x * blockDim.x + threadIdx.x; unit < total; unit += (long long)gridDim.x * blockDim.x) {
        long long at = unit % groups * 8, head = unit / groups, token = head / heads;
        T *dims = x + head * 2 * half;
        long long angles = (long long)positions[token] * half;
        load8(dims, at, half, low);
        load8(dims + half, at, half, high);
        load8(cosines + angles, at, half, c);
        load8(sines + angles, at, half, s);
        for (int i = 0; i < 8; i++) {
            float a = low[i], b = high[i];
            low[i] = a * c[i] - b * s[i] * sign;
            high[i] = b * c[i] + a * s[i] * sign;
        }
        store8(dims, at, half, low);
        store8(dims + half, at, half, high);
    }
}

#define ROPE(T, NAME)                                                                                                                   \
    extern "C" __global__ void rope_##NAME(T *x, const float *cosines, const float *sines, const int *positions, long long tokens,      \
                                           long long heads, long long half, float sign) {                                               \
        rope<T>(x, cosines, sines, positions, tokens, heads, half, sign);                                                               \
    }
ROPE(float, f32)
ROPE(bf16, bf16)
