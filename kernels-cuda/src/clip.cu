// The norm of all gradients together and the factor that clips it, found where they are used. A step that is not captured computes both on the host: from
// the same sums in the same order, in f64 without contraction, and so with the same bits.
#include "step.cuh"

struct Parameters {
    const float* values[256];  // sums of squares, then what has to be finite beside them: losses
    StepNumbers* step;
    double limit;  // of the norm
    u32 squares;
    u32 count;  // of all values
    u32 first;  // whether there are none before these
    u32 last;   // and none behind
};

KERNEL clip(PARAMETERS p) {
    __shared__ float value[256];
    // All at once from memory; the sum is one thread's, because its order is the host's.
    value[threadIdx.x] = threadIdx.x < p.count ? *p.values[threadIdx.x] : 0.0f;
    __syncthreads();
    if (threadIdx.x != 0) return;
    double sum = p.first ? 0.0 : p.step->norm;
#pragma unroll 1
    for (u32 i = 0; i < p.count; ++i) {
        const float x = value[i];
        if (i < p.squares) {
            sum = __dadd_rn(sum, (double)x);
        } else if (!isfinite(x)) {
            sum = (double)NOT_A_NUMBER;
        }
    }
    if (!p.last) {
        p.step->norm = sum;
        return;
    }
    const double norm = __dsqrt_rn(sum), scale = __ddiv_rn(p.limit, __dadd_rn(norm, 1e-6));
    p.step->norm = norm;
    p.step->gradient_scale = isfinite(norm) ? (float)(scale < 1.0 ? scale : 1.0) : NOT_A_NUMBER;
}
