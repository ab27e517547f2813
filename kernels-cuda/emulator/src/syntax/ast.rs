//! What the parser makes of the tokens: names are still names.

use crate::fault::SourceLine;
use crate::types::Type;

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register, a variable, a label, a special register, `_`; with a constant offset.
    Name(Box<str>, i64),
    /// An integer, or the bits of `0f...` and `0d...`.
    Integer(u64),
    /// A floating-point number: the instruction decides how wide it is.
    Float(f64),
    /// `0f3F800000`.
    Single(u32),
    /// `!%p`.
    Not(Box<str>),
    /// `{a, b}`.
    Vector(Vec<Operand>),
    /// `[base + offset]`; the base is a name or an absolute address.
    Address(Box<Operand>, i64),
    /// `[map, {x, y}]`: a tensor map's address, and coordinates.
    Tile(Box<Operand>, i64, Vec<Operand>),
    /// `d|p`.
    Pair(Box<Operand>, Box<Operand>),
    /// `(a, b)`, of calls.
    List,
}

#[derive(Clone, Debug)]
pub struct Instruction {
    /// `@%p` (false) or `@!%p` (true).
    pub guard: Option<(Box<str>, bool)>,
    /// The opcode without its suffixes.
    pub name: Box<str>,
    /// The suffixes, without dots.
    pub parts: Vec<Box<str>>,
    pub operands: Vec<Operand>,
    pub line: u32,
    pub text: Box<str>,
    pub source: Option<Box<SourceLine>>,
}

impl Instruction {
    pub fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|p| &**p == part)
    }

    /// The types in the opcode, in order.
    pub fn types(&self) -> Vec<Type> {
        self.parts.iter().filter_map(|p| Type::parse(p)).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariableSpace {
    Global,
    Const,
    Shared,
    Local,
    Param,
}

/// A variable of any space. `bytes` is `None` for `extern .shared x[]`.
#[derive(Clone, Debug)]
pub struct Variable {
    pub space: VariableSpace,
    pub name: Box<str>,
    pub align: u32,
    pub bytes: Option<u32>,
    /// The initial contents; shorter than the variable means zeros.
    pub initial: Option<Vec<u8>>,
    pub line: u32,
}

#[derive(Clone, Debug)]
pub enum Statement {
    Open,
    Close,
    Register {
        ty: Type,
        name: Box<str>,
        count: Option<u32>,
        line: u32,
    },
    Variable(Variable),
    Label(Box<str>, u32),
    /// `name: .branchtargets a, b;`
    Targets(Box<str>, Vec<Box<str>>),
    Instruction(Instruction),
}

#[derive(Clone, Debug)]
pub struct Function {
    pub name: Box<str>,
    pub entry: bool,
    pub parameters: Vec<Variable>,
    /// `.maxntid` or `.reqntid`, multiplied.
    pub max_threads: Option<u32>,
    /// `.reqnctapercluster`: blocks of a cluster, along x.
    pub cluster: u32,
    pub body: Vec<Statement>,
}

#[derive(Clone, Debug, Default)]
pub struct Unit {
    pub functions: Vec<Function>,
    pub variables: Vec<Variable>,
}
