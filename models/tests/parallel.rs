//! Training by several processes: the same parameters as one process finds.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use common::{counted, folder, small};
use tubelet_cuda::{Ranks, driver::channels::communicators};
use tubelet_engine::{Device, Result, Tensor};
use tubelet_models::{
    checkpoint::Checkpoint,
    params::TensorFile,
    train::{
        Event, Options, Outcome, Recipe,
        parallel::{Alone, Group, on_host},
        run_with,
    },
};

/// Ranks that are threads: what they exchange lies in common memory.
struct Shared {
    barrier: Barrier,
    numbers: Mutex<Vec<Vec<f32>>>,
}

struct Thread {
    rank: usize,
    shared: Arc<Shared>,
}

impl Thread {
    fn exchange(&self, own: &mut [f32], combine: impl Fn(&[Vec<f32>], &mut [f32])) -> Result<()> {
        self.shared.numbers.lock().unwrap()[self.rank] = own.to_vec();
        self.shared.barrier.wait();
        combine(&self.shared.numbers.lock().unwrap(), own);
        self.shared.barrier.wait();
        Ok(())
    }
}

impl Group for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.numbers.lock().unwrap().len()
    }

    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()> {
        on_host(tensors, &mut |numbers| {
            self.exchange(numbers, |all, own| {
                for (i, x) in own.iter_mut().enumerate() {
                    *x = all[1..].iter().fold(all[0][i], |sum, other| sum + other[i]);
                }
            })
        })
    }

    fn broadcast(&self, tensors: &mut [Tensor]) -> Result<()> {
        on_host(tensors, &mut |numbers| self.exchange(numbers, |all, own| own.copy_from_slice(&all[0])))
    }
}

