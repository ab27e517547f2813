//! Reverse-mode differentiation for Tubelet.
