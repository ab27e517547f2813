//! The body of a function: statements and operands.

use super::ast::{Instruction, Operand, Statement};
use super::lexer::Tok;
use super::number::literal;
use super::parser::Parser;
use crate::fault::{ParseError, SourceLine};
use crate::types::Type;

/// Braces deeper than this are no compiler's work.
const DEEPEST: usize = 64;

impl Parser<'_> {
    /// From `{` to the `}` that closes it.
    pub fn body(&mut self) -> Result<Vec<Statement>, ParseError> {
        self.expect_mark('{')?;
        let (mut all, mut depth, mut source) = (Vec::new(), 0, None);
        loop {
            let Some(token) = self.peek_token() else { return Err(self.unexpected("`}`")) };
            match token.tok {
                Tok::Mark('{') if depth < DEEPEST => {
                    self.advance();
                    depth += 1;
                    all.push(Statement::Open);
                }
                Tok::Mark('}') => {
                    self.advance();
                    if depth == 0 {
                        return Ok(all);
                    }
                    depth -= 1;
                    all.push(Statement::Close);
                }
                Tok::Mark(';') => self.advance(),
                Tok::Word(".reg") => self.registers(&mut all)?,
                Tok::Word(".shared" | ".local" | ".param" | ".const" | ".global") => {
                    all.extend(self.variables()?.into_iter().map(Statement::Variable));
                }
                Tok::Word(".loc") => source = self.location(token.line),
                Tok::Word(".pragma" | ".maxnreg") => self.skip_past(';')?,
                Tok::Word(".file") => self.skip_line(token.line),
                Tok::Word(name) if self.peek(1) == Some(Tok::Mark(':')) => {
                    self.advance();
                    self.advance();
                    all.push(self.label(name, token.line)?);
                }
                _ => all.push(Statement::Instruction(self.instruction(source.clone())?)),
            }
        }
    }

    fn label(&mut self, name: &str, line: u32) -> Result<Statement, ParseError> {
        if matches!(self.peek(0), Some(Tok::Word(".callprototype" | ".calltargets"))) {
            self.skip_past(';')?;
            return Ok(Statement::Targets(name.into(), Vec::new()));
        }
        if !self.take_word(".branchtargets") {
            return Ok(Statement::Label(name.into(), line));
        }
        let mut targets = vec![self.word()?.into()];
        while self.take_mark(',') {
            targets.push(self.word()?.into());
        }
        self.expect_mark(';')?;
        Ok(Statement::Targets(name.into(), targets))
    }

    /// `.loc file line column [, function_name ..., inlined_at ...]`: the innermost place is what a reader looks for.
    fn location(&mut self, line: u32) -> Option<Box<SourceLine>> {
        self.advance();
        let mut numbers = [None; 2];
        for slot in &mut numbers {
            if let (Some(Tok::Number(text)), Some(token)) = (self.peek(0), self.peek_token())
                && token.line == line
                && let Some(Operand::Integer(value)) = literal(text)
            {
                *slot = Some(value);
                self.advance();
            }
        }
        self.skip_line(line);
        let [Some(file), Some(source_line)] = numbers else { return None };
        let file = self.files.get(&file).copied().unwrap_or("").into();
        Some(Box::new(SourceLine { file, line: u32::try_from(source_line).unwrap_or(u32::MAX) }))
    }

    /// `.reg .b32 %r<10>, x;`
    fn registers(&mut self, all: &mut Vec<Statement>) -> Result<(), ParseError> {
        let line = self.line();
        self.advance();
        let word = self.word()?;
        let Some(ty) = word.strip_prefix('.').and_then(Type::parse) else {
            return Err(ParseError::new(line, format!("registers of type `{word}` are not supported")));
        };
        loop {
            let name = self.word()?.into();
            let mut count = None;
            if self.take_mark('<') {
                let n = self.integer()?;
                self.expect_mark('>')?;
                count = Some(
                    u32::try_from(n).ok().filter(|&n| n <= 1 << 16).ok_or_else(|| ParseError::new(line, "too many registers"))?,
                );
            }
            all.push(Statement::Register { ty, name, count, line });
            if !self.take_mark(',') {
                return self.expect_mark(';');
            }
        }
    }

    fn instruction(&mut self, source: Option<Box<SourceLine>>) -> Result<Instruction, ParseError> {
        let Some(first) = self.peek_token() else { return Err(self.unexpected("an instruction")) };
        let mut guard = None;
        if self.take_mark('@') {
            let negate = self.take_mark('!');
            guard = Some((self.word()?.into(), negate));
        }
        let opcode = self.word()?;
        let mut parts = opcode.split('.');
        let name: Box<str> = parts.next().unwrap_or("").into();
        let parts = parts.map(Into::into).collect();
        let mut operands = Vec::new();
        while !self.take_mark(';') {
            operands.push(self.operand(0)?);
            if !self.take_mark(',') && self.peek(0) != Some(Tok::Mark(';')) && &*name != "call" {
                return Err(self.unexpected("`,` or `;`"));
            }
        }
        let text = self.text[first.start..self.end_of_last()].split_whitespace().collect::<Vec<_>>().join(" ").into();
        Ok(Instruction { guard, name, parts, operands, line: first.line, text, source })
    }

    fn operand(&mut self, depth: usize) -> Result<Operand, ParseError> {
        if depth > DEEPEST {
            return Err(self.unexpected("fewer brackets"));
        }
        let operand = match self.peek(0) {
            Some(Tok::Mark('{')) => {
                self.advance();
                Operand::Vector(self.list('}', depth)?)
            }
            Some(Tok::Mark('(')) => {
                self.advance();
                self.list(')', depth)?;
                Operand::List
            }
            Some(Tok::Mark('[')) => {
                self.advance();
                self.address(depth)?
            }
            Some(Tok::Mark('!')) => {
                self.advance();
                Operand::Not(self.word()?.into())
            }
            Some(Tok::Word(name)) => {
                self.advance();
                let offset = self.offset()?;
                Operand::Name(name.into(), offset)
            }
            _ => self.number()?,
        };
        if self.take_mark('|') {
            return Ok(Operand::Pair(Box::new(operand), Box::new(self.operand(depth + 1)?)));
        }
        Ok(operand)
    }

    fn list(&mut self, end: char, depth: usize) -> Result<Vec<Operand>, ParseError> {
        let mut all = Vec::new();
        while !self.take_mark(end) {
            all.push(self.operand(depth + 1)?);
            if !self.take_mark(',') && self.peek(0) != Some(Tok::Mark(end)) {
                return Err(self.unexpected(&format!("`,` or `{end}`")));
            }
        }
        Ok(all)
    }

    fn address(&mut self, depth: usize) -> Result<Operand, ParseError> {
        let base = self.operand(depth + 1)?;
        let (base, mut offset) = match base {
            Operand::Name(name, offset) => (Operand::Name(name, 0), offset),
            other => (other, 0),
        };
        offset = offset.wrapping_add(self.offset()?);
        if self.take_mark(',') {
            self.expect_mark('{')?;
            let coordinates = self.list('}', depth)?;
            self.expect_mark(']')?;
            return Ok(Operand::Tile(Box::new(base), offset, coordinates));
        }
        self.expect_mark(']')?;
        Ok(Operand::Address(Box::new(base), offset))
    }

    /// `+4`, `+-4`, `-4` or nothing.
    fn offset(&mut self) -> Result<i64, ParseError> {
        if self.take_mark('+') {
            return Ok(self.integer()? as i64);
        }
        match self.peek(0) {
            Some(Tok::Mark('-')) => Ok(self.integer()? as i64),
            _ => Ok(0),
        }
    }
}
