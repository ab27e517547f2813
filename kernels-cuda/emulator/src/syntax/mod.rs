//! From text to a tree of names.

pub mod ast;
mod body;
mod lexer;
mod number;
mod parser;

pub use parser::parse;
