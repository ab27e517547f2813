//! One function: declarations to slots, statements to code, labels to indices.

use std::collections::HashMap;

use super::modifiers;
use super::scope::{Scopes, Symbol};
use super::slots;
use super::variables::Variables;
use crate::counters::Class;
use crate::fault::ParseError;
use crate::flow::NEVER;
use crate::program::{Code, Constant, Kernel, Op, Parameter};
use crate::syntax::ast::{Function, Instruction, Statement, Variable, VariableSpace};
use crate::types::Type;

/// More registers or code than any compiler emits: a limit against texts that would exhaust memory.
const MOST_REGISTERS: u32 = 1 << 16;
/// Local memory of one thread.
const MOST_LOCAL: u32 = 512 << 10;
/// Shared memory of one block, with the part that only opting in gives.
const MOST_SHARED: u32 = 227 << 10;
/// Kernel parameters.
const MOST_PARAMETERS: u32 = 32_764;

/// Why an instruction was not decoded.
pub enum Refusal {
    /// A form that the emulator does not know.
    Unknown,
    /// No PTX at all.
    Wrong(ParseError),
}

impl From<ParseError> for Refusal {
    fn from(error: ParseError) -> Refusal {
        Refusal::Wrong(error)
    }
}

pub type Decoded<T> = Result<T, Refusal>;

/// A label that was used: the instruction, which of its targets, in which scope.
pub struct Reference {
    pub code: usize,
    pub target: usize,
    pub scope: usize,
    pub name: Box<str>,
    pub line: u32,
}

/// The state of decoding one function.
pub struct Decoder<'a> {
    pub scopes: Scopes,
    pub module: &'a Variables,
    pub constants: Vec<Constant>,
    constant_index: HashMap<u64, u32>,
    pub registers: u32,
    pub predicates: u32,
    shared_bytes: u32,
    dynamic: Option<u32>,
    local_bytes: u32,
    pub granule: u32,
    /// `.branchtargets` by name.
    pub target_lists: HashMap<Box<str>, Vec<Box<str>>>,
    pub references: Vec<Reference>,
    /// The number that the instruction at hand will get.
    pub at: usize,
    /// What the instruction at hand reads and writes.
    pub reads: Vec<u32>,
    pub writes: Vec<u32>,
    pub carry: Option<u32>,
    sink: Option<u32>,
}

/// Decodes an entry.
pub fn kernel(function: Function, module: &Variables) -> Result<Kernel, ParseError> {
    let mut decoder = Decoder {
        scopes: Scopes::default(),
        module,
        constants: Vec::new(),
        constant_index: HashMap::new(),
        registers: 0,
        predicates: 0,
        shared_bytes: 0,
        dynamic: None,
        local_bytes: 0,
        granule: 16,
        target_lists: HashMap::new(),
        references: Vec::new(),
        at: 0,
        reads: Vec::new(),
        writes: Vec::new(),
        carry: None,
        sink: None,
    };
    decoder.scopes.open();
    let (parameters, parameter_bytes) = decoder.parameters(&function)?;
    decoder.scopes.open();
    let mut code = decoder.statements(function.body)?;
    decoder.resolve(&mut code)?;
    let dynamic_base = decoder.shared_bytes.next_multiple_of(decoder.dynamic.unwrap_or(1).max(16));
    let mut kernel = Kernel {
        name: function.name,
        registers: decoder.registers,
        predicates: decoder.predicates,
        constants: decoder.constants,
        parameters,
        parameter_bytes,
        dynamic_base,
        local_bytes: decoder.local_bytes,
        max_threads: function.max_threads,
        cluster: function.cluster,
        asynchronous: code_has(&code, |op| matches!(op, Op::Bulk(_) | Op::MatrixProduct(_))),
        matrices: code_has(&code, |op| matches!(op, Op::MatrixProduct(_))),
        granule: decoder.granule,
        code,
    };
    slots::share(&mut kernel, decoder.carry);
    Ok(kernel)
}

fn code_has(code: &[Code], is: impl Fn(&Op) -> bool) -> bool {
    code.iter().any(|code| is(&code.op))
}

