// dweight[o, i, j, k, c] = sum of gradient[b, t, h, w, o] * v(b, t s0 + d0 + i - p0, ...) over all positions, v the normalised video of conv3d.cu. The video
// has any strides, gradient and dweight are contiguous.
//
// A product over positions of the gradient and the tubes (tubes.cuh), both of which have rows, not depth, side by side in memory. Results are few and
// positions many, so that it is split along them; `_finish` adds the parts in order.
#include "tubes.cuh"

struct Parameters {
    Tubes tubes;
    Product product;
    const void* gradient;  // [positions, O]
    void* dweight;         // [groups, O / groups, elements]
    u32 outputs;           // O
    u32 wide;              // whether 16 bytes of outputs can be moved at once; bf16 and f16 only
};

template <class T, class Tile, int SIZE, class Source, class Gradient>
DEVICE void conv3d_backward_weight(const Parameters& p, const Share& at, const Source& tubes, Gradient& gradient) {
    gradient.base = static_cast<const T*>(p.gradient) + at.group * p.product.rows;
    gradient.row_stride = 1;
    gradient.depth_stride = p.outputs;
    gradient.rows = p.product.rows;
    gradient.depth = p.tubes.positions;
    gradient.wide = p.wide;
    gradient.across = true;
    extern __shared__ float4 dynamic_shared[];
    float* shared = reinterpret_cast<float*>(dynamic_shared);
    Tile::product(gradient, tubes, at.m0, at.n0, at.k0, at.k1, shared);
    store_share<SIZE, SIZE, Tile>(p.product, at, shared);
}

template <class Video, int S> DEVICE void of_f32(const Parameters& p) {
    const Share at = share_of_block<16 * S, 16 * S>(p.product);
    const TubeColumns<Video> tubes = {TubeReader<Video>(p.tubes, at.group), true};
    Matrix<float> gradient;
    conv3d_backward_weight<float, Simt<S>, 16 * S>(p, at, tubes, gradient);
}

template <class T, class Video, int SIZE, int WARPS_N> DEVICE void of_half(const Parameters& p) {
    const Share at = share_of_block<SIZE, SIZE>(p.product);
    const TubeTiles<T, Video> tubes = {TubeReader<Video>(p.tubes, at.group), p.tubes.parts};
    PartedColumns<T> gradient;
    gradient.parts = p.tubes.parts;
    conv3d_backward_weight<T, Mma<T, SIZE, SIZE, 2, WARPS_N, ACROSS, ACROSS>, SIZE>(p, at, tubes, gradient);
}

template <class T> DEVICE void finish(const Parameters& p) {
    const u32 index = thread_index(), size = p.product.rows * p.product.columns;
    if (index >= p.product.groups * size) return;
    const u32 group = index / size, row = index % size / p.product.columns, column = index % p.product.columns;
    static_cast<T*>(p.dweight)[index] = from_float<T>(sum_of_parts(p.product, group, row, column));
}

#define DEFINE_F32(video)                                                                         \
    KERNEL conv3d_backward_weight_f32_##video##_large(PARAMETERS p) { of_f32<video, 8>(p); }      \
    KERNEL conv3d_backward_weight_f32_##video##_small(PARAMETERS p) { of_f32<video, 4>(p); }
// Four warps, of which four blocks are enough: more would cost registers that the compiler has no other place for.
#define SMALL_KERNEL extern "C" __global__ void __launch_bounds__(128, 4)
#define DEFINE(name, video)                                                                                   \
    KERNEL conv3d_backward_weight_##name##_##video##_large(PARAMETERS p) { of_half<name, video, 128, 4>(p); } \
    SMALL_KERNEL conv3d_backward_weight_##name##_##video##_small(PARAMETERS p) { of_half<name, video, 64, 2>(p); }
DEFINE_F32(f32)
DEFINE_F32(u8)
DEFINE(bf16, bf16)
DEFINE(bf16, u8)
DEFINE(f16, f16)
DEFINE(f16, u8)

#define FINISH(name, type) \
    KERNEL conv3d_backward_weight_finish_##name(PARAMETERS p) { finish<type>(p); }
FOR_EACH_FLOAT(FINISH)
