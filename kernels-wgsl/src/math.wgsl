// Elementary functions in f32, of four numbers at a time and without branches (of which processors take both ways), accurate to a few units in
// the last place: WGSL's own may be off by far more, and need not keep NaN and infinity. Coefficients and reductions are those of the CPU kernels (engine/src/cpu/simd/math.rs), without fused multiply-adds.

// A variable, because WGSL refuses constants that are not numbers.
var<private> infinity_bits: u32 = 0x7f800000u;

fn infinity() -> f32 { return bitcast<f32>(infinity_bits); }
fn nan() -> f32 { return bitcast<f32>(infinity_bits | 0x400000u); }
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn is_infinite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }
fn are_nan(x: vec4<f32>) -> vec4<bool> { return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u); }

// The larger; NaN if either is.
fn max_nan(a: f32, b: f32) -> f32 {
    if is_nan(a) { return a; }
    if is_nan(b) { return b; }
    return max(a, b);
}

fn min_nan(a: f32, b: f32) -> f32 {
    if is_nan(a) { return a; }
    if is_nan(b) { return b; }
    return min(a, b);
}

// 2^n for whole n in -127..=127 (0 at -127).
fn exp2_integer(n: vec4<f32>) -> vec4<f32> { return bitcast<vec4<f32>>(vec4<u32>(vec4<i32>(n) + 127) << vec4<u32>(23u)); }

// e^r on [-ln 2 / 2, ln 2 / 2].
fn exp_reduced(r: vec4<f32>) -> vec4<f32> {
    var q = vec4<f32>(1.3814539e-3);
    q = q * r + 8.3687453e-3;
    q = q * r + 4.1668391e-2;
    q = q * r + 1.6666520e-1;
    q = q * r + 4.9999993e-1;
    return (q * r * r + r) + 1.0;
}

// e^x: Cody and Waite's reduction by ln 2 in two parts. 0 below -87.33, infinity above 88.72, NaN for NaN.
fn exp_four(x: vec4<f32>) -> vec4<f32> {
    let inside = clamp(x, vec4<f32>(-87.33655), vec4<f32>(88.72283));
    let n = round(inside * 1.442695);
    let r = (inside - n * 0.6933594) + n * 2.1219444e-4;
    // 2^n in two factors, because n reaches 128.
    let half = round(n * 0.5);
    var y = exp_reduced(r) * exp2_integer(half) * exp2_integer(n - half);
    y = select(y, vec4<f32>(infinity()), x > vec4<f32>(88.72283));
    y = select(y, vec4<f32>(), x < vec4<f32>(-87.33655));
    // Clamping may lose NaN.
    return select(y, x, are_nan(x));
}

fn exp_full(x: f32) -> f32 { return exp_four(vec4<f32>(x)).x; }

// ln x = e ln 2 + 2 artanh((m - 1) / (m + 1)) with m in [1/sqrt 2, sqrt 2]. -infinity at 0 and for subnormal numbers, NaN below.
fn ln_four(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(x);
    let fraction = bitcast<vec4<f32>>((bits & vec4<u32>(0x7fffffu)) | vec4<u32>(0x3f800000u));
    let over = fraction > vec4<f32>(1.4142135);
    let m = select(fraction, 0.5 * fraction, over);
    let e = vec4<f32>(vec4<i32>(bits >> vec4<u32>(23u)) - 127) + select(vec4<f32>(), vec4<f32>(1.0), over);
    let s = (m - 1.0) / (m + 1.0);
    let t = s * s;
    var q = vec4<f32>(0.18181818);
    q = q * t + 0.22222222;
    q = q * t + 0.28571429;
    q = q * t + 0.4;
    q = q * t + 0.66666667;
    q = q * t + 2.0;
    var y = (s * q - e * 2.1219444e-4) + e * 0.6933594;
    y = select(y, vec4<f32>(-infinity()), x < vec4<f32>(1.17549435e-38));
    y = select(y, vec4<f32>(nan()), x < vec4<f32>());
    // NaN, and infinity without a sign.
    return select(y, x, (bits >= vec4<u32>(0x7f800000u)) & (are_nan(x) | (x > vec4<f32>())));
}

