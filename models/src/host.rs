//! Host memory whose size comes from a configuration or an option: too much of it is an error instead of an abort.

use tubelet_engine::{Error, Result};

/// An empty vector with room for `n` elements.
///
/// # Errors
/// [`Error::OutOfMemory`] if the system does not have the memory.
pub(crate) fn room<T>(n: usize) -> Result<Vec<T>> {
    let mut data = Vec::new();
    data.try_reserve_exact(n).map_err(|_| Error::OutOfMemory {
        device: "host".into(),
        requested: n.saturating_mul(size_of::<T>()),
        live: 0,
        limit: None,
    })?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        assert!(room::<u8>(100).unwrap().capacity() >= 100);
        for n in [usize::MAX, usize::MAX / 4] {
            let error = room::<f32>(n).unwrap_err();
            assert!(matches!(error, Error::OutOfMemory { requested: usize::MAX | 0xffff_ffff_ffff_fffc, .. }), "{error}");
        }
    }
}
