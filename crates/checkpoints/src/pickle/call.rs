//! The work of the functions that a pickle of tensors calls.

use super::globals::Global;
use super::machine::{Arena, Id, Node, Outcome};
use super::value::Value;
use crate::error::Fault;
use crate::tensor::{MAX_RANK, Storage, StoredTensor, contiguous_strides};
use safetensors::Dtype;
use std::sync::Arc;

/// What the function makes of its arguments.
pub(super) fn call(function: Global, arguments: &[Id], arena: &mut Arena) -> Outcome<Node> {
    let nodes = arguments
        .iter()
        .map(|&id| arena.get(id))
        .collect::<Outcome<Vec<&Node>>>()?;
    match function {
        Global::OrderedDict => match nodes.as_slice() {
            [] => Ok(Node::Dict(Vec::new())),
            [Node::Dict(items)] => Ok(Node::Dict(items.clone())),
            [Node::List(items)] => items
                .iter()
                .map(|&item| match arena.get(item)? {
                    Node::Tuple(pair) | Node::List(pair) => match pair.as_slice() {
                        [key, value] => Ok((*key, *value)),
                        _ => Err("an OrderedDict is made of other than pairs".into()),
                    },
                    _ => Err("an OrderedDict is made of other than pairs".into()),
                })
                .collect::<Outcome<_>>()
                .map(Node::Dict),
            _ => Err("an OrderedDict is made of other than pairs".into()),
        },
        Global::RebuildTensor => match nodes.as_slice() {
            [storage, offset, shape, strides] => {
                tensor(storage, offset, shape, strides, None, arena)
            }
            _ => Err(wrong("torch._utils._rebuild_tensor")),
        },
        Global::RebuildTensorV2 => match nodes.as_slice() {
            // Then: whether it needs gradients, hooks, and perhaps metadata.
            [storage, offset, shape, strides, _, _, ..] if nodes.len() <= 7 => {
                tensor(storage, offset, shape, strides, None, arena)
            }
            _ => Err(wrong("torch._utils._rebuild_tensor_v2")),
        },
        Global::RebuildTensorV3 => match nodes.as_slice() {
            [
                storage,
                offset,
                shape,
                strides,
                _,
                _,
                Node::Global(Global::Dtype(_, dtype)),
                ..,
            ] if nodes.len() <= 8 => tensor(storage, offset, shape, strides, Some(*dtype), arena),
            _ => Err(wrong("torch._utils._rebuild_tensor_v3")),
        },
        Global::RebuildParameter => match nodes.as_slice() {
            [Node::Leaf(tensor @ Value::Tensor(_)), ..] if nodes.len() <= 4 => {
                Ok(Node::Leaf(tensor.clone()))
            }
            _ => Err(wrong("torch._utils._rebuild_parameter")),
        },
        Global::Size => match nodes.as_slice() {
            [Node::Tuple(items) | Node::List(items)] => Ok(Node::Tuple(items.clone())),
            _ => Err(wrong("torch.Size")),
        },
        Global::Device => match nodes.as_slice() {
            [Node::Leaf(name @ Value::Str(_)), ..] if nodes.len() <= 2 => {
                Ok(Node::Leaf(name.clone()))
            }
            _ => Err(wrong("torch.device")),
        },
        Global::Encode => match nodes.as_slice() {
            [
                Node::Leaf(Value::Str(text)),
                Node::Leaf(Value::Str(encoding)),
            ] if matches!(&**encoding, "latin1" | "latin-1") => {
                let text = text.clone();
                arena.charge(text.len())?;
                let bytes = text
                    .chars()
                    .map(u8::try_from)
                    .collect::<Result<Vec<u8>, _>>();
                let bytes = bytes.map_err(|_| "a text that is no latin1 stands for bytes")?;
                Ok(Node::Leaf(Value::Bytes(bytes.into())))
            }
            _ => Err(wrong("_codecs.encode")),
        },
        Global::NumpyDtype => match nodes.as_slice() {
            [Node::Leaf(Value::Str(code)), ..] if nodes.len() <= 3 => {
                Ok(Node::NumpyDtype(code.clone()))
            }
            _ => Err(wrong("numpy.dtype")),
        },
        Global::NumpyScalar => match nodes.as_slice() {
            [Node::NumpyDtype(code), Node::Leaf(Value::Bytes(bytes))] => {
                numpy_scalar(code, bytes).map(Node::Leaf)
            }
            _ => Err(wrong("numpy.core.multiarray.scalar")),
        },
        Global::NumpyReconstruct => match nodes.as_slice() {
            // The class, a shape and a type that the array's state replaces.
            [
                Node::Global(Global::NumpyArray),
                Node::Tuple(_),
                Node::Leaf(Value::Bytes(_) | Value::Str(_)),
            ] => Ok(Node::NumpyArray),
            _ => Err(wrong("numpy.core.multiarray._reconstruct")),
        },
        Global::NumpyArray => Err(Fault::Refused("to call numpy.ndarray".into())),
        Global::Storage(_) | Global::Dtype(..) => {
            Err(Fault::Refused("to call a type of torch".into()))
        }
    }
}

fn wrong(function: &str) -> Fault {
    format!("{function} is called with other arguments than PyTorch gives it").into()
}

/// Sets the state of a value that a function has made.
pub(super) fn build(target: Id, state: Id, arena: &mut Arena) -> Outcome<()> {
    match (arena.get(target)?, arena.get(state)?) {
        // Attributes of an OrderedDict: the versions of a state_dict's modules.
        (Node::Dict(_), Node::Dict(_)) => Ok(()),
        // (version, byte order, ...).
        (Node::NumpyDtype(code), Node::Tuple(state)) => {
            let order = state.get(1).map(|&id| arena.get(id)).transpose()?;
            match order {
                Some(Node::Leaf(Value::Str(order))) if matches!(&**order, "<" | "|" | "=") => {
                    Ok(())
                }
                _ => Err(format!("a numpy {code} is not little-endian").into()),
            }
        }
        (Node::NumpyArray, Node::Tuple(state)) => {
            let array = numpy_array(state, arena)?;
            *arena.get_mut(target)? = array;
            Ok(())
        }
        (other, _) => Err(Fault::Refused(format!(
            "to set the state of {}",
            other.kind()
        ))),
    }
}

