//! Pickles of tensors, read without running anything.
//!
//! A pickle is a program for a small stack machine that may call any Python function. This reader knows the
//! instructions and the functions that files of tensors need, does their work itself, and refuses every other by name.
//! Everything it builds is bounded: values, nesting, and the length of the pickle.

mod call;
mod globals;
mod machine;
mod opcode;
mod value;

pub use value::{Dict, Key, Value};

use crate::error::Fault;
use crate::tensor::Storage;
use safetensors::Dtype;
use std::sync::Arc;

/// The longest pickle whose tensors' values lie elsewhere.
pub const MAX_LENGTH: usize = 32 << 20;

/// A storage that a pickle names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageKey<'a> {
    /// Its name in the file.
    pub key: &'a str,
    /// The type of its values; none for plain bytes.
    pub dtype: Option<Dtype>,
    /// The number of values.
    pub count: usize,
}

/// Gives the storages that a pickle names.
pub type Storages<'a> = dyn FnMut(StorageKey<'_>) -> Result<Arc<Storage>, String> + 'a;

/// Reads the pickle that `bytes` begin with, and says how long it is.
///
/// # Errors
/// A pickle that is damaged or too large, or that wants what is not on the list.
pub fn read(bytes: &[u8], storages: &mut Storages<'_>) -> Result<(Value, usize), Fault> {
    machine::Machine::new(bytes, MAX_LENGTH, storages).run()
}

/// The longest pickle that holds its tensors' values itself, as arrays of numpy.
pub const MAX_WHOLE: usize = 1 << 30;

/// As [`read`], for a pickle that is a file of its own: it has no storages and may be up to [`MAX_WHOLE`] long.
///
/// # Errors
/// As [`read`]; a pickle that asks for a storage.
pub fn read_whole(bytes: &[u8]) -> Result<(Value, usize), Fault> {
    let none = &mut |_: StorageKey<'_>| Err("a storage in a pickle without any".to_owned());
    machine::Machine::new(bytes, MAX_WHOLE, none).run()
}
