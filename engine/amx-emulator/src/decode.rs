//! The encodings of AMX's instructions: a prefix VEX of three bytes, an opcode, ModRM, and where there is memory SIB and a displacement.

/// An instruction, with addresses computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    LoadConfig {
        address: u64,
    },
    StoreConfig {
        address: u64,
    },
    Release,
    Zero {
        tile: usize,
    },
    Load {
        tile: usize,
        address: u64,
        stride: u64,
    },
    Store {
        tile: usize,
        address: u64,
        stride: u64,
    },
    /// `to += a · b` of pairs of bf16.
    Multiply {
        to: usize,
        a: usize,
        b: usize,
    },
}

/// The general registers by their numbers in encodings: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
pub(crate) type Registers = [u64; 16];

/// Bytes of the longest instruction.
pub(crate) const LONGEST: usize = 15;

/// What is at the instruction pointer, and its length; an error for anything that is not one of AMX's instructions, or would fault as such.
pub(crate) fn decode(code: &[u8; LONGEST], registers: &Registers) -> Result<(Instruction, usize), &'static str> {
    const OTHER: &str = "not an instruction of AMX that is emulated";
    let [0xC4, first, second, opcode, modrm, ..] = *code else { return Err(OTHER) };
    // R, X and B are stored inverted; R and X are 1 for tiles, and index registers have X.
    let (r, x, b, map) = (first & 0x80 == 0, first & 0x40 == 0, first & 0x20 == 0, first & 0x1F);
    let (w, vvvv, l, prefix) = (second & 0x80 != 0, !(second >> 3) & 0xF, second & 4 != 0, second & 3);
    if map != 2 || !matches!(opcode, 0x49 | 0x4B | 0x5C) {
        return Err(OTHER);
    }
    if w || l {
        return Err("VEX.W and VEX.L must be 0");
    }
    let (mode, reg, rm) = (modrm >> 6, usize::from(modrm >> 3 & 7), usize::from(modrm & 7));
    if opcode != 0x5C && vvvv != 0 {
        return Err("VEX.vvvv must be 1111b");
    }
    // The prefixes: none, 66, F3, F2.
    match (opcode, prefix, mode) {
        (0x49, 0 | 1, 0..=2) if reg == 0 => {
            let memory = memory(code, registers, x, b)?;
            let address = memory.base.wrapping_add(memory.index.unwrap_or(0));
            let instruction =
                if prefix == 0 { Instruction::LoadConfig { address } } else { Instruction::StoreConfig { address } };
            Ok((instruction, memory.length))
        }
        (0x49, 0, 3) if reg == 0 && rm == 0 => Ok((Instruction::Release, 5)),
        (0x49, 3, 3) if rm == 0 && !r => Ok((Instruction::Zero { tile: reg }, 5)),
        (0x4B, 1..=3, 0..=2) if !r => {
            if rm != 4 {
                return Err("a tile's memory must be given by SIB");
            }
            let memory = memory(code, registers, x, b)?;
            let (tile, address, stride) = (reg, memory.base, memory.index.unwrap_or(0));
            let load = prefix != 2;
            let instruction =
                if load { Instruction::Load { tile, address, stride } } else { Instruction::Store { tile, address, stride } };
            Ok((instruction, memory.length))
        }
        (0x5C, 2, 3) if !r && !b && vvvv < 8 => Ok((Instruction::Multiply { to: reg, a: rm, b: usize::from(vvvv) }, 5)),
        _ => Err(OTHER),
    }
}

/// A memory operand: base and displacement, and the scaled index.
struct Memory {
    base: u64,
    index: Option<u64>,
    /// Of the whole instruction.
    length: usize,
}

