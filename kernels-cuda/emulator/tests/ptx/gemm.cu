// C[m][n] = A[m][k] B[n][k]^T: 64x64 tiles, four warps, three stages of cp.async, ldmatrix, mma.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
typedef unsigned u32;
template <class T> struct Mma;
template <> struct Mma<__half> { static __device__ void run(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); } };
template <> struct Mma<__nv_bfloat16> { static __device__ void run(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); } };
constexpr int TILE = 64, K = 32, STAGES = 3, PITCH = K + 8;
template <class T> __device__ void fetch(T* to, const T* from, u32 rows, u32 first, u32 k, u32 at) {
#pragma unroll 1
    for (u32 i = threadIdx.x; i < TILE * K / 8; i += 128) {
        u32 row = i / (K / 8), column = i % (K / 8) * 8;
        u32 bytes = first + row < rows && at + column < k ? 16 : 0;
        const T* source = bytes ? from + (unsigned long long)(first + row) * k + at + column : from;
        u32 target = (u32)__cvta_generic_to_shared(to + row * PITCH + column);
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(target), "l"(source), "r"(bytes));
    }
}
template <class T> __device__ void gemm(const T* a, const T* b, float* c, u32 m, u32 n, u32 k) {
    extern __shared__ __align__(16) unsigned char memory[];
    T* stages = (T*)memory;
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 row0 = blockIdx.y * TILE, column0 = blockIdx.x * TILE, steps = (k + K - 1) / K;
    auto start = [&](u32 step) {
        T* to = stages + step % STAGES * 2 * TILE * PITCH;
        if (step < steps) { fetch(to, a, m, row0, k, step * K); fetch(to + TILE * PITCH, b, n, column0, k, step * K); }
        asm volatile("cp.async.commit_group;");
    };
    for (u32 s = 0; s + 1 < STAGES; ++s) start(s);
    float sums[2][4][4] = {};
    u32 wr = warp / 2 * 32, wc = warp % 2 * 32;
#pragma unroll 1
    for (u32 step = 0; step < steps; ++step) {
        asm volatile("cp.async.wait_group %0;" :: "n"(STAGES - 2));
        __syncthreads();
        start(step + STAGES - 1);
        T* ta = stages + step % STAGES * 2 * TILE * PITCH; T* tb = ta + TILE * PITCH;
        for (u32 kk = 0; kk < K; kk += 16) {
            u32 fa[2][4], fb[4][2];
            for (u32 i = 0; i < 2; ++i) {
                u32 p = (u32)__cvta_generic_to_shared(ta + (wr + 16 * i + lane % 16) * PITCH + kk + lane / 16 * 8);
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(fa[i][0]), "=r"(fa[i][1]), "=r"(fa[i][2]), "=r"(fa[i][3]) : "r"(p));
            }
            for (u32 j = 0; j < 4; ++j) {
                u32 p = (u32)__cvta_generic_to_shared(tb + (wc + 8 * j + lane % 8) * PITCH + kk + lane / 8 % 2 * 8);
                asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(fb[j][0]), "=r"(fb[j][1]) : "r"(p));
            }
            for (u32 i = 0; i < 2; ++i) for (u32 j = 0; j < 4; ++j) Mma<T>::run(sums[i][j], fa[i], fb[j]);
        }
    }
    for (u32 i = 0; i < 2; ++i) for (u32 j = 0; j < 4; ++j) for (u32 e = 0; e < 4; ++e) {
        u32 row = row0 + wr + 16 * i + lane / 4 + e / 2 * 8, column = column0 + wc + 8 * j + lane % 4 * 2 + e % 2;
        if (row < m && column < n) c[(unsigned long long)row * n + column] = sums[i][j][e];
    }
}
extern "C" __global__ void gemm_f16(const __half* a, const __half* b, float* c, u32 m, u32 n, u32 k) { gemm(a, b, c, m, n, k); }
extern "C" __global__ void gemm_bf16(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, u32 m, u32 n, u32 k) { gemm(a, b, c, m, n, k); }
