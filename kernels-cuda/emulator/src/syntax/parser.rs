//! Module level: directives, variables, functions.

use std::collections::HashMap;

use super::ast::{Function, Operand, Unit, Variable, VariableSpace};
use super::lexer::{Tok, Token, tokens};
use super::number::{literal, negated};
use crate::fault::ParseError;
use crate::types::Type;

/// No variable is larger than this: a declaration of more is a mistake, and must not cost the memory.
const LARGEST_VARIABLE: u64 = 64 << 20;

/// A position in the tokens, and the few things that a module remembers.
pub struct Parser<'a> {
    pub text: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
    /// Names of `.file` directives, for `.loc`.
    pub files: HashMap<u64, &'a str>,
}

/// Parses a module.
pub fn parse(text: &str) -> Result<Unit, ParseError> {
    let mut parser = Parser { text, tokens: tokens(text)?, at: 0, files: HashMap::new() };
    parser.find_files();
    let mut unit = Unit::default();
    let mut versioned = false;
    while let Some(token) = parser.peek_token() {
        match token.tok {
            Tok::Word(".version") => {
                versioned = true;
                parser.skip_line(token.line);
            }
            Tok::Word(".target" | ".address_size" | ".file" | ".loc") => parser.skip_line(token.line),
            Tok::Word(".section") => parser.skip_section()?,
            Tok::Word(".pragma" | ".alias") => parser.skip_past(';')?,
            Tok::Word(word) if word.starts_with('.') => parser.item(&mut unit)?,
            _ => return Err(parser.unexpected("a directive")),
        }
    }
    match versioned {
        true => Ok(unit),
        false => Err(ParseError::new(1, "no .version directive: this is not PTX")),
    }
}

impl<'a> Parser<'a> {
    pub fn peek_token(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    pub fn peek(&self, ahead: usize) -> Option<Tok<'a>> {
        self.tokens.get(self.at + ahead).map(|t| t.tok)
    }

    pub fn advance(&mut self) {
        self.at += 1;
    }