fn memory(code: &[u8; LONGEST], registers: &Registers, x: bool, b: bool) -> Result<Memory, &'static str> {
    let (modrm, mut length) = (code[4], 5);
    let (mode, rm) = (modrm >> 6, usize::from(modrm & 7));
    if mode == 0 && rm == 5 {
        return Err("addresses relative to the instruction are not emulated");
    }
    let extended = |low: usize, high: bool| low + if high { 8 } else { 0 };
    let (mut base, mut index) = (Some(extended(rm, b)), None);
    if rm == 4 {
        let sib = code[5];
        length += 1;
        base = Some(extended(usize::from(sib & 7), b)).filter(|_| mode != 0 || sib & 7 != 5);
        // Register 4 as an index is none.
        index = Some(extended(usize::from(sib >> 3 & 7), x)).filter(|&i| i != 4).map(|i| registers[i] << (sib >> 6));
    }
    let width = match (mode, base) {
        (0, Some(_)) => 0,
        (1, _) => 1,
        _ => 4,
    };
    let displacement = match width {
        0 => 0,
        1 => i64::from(code[length] as i8),
        _ => i64::from(i32::from_le_bytes([code[length], code[length + 1], code[length + 2], code[length + 3]])),
    };
    let base = base.map_or(0, |i| registers[i]).wrapping_add_signed(displacement);
    Ok(Memory { base, index, length: length + width })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bytes: &[u8]) -> Result<(Instruction, usize), &'static str> {
        let mut code = [0x90; LONGEST];
        code[..bytes.len()].copy_from_slice(bytes);
        decode(&code, &std::array::from_fn(|i| 1000 * i as u64))
    }

    /// What an assembler makes of each instruction.
    #[test]
    fn the_assembler_is_understood() {
        for (bytes, expected) in [
            // ldtilecfg [r8]; sttilecfg [r8 + 8]; ldtilecfg [rsp + 16]
            (&[0xC4, 0xC2, 0x78, 0x49, 0x00][..], Instruction::LoadConfig { address: 8000 }),
            (&[0xC4, 0xC2, 0x79, 0x49, 0x40, 0x08], Instruction::StoreConfig { address: 8008 }),
            (&[0xC4, 0xE2, 0x78, 0x49, 0x44, 0x24, 0x10], Instruction::LoadConfig { address: 4016 }),
            // tilerelease; tilezero tmm3
            (&[0xC4, 0xE2, 0x78, 0x49, 0xC0], Instruction::Release),
            (&[0xC4, 0xE2, 0x7B, 0x49, 0xD8], Instruction::Zero { tile: 3 }),
            // tileloadd tmm4, [rdi + rsi]; tileloadd tmm7, [rdx + rsi + 64]; tileloaddt1 tmm5, [rdx + 2 rsi + 0x1234]
            (&[0xC4, 0xE2, 0x7B, 0x4B, 0x24, 0x37], Instruction::Load { tile: 4, address: 7000, stride: 6000 }),
            (&[0xC4, 0xE2, 0x7B, 0x4B, 0x7C, 0x32, 0x40], Instruction::Load { tile: 7, address: 2064, stride: 6000 }),
            (
                &[0xC4, 0xE2, 0x79, 0x4B, 0xAC, 0x72, 0x34, 0x12, 0, 0],
                Instruction::Load { tile: 5, address: 2000 + 0x1234, stride: 12000 },
            ),
            // tilestored [rcx + rsi], tmm0; tdpbf16ps tmm0, tmm4, tmm7
            (&[0xC4, 0xE2, 0x7A, 0x4B, 0x04, 0x31], Instruction::Store { tile: 0, address: 1000, stride: 6000 }),
            (&[0xC4, 0xE2, 0x42, 0x5C, 0xC4], Instruction::Multiply { to: 0, a: 4, b: 7 }),
        ] {
            assert_eq!(at(bytes), Ok((expected, bytes.len())));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        // ud2; tdpbssd (another prefix); VEX.W; VEX.L; tileloadd without SIB.
        for bytes in [
            &[0x0F, 0x0B][..],
            &[0xC4, 0xE2, 0x43, 0x5E, 0xC4],
            &[0xC4, 0xE2, 0xC2, 0x5C, 0xC4],
            &[0xC4, 0xE2, 0x46, 0x5C, 0xC4],
            &[0xC4, 0xE2, 0x7B, 0x4B, 0x27],
        ] {
            assert!(at(bytes).is_err(), "{bytes:x?}");
        }
    }
}
