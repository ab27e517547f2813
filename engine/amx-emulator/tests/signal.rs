//! Instructions in a process of their own: the test runs itself again, because what is refused ends the process.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::{
    arch::asm,
    env,
    process::{Command, Output},
    thread,
};

/// Configures, and multiplies ones: 16 x 16 sums of 32.
fn product() -> [f32; 256] {
    let (mut config, pairs, mut sums) = ([0u8; 64], [0x3F80_3F80u32; 256], [0f32; 256]);
    config[0] = 1;
    for tile in 0..3 {
        (config[16 + 2 * tile], config[48 + tile]) = (64, 16);
    }
    // SAFETY: the operands are what the configuration says, and the emulator is installed.
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            "tilezero tmm0",
            "tileloadd tmm1, [{pairs} + {stride}]",
            "tileloaddt1 tmm2, [{pairs} + {stride}]",
            "tdpbf16ps tmm0, tmm1, tmm2",
            "tilestored [{sums} + {stride}], tmm0",
            "tilerelease",
            config = in(reg) config.as_ptr(),
            pairs = in(reg) pairs.as_ptr(),
            sums = in(reg) sums.as_mut_ptr(),
            stride = in(reg) 64usize,
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
        );
    }
    sums
}

/// Runs this test again with `what` to do.
fn again(test: &str, what: &str) -> Output {
    let program = env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture"]).env("AMX_EMULATOR_TEST", what).output().expect("it starts again")
}

#[test]
fn machine_code_runs_on_every_thread_for_itself() {
    if let Err(reason) = tubelet_amx_emulator::install() {
        println!("skipped: {reason}");
        return;
    }
    let threads: Vec<_> = (0..3).map(|_| thread::spawn(product)).collect();
    assert_eq!(product(), [32.0; 256]);
    for thread in threads {
        assert_eq!(thread.join().unwrap(), [32.0; 256]);
    }
}

#[test]
fn what_a_processor_refuses_ends_the_process() {
    const NAME: &str = "what_a_processor_refuses_ends_the_process";
    let installed = tubelet_amx_emulator::install();
    if let Ok(what) = env::var("AMX_EMULATOR_TEST") {
        match &*what {
            // SAFETY: nothing is configured, which is found before anything is touched.
            "tile" => unsafe { asm!("tilezero tmm0", out("tmm0") _) },
            // SAFETY: an instruction that no processor has.
            "unknown" => unsafe { asm!("ud2") },
            _ => {}
        }
        return;
    }
    if let Err(reason) = installed {
        println!("skipped: {reason}");
        return;
    }
    for (what, message) in [("tile", "no tiles are configured"), ("unknown", "not an instruction of AMX")] {
        let output = again(NAME, what);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(message), "{what}: {text}");
    }
    assert!(again(NAME, "nothing").status.success());
}