type Observer<'a> = &'a (dyn Fn(usize, &AtomicBool, Event<'_>) + Sync);

/// Trains with `size` ranks on the CPU; `observe` may stop the rank that it is told.
fn train(size: usize, recipe: &Recipe, folder: &Path, resume: bool, observe: Observer<'_>) -> Vec<Result<Outcome>> {
    let shared = Arc::new(Shared { barrier: Barrier::new(size), numbers: Mutex::new(vec![Vec::new(); size]) });
    let rank = |rank: usize| -> (Device, Box<dyn Group + Send>) {
        let thread = || Thread { rank, shared: Arc::clone(&shared) };
        (Device::cpu().unwrap(), if size == 1 { Box::new(Alone) } else { Box::new(thread()) })
    };
    train_on((0..size).map(rank).collect(), recipe, folder, resume, observe)
}

/// Trains with these ranks; `observe` may stop the rank that it is told.
fn train_on(
    ranks: Vec<(Device, Box<dyn Group + Send>)>,
    recipe: &Recipe,
    folder: &Path,
    resume: bool,
    observe: Observer<'_>,
) -> Vec<Result<Outcome>> {
    let one = |device: Device, group: &dyn Group| {
        let (rank, stop) = (group.rank(), AtomicBool::new(false));
        let (start, start_model, start_state_dict) = (None, None, None);
        // Only rank 0 may touch the run's folder.
        let folder = if rank == 0 { folder.to_owned() } else { folder.join(format!("not-written/{rank}")) };
        let options = Options {
            device,
            folder,
            resume,
            start,
            start_model,
            start_state_dict,
            threads: 1,
            captured: false,
            strict: false,
            stop: &stop,
        };
        run_with(group, recipe.clone(), &options, &mut |event| observe(rank, &stop, event))
    };
    let outcomes = thread::scope(|scope| {
        let one = &one;
        let ranks: Vec<_> = ranks.into_iter().map(|(device, group)| scope.spawn(move || one(device, &*group))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    assert!(!folder.join("not-written").exists(), "a rank other than 0 wrote");
    outcomes
}

fn finished(outcomes: &[Result<Outcome>]) -> bool {
    outcomes.iter().all(|outcome| outcome.as_ref().unwrap().finished)
}

/// The parameters in a run's folder that are, or are not, running statistics of a batch norm.
fn values(folder: &Path, statistics: bool) -> Vec<(String, Vec<f32>)> {
    let file = Checkpoint::open(&folder.join("weights.safetensors")).unwrap();
    let names = file.entries().keys().filter(|name| (name.ends_with(".mean") || name.ends_with(".var")) == statistics);
    let device = Device::cpu().unwrap();
    names.map(|name| (name.clone(), file.load(name, &device).unwrap().to_f32_vec().unwrap())).collect()
}

#[test]
fn ranks_and_parts_of_one_process_give_the_same_bits() {
    // With mixup, dropping, clipping, a moving average: all of it must not know how many processes there are.
    for (system, size) in [("tubevit", 2), ("vivit", 3), ("vidtr", 2), ("uniformerv2", 2)] {
        let mut recipe = small(system);
        (recipe.steps, recipe.accumulate, recipe.clip_norm) = (5, size, Some(0.1));
        let [one, many] = ["one", "many"].map(|name| folder(&format!("parallel-{name}-{system}")));
        let losses = [&one, &many].map(|_| Mutex::new(Vec::new()));
        let run = |i: usize, size: usize, folder: &Path| {
            let outcomes = train(size, &recipe, folder, false, &|rank, _, event| {
                assert_eq!(rank, 0, "only rank 0 is observed");
                if let Event::Step { report, .. } = event {
                    losses[i].lock().unwrap().push((report.loss as f32, report.accuracy, report.norm));
                }
            });
            assert!(finished(&outcomes));
        };
        run(0, 1, &one);
        run(1, size, &many);
        assert!(values(&one, false) == values(&many, false), "{system}: other bits with {size} ranks");
        let [one_losses, many_losses] = losses.map(|losses| losses.into_inner().unwrap());
        for (a, b) in one_losses.iter().zip(&many_losses) {
            // The loss is summed in f64 by one process, and in f32 over the ranks.
            assert!((a.0 - b.0).abs() <= 4.0 * f32::EPSILON * a.0 && (a.1, a.2) == (b.1, b.2), "{system}: {a:?} {b:?}");
        }
        // One process lets its second part's statistics follow the first's, ranks take the mean of theirs: a tenth of each batch's comes in, and of
        // that a tenth less for all but the last part. With r the range of a batch's statistics, that is below 5 steps · 0.1 · r; they stay in
        // the range of what they are statistics of, and here only that much is asked.
        for ((name, a), (_, b)) in values(&one, true).iter().zip(&values(&many, true)) {
            let range = a.iter().chain(b).fold(0.0f32, |most, x| most.max(x.abs()));
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 0.5 * range), "{name}: {a:?} {b:?}");
            assert!(a != b, "{name}: this test would not notice statistics of one rank alone");
        }
    }
}

#[test]
fn without_parts_only_the_order_of_sums_differs() {
    for system in ["tubevit", "vivit", "vidtr"] {
        let mut recipe = small(system);
        (recipe.steps, recipe.accumulate, recipe.average) = (6, 1, None);
        // Dropping draws by part, and so would differ; Adam would divide noise by noise where a gradient is 0 but for rounding.
        recipe.regularisation = Default::default();
        recipe.optimiser = serde_json::from_str(r#"{"kind": "sgd", "momentum": 0.9}"#).unwrap();
        recipe.schedule = serde_json::from_str(r#"{"kind": "constant"}"#).unwrap();
        recipe.learning_rate = 0.05;
        let [start, one, two] = ["start", "one", "two"].map(|name| folder(&format!("order-{name}-{system}")));
        let nearly_nothing = Recipe { steps: 1, learning_rate: 1e-30, ..recipe.clone() };
        assert!(finished(&train(1, &nearly_nothing, &start, false, &|_, _, _| {})));
        assert!(finished(&train(1, &recipe, &one, false, &|_, _, _| {})));
        assert!(finished(&train(2, &recipe, &two, false, &|_, _, _| {})));
        let most = |a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)]| {
            let pairs = a.iter().zip(b).flat_map(|((_, a), (_, b))| a.iter().zip(b));
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let [start, one, two] = [&start, &one, &two].map(|folder| values(folder, false));
        let (moved, apart) = (most(&start, &one), most(&one, &two));
        println!("{system}: moved {moved:e}, apart {apart:e}");
        // A gradient is a sum over the rows of all clips' tokens, below 6·1024 of them: rounded in another order it moves by less than
        // √rows·2⁻²⁴ of the largest (errors are independent), in each of six steps; four times that for the passes' own sums.
        let bound = 4.0 * 6.0 * (6.0f32 * 1024.0).sqrt() * 2f32.powi(-24) * moved;
        assert!(moved > 1e-4 && apart > 0.0 && apart <= bound, "{system}: moved {moved}, apart {apart}, bound {bound}");
    }
}

#[test]
fn a_stop_of_one_is_a_stop_of_all_and_the_run_goes_on() {
    let mut recipe = small("tubevit");
    recipe.accumulate = 2;
    let [whole, parts] = ["whole", "parts"].map(|name| folder(&format!("parallel-stop-{name}")));
    assert!(finished(&train(2, &recipe, &whole, false, &|_, _, _| {})));
    let outcomes = train(2, &recipe, &parts, false, &|_, stop, event| {
        if let Event::Step { done: 7, .. } = event {
            stop.store(true, Ordering::Relaxed);
        }
    });
    for outcome in outcomes {
        let outcome = outcome.unwrap();
        assert_eq!((outcome.finished, outcome.steps), (false, 7));
    }
    // What rank 0 read in its folder, the others have from it.
    assert!(finished(&train(2, &recipe, &parts, true, &|_, _, _| {})));
    assert!(values(&whole, false) == values(&parts, false));
}

#[test]
fn an_error_of_one_is_an_error_of_all() {
    let here = folder("parallel-errors");
    let recipe = small("vidtr");
    let errors = |size: usize, recipe: &Recipe, folder: &Path| -> Vec<String> {
        let outcomes = train(size, recipe, folder, false, &|_, _, _| {});
        outcomes.into_iter().map(|outcome| outcome.unwrap_err().to_string()).collect()
    };
    let all = errors(4, &recipe, &here.join("share"));
    assert!(all.iter().all(|error| error.contains("6 clips are no multiple of 4 processes")), "{all:?}");
    // A file where rank 0 wants its folder.
    fs::write(here.join("file"), b"").unwrap();
    let all = errors(2, &recipe, &here.join("file"));
    assert!(all[0].contains("file") && all[1].contains("1 of 2 processes failed"), "{all:?}");
    let all = errors(2, &Recipe { learning_rate: 1e30, clip_norm: None, ..recipe }, &here.join("explodes"));
    assert!(all.iter().all(|error| error.contains("step ")), "{all:?}");
}

/// GPUs exchange gradients from memory to memory: the same bits as one with as many parts, and nothing but single numbers and the state at the start goes
/// through the host.
#[test]
fn gpus_give_the_same_bits_as_parts_of_one() {
    for (system, size) in [("vidtr", 2), ("tubevit", 3)] {
        let mut recipe = small(system);
        (recipe.steps, recipe.accumulate, recipe.clip_norm, recipe.batch) = (2, size, Some(0.1), size);
        recipe.data = serde_json::from_str(r#"{"kind": "camera_motion", "seed": 1, "held_out": 1}"#).unwrap();
        let [one, many] = ["one", "many"].map(|name| folder(&format!("gpus-{name}-{system}")));
        let alone: Box<dyn Group + Send> = Box::new(Alone);
        let gpu = || counted::emulated(false);
        assert!(finished(&train_on(vec![(gpu().0, alone)], &recipe, &one, false, &|_, _, _| {})));
        let (devices, asked): (Vec<_>, Vec<_>) = (0..size).map(|_| gpu()).unzip();
        let ranks = devices.iter().zip(communicators(&devices).unwrap());
        let ranks = ranks.map(|(device, end)| {
            let group: Box<dyn Group + Send> = Box::new(Ranks::new(device, end).unwrap());
            (device.clone(), group)
        });
        assert!(finished(&train_on(ranks.collect(), &recipe, &many, false, &|_, _, _| {})));
        assert!(values(&one, false) == values(&many, false), "{system}: other bits with {size} GPUs");
        let parameters: usize = values(&many, false).iter().map(|(_, x)| 4 * x.len()).sum();
        for asked in &asked[1..] {
            let downloaded = asked.downloaded.load(Ordering::Relaxed);
            println!("{system}: {downloaded} bytes were downloaded, of {parameters} bytes of gradients in each of 2 steps");
            assert!(downloaded < parameters / 8, "{system}: {downloaded} bytes were downloaded, gradients are {parameters}");
        }
    }
}

/// Containers run tests as root, and have fewer slots than processes.
const FREELY: [&str; 4] = ["--oversubscribe", "--allow-run-as-root", "--bind-to", "none"];

/// Why `mpirun` starts no two processes here, if so.
fn no_mpirun() -> Option<String> {
    match Command::new("mpirun").args(FREELY).args(["-n", "2", "true"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(format!("{error} (Debian: openmpi-bin)")),
    }
}

/// The program under `mpirun`; where that does not work, the reason is printed.
#[test]
fn two_processes_of_mpirun_give_the_same_bits_as_one() {
    if let Some(reason) = no_mpirun() {
        assert!(std::env::var("TUBELET_TEST_MPI").is_err(), "TUBELET_TEST_MPI is set, and mpirun does not work: {reason}");
        return println!("skipped: mpirun does not work: {reason}");
    }
    let here = folder("mpirun");
    let mut recipe = small("tubevit");
    (recipe.steps, recipe.accumulate) = (6, 2);
    let file = here.join("recipe.json");
    fs::write(&file, serde_json::to_vec(&recipe).unwrap()).unwrap();
    let program = env!("CARGO_BIN_EXE_tubelet");
    let train = |out: &Path, processes: Option<&str>| {
        let mut command = match processes {
            None => Command::new(program),
            Some(n) => {
                let mut command = Command::new("mpirun");
                command.args(FREELY).args(["-n", n, program]);
                command
            }
        };
        command.args(["train", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        command.args(processes.map(|_| "--mpi")).env("TUBELET_THREADS", "1").output().unwrap()
    };
    let [one, two] = ["one", "two"].map(|name| here.join(name));
    assert!(train(&one, None).status.success());
    let output = train(&two, Some("2"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout).matches("weights:").count();
    assert_eq!(printed, 1, "rank 0 alone reports");
    let weights = |folder: &Path| fs::read(folder.join("weights.safetensors")).unwrap();
    assert!(weights(&one) == weights(&two), "other bits under mpirun");
    // A run that all processes refuse ends, and says why.
    let output = train(&two, Some("2"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("--resume goes on"), "{text}");
    // What is no GPU does not join others by NCCL, whether or not that is installed; no process waits for one that has failed.
    let mut command = Command::new("mpirun");
    command.args(FREELY).args([
        "-n",
        "2",
        program,
        "train",
        file.to_str().unwrap(),
        "--out",
        here.join("nccl").to_str().unwrap(),
    ]);
    let output = command.args(["--nccl", "--device", "cuda-emulated"]).env("TUBELET_THREADS", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("nccl: "), "{text}");
}
