// SwiGLU (see ops/swiglu.rs), element by element. Any number of blocks.

__device__ inline float logistic(float z) { return 1.0f / (1.0f + expf(-z)); }

// out [n] = gate sigma(gate) up.
template <typename T> __device__ void swiglu_forward(T *out, const T *gate, const T *up, long long n) {
    float z[8], u[8];
    for (long long at = first_eight(); at < n; at += next_eight()) {
        load8(gate, at, n, z);
        load8(up, at, n, u);
        for (int i = 0; i < 8; i++) {
            z[i] = z[i] * logistic(z[i]) * u[i];
        }
        store8(out, at, n, z);
    }
}

// gate, up [n] become their own gradients.
template <typename T> __device__ void swiglu_backward(T *gate, T *up, const T *dy, long long n) {
    float z[8], u[8], d[8];
    for (long long at = first_eight(); at < n; at += next_eight()) {
        load8(gate, at, n, z);
        load8(up, at, n, u);
        load8(dy, at, n, d);
        for (int i = 0; i < 8; i++) {
            float s = logistic(z[i]), gated = z[i] * s;
            z[i] = d[i] * u[i] * s * (1.0f + z[i] * (1.0f - s));
            u[i] = d[i] * gated;
        }
        store8(gate, at, n, z);
        store8(up, at, n, u);
    }
}

#define SWIGLU(T, NAME)                                                                                                                 \
    extern "C" __global__ void swiglu_forward_##NAME(T *out, const T *gate, const T *up, long long n) {                                 \
        swiglu_forward<T>(out, gate, up, n);                                                                                            \
    }                                                                                                                                   \
    extern "C" __global__ void swiglu_backward_##NAME(T *gate, T *up, const T *dy, long long n) { swiglu_backward<T>(gate, up, dy, n); }
SWIGLU(float, f32)
SWIGLU(bf16, bf16)
