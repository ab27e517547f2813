// y = a o b; the operands are views of y's shape.
fn each(i: u32) {
    let a = a_load(a_at(i));
    let b = b_load(b_at(i));
    var y: f32;
    switch OPERATOR {
        case 0u: { y = a + b; }
        case 1u: { y = a - b; }
        case 2u: { y = a * b; }
        case 3u: { y = a / b; }
        case 4u: { y = max_nan(a, b); }
        default: { y = min_nan(a, b); }
    }
    y_store(i, y);
}
