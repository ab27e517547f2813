//! Text to tokens.

use crate::fault::ParseError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tok<'a> {
    /// A name, an opcode with its suffixes, or a directive with its dot: `%r1`, `ld.global.f32`, `.reg`.
    Word(&'a str),
    /// Anything that begins with a digit.
    Number(&'a str),
    /// Between quotes.
    Text(&'a str),
    Mark(char),
}

#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    pub tok: Tok<'a>,
    pub line: u32,
    /// Where it stands in the text, for quoting instructions in faults.
    pub start: usize,
    pub end: usize,
}

/// All tokens of a text. Comments and white space end here; lines survive as numbers because `.loc` ends with its line.
pub fn tokens(text: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, line: 1 };
    let mut all = Vec::with_capacity(text.len() / 4);
    while let Some(token) = lexer.next()? {
        all.push(token);
    }
    Ok(all)
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, ParseError> {
        self.skip_blank()?;
        let start = self.at;
        let Some(&first) = self.bytes.get(start) else { return Ok(None) };
        let line = self.line;
        let tok = if first.is_ascii_digit() {
            self.take_while(|b| b.is_ascii_alphanumeric() || b == b'.');
            Tok::Number(&self.text[start..self.at])
        } else if in_word(first) {
            self.word();
            Tok::Word(&self.text[start..self.at])
        } else if first == b'"' {
            self.quoted()?
        } else if first.is_ascii() {
            self.at += 1;
            Tok::Mark(char::from(first))
        } else {
            return Err(ParseError::new(line, "a character that is not ASCII"));
        };
        Ok(Some(Token { tok, line, start, end: self.at }))
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.at < self.bytes.len() && wanted(self.bytes[self.at]) {
            self.at += 1;
        }
    }

    /// A word may hold `::`, as in `shared::cta`, but not the colon that ends a label.
    fn word(&mut self) {
        loop {
            self.take_while(in_word);
            if self.peek(0) == b':' && self.peek(1) == b':' && in_word(self.peek(2)) {
                self.at += 2;
            } else {
                return;
            }
        }
    }

    fn quoted(&mut self) -> Result<Tok<'a>, ParseError> {
        let start = self.at + 1;
        self.at = start;
        self.take_while(|b| b != b'"' && b != b'\n');
        if self.peek(0) != b'"' {
            return Err(ParseError::new(self.line, "a quote that does not end on its line"));
        }
        self.at += 1;
        Ok(Tok::Text(&self.text[start..self.at - 1]))
    }

    fn skip_blank(&mut self) -> Result<(), ParseError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r', _) => self.at += 1,
                (b'/', b'/') => self.take_while(|b| b != b'\n'),
                (b'/', b'*') => self.block_comment()?,
                // The driver's interface ends texts with a zero; so may ours.
                (0, _) if self.at < self.bytes.len() => self.at += 1,
                _ => return Ok(()),
            }
        }
    }

    fn block_comment(&mut self) -> Result<(), ParseError> {
        let Some(length) = self.text.as_bytes()[self.at..].windows(2).skip(2).position(|w| w == b"*/") else {
            return Err(ParseError::new(self.line, "a comment that does not end"));
        };
        let end = self.at + 2 + length + 2;
        self.line += self.bytes[self.at..end].iter().filter(|&&b| b == b'\n').count() as u32;
        self.at = end;
        Ok(())
    }
}
