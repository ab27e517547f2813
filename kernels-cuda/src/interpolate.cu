// Trilinear resampling of T, H and W; see resample.cuh. x has any strides, y is contiguous.
#include "resample.cuh"

#define DEFINE(name, type) \
    KERNEL interpolate_##name(PARAMETERS p) { resample<type>(p); }
FOR_EACH_FLOAT(DEFINE)