/// An array of numpy as a tensor, of its state: (version, shape, type, whether columns come first, bytes).
fn numpy_array(state: &[Id], arena: &Arena) -> Outcome<Node> {
    let parts = state
        .iter()
        .map(|&id| arena.get(id))
        .collect::<Outcome<Vec<&Node>>>()?;
    let [
        Node::Leaf(Value::Int(1)),
        shape,
        Node::NumpyDtype(code),
        Node::Leaf(Value::Bool(columns_first)),
        Node::Leaf(Value::Bytes(bytes)),
    ] = parts.as_slice()
    else {
        return Err("a numpy array has another state than numpy gives it".into());
    };
    let dtype = match &**code {
        "f8" => Dtype::F64,
        "f4" => Dtype::F32,
        "f2" => Dtype::F16,
        "i8" => Dtype::I64,
        "i4" => Dtype::I32,
        "i2" => Dtype::I16,
        "i1" => Dtype::I8,
        "u1" => Dtype::U8,
        "b1" => Dtype::BOOL,
        other => {
            return Err(Fault::Refused(format!(
                "a numpy array of type {}",
                crate::error::shown(other)
            )));
        }
    };
    let shape = naturals(shape, arena)?;
    let strides = match columns_first {
        false => contiguous_strides(&shape),
        true => {
            let turned: Vec<usize> = shape.iter().rev().copied().collect();
            contiguous_strides(&turned).into_iter().rev().collect()
        }
    };
    let storage = Storage::of_bytes("an array", bytes.clone().into());
    let tensor = StoredTensor::new(dtype, shape, strides, 0, Arc::new(storage))
        .map_err(|e| format!("a numpy array: {e}"))?;
    Ok(Node::Leaf(Value::Tensor(Arc::new(tensor))))
}

fn tensor(
    storage: &Node,
    offset: &Node,
    shape: &Node,
    strides: &Node,
    dtype: Option<Dtype>,
    arena: &Arena,
) -> Outcome<Node> {
    let Node::Storage(storage, class) = storage else {
        return Err(format!("a tensor lies in {} instead of a storage", storage.kind()).into());
    };
    let dtype = dtype
        .or(*class)
        .ok_or("a tensor in plain bytes has no type")?;
    let offset = natural(offset)?;
    let (shape, strides) = (naturals(shape, arena)?, naturals(strides, arena)?);
    let tensor =
        StoredTensor::new(dtype, shape, strides, offset, storage.clone()).map_err(|e| {
            format!(
                "a tensor in storage {}: {e}",
                crate::error::shown(storage.key())
            )
        })?;
    Ok(Node::Leaf(Value::Tensor(Arc::new(tensor))))
}

fn natural(node: &Node) -> Outcome<usize> {
    match node {
        Node::Leaf(Value::Int(value)) => usize::try_from(*value)
            .map_err(|_| format!("a tensor has {value} as a size, stride or offset").into()),
        other => Err(format!("a tensor has {} as a size, stride or offset", other.kind()).into()),
    }
}

fn naturals(node: &Node, arena: &Arena) -> Outcome<Vec<usize>> {
    match node {
        Node::Tuple(items) | Node::List(items) if items.len() <= MAX_RANK => items
            .iter()
            .map(|&item| natural(arena.get(item)?))
            .collect(),
        Node::Tuple(items) | Node::List(items) => {
            Err(format!("a tensor has {} dimensions", items.len()).into())
        }
        other => Err(format!("a tensor has {} as its shape or strides", other.kind()).into()),
    }
}

/// A number of numpy, from its little-endian bytes.
fn numpy_scalar(code: &str, bytes: &[u8]) -> Outcome<Value> {
    fn exactly<const N: usize>(code: &str, bytes: &[u8]) -> Outcome<[u8; N]> {
        bytes
            .try_into()
            .map_err(|_| format!("a numpy {code} has {} bytes", bytes.len()).into())
    }
    Ok(match code {
        "f8" => Value::Float(f64::from_le_bytes(exactly(code, bytes)?)),
        "f4" => Value::Float(f32::from_le_bytes(exactly(code, bytes)?).into()),
        "f2" => Value::Float(half::f16::from_le_bytes(exactly(code, bytes)?).into()),
        "i8" => Value::Int(i64::from_le_bytes(exactly(code, bytes)?).into()),
        "i4" => Value::Int(i32::from_le_bytes(exactly(code, bytes)?).into()),
        "i2" => Value::Int(i16::from_le_bytes(exactly(code, bytes)?).into()),
        "i1" => Value::Int(i8::from_le_bytes(exactly(code, bytes)?).into()),
        "u8" => Value::Int(u64::from_le_bytes(exactly(code, bytes)?).into()),
        "u4" => Value::Int(u32::from_le_bytes(exactly(code, bytes)?).into()),
        "u2" => Value::Int(u16::from_le_bytes(exactly(code, bytes)?).into()),
        "u1" => Value::Int(u8::from_le_bytes(exactly(code, bytes)?).into()),
        "b1" => Value::Bool(u8::from_le_bytes(exactly(code, bytes)?) != 0),
        other => {
            return Err(Fault::Refused(format!(
                "a numpy value of type {}",
                crate::error::shown(other)
            )));
        }
    })
}
