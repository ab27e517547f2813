//! Bytes, numbers and text of a pickle.

use super::{Machine, Result, op};
use crate::checkpoint::pytorch::value::Value;

impl<'a> Machine<'a> {
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let rest = self.data.get(self.pos..).unwrap_or_default();
        let Some(bytes) = rest.get(..n) else {
            self.truncated = true;
            return Err(format!("truncated: {n} bytes wanted, {} left", rest.len()));
        };
        self.pos += n;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "truncated".to_owned())
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[b]| b)
    }

    /// A length of `width` little-endian bytes.
    fn length(&mut self, width: usize) -> Result<usize> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "a length does not fit the address space".to_owned())
    }

    /// The rest of the line, without its end.
    pub(super) fn line(&mut self) -> Result<&'a [u8]> {
        let rest = self.data.get(self.pos..).unwrap_or_default();
        let Some(end) = rest.iter().position(|&b| b == b'\n') else {
            self.truncated = true;
            return Err("truncated: a line without an end".into());
        };
        let line = self.take(end)?;
        self.pos += 1;
        Ok(line)
    }

    /// A decimal number on a line of its own.
    pub(super) fn decimal(&mut self) -> Result<u32> {
        let line = self.line()?;
        let number = std::str::from_utf8(line).ok().and_then(|text| text.trim().parse().ok());
        number.ok_or_else(|| "a number is expected".to_owned())
    }

    pub(super) fn protocol(&mut self) -> Result<()> {
        match self.byte()? {
            0..=5 => Ok(()),
            other => Err(format!("pickle protocol {other}, expected 0 to 5")),
        }
    }

    pub(super) fn literal(&mut self, code: u8) -> Result<()> {
        let value = match code {
            op::BININT => Value::Int(i32::from_le_bytes(self.array()?).into()),
            op::BININT1 => Value::Int(self.byte()?.into()),
            op::BININT2 => Value::Int(u16::from_le_bytes(self.array()?).into()),
            op::NEWTRUE => Value::Int(1),
            op::NEWFALSE => Value::Int(0),
            op::INT | op::LONG => integer(self.line()?),
            op::LONG1 => self.long(1)?,
            op::LONG4 => self.long(4)?,
            op::SHORT_BINUNICODE | op::SHORT_BINSTRING => self.text(1)?,
            op::BINUNICODE | op::BINSTRING => self.text(4)?,
            op::BINUNICODE8 => self.text(8)?,
            op::UNICODE => Value::Text(self.line()?),
            op::STRING => Value::Text(unquoted(self.line()?)),
            op::NONE | op::NEXT_BUFFER | op::EMPTY_SET => Value::Plain,
            op::BINFLOAT => self.bytes(8)?,
            op::FLOAT => self.line().map(|_| Value::Plain)?,
            op::SHORT_BINBYTES => self.length(1).and_then(|n| self.bytes(n))?,
            op::BINBYTES => self.length(4).and_then(|n| self.bytes(n))?,
            op::BINBYTES8 | op::BYTEARRAY8 => self.length(8).and_then(|n| self.bytes(n))?,
            other => return Err(format!("the byte 0x{other:02x} is no opcode of a pickle")),
        };
        self.push(value)
    }

    /// Steps over data that nothing asks for.
    fn bytes(&mut self, n: usize) -> Result<Value<'a>> {
        self.take(n).map(|_| Value::Plain)
    }

    fn text(&mut self, width: usize) -> Result<Value<'a>> {
        let n = self.length(width)?;
        self.take(n).map(Value::Text)
    }

    /// A two's-complement integer of any length; beyond 64 bits it can be no size.
    fn long(&mut self, width: usize) -> Result<Value<'a>> {
        let n = self.length(width)?;
        let bytes = self.take(n)?;
        if n > 8 {
            return Ok(Value::Plain);
        }
        let negative = bytes.last().is_some_and(|&b| b >= 0x80);
        let mut wide = if negative { [0xff; 8] } else { [0; 8] };
        wide[..n].copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }
}

/// A decimal integer of protocol 0, where `00` and `01` are booleans and an `L` may follow.
fn integer<'a>(line: &[u8]) -> Value<'a> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    text.trim().trim_end_matches('L').parse().map_or(Value::Plain, Value::Int)
}

/// A string of protocol 0 without its quotes. Escapes stay as they are: names of tensors have none.
fn unquoted(line: &[u8]) -> &[u8] {
    match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        other => other,
    }
}
