// Division by a number that the launcher knows: a multiplication and a shift, exact below 2^31 (Granlund and Montgomery, PLDI 1994).
#pragma once
#include "common.cuh"

struct Divisor {
    u32 divisor;
    u32 multiplier;
    u32 shift;
};

DEVICE u32 quotient(u32 n, const Divisor& d) { return (u32)((u64)n * d.multiplier >> d.shift); }

// Divides n, and returns the remainder.
DEVICE u32 split(u32& n, const Divisor& d) {
    const u32 whole = quotient(n, d), rest = n - whole * d.divisor;
    n = whole;
    return rest;
}
