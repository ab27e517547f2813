//! Pickle opcodes of protocols 0 to 5, as `pickletools` names them.

macro_rules! opcodes {
    ($($name:ident = $code:literal,)*) => {
        $(pub(in crate::checkpoint) const $name: u8 = $code;)*
        /// Whether there is such an opcode.
        #[cfg(test)]
        pub(in crate::checkpoint) fn is_known(code: u8) -> bool {
            matches!(code, $($code)|*)
        }
    };
}

opcodes! {
    PROTO = 0x80, FRAME = 0x95, STOP = b'.',
    MARK = b'(', POP = b'0', POP_MARK = b'1', DUP = b'2',
    NONE = b'N', NEWTRUE = 0x88, NEWFALSE = 0x89,
    BININT = b'J', BININT1 = b'K', BININT2 = b'M', LONG1 = 0x8a, LONG4 = 0x8b, BINFLOAT = b'G',
    INT = b'I', LONG = b'L', FLOAT = b'F', STRING = b'S', UNICODE = b'V',
    BINUNICODE = b'X', SHORT_BINUNICODE = 0x8c, BINUNICODE8 = 0x8d,
    BINSTRING = b'T', SHORT_BINSTRING = b'U', BINBYTES = b'B', SHORT_BINBYTES = b'C', BINBYTES8 = 0x8e,
    BYTEARRAY8 = 0x96, NEXT_BUFFER = 0x97, READONLY_BUFFER = 0x98,
    EMPTY_DICT = b'}', EMPTY_LIST = b']', EMPTY_TUPLE = b')', EMPTY_SET = 0x8f,
    DICT = b'd', LIST = b'l', TUPLE = b't', TUPLE1 = 0x85, TUPLE2 = 0x86, TUPLE3 = 0x87, FROZENSET = 0x91,
    APPEND = b'a', APPENDS = b'e', SETITEM = b's', SETITEMS = b'u', ADDITEMS = 0x90,
    PUT = b'p', BINPUT = b'q', LONG_BINPUT = b'r', MEMOIZE = 0x94, GET = b'g', BINGET = b'h', LONG_BINGET = b'j',
    GLOBAL = b'c', STACK_GLOBAL = 0x93, EXT1 = 0x82, EXT2 = 0x83, EXT4 = 0x84,
    REDUCE = b'R', NEWOBJ = 0x81, NEWOBJ_EX = 0x92, INST = b'i', OBJ = b'o', BUILD = b'b',
    PERSID = b'P', BINPERSID = b'Q',
}
