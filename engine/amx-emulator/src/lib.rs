//! Executes AMX's machine code on processors without AMX, so that tests run what is shipped: [`install`] takes the signal that a processor sends
//! at an instruction it does not know, executes it, and goes on behind it.
//!
//! What a kernel of bf16 products needs is there, and nothing else: `ldtilecfg`, `sttilecfg`, `tilerelease`, `tilezero`, `tileloadd`, `tileloaddt1`,
//! `tilestored`, `tdpbf16ps`, with tiles of their own for each thread, as Intel's manual says (Software Developer's Manual, volume 2). Where a
//! processor would raise an exception (tiles that are not configured, shapes that do not fit, reserved bits that are set) the process ends with a
//! message, as it does at any other unknown instruction.
//!
//! Arithmetic is that of the manual to the bit: for an element of the result the products of even and of odd elements are summed apart, each by
//! multiply-adds that round once, then both sums are added, then the element; numbers below 2⁻¹²⁶ are 0 everywhere. The processor under the emulator
//! does these, with its control register set to that. (A real AMX unit may group the sums otherwise: the manual's order is the only one that is
//! written down.) What no emulator can prove is speed, the system's leave to use the tiles, and that the manual is right.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod decode;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod signal;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tiles;

/// From here on AMX's instructions run in this process, or the reason why they cannot.
pub fn install() -> Result<(), String> {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    return signal::install();
    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    Err("AMX is emulated on Linux and x86-64 alone".into())
}
