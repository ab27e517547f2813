// Resampling of the height and width of images, T being one frame; see resample.cuh. Bytes round to nearest even and saturate. x has any strides, y is
// contiguous.
#include "resample.cuh"

#define DEFINE(name, type) \
    KERNEL resize_##name(PARAMETERS p) { resample<type>(p); }
FOR_EACH_FLOAT(DEFINE)
DEFINE(u8, u8)