fn ln_full(x: f32) -> f32 { return ln_four(vec4<f32>(x)).x; }

// ln(1 + x) for x in [0, 1]: the rounding of 1 + x is put back (Goldberg, theorem 4).
fn ln_1p(x: f32) -> f32 {
    let u = 1.0 + x;
    if u == 1.0 { return x; }
    return ln_full(u) * (x / (u - 1.0));
}

fn sigmoid_four(x: vec4<f32>) -> vec4<f32> { return 1.0 / (1.0 + exp_four(-x)); }

fn sigmoid(x: f32) -> f32 { return sigmoid_four(vec4<f32>(x)).x; }

// An odd polynomial below 0.625 (Cephes), 1 - 2 / (e^2x + 1) above, where nothing cancels.
fn tanh_four(x: vec4<f32>) -> vec4<f32> {
    let t = x * x;
    var q = vec4<f32>(-5.7049887e-3);
    q = q * t + 2.0639089e-2;
    q = q * t - 5.373971e-2;
    q = q * t + 1.3331442e-1;
    q = q * t - 3.3333282e-1;
    return select(1.0 - 2.0 / (exp_four(2.0 * x) + 1.0), q * t * x + x, t < vec4<f32>(0.390625));
}

// Q(a) = Phi(-a) for a in [0, 13.27]: e^(-a^2/2) times a rational fit of Mills' ratio, of relative error 5e-9, all coefficients positive.
// The square loses no digits: what its rounding drops is made up from the halves of a.
fn normal_tail(a: vec4<f32>) -> vec4<f32> {
    let high = bitcast<vec4<f32>>(bitcast<vec4<u32>>(a) & vec4<u32>(0xfffff000u));
    let low = a - high;
    let square = high * high;
    let rest = low * (a + high);
    let n = round((square + rest) * -0.7213475);
    let r = (square * -0.5 - n * 0.6933594) + (n * 2.1219444e-4 - 0.5 * rest);
    let power = exp_reduced(r) * exp2_integer(max(n, vec4<f32>(-127.0)));
    let above = (((4.0202758e-3 * a + 3.9984802e-2) * a + 1.8130868e-1) * a + 4.3568899e-1) * a + 0.5;
    let below = ((((1.0077194e-2 * a + 1.0023442e-1) * a + 4.6438539e-1) * a + 1.1944923) * a + 1.6692629) * a + 1.0;
    return power * above / below;
}

// Phi(x), the normal distribution.
fn normal(x: f32) -> f32 {
    let tail = normal_tail(vec4<f32>(min(abs(x), 13.27))).x;
    return select(tail, 1.0 - tail, x > 0.0);
}

// x Phi(x) as max(x, 0) - |x| Q(|x|), where Q vanishes beyond 13.27. NaN at -infinity, where the product is.
fn gelu_erf(x: vec4<f32>) -> vec4<f32> {
    let a = min(abs(x), vec4<f32>(13.27));
    let y = max(x, vec4<f32>()) - a * normal_tail(a);
    return select(y, vec4<f32>(nan()), are_nan(x) | (x == vec4<f32>(-infinity())));
}

const RELU: u32 = 0u;
const GELU_ERF: u32 = 1u;
const GELU_TANH: u32 = 2u;
const GELU_QUICK: u32 = 3u;
const SIGMOID: u32 = 4u;
const TANH: u32 = 5u;
const SILU: u32 = 6u;
const EXP: u32 = 7u;
const LOG: u32 = 8u;
const SQRT: u32 = 9u;
const NEG: u32 = 10u;
const IDENTITY: u32 = 11u;

// The functions in the order of tubelet_engine::Function::ALL.
fn apply_four(function: u32, x: vec4<f32>) -> vec4<f32> {
    switch function {
        case RELU: { return select(max(x, vec4<f32>()), x, are_nan(x)); }
        case GELU_ERF: { return gelu_erf(x); }
        // (1 + tanh u) / 2 = sigmoid(2u)
        case GELU_TANH: { return x * sigmoid_four(1.5957691 * (x * (x * x * 0.044715 + 1.0))); }
        case GELU_QUICK: { return x * sigmoid_four(1.702 * x); }
        case SIGMOID: { return sigmoid_four(x); }
        case TANH: { return tanh_four(x); }
        case SILU: { return x * sigmoid_four(x); }
        case EXP: { return exp_four(x); }
        case LOG: { return ln_four(x); }
        case SQRT: { return sqrt(x); }
        case NEG: { return -x; }
        default: { return x; }
    }
}

