// Hopper's own instructions: bulk copies of tiles by tensor maps, mbarriers that count their bytes, products of warpgroups.
//
// Tiles have rows of 64 elements of depth, 128 bytes, permuted by the copy engine as `wgmma` reads them (swizzle of 128 bytes).
#pragma once
#include "mma.cuh"

// ---- tensor maps: encoded by the driver, read by the copy engine alone ----

struct alignas(64) TensorMap {
    u64 opaque[16];
};

// ---- mbarriers, by their addresses in shared memory ----

DEVICE void barrier_init(u32 barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// What this thread has initialised, the copy engine may use.
DEVICE void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void barrier_arrive(u32 barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }
DEVICE void barrier_arrive_expecting(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// Until the phase of this parity is over. One that never was counts as over for parity 1.
DEVICE void barrier_wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n.reg .pred over;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n@over bra done;\nbra again;\ndone:\n}" ::"r"(barrier),
        "r"(parity)
        : "memory");
}

// Arrives at the barrier that block `block` of the cluster has at the same place.
DEVICE void barrier_arrive_at(u32 barrier, u32 block) {
    asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\nmbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}" ::"r"(barrier),
                 "r"(block)
                 : "memory");
}
// All threads of the cluster.
DEVICE void sync_cluster() {
    __syncwarp();
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// A tile of a matrix in a stack of them to shared memory; what is outside is zeros.
DEVICE void copy_tile(u32 to, const TensorMap& map, u32 depth, u32 row, u32 matrix, u32 barrier) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to), "l"(&map),
                 "r"(barrier), "r"(depth), "r"(row), "r"(matrix)
                 : "memory");
}

// The same for each of the blocks of a cluster that `blocks` names by bits: to the same place, and to be completed at the same barrier of each.
DEVICE void copy_tile_to(u32 blocks, u32 to, const TensorMap& map, u32 depth, u32 row, u32 matrix, u32 barrier) {
    asm volatile(
        "{\n.reg .b16 blocks;\ncvt.u16.u32 blocks, %6;\n"
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], blocks;\n}" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(depth), "r"(row), "r"(matrix), "r"(blocks)
        : "memory");
}

// The same of one head among sequences.
DEVICE void copy_head_tile(u32 to, const TensorMap& map, u32 column, u32 row, u32 head, u32 other, u32 batch, u32 barrier) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to), "l"(&map),
        "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(other), "r"(batch)
        : "memory");
}

// Bytes that lie side by side, a multiple of 16 as both addresses are.
DEVICE void copy_bytes(u32 to, const void* from, u32 bytes, u32 barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}

