// As attention_tiled.wgsl without workgroup memory: an invocation takes ROWS queries of its own through all keys, four at a time, so that a key
// or value it fetches is used ROWS times from registers. For software devices; see product_direct.wgsl.
// Channels are a multiple of four, and lie side by side.

// NaN where any is: NaN has the largest bits.
fn largest_of(previous: f32, scores: vec4<f32>) -> f32 {
    let bits = bitcast<vec4<u32>>(scores) & vec4<u32>(0x7fffffffu);
    let most = max(max(bits.x, bits.y), max(bits.z, bits.w));
    let largest = max(previous, max(max(scores.x, scores.y), max(scores.z, scores.w)));
    return select(largest, nan(), max(most, bitcast<u32>(previous) & 0x7fffffffu) > 0x7f800000u);
}

// As exp_four for x <= 0, where 2^n has one factor.
fn exp_negative(x: vec4<f32>) -> vec4<f32> {
    let n = round(x * 1.442695);
    let r = (x - n * 0.6933594) + n * 2.1219444e-4;
    return select(exp_reduced(r) * exp2_integer(n), vec4<f32>(), x < vec4<f32>(-87.33655));
}

fn each(index: u32) {
    let blocks = (p.queries + ROWS - 1u) / ROWS;
    let at = place_of(index, blocks);
    let i0 = at.i * ROWS;
    let q_start = q_index(at.b, at.o, 0u, at.h, 0u);
    let k_start = k_index(at.b, at.o, 0u, at.h, 0u);
    let v_start = v_index(at.b, at.o, 0u, at.h, 0u);
    #for r ROWS
    let query{r} = q_start + min(i0 + {r}u, p.queries - 1u) * p.q_s2;
    var largest{r} = -infinity();
    var total{r} = 0.0;
    #for c VECTORS
    var sum{r}_{c} = vec4<f32>();
    #end
    #end
    for (var key = 0u; key < p.keys; key += 4u) {
        #for k 4
        let key{k} = min(key + {k}u, p.keys - 1u);
        #end
        #for r ROWS
        var score{r} = vec4<f32>();
        #end
        for (var c = 0u; c < p.width; c += 4u) {
            let keys = transpose(mat4x4<f32>(
                vec4<f32>(k_load4(k_start + key0 * p.k_s2 + c)), vec4<f32>(k_load4(k_start + key1 * p.k_s2 + c)),
                vec4<f32>(k_load4(k_start + key2 * p.k_s2 + c)), vec4<f32>(k_load4(k_start + key3 * p.k_s2 + c))));
            #for r ROWS
            let q{r} = vec4<f32>(q_load4(query{r} + c));
            #for e 4
            score{r} += q{r}[{e}] * keys[{e}];
            #end
            #end
        }
        let inside = vec4<u32>(key, key + 1u, key + 2u, key + 3u) < vec4<u32>(p.keys);
        #for r ROWS
        score{r} = select(vec4<f32>(-infinity()), p.scale * score{r}, inside);
        let next{r} = largest_of(largest{r}, score{r});
        // Where every score so far is -infinity nothing is added, and the difference would be NaN.
        score{r} = select(exp_negative(score{r} - next{r}), vec4<f32>(), next{r} == -infinity());
        let kept{r} = select(exp_negative(vec4<f32>(largest{r} - next{r})).x, 1.0, largest{r} == next{r});
        total{r} = total{r} * kept{r} + ((score{r}.x + score{r}.y) + (score{r}.z + score{r}.w));
        largest{r} = next{r};
        #end
        #for c VECTORS
        #for k 4
        let value{c}_{k} = vec4<f32>(v_load4(v_start + key{k} * p.v_s2 + {c}u * 4u));
        #end
        #for r ROWS
        sum{r}_{c} = sum{r}_{c} * kept{r} + ((score{r}.x * value{c}_0 + score{r}.y * value{c}_1) + (score{r}.z * value{c}_2 + score{r}.w * value{c}_3));
        #end
        #end
    }
    #for r ROWS
    if i0 + {r}u < p.queries {
        let row = out_row(at, i0 + {r}u);
        #for c VECTORS
        let y{c} = select(sum{r}_{c} / total{r}, vec4<f32>(), p.keys == 0u);
        #for e 4
        y_store(row * p.value_width + {c}u * 4u + {e}u, y{c}[{e}]);
        #end
        #end
        lse_store(row, largest{r} + ln_full(total{r}));
    }
    #end
}
