//! The stack machine of a pickle.
//!
//! Values are nodes of an arena and refer to each other by number, so that a list which the pickle fills after having
//! referred to it is full wherever it is referred to, and nothing is copied however often it is.

use super::call::{build, call};
use super::globals::{self, Global};
use super::value::{Dict, Key, Value};
use super::{StorageKey, Storages, opcode};
use crate::error::{Fault, shown};
use crate::tensor::Storage;
use safetensors::Dtype;
use std::collections::HashMap;
use std::sync::Arc;

/// The most values of a pickle. A checkpoint needs some twenty per tensor.
const MAX_NODES: usize = 1 << 20;
/// The most places in its lists, tuples and dictionaries together.
const MAX_ITEMS: usize = 4 << 20;
/// The most values waiting on the stack, or referred to by the pickle's memory.
const MAX_STACK: usize = 1 << 20;
/// The deepest nesting.
const MAX_DEPTH: usize = 64;
/// The longest integer, in bytes.
const MAX_INT: usize = 16;

pub(super) type Id = u32;
pub(super) type Outcome<T> = Result<T, Fault>;

/// A value being built.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// A value without parts, or whose parts can no longer change.
    Leaf(Value),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Arc<Storage>, Option<Dtype>),
    /// A type of numpy, by its code such as `f8`.
    NumpyDtype(Arc<str>),
    /// An array of numpy that has no shape and no values yet.
    NumpyArray,
}

impl Node {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Leaf(value) => value.kind(),
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a function or class",
            Self::Storage(..) => "a storage",
            Self::NumpyDtype(_) => "a numpy type",
            Self::NumpyArray => "a numpy array without values",
        }
    }
}

/// The nodes.
pub(super) struct Arena {
    nodes: Vec<Node>,
    items: usize,
    /// Bytes that calls may still make of others.
    left: usize,
}

impl Arena {
    /// For a pickle of so many bytes, whose calls make no more of them than it has.
    fn new(bytes: usize) -> Self {
        Self {
            nodes: Vec::new(),
            items: 0,
            left: bytes,
        }
    }

    /// Counts bytes that a call makes, before they are made.
    pub(super) fn charge(&mut self, bytes: usize) -> Outcome<()> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or("the pickle's calls make more bytes than it has")?;
        Ok(())
    }

    pub(super) fn add(&mut self, node: Node) -> Outcome<Id> {
        if self.nodes.len() >= MAX_NODES {
            return Err(format!("the pickle builds more than {MAX_NODES} values").into());
        }
        self.count(match &node {
            Node::Tuple(items) | Node::List(items) => items.len(),
            Node::Dict(items) => items.len(),
            _ => 0,
        })?;
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as Id)
    }

    /// Counts places in lists, tuples and dictionaries.
    fn count(&mut self, items: usize) -> Outcome<()> {
        self.items = self.items.saturating_add(items);
        if self.items > MAX_ITEMS {
            return Err(format!("the pickle's lists have more than {MAX_ITEMS} places").into());
        }
        Ok(())
    }

    pub(super) fn get(&self, id: Id) -> Outcome<&Node> {
        self.nodes
            .get(id as usize)
            .ok_or_else(|| "the pickle refers to nothing".into())
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Outcome<&mut Node> {
        self.nodes
            .get_mut(id as usize)
            .ok_or_else(|| "the pickle refers to nothing".into())
    }
}

pub(super) struct Machine<'a, 'b> {
    bytes: &'a [u8],
    /// Whether the pickle may go on behind `bytes`, where it is not read.
    limited: bool,
    at: usize,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    arena: Arena,
    storages: &'a mut Storages<'b>,
}

impl<'a, 'b> Machine<'a, 'b> {
    /// For a pickle of at most `most` bytes.
    pub(super) fn new(bytes: &'a [u8], most: usize, storages: &'a mut Storages<'b>) -> Self {
        Self {
            bytes: bytes.get(..most).unwrap_or(bytes),
            limited: bytes.len() >= most,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            arena: Arena::new(bytes.len().min(most)),
            storages,
        }
    }

    /// Runs to the end, and gives the value and the pickle's length.
    pub(super) fn run(mut self) -> Outcome<(Value, usize)> {
        loop {
            let at = self.at;
            let code = self.byte()?;
            if code == b'.' {
                break;
            }
            self.step(code).map_err(|fault| match fault {
                Fault::Bad(reason) => Fault::Bad(format!("{reason} (byte {at} of its pickle)")),
                other => other,
            })?;
        }
        let root = self.pop()?;
        let (value, _) = Freeze {
            done: vec![None; self.arena.nodes.len()],
            open: vec![false; self.arena.nodes.len()],
            arena: &self.arena,
        }
        .value(root, 0)?;
        Ok((value, self.at))
    }

