//! Aligned columns for people.

/// Rows of cells under a header; columns whose cells are all numbers are right-aligned.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Table { rows: vec![header.into_iter().map(Into::into).collect()] }
    }

    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    pub fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| self.rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let numeric = |c: usize| {
            let starts_as_number =
                |cell: &String| cell.is_empty() || cell.starts_with(|ch: char| ch.is_ascii_digit() || ch == '-');
            self.rows.iter().skip(1).filter_map(|row| row.get(c)).all(starts_as_number)
        };
        let layout: Vec<(usize, bool)> = (0..columns).map(|c| (width(c), numeric(c))).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&layout).map(|(cell, &(width, right))| {
                let pad = " ".repeat(width - cell.chars().count());
                if right { pad + cell } else { cell.clone() + &pad }
            });
            say!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}

/// A number with the unit prefix that keeps it short: `12.3 M`.
pub fn si(x: f64) -> String {
    let prefixes = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match prefixes.iter().find(|(size, _)| x.abs() >= *size) {
        Some((size, prefix)) => format!("{:.2} {prefix}", x / size),
        None => format!("{x:.0} "),
    }
}