fn apply(function: u32, x: f32) -> f32 { return apply_four(function, vec4<f32>(x)).x; }

// d/dx of x sigmoid(u(x)) with u' = slope. The rise vanishes faster than x and the slope grow.
fn gated(x: f32, u: f32, slope: f32) -> f32 {
    let s = sigmoid(u);
    let rise = s * sigmoid(-u);
    return s + select(x * rise * slope, 0.0, rise == 0.0);
}

// The derivatives of the functions.
fn derivative(function: u32, x: f32) -> f32 {
    switch function {
        case RELU: { return select(select(0.0, 1.0, x > 0.0), x, is_nan(x)); }
        case GELU_ERF: {
            if is_infinite(x) { return select(0.0, 1.0, x > 0.0); }
            return normal(x) + x * 0.39894228 * exp_full(-0.5 * x * x);
        }
        case GELU_TANH: { return gated(x, 1.5957691 * (x * (x * x * 0.044715 + 1.0)), 1.5957691 * (1.0 + 0.134145 * x * x)); }
        case GELU_QUICK: { return gated(x, 1.702 * x, 1.702); }
        case SIGMOID: { return sigmoid(x) * sigmoid(-x); }
        case TANH: { return 4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x); }
        case SILU: { return gated(x, x, 1.0); }
        case EXP: { return exp_full(x); }
        case LOG: { return 1.0 / x; }
        case SQRT: { return 0.5 / sqrt(x); }
        case NEG: { return -1.0; }
        default: { return 1.0; }
    }
}

// To the nearest whole number, ties to even, saturating; 0 for NaN.
fn integer(x: f32) -> i32 {
    if is_nan(x) { return 0; }
    if x >= 2147483648.0 { return 2147483647; }
    if x <= -2147483648.0 { return -2147483647 - 1; }
    return i32(round(x));
}

fn bf16_load(bits: u32) -> f32 { return bitcast<f32>(bits << 16u); }

// To nearest, ties to even; NaN stays NaN.
fn bf16_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if is_nan(x) { return (bits >> 16u) | 0x40u; }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

fn f16_load(bits: u32) -> f32 {
    let sign = (bits & 0x8000u) << 16u;
    let rest = bits & 0x7fffu;
    if rest >= 0x7c00u { return bitcast<f32>(sign | 0x7f800000u | (rest << 13u)); }
    if rest < 0x400u { return select(1.0, -1.0, sign != 0u) * f32(rest) * 5.9604645e-8; }
    return bitcast<f32>(sign | ((rest << 13u) + 0x38000000u));
}

// To nearest, ties to even; beyond 65504 infinity.
fn f16_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let rest = bits & 0x7fffffffu;
    if rest > 0x7f800000u { return sign | 0x7e00u; }
    if rest >= 0x47800000u { return sign | 0x7c00u; }
    // Below the smallest normal number the steps are of 2^-24.
    if rest < 0x38800000u { return sign | u32(round(abs(x) * 16777216.0)); }
    let rebased = rest - 0x38000000u;
    return sign | ((rebased + 0xfffu + ((rebased >> 13u) & 1u)) >> 13u);
}

// A long sum: of sums of 16 sums of 16, so that it loses few digits. (What a sum rounds away cannot be kept as Kahan does: shader compilers
// may simplify (a + b) - a, and Mesa's does.)
struct Sum { total: f32, block: f32, part: f32, count: u32 }

fn sum_add(sum: Sum, x: f32) -> Sum {
    var next = Sum(sum.total, sum.block, sum.part + x, sum.count + 1u);
    if next.count % 16u == 0u {
        next.block += next.part;
        next.part = 0.0;
        if next.count % 256u == 0u {
            next.total += next.block;
            next.block = 0.0;
        }
    }
    return next;
}

fn sum_value(sum: Sum) -> f32 { return sum.total + (sum.block + sum.part); }
