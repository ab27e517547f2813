//! WGSL kernels of Tubelet.
