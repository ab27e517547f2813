//! Reverse-mode differentiation over `tubelet_engine`: one backward rule for each operation, in terms of operations.
//!
//! This crate holds no rule yet. Recording will hook into the two places through which every tensor is made, `ops::run` and the views of
//! `Tensor`; an operation without a rule will refuse to be recorded. See `docs/status.md` for what exists.
