// The tubes that a convolution reads, as a matrix that is never stored: row m is a position of the kernel, column k an element of the tube under it.
//
// A chunk of neighbours along k is one access where it lies side by side in the video (`wide`), and is gathered element by element where it does not: channels
// first, runs of odd length, padding to the left. Divisions are multiplications (divisor.cuh), and places in the video 32-bit numbers that may wrap around on
// the way: filling tiles costs about as many instructions as multiplying them.
//
// Voxels that are normalised on the way have more digits than bf16 or f16. Tensor cores take them in two halves, `upper + lower`, of which the lower is what
// rounding the upper has left: then each tile of depth comes twice, once with either half (`parts` = 2).
#pragma once
#include "divisor.cuh"
#include "mma.cuh"

struct Tubes {
    const void* video;   // [B, T, H, W, C]
    const float* scale;  // [groups, kw, C / groups]: what the elements of a run are multiplied by, or null
    const float* shift;
    u32 stride[5];
    Divisor place[3];   // T', H', W'
    Divisor run;        // kw * C / groups
    Divisor channels;   // C / groups
    Divisor height;     // kh
    u32 size[3];        // T, H, W
    u32 step[3];
    i32 start[3];
    u32 positions;  // B * T' * H' * W'
    u32 elements;   // kt * kh * kw * C / groups
    u32 parts;
    u32 wide;
};

template <class Video> struct TubeReader {
    const Tubes& p;
    const Video* video;
    const float* scale;
    const float* shift;

    DEVICE TubeReader(const Tubes& tubes, u32 group) : p(tubes) {
        video = static_cast<const Video*>(p.video) + group * p.channels.divisor * p.stride[4];
        scale = p.scale ? p.scale + group * p.run.divisor : nullptr;
        shift = p.shift + group * p.run.divisor;
    }

    // Where a tube begins: maybe in the padding.
    struct Corner {
        u32 at;
        u32 t, h, w;
    };
    DEVICE Corner corner(u32 m) const {
        u32 b = m;
        const u32 w = split(b, p.place[2]), h = split(b, p.place[1]), t = split(b, p.place[0]);
        Corner out;
        out.t = t * p.step[0] + p.start[0];
        out.h = h * p.step[1] + p.start[1];
        out.w = w * p.step[2] + p.start[2];
        out.at = b * p.stride[0] + out.t * p.stride[1] + out.h * p.stride[2] + out.w * p.stride[3];
        return out;
    }

    // Element k of the tube at a corner.
    struct Element {
        u32 at;
        u32 in_run;
        bool inside;  // and not in the padding
    };
    DEVICE Element find(const Corner& corner, u32 k) const {
        u32 i = k;
        const u32 in_run = split(i, p.run), j = split(i, p.height);
        u32 column = in_run;
        const u32 channel = split(column, p.channels);
        Element out;
        out.at = corner.at + i * p.stride[1] + j * p.stride[2] + column * p.stride[3] + channel * p.stride[4];
        out.in_run = in_run;
        // Positions before the first wrap around to beyond the end.
        out.inside = corner.t + i < p.size[0] && corner.h + j < p.size[1] && corner.w + column < p.size[2];
        return out;
    }

    DEVICE float element(const Corner& corner, u32 k) const {
        const Element from = find(corner, k);
        if (!from.inside) return 0.0f;
        const float x = to_float(video[from.at]);
        return scale ? fmaf(scale[from.in_run], x, shift[from.in_run]) : x;
    }

    // The first element of a chunk that lies side by side.
    DEVICE Element find_chunk(u32 m, u32 k) const {
        Element from = find(corner(m), k);
        from.inside = from.inside && m < p.positions && k < p.elements;
        return from;
    }

    // Elements k .. k + V of the tube at position m, zeros outside; k is a multiple of V.
    template <int V> DEVICE void chunk(u32 m, u32 k, float (&out)[V]) const {
#pragma unroll
        for (int v = 0; v < V; ++v) out[v] = 0.0f;
        if (!p.wide) {
            if (m >= p.positions) return;
            const Corner at = corner(m);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                if (k + v < p.elements) out[v] = element(at, k + v);
            }
            return;
        }
        const Element from = find_chunk(m, k);
        if (!from.inside) return;
        const Pack<Video, V> pack = load_pack<Video, V>(video + from.at);
#pragma unroll
        for (int v = 0; v < V; ++v) out[v] = to_float(pack.x[v]);
        if (!scale) return;
#pragma unroll
        for (int g = 0; g < V; g += 4) {
            const Pack<float, 4> factor = load_pack<float, 4>(scale + from.in_run + g), term = load_pack<float, 4>(shift + from.in_run + g);
#pragma unroll
            for (int v = 0; v < 4; ++v) out[g + v] = fmaf(factor.x[v], out[g + v], term.x[v]);
        }
    }
};

// ---- sources of tiles: f32 ----

template <class Video> struct TubeRows {
    TubeReader<Video> tubes;
    bool across;

    template <int V> DEVICE void chunk(u32 row, u32 k, float (&out)[V]) const { tubes.chunk(row, k, out); }
};

// The transpose: rows are elements of tubes, depth is positions.
template <class Video> struct TubeColumns {
    TubeReader<Video> tubes;
    bool across;

    template <int V> DEVICE void chunk(u32 row, u32 k, float (&out)[V]) const {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const bool inside = row < tubes.p.elements && k + v < tubes.p.positions;
            out[v] = inside ? tubes.element(tubes.corner(k + v), row) : 0.0f;
        }
    }
};