// A tile of a matrix in a stack of them, from shared memory; what is outside is not written. It belongs to a group of this thread's.
DEVICE void store_piece(const TensorMap& map, u32 column, u32 row, u32 matrix, u32 from) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map), "r"(from), "r"(column), "r"(row), "r"(matrix)
                 : "memory");
}
DEVICE void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until the engine has read all but the last PENDING groups: their place may be written again, or go with the block.
template <int PENDING> DEVICE void await_reads() { asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory"); }
// What this thread has written to shared memory, the copy engine and tensor cores may read.
DEVICE void fence_copies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The reverse of `load_matrices`.
DEVICE void store_matrices(u32 to, const u32 (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}

// ---- products of warpgroups ----

// Keeps the compiler from moving what computes these numbers, or what reads them, past the fence or the wait that stands beside: it knows of no register
// that an asynchronous product uses.
template <int N> DEVICE void pin(float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(x[i])::"memory");
}
template <int N> DEVICE void pin(u32 (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+r"(x[i])::"memory");
}

// Before the first product, and after the sums were touched.
DEVICE void fence_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING> DEVICE void await_products() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory"); }

// How a warpgroup's share of the registers changes; both multiples of 8, and all of a block's together what it began with.
template <int COUNT> DEVICE void fewer_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT> DEVICE void more_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }

// A tile of rows of 128 bytes, from a multiple of 1024 on: groups of eight rows 1024 bytes apart. 16 elements further along the depth are 2 more.
DEVICE u64 tile_descriptor(u32 tile) { return (u64)(tile >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62; }

// A tile whose rows lie across: 64 of them side by side in 128 bytes, for each k; eight k 1024 bytes apart, the next 64 rows `leading` bytes further.
// 16 elements further along the depth are 128 more.
DEVICE u64 across_descriptor(u32 tile, u32 leading) {
    return (u64)(tile >> 4) | (u64)(leading >> 4) << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

// Sums of 64 rows and N columns, as four warps hold them: row 16 w + l / 4 + 8 (i / 2 mod 2), column 8 (i / 4) + 2 (l mod 4) + i mod 2.
// Of either operand it is said whether its rows lie across.
template <class T, int N> struct Products;

#define SUMS_16(i) \
    "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), "+f"(c[i + 6]), "+f"(c[i + 7]), "+f"(c[i + 8]), \
        "+f"(c[i + 9]), "+f"(c[i + 10]), "+f"(c[i + 11]), "+f"(c[i + 12]), "+f"(c[i + 13]), "+f"(c[i + 14]), "+f"(c[i + 15])

#define PRODUCT_64(type, name) \
    template <> struct Products<type, 64> { \
        template <int ACROSS_A = 0, int ACROSS_B = 0> static DEVICE void multiply_add(float (&c)[32], u64 a, u64 b, u32 adds) { \
            asm volatile("{\n.reg .pred adds;\nsetp.ne.u32 adds, %34, 0;\n" \
                "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name " {" \
                "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
                "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
                "}, %32, %33, adds, 1, 1, %35, %36;\n}" \
                : SUMS_16(0), SUMS_16(16) \
                : "l"(a), "l"(b), "r"(adds), "n"(ACROSS_A), "n"(ACROSS_B)); \
        } \
    };
PRODUCT_64(bf16, "bf16")
PRODUCT_64(f16, "f16")

#define PRODUCT_128(type, name) \
    template <> struct Products<type, 128> { \
        template <int ACROSS_A = 0, int ACROSS_B = 0> static DEVICE void multiply_add(float (&c)[64], u64 a, u64 b, u32 adds) { \
            asm volatile("{\n.reg .pred adds;\nsetp.ne.u32 adds, %66, 0;\n" \
                "wgmma.mma_async.sync.aligned.m64n128k16.f32." name "." name " {" \
                "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
                "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
                "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
                "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63" \
                "}, %64, %65, adds, 1, 1, %67, %68;\n}" \
                : SUMS_16(0), SUMS_16(16), SUMS_16(32), SUMS_16(48) \
                : "l"(a), "l"(b), "r"(adds), "n"(ACROSS_A), "n"(ACROSS_B)); \
        } \
    };
PRODUCT_128(bf16, "bf16")
PRODUCT_128(f16, "f16")

#define PRODUCT_256(type, name) \
    template <> struct Products<type, 256> { \
        template <int ACROSS_A = 0, int ACROSS_B = 0> static DEVICE void multiply_add(float (&c)[128], u64 a, u64 b, u32 adds) { \
            asm volatile("{\n.reg .pred adds;\nsetp.ne.u32 adds, %130, 0;\n" \
                "wgmma.mma_async.sync.aligned.m64n256k16.f32." name "." name " {" \
                "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
                "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
                "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
                "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
                "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
                "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
                "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
                "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127" \
                "}, %128, %129, adds, 1, 1, %131, %132;\n}" \
                : SUMS_16(0), SUMS_16(16), SUMS_16(32), SUMS_16(48), SUMS_16(64), SUMS_16(80), SUMS_16(96), SUMS_16(112) \
                : "l"(a), "l"(b), "r"(adds), "n"(ACROSS_A), "n"(ACROSS_B)); \
        } \
    };
PRODUCT_256(bf16, "bf16")
PRODUCT_256(f16, "f16")

// sums += the weights of 64 rows and 16 keys, in registers as of an mma.sync m16n8k16, times N columns of 16 rows of a tile: the columns lie side by
// side, 64 of them in a row of 128 bytes, the next 64 `leading` bytes further.
template <class T, int N> struct Weighted;

#define SUMS_8(i) \
    "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), "+f"(c[i + 6]), "+f"(c[i + 7])
#define SUMS_4(i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])

#define WEIGHTED_64(type, name) \
    template <> struct Weighted<type, 64> { \
        static DEVICE void multiply_add(float (&c)[32], const u32 (&a)[4], u64 b) { \
            asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name " {" \
                "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
                "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
                "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;" \
                : SUMS_16(0), SUMS_16(16) \
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)); \
        } \
    };
WEIGHTED_64(bf16, "bf16")
WEIGHTED_64(f16, "f16")
#define WEIGHTED_80(type, name) \
    template <> struct Weighted<type, 80> { \
        static DEVICE void multiply_add(float (&c)[40], const u32 (&a)[4], u64 b) { \
            asm volatile("wgmma.mma_async.sync.aligned.m64n80k16.f32." name "." name " {" \
                "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
                "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
                "%32, %33, %34, %35, %36, %37, %38, %39" \
                "}, {%40, %41, %42, %43}, %44, 1, 1, 1, 1;" \
                : SUMS_16(0), SUMS_16(16), SUMS_8(32) \
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)); \
        } \
    };
WEIGHTED_80(bf16, "bf16")
WEIGHTED_80(f16, "f16")
#define WEIGHTED_88(type, name) \
    template <> struct Weighted<type, 88> { \
        static DEVICE void multiply_add(float (&c)[44], const u32 (&a)[4], u64 b) { \
            asm volatile("wgmma.mma_async.sync.aligned.m64n88k16.f32." name "." name " {" \
                "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
                "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
                "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43" \
                "}, {%44, %45, %46, %47}, %48, 1, 1, 1, 1;" \
                : SUMS_16(0), SUMS_16(16), SUMS_8(32), SUMS_4(40) \
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)); \
        } \
    };
WEIGHTED_88(bf16, "bf16")
WEIGHTED_88(f16, "f16")
#define WEIGHTED_128(type, name) \
    template <> struct Weighted<type, 128> { \
        static DEVICE void multiply_add(float (&c)[64], const u32 (&a)[4], u64 b) { \
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." name "." name " {" \
                "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
                "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
                "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
                "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63" \
                "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;" \
                : SUMS_16(0), SUMS_16(16), SUMS_16(32), SUMS_16(48) \
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)); \
        } \
    };
WEIGHTED_128(bf16, "bf16")
WEIGHTED_128(f16, "f16")
