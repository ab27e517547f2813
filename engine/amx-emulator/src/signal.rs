//! The signal of an illegal instruction, taken, executed and stepped over.

use std::{cell::RefCell, mem, ptr, sync::OnceLock};

use crate::{
    decode::{LONGEST, Registers, decode},
    tiles::Tiles,
};

thread_local! {
    /// Nothing of it is made or dropped at run time, so a handler may touch it.
    static TILES: RefCell<Tiles> = const { RefCell::new(Tiles::NONE) };
}

pub(crate) fn install() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let take = || {
        if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
            return Err("AMX is emulated by AVX2 and FMA, which this processor lacks".into());
        }
        // SAFETY: all zeros are an action; its handler has the type that SA_SIGINFO asks for.
        let taken = unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = illegal as extern "C" fn(_, _, _) as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &action, ptr::null_mut())
        };
        if taken == 0 { Ok(()) } else { Err(format!("the signal handler: {}", std::io::Error::last_os_error())) }
    };
    DONE.get_or_init(take).clone()
}

extern "C" fn illegal(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    /// The registers of a context in the order of their numbers in encodings.
    const ORDER: [i32; 16] = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];
    // SAFETY: with SA_SIGINFO the third argument is the interrupted thread's context, which nobody else has.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let values: Registers = ORDER.map(|i| registers[i as usize] as u64);
    let at = registers[libc::REG_RIP as usize];
    let mut code = [0; LONGEST];
    // SAFETY: code runs there, and functions do not end within 15 bytes of the end of the text: the C library's exit code follows.
    unsafe { code.as_mut_ptr().copy_from_nonoverlapping(at as *const u8, LONGEST) };
    let done = decode(&code, &values).and_then(|(instruction, length)| {
        // A kernel's accesses are its own; a bad one is a segmentation fault here as it would be there. SAFETY: as said.
        let execute = |tiles: &RefCell<Tiles>| unsafe { tiles.borrow_mut().execute(instruction) };
        TILES.with(execute).map(|()| length)
    });
    match done {
        Ok(length) => registers[libc::REG_RIP as usize] = at + length as i64,
        Err(reason) => fault(reason, &code),
    }
}

/// Ends the process with a message, by means that are allowed in a handler.
fn fault(reason: &str, code: &[u8; LONGEST]) -> ! {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [b' '; 3 * LONGEST];
    for (i, byte) in code.iter().enumerate() {
        hex[3 * i] = DIGITS[usize::from(byte >> 4)];
        hex[3 * i + 1] = DIGITS[usize::from(byte & 15)];
    }
    for text in [b"illegal instruction: ".as_slice(), reason.as_bytes(), b"; at the bytes ", &hex, b"\n"] {
        // SAFETY: the text is valid for its length.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }
    // SAFETY: ends the process, with no way back into the kernel that was wrong.
    unsafe { libc::abort() }
}
