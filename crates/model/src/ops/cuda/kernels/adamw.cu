// AdamW on flat fp32 pieces (the same update as crates/optim, element by element). Any number of blocks. Pieces begin anywhere, so loads
// are of single elements.

extern "C" __global__ void adamw(float *values, const float *gradient, float *first, float *second, long long n, float gradient_scale,
                                 float beta1, float beta2, float decay, float step_size, float root_correction, float epsilon) {
    for (long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x; at < n; at += (long long)gridDim.x * blockDim.x) {
        float g = gradient[at] * gradient_scale, m = first[at], v = second[at];
        m += (g - m) * (1.0f - beta1);
        v = v * beta2 + g * g * (1.0f - beta2);
        first[at] = m;
        second[at] = v;
        values[at] = values[at] * decay - step_size * m / (sqrtf(v) / root_correction + epsilon);
    }
}