    pub fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.line)
    }

    /// Where the last consumed token ended.
    pub fn end_of_last(&self) -> usize {
        self.at.checked_sub(1).and_then(|i| self.tokens.get(i)).map_or(0, |t| t.end)
    }

    pub fn unexpected(&self, wanted: &str) -> ParseError {
        let found = match self.peek_token() {
            Some(token) => format!("found `{}`", &self.text[token.start..token.end]),
            None => "the text ends".into(),
        };
        ParseError::new(self.line(), format!("expected {wanted}, {found}"))
    }

    pub fn take_mark(&mut self, mark: char) -> bool {
        let there = self.peek(0) == Some(Tok::Mark(mark));
        self.at += usize::from(there);
        there
    }

    pub fn expect_mark(&mut self, mark: char) -> Result<(), ParseError> {
        match self.take_mark(mark) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("`{mark}`"))),
        }
    }

    pub fn take_word(&mut self, word: &str) -> bool {
        let there = self.peek(0) == Some(Tok::Word(word));
        self.at += usize::from(there);
        there
    }

    pub fn word(&mut self) -> Result<&'a str, ParseError> {
        match self.peek(0) {
            Some(Tok::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    pub fn number(&mut self) -> Result<Operand, ParseError> {
        let minus = self.take_mark('-');
        let value = match self.peek(0) {
            Some(Tok::Number(text)) => literal(text),
            _ => None,
        };
        let Some(value) = value else { return Err(self.unexpected("a number")) };
        self.at += 1;
        Ok(if minus { negated(value) } else { value })
    }

    pub fn integer(&mut self) -> Result<u64, ParseError> {
        let line = self.line();
        match self.number()? {
            Operand::Integer(value) => Ok(value),
            _ => Err(ParseError::new(line, "expected an integer")),
        }
    }

    pub fn skip_line(&mut self, line: u32) {
        while self.peek_token().is_some_and(|t| t.line == line) {
            self.at += 1;
        }
    }

    pub fn skip_past(&mut self, mark: char) -> Result<(), ParseError> {
        while self.peek(0).is_some() {
            if self.take_mark(mark) {
                return Ok(());
            }
            self.at += 1;
        }
        Err(self.unexpected(&format!("`{mark}`")))
    }

    fn skip_section(&mut self) -> Result<(), ParseError> {
        self.skip_past('{')?;
        self.skip_past('}')
    }

    /// `.file` directives stand at the end of the text, after the `.loc` that refer to them.
    fn find_files(&mut self) {
        for at in 0..self.tokens.len().saturating_sub(2) {
            if let [Tok::Word(".file"), Tok::Number(n), Tok::Text(name)] = [0, 1, 2].map(|i| self.tokens[at + i].tok)
                && let Some(Operand::Integer(n)) = literal(n)
            {
                self.files.insert(n, name);
            }
        }
    }

    /// A variable or a function, with the linkage before it.
    fn item(&mut self, unit: &mut Unit) -> Result<(), ParseError> {
        while matches!(self.peek(0), Some(Tok::Word(".visible" | ".extern" | ".weak" | ".common"))) {
            self.at += 1;
        }
        match self.peek(0) {
            Some(Tok::Word(".entry")) => {
                self.at += 1;
                unit.functions.extend(self.function(true)?);
            }
            Some(Tok::Word(".func")) => {
                self.at += 1;
                unit.functions.extend(self.function(false)?);
            }
            Some(Tok::Word(".global" | ".const" | ".shared")) => unit.variables.extend(self.variables()?),
            _ => return Err(self.unexpected("a function or a variable")),
        }
        Ok(())
    }

    /// A function; `None` for a declaration without a body.
    fn function(&mut self, entry: bool) -> Result<Option<Function>, ParseError> {
        if !entry && self.take_mark('(') {
            self.skip_past(')')?;
        }
        let name = self.word()?.into();
        let parameters = if self.take_mark('(') { self.parameters()? } else { Vec::new() };
        let (mut max_threads, mut cluster) = (None, 1);
        loop {
            match self.peek(0) {
                Some(Tok::Word(word @ (".maxntid" | ".reqntid"))) => {
                    let _ = word;
                    self.at += 1;
                    max_threads = Some(self.product()?);
                }
                Some(Tok::Word(".minnctapersm" | ".maxnctapersm" | ".maxnreg")) => {
                    self.at += 1;
                    self.product()?;
                }
                Some(Tok::Word(".reqnctapercluster")) => {
                    self.at += 1;
                    cluster = u32::try_from(self.integer()?).unwrap_or(u32::MAX);
                    while self.take_mark(',') {
                        if self.integer()? != 1 {
                            return Err(self.unexpected("a cluster along x alone"));
                        }
                    }
                }
                Some(Tok::Word(".noreturn" | ".explicitcluster")) => self.at += 1,
                Some(Tok::Word(".pragma")) => self.skip_past(';')?,
                Some(Tok::Mark(';')) => {
                    self.at += 1;
                    return Ok(None);
                }
                Some(Tok::Mark('{')) => break,
                _ => return Err(self.unexpected("the body of a function")),
            }
        }
        let body = self.body()?;
        Ok(Some(Function { name, entry, parameters, max_threads, cluster, body }))
    }

    /// `128, 1, 1`
    fn product(&mut self) -> Result<u32, ParseError> {
        let mut product = self.integer()?;
        while self.take_mark(',') {
            product = product.saturating_mul(self.integer()?);
        }
        Ok(u32::try_from(product).unwrap_or(u32::MAX))
    }

    fn parameters(&mut self) -> Result<Vec<Variable>, ParseError> {
        let mut all = Vec::new();
        while !self.take_mark(')') {
            if !self.take_word(".param") {
                return Err(self.unexpected("`.param`"));
            }
            all.push(self.variable(VariableSpace::Param, None)?.0);
            self.take_mark(',');
        }
        Ok(all)
    }

    /// `.shared .align 4 .b8 x[128], y;` with the semicolon.
    pub fn variables(&mut self) -> Result<Vec<Variable>, ParseError> {
        let space = match self.word()? {
            ".global" => VariableSpace::Global,
            ".const" => VariableSpace::Const,
            ".shared" => VariableSpace::Shared,
            ".local" => VariableSpace::Local,
            _ => VariableSpace::Param,
        };
        let (first, shape) = self.variable(space, None)?;
        let mut all = vec![first];
        while self.take_mark(',') {
            all.push(self.variable(space, Some(shape))?.0);
        }
        self.expect_mark(';')?;
        Ok(all)
    }

    /// One declarator. `shape` is alignment, vector length and type where an earlier declarator of the list gave them.
    fn variable(
        &mut self,
        space: VariableSpace,
        shape: Option<(u32, u32, Type)>,
    ) -> Result<(Variable, (u32, u32, Type)), ParseError> {
        let line = self.line();
        let (align, lanes, ty) = match shape {
            Some(shape) => shape,
            None => self.shape()?,
        };
        let name = self.word()?.into();
        let element = u64::from(ty.bytes() * lanes);
        let mut count = Some(1u64);
        while self.take_mark('[') {
            count = match self.take_mark(']') {
                true => None,
                false => {
                    let length = self.integer()?;
                    self.expect_mark(']')?;
                    count.and_then(|c| c.checked_mul(length))
                }
            };
        }
        let mut initial = None;
        if self.take_mark('=') {
            let mut bytes = Vec::new();
            self.initialiser(ty, &mut bytes)?;
            count = count.or(Some((bytes.len() as u64).div_ceil(element.max(1))));
            initial = Some(bytes);
        }
        let bytes = count.map(|c| c.saturating_mul(element));
        if bytes.is_some_and(|b| b > LARGEST_VARIABLE) || !align.is_power_of_two() {
            return Err(ParseError::new(line, "the size or alignment of a variable is out of range"));
        }
        let variable = Variable { space, name, align, bytes: bytes.map(|b| b as u32), initial, line };
        Ok((variable, (align, lanes, ty)))
    }

    /// `.align 16 .v2 .f32`, and the pointer attributes of parameters.
    fn shape(&mut self) -> Result<(u32, u32, Type), ParseError> {
        let (mut align, mut lanes) = (None, 1);
        loop {
            let word = self.word()?;
            match word {
                ".align" => align = Some(u32::try_from(self.integer()?).unwrap_or(0)),
                ".v2" => lanes = 2,
                ".v4" => lanes = 4,
                ".ptr" | ".global" | ".shared" | ".const" | ".local" => {}
                _ => match word.strip_prefix('.').and_then(Type::parse) {
                    Some(ty) => {
                        // `.u64 .ptr .global .align 4 name`: what the pointer points to changes nothing here.
                        while matches!(
                            self.peek(0),
                            Some(Tok::Word(".ptr" | ".global" | ".shared" | ".const" | ".local" | ".align"))
                        ) {
                            if self.word()? == ".align" {
                                self.integer()?;
                            }
                        }
                        return Ok((align.unwrap_or((ty.bytes() * lanes).max(1)), lanes, ty));
                    }
                    None => return Err(ParseError::new(self.line(), format!("`{word}` is no type"))),
                },
            }
        }
    }

    /// Numbers, in braces or not, as bytes.
    fn initialiser(&mut self, ty: Type, bytes: &mut Vec<u8>) -> Result<(), ParseError> {
        if !self.take_mark('{') {
            let line = self.line();
            let value = match (self.number()?, ty) {
                (Operand::Integer(v), Type::F32) => u64::from((v as i64 as f32).to_bits()),
                (Operand::Integer(v), Type::F64) => (v as i64 as f64).to_bits(),
                (Operand::Integer(v), _) => v,
                (Operand::Single(bits), Type::F32 | Type::B32) => u64::from(bits),
                (Operand::Float(v), Type::F32) => u64::from((v as f32).to_bits()),
                (Operand::Float(v), _) => v.to_bits(),
                _ => return Err(ParseError::new(line, "an initialiser that does not fit its type")),
            };
            let width = ty.bytes().min(8) as usize;
            bytes.extend(&value.to_le_bytes()[..width]);
            return Ok(());
        }
        while !self.take_mark('}') {
            self.initialiser(ty, bytes)?;
            self.take_mark(',');
        }
        Ok(())
    }
}
