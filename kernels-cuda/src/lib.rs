//! CUDA (PTX) kernels of Tubelet.
