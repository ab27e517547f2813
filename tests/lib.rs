//! Shared support of the Tubelet tests.