// ---- sources of tiles: bf16 and f16 ----

// Depth as tiles count it where each comes `parts` times: what it means, and which half is wanted.
DEVICE u32 depth_of(u32 parts, u32 k) { return parts == 1 ? k : k / (2 * MMA_DEPTH) * MMA_DEPTH + k % MMA_DEPTH; }
DEVICE bool is_lower(u32 parts, u32 k) { return parts != 1 && k / MMA_DEPTH % 2 != 0; }

// Two neighbours rounded by one instruction.
template <class T> DEVICE u32 round_pair(float a, float b);
template <> DEVICE u32 round_pair<bf16>(float a, float b) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const u32*>(&pair);
}
template <> DEVICE u32 round_pair<f16>(float a, float b) {
    const __half2 pair = __floats2half2_rn(a, b);
    return *reinterpret_cast<const u32*>(&pair);
}

// What rounding to T leaves. Beyond the largest number the upper half is infinite, and enough.
template <class T> DEVICE float rest_of(float x) {
    const float rest = x - to_float(from_float<T>(x));
    return isfinite(rest) ? rest : 0.0f;
}

template <class T, class Video> struct TubeTiles {
    TubeReader<Video> tubes;
    u32 parts;

    DEVICE void place(u32 to, u32 row, u32 k) const { put(to, row, depth_of(parts, k), is_lower(parts, k)); }
    DEVICE void place_across(u32 to, u32 row, u32 k) const { put(to, depth_of(parts, k), row, is_lower(parts, k)); }

    DEVICE void put(u32 to, u32 m, u32 k, bool lower) const {
        if constexpr (sizeof(T) == sizeof(Video)) {
            if (tubes.p.wide && !tubes.scale) {
                const auto from = tubes.find_chunk(m, k);
                copy_async(to, tubes.video + (from.inside ? from.at : 0), from.inside ? 16 : 0);
                return;
            }
        }
        float x[8];
        tubes.chunk(m, k, x);
        if (lower) {
#pragma unroll
            for (int v = 0; v < 8; ++v) x[v] = rest_of<T>(x[v]);
        }
        store_chunk(to, make_uint4(round_pair<T>(x[0], x[1]), round_pair<T>(x[2], x[3]), round_pair<T>(x[4], x[5]), round_pair<T>(x[6], x[7])));
    }
};

// The matrices beside tubes that come in parts: one with depth side by side in memory, and one with rows, of any number.
template <class T> struct PartedMatrix : TiledMatrix<T> {
    u32 parts;

    DEVICE void place(u32 to, u32 row, u32 k) const { TiledMatrix<T>::place(to, row, depth_of(parts, k)); }
};
template <class T> struct PartedColumns : TiledMatrix<T> {
    u32 parts;

    DEVICE void place_across(u32 to, u32 row, u32 k) const {
        k = depth_of(parts, k);
        if (this->wide) {
            TiledMatrix<T>::place_across(to, row, k);
            return;
        }
        const T* from = this->base + row + k * this->depth_stride;
        T held[8];
#pragma unroll
        for (int v = 0; v < 8; ++v) held[v] = k < this->depth && row + v < this->rows ? from[v] : from_float<T>(0.0f);
        store_chunk(to, *reinterpret_cast<const uint4*>(held));
    }
};

// ---- products ----

struct Product {
    float* partial;  // [splits, groups, rows, columns]
    u32 rows;
    u32 columns;
    u32 depth;
    u32 splits;
    u32 split_depth;  // a multiple of 32
    u32 groups;
};

// What block `blockIdx.x` computes: as in gemm.cu.
struct Share {
    u32 m0, n0, k0, k1, split, group;
};
template <int ROWS, int COLUMNS> DEVICE Share share_of_block(const Product& p) {
    const u32 tiles_m = (p.rows + ROWS - 1) / ROWS, tiles_n = (p.columns + COLUMNS - 1) / COLUMNS;
    u32 block = blockIdx.x;
    const u32 tile = block % (tiles_m * tiles_n);
    block /= tiles_m * tiles_n;
    const u32 band = tile / (8 * tiles_n), first = band * 8, height = min(8u, tiles_m - first), inside = tile - first * tiles_n;
    const u32 split = block % p.splits, k0 = split * p.split_depth;
    return {(first + inside % height) * ROWS, inside / height * COLUMNS, k0, min(p.depth, k0 + p.split_depth), split, block / p.splits};
}

template <int ROWS, int COLUMNS, class Tile> DEVICE void store_share(const Product& p, const Share& at, const float* tile) {
    float* to = p.partial + ((i64)at.split * p.groups + at.group) * p.rows * p.columns;
    store_partial<ROWS, COLUMNS, Tile::PITCH, Tile::THREADS>(to, tile, at.m0, at.n0, p.rows, p.columns);
}

// The sum of what the splits have left for one result.
DEVICE float sum_of_parts(const Product& p, u32 group, u32 row, u32 column) {
    const i64 size = (i64)p.rows * p.columns;
    const float* from = p.partial + group * size + (i64)row * p.columns + column;
    float sum = 0.0f;
    for (u32 s = 0; s < p.splits; ++s) sum += from[s * p.groups * size];
    return sum;
}
