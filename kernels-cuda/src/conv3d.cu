// y[b, t, h, w, o] = bias[o] + position[t, h, w, o] + sum of weight[o, i, j, k, c] * v(b, t s0 + d0 + i - p0, ...), v the normalised video, 0 in the padding.
// The video is u8 or of the weight's type and has any strides; weight, bias, position and y are contiguous.
//
// A product of tubes (tubes.cuh) and weights: tubes are gathered, converted and normalised while tiles are filled, so that a clip of bytes is read as such
// and no matrix of patches, several times as large, is ever written. Tiles and splits are those of gemm.cu. `conv3d_finish` adds the splits, and brings the
// results of several groups of channels to their places.
#include "tubes.cuh"

struct Parameters {
    Tubes tubes;
    Product product;
    const void* weight;  // [groups, O / groups, elements]
    Epilogue epilogue;   // of all groups
    u32 weight_wide;
    u32 unused;
};

// Neither a function nor a factor: the compiler leaves their code out.
DEVICE Epilogue plain(Epilogue e) {
    e.function = NONE;
    e.alpha = 1.0f;
    return e;
}

template <class T, class Tile, int SIZE, class Source, class Weight> DEVICE void conv3d(const Parameters& p, const Share& at, const Source& tubes, Weight& weight) {
    weight.base = static_cast<const T*>(p.weight) + (i64)at.group * p.product.columns * p.tubes.elements;
    weight.row_stride = p.tubes.elements;
    weight.depth_stride = 1;
    weight.rows = p.product.columns;
    weight.depth = p.tubes.elements;
    weight.wide = p.weight_wide;
    weight.across = false;
    extern __shared__ float4 dynamic_shared[];
    float* shared = reinterpret_cast<float*>(dynamic_shared);
    Tile::product(tubes, weight, at.m0, at.n0, at.k0, at.k1, shared);
    if (p.product.splits > 1 || p.product.groups > 1) {
        store_share<SIZE, SIZE, Tile>(p.product, at, shared);
    } else {
        store_tile<T, SIZE, SIZE, Tile::PITCH, Tile::THREADS>(plain(p.epilogue), shared, at.m0, at.n0, 0, 0);
    }
}

template <class Video, int S> DEVICE void conv3d_f32(const Parameters& p) {
    const Share at = share_of_block<16 * S, 16 * S>(p.product);
    const TubeRows<Video> tubes = {TubeReader<Video>(p.tubes, at.group), false};
    Matrix<float> weight;
    conv3d<float, Simt<S>, 16 * S>(p, at, tubes, weight);
}

template <class T, class Video, int SIZE, int WARPS_N> DEVICE void conv3d_half(const Parameters& p) {
    const Share at = share_of_block<SIZE, SIZE>(p.product);
    const TubeTiles<T, Video> tubes = {TubeReader<Video>(p.tubes, at.group), p.tubes.parts};
    PartedMatrix<T> weight;
    weight.parts = p.tubes.parts;
    conv3d<T, Mma<T, SIZE, SIZE, 2, WARPS_N, ALONG, ALONG>, SIZE>(p, at, tubes, weight);
}

template <class T> DEVICE void finish(const Parameters& p) {
    const Epilogue e = plain(p.epilogue);
    const u32 index = thread_index();
    if (index >= e.rows * e.columns) return;
    const u32 row = index / e.columns, column = index % e.columns;
    const float sum = sum_of_parts(p.product, column / p.product.columns, row, column % p.product.columns);
    static_cast<T*>(e.y)[index] = from_float<T>(activated<T>(e, column, sum) + residual_at<T>(e, 0, row, column));
}

#define DEFINE_F32(video)                                                                \
    KERNEL conv3d_f32_##video##_large(PARAMETERS p) { conv3d_f32<video, 8>(p); }         \
    ROOMY_KERNEL conv3d_f32_##video##_small(PARAMETERS p) { conv3d_f32<video, 4>(p); }
#define DEFINE(name, video)                                                              \
    KERNEL conv3d_##name##_##video##_large(PARAMETERS p) { conv3d_half<name, video, 128, 4>(p); } \
    ROOMY_KERNEL conv3d_##name##_##video##_small(PARAMETERS p) { conv3d_half<name, video, 64, 2>(p); }
DEFINE_F32(f32)
DEFINE_F32(u8)
DEFINE(bf16, bf16)
DEFINE(bf16, u8)
DEFINE(f16, f16)
DEFINE(f16, u8)

#define FINISH(name, type) \
    KERNEL conv3d_finish_##name(PARAMETERS p) { finish<type>(p); }
FOR_EACH_FLOAT(FINISH)

// ---- constants ----

// Scale and shift go with the launch: an upload would wait for the kernels before.
struct Constants {
    float* to;
    u32 count;
    u32 unused;
    float value[256];
};

KERNEL conv3d_constants(const __grid_constant__ Constants p) {
    if (threadIdx.x < p.count) p.to[threadIdx.x] = p.value[threadIdx.x];
}
