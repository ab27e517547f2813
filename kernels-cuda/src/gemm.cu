// y = residual + f(alpha * x * weight^T + bias), of one or many matrices; operands have any strides, y is contiguous.
//
// Large products are computed in tiles of 128 x 128 by eight warps: each number in shared memory serves 128 multiply-adds, and two blocks fit a
// multiprocessor. Small ones, where that would leave multiprocessors idle, take tiles of 64 x 64; those whose result is small beside their depth (the
// gradient of a weight) are split along k as well, and `gemm_finish` adds the parts in order. All this follows from the shapes alone.
//
// Half types run on tensor cores (mma.cuh), f32 on the ordinary ones (product.cuh). Half types whose rows lie along m or n in memory (transposed views:
// across) are read as they are; what cp.async cannot read, the tiles gather element by element.
//
// On Hopper, half types that the copy engine can read, along or across, go by gemm_hopper.cuh.
//
// Also for compute_90a.
#include "mma.cuh"

struct Parameters {
    const void* x;
    const void* weight;
    float* partial;  // [splits, batches, rows, columns] where splits > 1
    Epilogue epilogue;
    Nest<3> batch;  // of x, weight, residual
    i64 x_row, x_depth;
    i64 weight_row, weight_depth;
    u32 depth;
    u32 splits;
    u32 split_depth;  // a multiple of 32
    u32 batches;
    u32 x_wide;
    u32 weight_wide;
    u32 x_across;
    u32 weight_across;
    // Of gemm_hopper.cuh alone: tiles of all parts and batches, whether there is an operand for each batch, and whether the copy engine moves the
    // results.
    u32 tiles;
    u32 x_batched;
    u32 weight_batched;
    u32 residual_batched;
    u32 by_engine;
    u32 unused[11];  // tensor maps stand at multiples of 64 bytes, and so do structs of them
};

extern __shared__ float4 dynamic_shared[];

// What block `block` computes. Neighbouring blocks go down eight tiles of rows before they go on to the next column, so that they share
// tiles of both operands in the cache.
struct Place {
    u32 m0, n0, split, batch;
};
template <int ROWS, int COLUMNS> DEVICE Place place(const Parameters& p, u32 block) {
    const u32 tiles_m = (p.epilogue.rows + ROWS - 1) / ROWS, tiles_n = (p.epilogue.columns + COLUMNS - 1) / COLUMNS;
    const u32 tile = block % (tiles_m * tiles_n);
    block /= tiles_m * tiles_n;
    const u32 band = tile / (8 * tiles_n), first = band * 8, height = min(8u, tiles_m - first), inside = tile - first * tiles_n;
    return {(first + inside % height) * ROWS, inside / height * COLUMNS, block % p.splits, block / p.splits};
}

template <class T, class Tile, int ROWS, int COLUMNS, template <class> class Operand> DEVICE void gemm(const Parameters& p) {
    const Place at = place<ROWS, COLUMNS>(p, blockIdx.x);
    i64 offset[3];
    locate(p.batch, at.batch, offset);
    Operand<T> x, weight;
    x.base = static_cast<const T*>(p.x) + offset[0];
    x.row_stride = p.x_row;
    x.depth_stride = p.x_depth;
    x.rows = p.epilogue.rows;
    x.depth = p.depth;
    x.wide = p.x_wide;
    x.across = p.x_across;
    weight.base = static_cast<const T*>(p.weight) + offset[1];
    weight.row_stride = p.weight_row;
    weight.depth_stride = p.weight_depth;
    weight.rows = p.epilogue.columns;
    weight.depth = p.depth;
    weight.wide = p.weight_wide;
    weight.across = p.weight_across;
    float* shared = reinterpret_cast<float*>(dynamic_shared);
    const u32 k0 = at.split * p.split_depth, k1 = min(p.depth, k0 + p.split_depth);
    Tile::product(x, weight, at.m0, at.n0, k0, k1, shared);
    const i64 size = (i64)p.epilogue.rows * p.epilogue.columns;
    if (p.splits > 1) {
        float* to = p.partial + ((i64)at.split * p.batches + at.batch) * size;
        store_partial<ROWS, COLUMNS, Tile::PITCH, Tile::THREADS>(to, shared, at.m0, at.n0, p.epilogue.rows, p.epilogue.columns);
    } else {
        store_tile<T, ROWS, COLUMNS, Tile::PITCH, Tile::THREADS>(p.epilogue, shared, at.m0, at.n0, offset[2], at.batch * size);
    }
}

// Adds the parts of a split product, in order.
template <class T> DEVICE void finish(const Parameters& p) {
    const u32 index = thread_index(), size = p.epilogue.rows * p.epilogue.columns, count = p.batches * size;
    if (index >= count) return;
    float sum = 0.0f;
    for (u32 s = 0; s < p.splits; ++s) sum += p.partial[(i64)s * count + index];
    const u32 batch = index / size, row = index % size / p.epilogue.columns, column = index % p.epilogue.columns;
    i64 offset[3];
    locate(p.batch, batch, offset);
    const float value = activated<T>(p.epilogue, column, sum) + residual_at<T>(p.epilogue, offset[2], row, column);
    static_cast<T*>(p.epilogue.y)[index] = from_float<T>(value);
}

KERNEL gemm_f32_large(PARAMETERS p) { gemm<float, Simt<8>, 128, 128, Matrix>(p); }
KERNEL gemm_f32_small(PARAMETERS p) { gemm<float, Simt<4>, 64, 64, Matrix>(p); }

#define TENSORS(name, type)                                                                                                                          \
    KERNEL gemm_##name##_large(PARAMETERS p) { gemm<type, Mma<type, 128, 128, 2, 4, ALONG, ALONG>, 128, 128, TiledMatrix>(p); }           \
    KERNEL gemm_##name##_large_across(PARAMETERS p) { gemm<type, Mma<type, 128, 128, 2, 4, EITHER, EITHER>, 128, 128, TiledMatrix>(p); } \
    KERNEL gemm_##name##_small(PARAMETERS p) { gemm<type, Mma<type, 64, 64, 2, 2, EITHER, EITHER>, 64, 64, TiledMatrix>(p); }
TENSORS(bf16, bf16)
TENSORS(f16, f16)

#define FINISH(name, type) \
    KERNEL gemm_finish_##name(PARAMETERS p) { finish<type>(p); }
FOR_EACH_FLOAT(FINISH)

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "gemm_hopper.cuh"
#endif
