// dvideo[b, t, h, w, c] = scale[c] * sum of gradient[b, t', h', w', o] * weight[o, i, j, k, c] over all tubes and channels o whose element (i, j, k) lies at
// (t, h, w). Operands and dvideo are contiguous; the weight comes transposed, [groups, elements, O / groups].
//
// Two kernels. A product gives each tube its gradient, in f32: most tubes do not overlap, and then this is all the arithmetic there is. `_gather` then sums for
// each voxel, one thread each, the tubes that reach it, in order of T', H', W': no two threads write one place.
#include "tubes.cuh"

struct Parameters {
    Product product;  // partial: [splits, groups, positions, elements]
    const void* gradient;
    const void* weight;
    const float* scale;  // [groups, kw, C / groups], of which the first column is read; or null
    void* dvideo;
    i64 next[3];          // from what one tube has for a voxel to what the next along T', H', W' has
    Divisor size[4];      // T, H, W, C of dvideo
    Divisor step[3];
    Divisor channels;     // C / groups
    u32 tubes[3];         // T', H', W'
    u32 kernel[3];
    i32 start[3];
    u32 outputs;  // O
    u32 depth;    // O / groups
    u32 gradient_wide;
    u32 weight_wide;
    u32 count;
};

template <class T, class Tile, int SIZE, template <class> class Operand> DEVICE void conv3d_backward_video(const Parameters& p) {
    const Share at = share_of_block<SIZE, SIZE>(p.product);
    Operand<T> gradient, weight;
    gradient.base = static_cast<const T*>(p.gradient) + at.group * p.depth;
    gradient.row_stride = p.outputs;
    gradient.depth_stride = 1;
    gradient.rows = p.product.rows;
    gradient.depth = p.depth;
    gradient.wide = p.gradient_wide;
    gradient.across = false;
    weight.base = static_cast<const T*>(p.weight) + (i64)at.group * p.product.columns * p.depth;
    weight.row_stride = p.depth;
    weight.depth_stride = 1;
    weight.rows = p.product.columns;
    weight.depth = p.depth;
    weight.wide = p.weight_wide;
    weight.across = false;
    extern __shared__ float4 dynamic_shared[];
    float* shared = reinterpret_cast<float*>(dynamic_shared);
    Tile::product(gradient, weight, at.m0, at.n0, at.k0, at.k1, shared);
    store_share<SIZE, SIZE, Tile>(p.product, at, shared);
}

// Along an axis, the tubes that reach a position: how many, the first of them, and which of its elements does.
struct Reach {
    u32 count, first, tap;
};
DEVICE Reach reach(const Parameters& p, int axis, u32 position) {
    const i32 distance = (i32)position - p.start[axis], kernel = (i32)p.kernel[axis];
    if (distance < 0) return {0, 0, 0};
    const u32 first = distance < kernel ? 0 : quotient(distance - kernel, p.step[axis]) + 1;
    const u32 end = min(p.tubes[axis], quotient(distance, p.step[axis]) + 1);
    return {end > first ? end - first : 0, first, distance - first * p.step[axis].divisor};
}

template <class T> DEVICE void gather(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    u32 b = index;
    u32 group = split(b, p.size[3]);
    const u32 w = split(b, p.size[2]), h = split(b, p.size[1]), t = split(b, p.size[0]);
    const u32 c = split(group, p.channels);
    const Reach along_t = reach(p, 0, t), along_h = reach(p, 1, h), along_w = reach(p, 2, w);
    const u32 position = ((b * p.tubes[0] + along_t.first) * p.tubes[1] + along_h.first) * p.tubes[2] + along_w.first;
    const u32 element = ((along_t.tap * p.kernel[1] + along_h.tap) * p.kernel[2] + along_w.tap) * p.channels.divisor + c;
    const i64 size = (i64)p.product.rows * p.product.columns;
    const float* from = p.product.partial + group * size + (i64)position * p.product.columns + element;
    float sum = 0.0f;
#pragma unroll 1
    for (u32 i = 0; i < along_t.count; ++i, from += p.next[0]) {
        const float* plane = from;
#pragma unroll 1
        for (u32 j = 0; j < along_h.count; ++j, plane += p.next[1]) {
            const float* line = plane;
#pragma unroll 1
            for (u32 k = 0; k < along_w.count; ++k, line += p.next[2]) {
#pragma unroll 1
                for (u32 s = 0; s < p.product.splits; ++s) sum += line[s * p.product.groups * size];
            }
        }
    }
    if (p.scale) sum *= p.scale[group * p.kernel[2] * p.channels.divisor + c];
    static_cast<T*>(p.dvideo)[index] = from_float<T>(sum);
}

#define GATHER(name, type) \
    KERNEL conv3d_backward_video_gather_##name(PARAMETERS p) { gather<type>(p); }
FOR_EACH_FLOAT(GATHER)

KERNEL conv3d_backward_video_f32_large(PARAMETERS p) { conv3d_backward_video<float, Simt<8>, 128, Matrix>(p); }
KERNEL conv3d_backward_video_f32_small(PARAMETERS p) { conv3d_backward_video<float, Simt<4>, 64, Matrix>(p); }
#define DEFINE(name)                                                                                                                                           \
    KERNEL conv3d_backward_video_##name##_large(PARAMETERS p) { conv3d_backward_video<name, Mma<name, 128, 128, 2, 4, ALONG, ALONG>, 128, TiledMatrix>(p); } \
    KERNEL conv3d_backward_video_##name##_small(PARAMETERS p) { conv3d_backward_video<name, Mma<name, 64, 64, 2, 2, ALONG, ALONG>, 64, TiledMatrix>(p); }
DEFINE(bf16)
DEFINE(f16)
