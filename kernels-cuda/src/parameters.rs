//! Kernel parameters: structs that have the same bytes here and in the `.cu` file.

/// Declares the by-value parameter of a kernel. A struct whose fields leave gaps does not compile.
macro_rules! parameters {
    ($(#[$attribute:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$attribute])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub(crate) struct $name {
            $(pub $field: $type),*
        }

        const _: () = {
            const fn plain<T: bytemuck::Pod>() -> usize {
                size_of::<T>()
            }
            assert!(size_of::<$name>() == 0 $(+ plain::<$type>())*, "the fields leave gaps");
        };
        // SAFETY: every field is plain data (checked above).
        unsafe impl bytemuck::Zeroable for $name {}
        // SAFETY: every field is plain data and there are no gaps between them (checked above).
        unsafe impl bytemuck::Pod for $name {}
    };
}

/// The PTX of the operation that the file is named after; for Hopper too where its `.cu` says so.
macro_rules! module {
    ($name:literal) => {
        static MODULE: crate::driver::Module = crate::driver::Module {
            name: $name,
            ptx: concat!(include_str!(concat!("../ptx/", $name, ".ptx")), "\0"),
            hopper: None,
        };
    };
    ($name:literal, and for hopper) => {
        static MODULE: crate::driver::Module = crate::driver::Module {
            name: $name,
            ptx: concat!(include_str!(concat!("../ptx/", $name, ".ptx")), "\0"),
            hopper: Some(concat!(include_str!(concat!("../ptx/", $name, ".compute_90a.ptx")), "\0")),
        };
    };
}
