// Where the work of an invocation or workgroup lies in [B, O, L, heads, D]: item `i` of the sequence that head h at o of clip b has.
struct Place { b: u32, o: u32, h: u32, i: u32 }

// `items` of a sequence come one after the other: queries, keys, or blocks of them.
fn place_of(index: u32, items: u32) -> Place {
    let sequence = index / items;
    return Place(sequence / p.heads / p.others, sequence / p.heads % p.others, sequence % p.heads, index % items);
}

// The row of item `i` in results.
fn out_row(at: Place, i: u32) -> u32 { return at.b * p.out0 + at.o * p.out1 + i * p.out2 + at.h * p.out3; }
