// Sum, mean, maximum or sum of squares over some dimensions; x has any strides, y is contiguous.
//
// Memory-bound. Where the innermost dimension is reduced a warp has each result (`_rows`), else a thread has, so that neighbours read neighbours
// (`_columns`). What is reduced is cut into segments where the results alone would leave multiprocessors idle; `reduce_total` joins them in order.
#include "common.cuh"

enum Reduction : u32 { SUM, MEAN, MAX, SQUARES };

struct Parameters {
    const void* x;
    void* y;
    float* partial;    // [segments, results]
    Nest<1> kept;
    Nest<1> reduced;
    u32 results;
    u32 count;         // elements of each
    u32 segments;
    u32 reduction;
};

DEVICE float identity(const Parameters& p) { return p.reduction == MAX ? NEGATIVE_INFINITY : 0.0f; }
DEVICE float join(const Parameters& p, float a, float b) { return p.reduction == MAX ? max_nan(a, b) : a + b; }

// What element `i` of a result adds.
template <class T> DEVICE float element(const Parameters& p, i64 base, u32 i) {
    i64 at[1];
    locate(p.reduced, i, at);
    const float x = to_float(static_cast<const T*>(p.x)[base + at[0]]);
    return p.reduction == SQUARES ? x * x : x;
}

// Elements begin, begin + step ... of segment `segment`, which has each `segments`-th run of `run` elements.
template <class T> DEVICE float part(const Parameters& p, u32 result, u32 segment, u32 lane, u32 run) {
    i64 base[1];
    locate(p.kept, result, base);
    float value = identity(p);
#pragma unroll 1
    for (u32 i = segment * run + lane; i < p.count; i += p.segments * run) value = join(p, value, element<T>(p, base[0], i));
    return value;
}

template <class T> DEVICE void rows(const Parameters& p) {
    const u32 task = blockIdx.x * 8 + warp_index();
    if (task >= p.results * p.segments) return;
    const u32 result = task % p.results, segment = task / p.results;
    const float value = part<T>(p, result, segment, lane_index(), 32);
    const float all = p.reduction == MAX ? warp_max(value) : warp_sum(value);
    if (lane_index() == 0) p.partial[task] = all;
}

template <class T> DEVICE void columns(const Parameters& p) {
    const u32 task = thread_index();
    if (task >= p.results * p.segments) return;
    p.partial[task] = part<T>(p, task % p.results, task / p.results, 0, 1);
}

template <class T> DEVICE void total(const Parameters& p) {
    const u32 result = thread_index();
    if (result >= p.results) return;
    float value = identity(p);
#pragma unroll 1
    for (u32 s = 0; s < p.segments; ++s) value = join(p, value, p.partial[s * p.results + result]);
    if (p.reduction == MEAN) value /= (float)p.count;
    static_cast<T*>(p.y)[result] = from_float<T>(value);
}

#define DEFINE(name, type)                                                \
    KERNEL reduce_##name##_rows(PARAMETERS p) { rows<type>(p); }          \
    KERNEL reduce_##name##_columns(PARAMETERS p) { columns<type>(p); }    \
    KERNEL reduce_##name##_total(PARAMETERS p) { total<type>(p); }
FOR_EACH_FLOAT(DEFINE)