    fn step(&mut self, code: u8) -> Outcome<()> {
        match code {
            // The frame of protocol 4 and the protocol's own number.
            0x80 => match self.byte()? {
                2..=5 => Ok(()),
                other => Err(format!("the pickle is of protocol {other}; 2 to 5 are read").into()),
            },
            0x95 => self.take(8).map(|_| ()),
            b'(' => {
                self.room()?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(|_| ()),
            b'1' => self.since_mark().map(|_| ()),
            b'2' => {
                let top = *self.stack.last().ok_or("the pickle's stack is empty")?;
                self.push_id(top)
            }

            b'N' => self.leaf(Value::None),
            0x88 => self.leaf(Value::Bool(true)),
            0x89 => self.leaf(Value::Bool(false)),
            b'J' => {
                let value = self.array::<4>()?;
                self.leaf(Value::Int(i32::from_le_bytes(value).into()))
            }
            b'K' => self.int_of(1),
            b'M' => self.int_of(2),
            0x8a => self.long(1),
            0x8b => self.long(4),
            b'G' => {
                let value = self.array::<8>()?;
                self.leaf(Value::Float(f64::from_be_bytes(value)))
            }
            b'X' | b'T' => self.text(4),
            0x8c | b'U' => self.text(1),
            0x8d => self.text(8),
            b'B' => self.raw(4),
            b'C' => self.raw(1),
            0x8e => self.raw(8),

            b']' => self.push(Node::List(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            b't' => {
                let items = self.since_mark()?;
                self.push(Node::Tuple(items))
            }
            0x85..=0x87 => {
                let items = self.pop_n(usize::from(code - 0x84))?;
                self.push(Node::Tuple(items))
            }
            b'l' => {
                let items = self.since_mark()?;
                self.push(Node::List(items))
            }
            b'd' => {
                let items = self.since_mark()?;
                let pairs = pairs(&items)?;
                self.push(Node::Dict(pairs))
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])
            }
            b'e' => {
                let items = self.since_mark()?;
                self.extend_list(items)
            }
            b's' => {
                let items = self.pop_n(2)?;
                self.extend_dict(&items)
            }
            b'u' => {
                let items = self.since_mark()?;
                self.extend_dict(&items)
            }

            b'h' => self.recall(1),
            b'j' => self.recall(4),
            b'q' => self.remember(1),
            b'r' => self.remember(4),
            0x94 => {
                let index = self.memo.len() as u32;
                self.memorise(index)
            }

            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)
            }
            0x93 => {
                let [module, name] = [self.pop_str()?, self.pop_str()?];
                // The name lies on top.
                self.global(&name, &module)
            }
            b'Q' => self.storage(),
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let function = self.pop()?;
                let Node::Global(function) = self.arena.get(function)?.clone() else {
                    let kind = self.arena.get(function)?.kind();
                    return Err(Fault::Refused(format!("to call {kind}")));
                };
                let Node::Tuple(arguments) = self.arena.get(arguments)?.clone() else {
                    return Err("a call's arguments are no tuple".into());
                };
                let made = call(function, &arguments, &mut self.arena)?;
                self.push(made)
            }
            b'b' => {
                let state = self.pop()?;
                let target = *self.stack.last().ok_or("the pickle's stack is empty")?;
                build(target, state, &mut self.arena)
            }
            other => Err(match opcode::refused(other) {
                Some(name) => Fault::Refused(format!("the instruction {name}")),
                None => format!("{other:#04x} is no instruction").into(),
            }),
        }
    }

    // What the bytes hold.

    fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.get(..count) {
            Some(bytes) => {
                self.at += count;
                Ok(bytes)
            }
            None if self.limited => {
                let most = self.bytes.len();
                Err(format!("the pickle is longer than {most} bytes").into())
            }
            None => Err(format!(
                "the pickle is cut off: {count} bytes are needed, {} are left",
                rest.len()
            )
            .into()),
        }
    }

    fn byte(&mut self) -> Outcome<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let bytes = self.take(N)?;
        bytes
            .try_into()
            .map_err(|_| Fault::from("the pickle is cut off"))
    }

    /// An unsigned number of up to 8 bytes.
    fn number(&mut self, bytes: usize) -> Outcome<u64> {
        let bytes = self.take(bytes)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// Bytes after their length.
    fn counted(&mut self, length_bytes: usize) -> Outcome<&'a [u8]> {
        let length = self.number(length_bytes)?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Outcome<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest
            .iter()
            .take(1000)
            .position(|&b| b == b'\n')
            .ok_or("a name in the pickle does not end")?;
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| "a name in the pickle is no text".into())
    }

    fn int_of(&mut self, bytes: usize) -> Outcome<()> {
        let value = self.number(bytes)?;
        self.leaf(Value::Int(value.into()))
    }

    fn long(&mut self, length_bytes: usize) -> Outcome<()> {
        let bytes = self.counted(length_bytes)?;
        if bytes.len() > MAX_INT {
            return Err(format!("an integer of {} bytes; {MAX_INT} are read", bytes.len()).into());
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; MAX_INT];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.leaf(Value::Int(i128::from_le_bytes(wide)))
    }

    fn text(&mut self, length_bytes: usize) -> Outcome<()> {
        let bytes = self.counted(length_bytes)?;
        let text = std::str::from_utf8(bytes).map_err(|_| "a text in the pickle is not UTF-8")?;
        self.leaf(Value::Str(text.into()))
    }

    fn raw(&mut self, length_bytes: usize) -> Outcome<()> {
        let bytes = self.counted(length_bytes)?;
        self.leaf(Value::Bytes(bytes.into()))
    }

    // The stack.

    fn room(&self) -> Outcome<()> {
        if self.stack.len().max(self.marks.len()) >= MAX_STACK {
            return Err(format!("the pickle's stack holds more than {MAX_STACK} values").into());
        }
        Ok(())
    }

    fn push_id(&mut self, id: Id) -> Outcome<()> {
        self.room()?;
        self.stack.push(id);
        Ok(())
    }

    fn push(&mut self, node: Node) -> Outcome<()> {
        let id = self.arena.add(node)?;
        self.push_id(id)
    }

    fn leaf(&mut self, value: Value) -> Outcome<()> {
        self.push(Node::Leaf(value))
    }

    /// The topmost value above the last mark.
    fn pop(&mut self) -> Outcome<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the pickle takes more from its stack than there is".into());
        }
        self.stack
            .pop()
            .ok_or_else(|| "the pickle's stack is empty".into())
    }

    /// The topmost values, in the order they were pushed.
    fn pop_n(&mut self, count: usize) -> Outcome<Vec<Id>> {
        let mut items = (0..count)
            .map(|_| self.pop())
            .collect::<Outcome<Vec<Id>>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_str(&mut self) -> Outcome<Arc<str>> {
        let id = self.pop()?;
        match self.arena.get(id)? {
            Node::Leaf(Value::Str(text)) => Ok(text.clone()),
            other => Err(format!("a name is {}", other.kind()).into()),
        }
    }

    fn since_mark(&mut self) -> Outcome<Vec<Id>> {
        let mark = self
            .marks
            .pop()
            .ok_or("the pickle looks for a mark that is not there")?;
        if mark > self.stack.len() {
            return Err("the pickle's marks are in disorder".into());
        }
        Ok(self.stack.split_off(mark))
    }

    // Lists and dictionaries.

    fn extend_list(&mut self, items: Vec<Id>) -> Outcome<()> {
        self.arena.count(items.len())?;
        let target = *self.stack.last().ok_or("the pickle's stack is empty")?;
        match self.arena.get_mut(target)? {
            Node::List(list) => list.extend(items),
            other => return Err(format!("the pickle adds an item to {}", other.kind()).into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Outcome<()> {
        self.arena.count(items.len())?;
        let target = *self.stack.last().ok_or("the pickle's stack is empty")?;
        match self.arena.get_mut(target)? {
            Node::Dict(dict) => dict.extend(pairs(items)?),
            other => return Err(format!("the pickle sets a key of {}", other.kind()).into()),
        }
        Ok(())
    }

    // The memory.

    fn recall(&mut self, bytes: usize) -> Outcome<()> {
        let index = self.number(bytes)? as u32;
        let id = *self
            .memo
            .get(&index)
            .ok_or_else(|| format!("the pickle recalls {index}, which it never kept"))?;
        self.push_id(id)
    }

    fn remember(&mut self, bytes: usize) -> Outcome<()> {
        let index = self.number(bytes)? as u32;
        self.memorise(index)
    }

    fn memorise(&mut self, index: u32) -> Outcome<()> {
        let top = *self.stack.last().ok_or("the pickle's stack is empty")?;
        if self.memo.len() >= MAX_STACK {
            return Err(format!("the pickle keeps more than {MAX_STACK} values").into());
        }
        self.memo.insert(index, top);
        Ok(())
    }

    // Names and storages.

    fn global(&mut self, module: &str, name: &str) -> Outcome<()> {
        match globals::find(module, name) {
            Some(global) => self.push(Node::Global(global)),
            None => Err(Fault::Refused(format!("{}.{}", shown(module), shown(name)))),
        }
    }

    /// A storage by its persistent name: ("storage", class, key, place, count), in old files with a view at the end.
    fn storage(&mut self) -> Outcome<()> {
        let id = self.pop()?;
        let Node::Tuple(parts) = self.arena.get(id)? else {
            return Err("a persistent name is no tuple".into());
        };
        let parts = parts
            .iter()
            .map(|&part| self.arena.get(part))
            .collect::<Outcome<Vec<&Node>>>()?;
        let [
            Node::Leaf(Value::Str(what)),
            Node::Global(Global::Storage(dtype)),
            Node::Leaf(Value::Str(key)),
            Node::Leaf(Value::Str(_)),
            Node::Leaf(Value::Int(count)),
            rest @ ..,
        ] = parts.as_slice()
        else {
            return Err("a persistent name is not that of a storage".into());
        };
        if &**what != "storage" {
            return Err(Fault::Refused(format!("a persistent {}", shown(what))));
        }
        if !matches!(rest, [] | [Node::Leaf(Value::None)]) {
            return Err(Fault::Refused(
                "a view of a storage, as PyTorch 0.1 had".into(),
            ));
        }
        let asked = StorageKey {
            key,
            dtype: *dtype,
            count: usize::try_from(*count)
                .map_err(|_| format!("storage {} claims {count} values", shown(key)))?,
        };
        let storage = (self.storages)(asked)?;
        let dtype = *dtype;
        self.push(Node::Storage(storage, dtype))
    }
}

fn pairs(items: &[Id]) -> Outcome<Vec<(Id, Id)>> {
    if !items.len().is_multiple_of(2) {
        return Err("a key of a dictionary has no value".into());
    }
    Ok(items
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [key, value] => Some((*key, *value)),
            _ => None,
        })
        .collect())
}

/// Turns nodes into values, each once however often it is referred to.
struct Freeze<'a> {
    arena: &'a Arena,
    /// With how deep they nest, since a value may be referred to from anywhere.
    done: Vec<Option<(Value, usize)>>,
    open: Vec<bool>,
}

