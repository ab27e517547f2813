//! Shared support of the Tubelet benches.
