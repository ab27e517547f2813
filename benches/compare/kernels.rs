//! Single kernels.

use tubelet_benches::{Roofline, best, dtype};
use tubelet_engine::Device;

use crate::{Options, cases, cell, median, on_processor, peers::Peer, settle};

/// Rounds, and the runs of each: a software device is a hundred times slower.
fn effort(d: &Device) -> (usize, usize) {
    if d.name().starts_with("wgpu") && on_processor(d) { (3, 1) } else { (7, 5) }
}

/// Prints the table of kernels.
pub fn compare(d: &Device, threads: &str, roofline: Option<&Roofline>, options: &Options) {
    let mut peers = Peer::all(d, threads);
    let (rounds, runs) = effort(d);
    let rounds = options.rounds.unwrap_or(rounds);
    let columns: String = peers.iter().map(|peer| format!(" {0} ms | {0} ÷ ours |", peer.name)).collect();
    println!("| kernel | ours ms | ours |{columns} of the roofline |\n|---|---|---|{}---|", "---|---|".repeat(peers.len()));
    for (case, mut request) in cases::all(d).into_iter().filter(|(case, _)| case.label.contains(&options.only)) {
        eprintln!("{}", case.label);
        request["runs"] = runs.into();
        request["dtype"] = dtype().name().into();
        let (flops, bytes) = case.cost();
        // Whatever is made or measured on first use.
        drop(case.run());
        let (mut ours, mut theirs) = (Vec::new(), vec![(Vec::new(), Vec::new()); peers.len()]);
        for _ in 0..rounds {
            settle();
            let seconds = best(runs, || drop(case.run()));
            ours.push(seconds);
            for (peer, (times, ratios)) in peers.iter_mut().zip(&mut theirs) {
                settle();
                if let Some(other) = peer.time(&request) {
                    times.push(other);
                    ratios.push(other / seconds);
                }
            }
        }
        let seconds = median(ours);
        let rate = match flops > 0.0 {
            true => format!("{:.0} GFLOP/s", flops / seconds / 1e9),
            false => format!("{:.1} GB/s", bytes / seconds / 1e9),
        };
        let columns = theirs.into_iter().map(|(times, ratios)| (median(times) * 1e3, median(ratios)));
        let columns: String = columns.map(|(ms, ratio)| format!(" {} | {} |", cell(ms, 3), cell(ratio, 2))).collect();
        let part =
            roofline.map_or("?".into(), |roofline| format!("{:.0}%", 100.0 * roofline.part(dtype(), flops, bytes, seconds)));
        println!("| {} | {:.3} | {rate} |{columns} {part} |", case.label, seconds * 1e3);
    }
    println!();
}