impl Decoder<'_> {
    fn parameters(&mut self, function: &Function) -> Result<(Vec<Parameter>, u32), ParseError> {
        let (mut all, mut end) = (Vec::new(), 0u32);
        for variable in &function.parameters {
            let bytes = variable.bytes.unwrap_or(0);
            let offset = reserve(&mut end, variable.align, bytes, MOST_PARAMETERS, variable.line)?;
            self.declare(variable.name.clone(), Symbol::Offset(offset), variable.line)?;
            all.push(Parameter { offset, bytes });
        }
        Ok((all, end))
    }

    fn declare(&mut self, name: Box<str>, symbol: Symbol, line: u32) -> Result<(), ParseError> {
        match self.scopes.add(name.clone(), symbol) {
            true => Ok(()),
            false => Err(ParseError::new(line, format!("`{name}` is declared twice"))),
        }
    }

    fn statements(&mut self, body: Vec<Statement>) -> Result<Vec<Code>, ParseError> {
        let mut code = Vec::new();
        for statement in body {
            match statement {
                Statement::Open => self.scopes.open(),
                Statement::Close => self.scopes.close(),
                Statement::Register { ty, name, count, line } => self.declare_registers(ty, &name, count, line)?,
                Statement::Variable(variable) => self.declare_variable(variable)?,
                Statement::Label(name, line) => {
                    if !self.scopes.add_label(name.clone(), code.len() as u32) {
                        return Err(ParseError::new(line, format!("label `{name}` stands twice")));
                    }
                }
                Statement::Targets(name, targets) => {
                    self.target_lists.insert(name, targets);
                }
                Statement::Instruction(instruction) => {
                    self.at = code.len();
                    code.push(self.code(instruction)?);
                }
            }
        }
        // Falling off the end is an exit.
        code.push(Code {
            op: Op::Exit,
            guard: None,
            class: Class::Control,
            watched: None,
            reads: Box::default(),
            writes: Box::default(),
            join: NEVER,
            line: code.last().map_or(1, |c: &Code| c.line),
            text: "}".into(),
            source: None,
        });
        Ok(code)
    }

    fn code(&mut self, instruction: Instruction) -> Result<Code, ParseError> {
        self.reads.clear();
        self.writes.clear();
        let (op, class) = match self.instruction(&instruction) {
            Ok(decoded) => decoded,
            Err(Refusal::Wrong(error)) => return Err(error),
            Err(Refusal::Unknown) => return Err(ParseError::unknown(instruction.line, instruction.text)),
        };
        let guard = match &instruction.guard {
            Some((name, negate)) => {
                let guard = self.named_predicate(name, *negate, instruction.line)?;
                // Checked on its own: it is read by all lanes, the operands only by those that it lets pass.
                self.reads.pop();
                Some(guard)
            }
            None => None,
        };
        Ok(Code {
            op,
            guard,
            class,
            watched: None,
            reads: self.reads.as_slice().into(),
            writes: self.writes.as_slice().into(),
            join: NEVER,
            line: instruction.line,
            text: instruction.text,
            source: instruction.source,
        })
    }

    /// Tries the families one after the other; each answers `Unknown` for names that are not its own.
    fn instruction(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        if !modifiers::known(i) {
            return Err(Refusal::Unknown);
        }
        match &*i.name {
            "mov" | "cvta" | "selp" | "isspacep" | "activemask" => self.moves(i),
            "setp" | "set" | "slct" | "testp" => self.comparison(i),
            "ld" | "ldu" | "st" | "atom" | "red" | "cp" | "ldmatrix" | "stmatrix" | "createpolicy" | "prefetch" | "prefetchu"
            | "discard" | "applypriority" => self.memory(i),
            "mma" => self.tensor(i),
            "wgmma" | "setmaxnreg" => self.warpgroup(i),
            "mbarrier" => self.phase(i),
            "bra" | "brx" | "ret" | "exit" | "trap" | "brkpt" | "nanosleep" | "membar" | "fence" | "griddepcontrol"
            | "pmevent" => self.control(i),
            "mapa" => self.map_shared(i),
            "bar" | "barrier" | "elect" | "shfl" | "vote" | "match" | "redux" => self.collective(i),
            "and" | "or" | "xor" | "not" if i.has("pred") => self.predicate_logic(i),
            _ => self.arithmetic(i),
        }
    }

    fn declare_registers(&mut self, ty: Type, name: &str, count: Option<u32>, line: u32) -> Result<(), ParseError> {
        for n in 0..count.unwrap_or(1) {
            let symbol = match ty {
                Type::Pred => {
                    self.predicates += 1;
                    Symbol::Predicate(self.predicates - 1)
                }
                _ => Symbol::Register(self.new_register(), ty),
            };
            if self.registers + self.predicates > MOST_REGISTERS {
                return Err(ParseError::new(line, "too many registers"));
            }
            let full = if count.is_some() { format!("{name}{n}").into() } else { name.into() };
            self.declare(full, symbol, line)?;
        }
        Ok(())
    }

    fn declare_variable(&mut self, variable: Variable) -> Result<(), ParseError> {
        let (align, line) = (variable.align, variable.line);
        let symbol = match (variable.space, variable.bytes) {
            (VariableSpace::Shared, Some(bytes)) => {
                Symbol::Offset(reserve(&mut self.shared_bytes, align, bytes, MOST_SHARED, line)?)
            }
            (VariableSpace::Shared, None) => {
                self.dynamic = Some(self.dynamic.unwrap_or(1).max(align));
                Symbol::Dynamic
            }
            (VariableSpace::Local, Some(bytes)) => {
                Symbol::Offset(reserve(&mut self.local_bytes, align, bytes, MOST_LOCAL, line)?)
            }
            // Parameters of a call: the call itself is refused, so nobody reads them.
            (VariableSpace::Param, _) => Symbol::Offset(0),
            _ => return Err(ParseError::new(line, "a variable of this space in a function")),
        };
        self.declare(variable.name, symbol, line)
    }

    /// A variable of the module, placed in this kernel at its first use.
    pub fn module_symbol(&mut self, name: &str) -> Result<Option<Symbol>, ParseError> {
        if let Some((_, offset)) = self.module.constants.iter().find(|(n, _)| &**n == name) {
            return Ok(Some(Symbol::Offset(*offset)));
        }
        if let Some(index) = self.module.globals.iter().position(|v| &*v.name == name) {
            return Ok(Some(Symbol::Global(index as u32)));
        }
        let Some(variable) = self.module.shared.iter().find(|v| &*v.name == name) else { return Ok(None) };
        let symbol = match variable.bytes {
            None => {
                self.dynamic = Some(self.dynamic.unwrap_or(1).max(variable.align));
                Symbol::Dynamic
            }
            Some(bytes) => Symbol::Offset(reserve(&mut self.shared_bytes, variable.align, bytes, MOST_SHARED, variable.line)?),
        };
        self.scopes.add_global(variable.name.clone(), symbol);
        Ok(Some(symbol))
    }

    pub fn new_register(&mut self) -> u32 {
        self.registers += 1;
        self.registers - 1
    }

    /// Where results go that nobody wants.
    pub fn sink(&mut self) -> u32 {
        match self.sink {
            Some(slot) => slot,
            None => {
                let slot = self.new_register();
                self.sink = Some(slot);
                slot
            }
        }
    }

    /// The slot of a constant, shared between equal values.
    pub fn constant(&mut self, constant: Constant) -> u32 {
        let index = match constant {
            Constant::Value(value) => match self.constant_index.get(&value) {
                Some(&index) => index,
                None => {
                    self.constants.push(constant);
                    let index = self.constants.len() as u32 - 1;
                    self.constant_index.insert(value, index);
                    index
                }
            },
            _ => match self.constants.iter().position(|c| *c == constant) {
                Some(index) => index as u32,
                None => {
                    self.constants.push(constant);
                    self.constants.len() as u32 - 1
                }
            },
        };
        index | crate::program::CONSTANT
    }

    /// Fills in the labels, now that all of them stand.
    fn resolve(&self, code: &mut [Code]) -> Result<(), ParseError> {
        for r in &self.references {
            let Some(at) = self.scopes.find_label(r.scope, &r.name) else {
                return Err(ParseError::new(r.line, format!("label `{}` stands nowhere", r.name)));
            };
            match code.get_mut(r.code).map(|c| &mut c.op) {
                Some(Op::Branch { to }) => *to = at,
                Some(Op::BranchIndexed { targets, .. }) => {
                    if let Some(target) = targets.get_mut(r.target) {
                        *target = at;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Takes aligned space after `end`.
fn reserve(end: &mut u32, align: u32, bytes: u32, most: u32, line: u32) -> Result<u32, ParseError> {
    let start = end.checked_next_multiple_of(align);
    match start.and_then(|s| s.checked_add(bytes).map(|e| (s, e))) {
        Some((start, new_end)) if new_end <= most => {
            *end = new_end;
            Ok(start)
        }
        _ => Err(ParseError::new(line, format!("more than {most} bytes of this space"))),
    }
}
