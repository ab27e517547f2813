// The transpose of trilinear resampling; see resample.cuh. The gradient has any strides, dx is contiguous.
#include "resample.cuh"

#define DEFINE(name, type) \
    KERNEL interpolate_backward_##name(PARAMETERS p) { resample<type>(p); }
FOR_EACH_FLOAT(DEFINE)
