//! Pickle opcodes, as `pickletools` names them.

macro_rules! opcodes {
    ($($name:ident = $code:literal,)*) => {
        $(pub(in crate::checkpoint) const $name: u8 = $code;)*
        /// The opcode's name.
        pub(in crate::checkpoint) fn name(code: u8) -> Option<&'static str> {
            match code {
                $($code => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

opcodes! {
    PROTO = 0x80, FRAME = 0x95, STOP = b'.',
    MARK = b'(', POP = b'0', POP_MARK = b'1', DUP = b'2',
    NONE = b'N', NEWTRUE = 0x88, NEWFALSE = 0x89,
    BININT = b'J', BININT1 = b'K', BININT2 = b'M', LONG1 = 0x8a, LONG4 = 0x8b, BINFLOAT = b'G',
    BINUNICODE = b'X', SHORT_BINUNICODE = 0x8c, BINUNICODE8 = 0x8d,
    BINSTRING = b'T', SHORT_BINSTRING = b'U', BINBYTES = b'B', SHORT_BINBYTES = b'C', BINBYTES8 = 0x8e,
    EMPTY_DICT = b'}', EMPTY_LIST = b']', EMPTY_TUPLE = b')',
    TUPLE = b't', TUPLE1 = 0x85, TUPLE2 = 0x86, TUPLE3 = 0x87,
    APPEND = b'a', APPENDS = b'e', SETITEM = b's', SETITEMS = b'u',
    BINPUT = b'q', LONG_BINPUT = b'r', MEMOIZE = 0x94, BINGET = b'h', LONG_BINGET = b'j',
    GLOBAL = b'c', STACK_GLOBAL = 0x93, REDUCE = b'R', NEWOBJ = 0x81, BUILD = b'b', BINPERSID = b'Q',
}

/// The names of opcodes that torch.save has no use for, for the refusal.
pub(in crate::checkpoint) fn refused_name(code: u8) -> &'static str {
    match code {
        b'i' => "INST",
        b'o' => "OBJ",
        0x92 => "NEWOBJ_EX",
        0x82..=0x84 => "EXT",
        b'P' => "PERSID",
        b'I' => "INT",
        b'L' => "LONG",
        b'F' => "FLOAT",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'l' => "LIST",
        b'd' => "DICT",
        b'p' => "PUT",
        b'g' => "GET",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => "unknown",
    }
}
