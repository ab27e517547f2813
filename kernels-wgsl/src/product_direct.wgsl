// As product.wgsl, without workgroup memory: an invocation computes ROWS x COLUMNS elements and reads what they need itself, four k at a time.
// The rows are those of the whole workgroup, the columns its own. For software devices, where a barrier saves all registers of a workgroup and
// workgroup memory is no nearer than any other.

fn group(index: u32, lane: u32) {
    let columns = (p.n + LANES * COLUMNS - 1u) / (LANES * COLUMNS);
    let rows = (p.m + ROWS - 1u) / ROWS;
    let batch = index / (rows * columns);
    let m0 = index / columns % rows * ROWS;
    let n0 = index % columns * (LANES * COLUMNS) + lane;
    #for i ROWS
    let row{i} = min(m0 + {i}u, p.m - 1u);
    #end
    #for j COLUMNS
    let column{j} = min(n0 + {j}u * LANES, p.n - 1u);
    #end
    #for i ROWS
    #for j COLUMNS
    var sum{i}_{j} = 0.0;
    #end
    #end
    for (var k = 0u; k < p.k; k += 4u) {
        #for j COLUMNS
        let r{j} = vec4<f32>(right4(batch, column{j}, k));
        #end
        #for i ROWS
        let l{i} = vec4<f32>(left4(batch, row{i}, k));
        #for r 4
        #for j COLUMNS
        sum{i}_{j} += l{i}[{r}] * r{j}[{r}];
        #end
        #end
        #end
    }
    #for i ROWS
    #for j COLUMNS
    if m0 + {i}u < p.m && n0 + {j}u * LANES < p.n { finish(batch, m0 + {i}u, n0 + {j}u * LANES, sum{i}_{j}); }
    #end
    #end
}
