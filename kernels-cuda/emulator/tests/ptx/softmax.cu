extern "C" __global__ void softmax(const float* x, float* y, unsigned n) {
    __shared__ float scratch[32];
    x += blockIdx.x * n; y += blockIdx.x * n;
    float most = __int_as_float(0xff800000);
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) most = fmaxf(most, x[i]);
    for (int s = 16; s; s >>= 1) most = fmaxf(most, __shfl_xor_sync(~0u, most, s));
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = most;
    __syncthreads();
    for (unsigned w = 0; w < blockDim.x / 32; ++w) most = fmaxf(most, scratch[w]);
    float sum = 0;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) sum += expf(x[i] - most);
    for (int s = 16; s; s >>= 1) sum += __shfl_xor_sync(~0u, sum, s);
    __syncthreads();
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += scratch[w];
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) y[i] = expf(x[i] - most) / sum;
}
