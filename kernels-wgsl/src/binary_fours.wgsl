// y = a o b, four elements at a time. Sums, differences and products of f16 are of f16 (halves.rs): rounded once, to what their f32 would round
// to. A quotient is f32, and so are maxima, for their NaN.
fn each(i: u32) {
    let a = a_load4(a_at(4u * i));
    let b = b_load4(b_at(4u * i));
    var y: vec4<Number>;
    switch OPERATOR {
        case 0u: { y = a + b; }
        case 1u: { y = a - b; }
        case 2u: { y = a * b; }
        case 3u: { y = vec4<Number>(vec4<f32>(a) / vec4<f32>(b)); }
        default: {
            #for j 4
            y[{j}] = Number(larger_or_smaller(f32(a[{j}]), f32(b[{j}])));
            #end
        }
    }
    y_store4(4u * i, y);
}

fn larger_or_smaller(a: f32, b: f32) -> f32 {
    if OPERATOR == 4u { return max_nan(a, b); }
    return min_nan(a, b);
}
