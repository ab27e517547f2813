// Separable resampling: nested sums over the taps of W, H and T (axes 0, 1 and 2). The tables say for each output of an axis `taps` inputs and
// their weights, from `first` on; shorter lists end with weights of 0, and nothing is read there. The file of the operation gives
// `input(at)`, and the launcher the `step` between neighbours along an axis.

fn tap(i: u32) -> u32 { return u32(places_int(places_at(i))); }

fn along_w(start: u32, w: u32) -> f32 {
    var sum = 0.0;
    for (var i = p.first0 + w * p.taps0; i < p.first0 + (w + 1u) * p.taps0; i += 1u) {
        let weight = weights_load(weights_at(i));
        if !(weight == 0.0) { sum += weight * input(start + tap(i) * p.step0); }
    }
    return sum;
}

fn along_h(start: u32, h: u32, w: u32) -> f32 {
    var sum = 0.0;
    for (var i = p.first1 + h * p.taps1; i < p.first1 + (h + 1u) * p.taps1; i += 1u) {
        let weight = weights_load(weights_at(i));
        if !(weight == 0.0) { sum += weight * along_w(start + tap(i) * p.step1, w); }
    }
    return sum;
}

fn along_t(start: u32, t: u32, h: u32, w: u32) -> f32 {
    var sum = 0.0;
    for (var i = p.first2 + t * p.taps2; i < p.first2 + (t + 1u) * p.taps2; i += 1u) {
        let weight = weights_load(weights_at(i));
        if !(weight == 0.0) { sum += weight * along_h(start + tap(i) * p.step2, h, w); }
    }
    return sum;
}
