//! Which suffixes an instruction may have. One that is not known here might change the result, so it is refused rather than ignored.

use crate::numeric::format::Rounding;
use crate::syntax::ast::Instruction;
use crate::types::Type;

const SPACES: &[&str] = &["global", "shared", "shared::cta", "local", "const", "param", "param::entry"];
/// Memory order and who sees it, in an emulator where one thread at a time touches memory; and hints to caches.
const ORDER: &[&str] = &["weak", "volatile", "relaxed", "acquire", "release", "acq_rel", "cta", "cluster", "gpu", "sys"];
const CACHES: &[&str] = &["ca", "cg", "cs", "cv", "lu", "wb", "wt", "nc"];
const ATOMICS: &[&str] = &["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec", "noftz"];
const BULK: &[&str] = &[
    "bulk",
    "tensor",
    "1d",
    "2d",
    "3d",
    "4d",
    "5d",
    "tile",
    "shared::cluster",
    "mbarrier::complete_tx::bytes",
    "multicast::cluster",
    "bulk_group",
    "read",
];
const RELATIONS: &[&str] =
    &["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

/// Whether all suffixes are among those that the decoder takes into account.
pub fn known(i: &Instruction) -> bool {
    let lists: &[&[&str]] = match &*i.name {
        "add" | "sub" => &[&["sat", "ftz", "cc"]],
        "addc" | "subc" => &[&["cc"]],
        "mul" => &[&["lo", "hi", "wide", "sat", "ftz"]],
        "mad" | "madc" => &[&["lo", "hi", "wide", "cc", "sat", "ftz"]],
        "mul24" | "mad24" => &[&["lo", "hi"]],
        "fma" => &[&["ftz", "sat", "relu"]],
        "div" => &[&["approx", "full", "ftz"]],
        "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => &[&["approx", "ftz"]],
        "min" | "max" => &[&["ftz", "NaN"]],
        "neg" | "abs" => &[&["ftz"]],
        "shf" => &[&["l", "r", "wrap", "clamp"]],
        "prmt" => &[&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]],
        "bfind" => &[&["shiftamt"]],
        "bmsk" | "szext" => &[&["wrap", "clamp"]],
        "setp" | "set" => &[RELATIONS, &["and", "or", "xor", "ftz"]],
        "slct" => &[&["ftz"]],
        "testp" => &[&["finite", "infinite", "number", "notanumber", "normal", "subnormal"]],
        "cvta" => &[SPACES, &["to"]],
        "isspacep" => &[SPACES],
        "ld" | "ldu" | "st" => &[SPACES, ORDER, CACHES, &["v2", "v4"]],
        "atom" | "red" => &[SPACES, ORDER, ATOMICS],
        "cp" => &[SPACES, &["async", "ca", "cg", "commit_group", "wait_group", "wait_all", "mbarrier", "arrive", "noinc"], BULK],
        "ldmatrix" | "stmatrix" => &[SPACES, &["sync", "aligned", "m8n8", "x1", "x2", "x4", "trans"]],
        "mma" => &[&["sync", "aligned", "row", "col", "m16n8k4", "m16n8k8", "m16n8k16"]],
        "wgmma" => &[&["mma_async", "fence", "commit_group", "wait_group", "sync", "aligned"]],
        "setmaxnreg" => &[&["inc", "dec", "sync", "aligned"]],
        "elect" => &[&["sync"]],
        "mapa" => &[&["shared::cluster"]],
        "bar" | "barrier" if i.has("cluster") => &[&["cluster", "arrive", "wait", "aligned", "release", "acquire"]],
        "bar" | "barrier" => &[&["cta", "warp", "sync", "arrive", "red", "aligned", "popc", "and", "or"]],
        "mbarrier" => &[
            SPACES,
            ORDER,
            &["shared::cluster", "init", "inval", "arrive", "expect_tx", "complete_tx", "test_wait", "try_wait", "parity"],
        ],
        "shfl" => &[&["sync", "up", "down", "bfly", "idx"]],
        "vote" => &[&["sync", "any", "all", "uni", "ballot"]],
        "match" => &[&["sync", "any", "all"]],
        "redux" => &[&["sync", "add", "min", "max", "and", "or", "xor"]],
        // These look at their suffixes themselves, or what they have changes nothing.
        "cvt" | "bra" | "brx" | "ret" | "membar" | "fence" | "nanosleep" | "prefetch" | "prefetchu" | "discard"
        | "applypriority" => {
            return true;
        }
        "createpolicy" | "griddepcontrol" | "pmevent" => return true,
        _ => &[],
    };
    let rounds = i.types().iter().any(|ty| ty.float());
    i.parts.iter().all(|part| {
        let part = &**part;
        Type::parse(part).is_some()
            || &*i.name == "wgmma" && part.starts_with("m64n")
            || rounds && Rounding::parse(part).is_some()
            || part.starts_with("L1::")
            || part.starts_with("L2::")
            || lists.iter().any(|list| list.contains(&part))
    })
}