impl Freeze<'_> {
    /// The value of a node `depth` levels below the root, and how many levels lie below it.
    fn value(&mut self, id: Id, depth: usize) -> Outcome<(Value, usize)> {
        let at = id as usize;
        let known = self.done.get(at).cloned().flatten();
        let below = known.as_ref().map_or(0, |(_, below)| *below);
        if depth + below > MAX_DEPTH {
            return Err(format!("the pickle nests its values deeper than {MAX_DEPTH}").into());
        }
        if let Some(known) = known {
            return Ok(known);
        }
        match self.open.get_mut(at) {
            Some(open) if !*open => *open = true,
            _ => return Err("the pickle has a value that holds itself".into()),
        }
        let (arena, mut below) = (self.arena, 0);
        let value = match arena.get(id)? {
            Node::Leaf(value) => value.clone(),
            Node::Tuple(items) => Value::Tuple(self.values(items, depth, &mut below)?),
            Node::List(items) => Value::List(self.values(items, depth, &mut below)?),
            Node::Dict(items) => {
                let mut dict = Dict::default();
                for &(key, value) in items {
                    let key = match arena.get(key)? {
                        Node::Leaf(Value::Str(text)) => Key::Str(text.clone()),
                        Node::Leaf(Value::Int(number)) => Key::Int(*number),
                        other => {
                            return Err(format!(
                                "a dictionary has {} as a key; text and integers are read",
                                other.kind()
                            )
                            .into());
                        }
                    };
                    let (value, under) = self.value(value, depth + 1)?;
                    below = below.max(under + 1);
                    dict.insert(key, value);
                }
                Value::Dict(Arc::new(dict))
            }
            Node::Global(Global::Dtype(name, _)) => Value::Str(format!("torch.{name}").into()),
            other => {
                return Err(Fault::Refused(format!("{} as a value", other.kind())));
            }
        };
        if let Some(done) = self.done.get_mut(at) {
            *done = Some((value.clone(), below));
        }
        Ok((value, below))
    }

    /// The items of a node `depth` levels below the root; `below` becomes what lies below it, if that was less.
    fn values(&mut self, items: &[Id], depth: usize, below: &mut usize) -> Outcome<Arc<[Value]>> {
        let item = |&item: &Id| {
            let (value, under) = self.value(item, depth + 1)?;
            *below = (*below).max(under + 1);
            Ok(value)
        };
        items.iter().map(item).collect()
    }
}
