//! Whatever the text, there is an answer: a module or a fault, and a launch or a fault.

mod common;

use common::{Device, Random};
use tubelet_ptx_emulator::{Emulator, Launch, Module, Options};

const TEXTS: [&str; 3] = [include_str!("ptx/add.ptx"), include_str!("ptx/softmax.ptx"), include_str!("ptx/gemm.ptx")];

/// Replaces, removes or copies some bytes.
fn mutated(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.bits() % 2 {
        let at = (random.bits() % bytes.len() as u64) as usize;
        let other = (random.bits() % bytes.len() as u64) as usize;
        match random.bits() % 8 {
            // Another register, address or size: such a text is usually still PTX.
            4.. => {
                if let Some(digit) = bytes[at..].iter_mut().find(|b| b.is_ascii_digit()) {
                    *digit = b'0' + (random.bits() % 10) as u8;
                }
            }
            0 => bytes[at] = b"0123456789%rdfp.;,{}[]@!-+ \n\"/*"[(random.bits() % 31) as usize],
            1 => bytes.truncate(bytes.len() - at % 64),
            2 => {
                bytes.remove(at);
            }
            _ => {
                let piece: Vec<u8> = bytes[other..].iter().copied().take((random.bits() % 60) as usize).collect();
                bytes.splice(at..at, piece);
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn mutated_modules_are_parsed_or_refused_and_run_or_fault() {
    let mut random = Random(12);
    let options = Options { threads: 1, instruction_limit: Some(20_000), ..Options::default() };
    let device = Device { emulator: Emulator::new(options) };
    let (mut parsed, mut ran) = (0, 0);
    for round in 0..2000 {
        // The long one rarely.
        let text = TEXTS[if round % 20 == 0 { 2 } else { round % 2 }];
        let Ok(module) = Module::parse(&mutated(text, &mut random)) else { continue };
        parsed += 1;
        for kernel in module.kernels().map(str::to_owned).collect::<Vec<_>>() {
            let buffer = device.upload(&[0; 4096]);
            let sizes = module.parameters(&kernel).unwrap_or_default();
            let parameters: Vec<Vec<u8>> =
                sizes.iter().map(|&n| [&buffer.to_le_bytes()[..], &[0; 512]].concat()[..n.min(520)].to_vec()).collect();
            let parameters: Vec<&[u8]> = parameters.iter().map(Vec::as_slice).collect();
            let launch = Launch { grid: [2, 1, 1], block: [64, 1, 1], dynamic_shared: 30_720 };
            ran += u32::from(device.emulator.launch(&module, &kernel, launch, &parameters).is_ok());
        }
    }
    // Else this test shows nothing.
    assert!(parsed > 50, "{parsed}");
    assert!(ran > 10, "{ran}");
}

#[test]
fn numbers_out_of_range_are_refused() {
    for body in [
        ".reg .b32 %r<4000000000>;",
        ".local .b8 x[4000000000];",
        ".shared .b8 x[99999999999999999999];",
        ".shared .align 3 .b8 x[4];",
        ".local .b8 x[4294967295][4294967295];",
        "mov.u32 %nothing, 0;",
        ".reg .b32 %r; mov.u32 %r, 99999999999999999999999;",
        ".reg .b32 %r; .reg .b32 %r;",
        "bra $nowhere;",
        "{{{{{{",
    ] {
        let text = format!(".version 8.4\n.visible .entry k() {{ {body} ret; }}");
        assert!(Module::parse(&text).is_err(), "{body}");
    }
}
