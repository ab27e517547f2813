// y = x m / (1 - p), one draw of Philox4x32-10 for each run of elements: the numbers of every other backend.

// The high half of the product of two words, from products of their halves.
fn high(a: u32, b: u32) -> u32 {
    let middle = (a & 0xffffu) * (b >> 16u) + (((a & 0xffffu) * (b & 0xffffu)) >> 16u);
    let other = (a >> 16u) * (b & 0xffffu) + (middle & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}

fn philox(start: vec4<u32>) -> vec4<u32> {
    var counter = start;
    var key = vec2<u32>(p.seed0, p.seed1);
    for (var round = 0u; round < 10u; round += 1u) {
        counter = vec4<u32>(
            high(0xCD9E8D57u, counter.z) ^ counter.y ^ key.x,
            0xCD9E8D57u * counter.z,
            high(0xD2511F53u, counter.x) ^ counter.w ^ key.y,
            0xD2511F53u * counter.x,
        );
        key += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return counter;
}

fn each(i: u32) {
    let draw = i / p.run;
    let word = philox(vec4<u32>(draw / 4u, 0u, p.stream0, p.stream1))[draw % 4u];
    // 24 bits are exact in f32.
    let uniform = f32(word >> 8u) * 5.9604645e-8;
    y_store(i, x_load(x_at(i)) * select(p.kept, 0.0, uniform < p.probability));
}
