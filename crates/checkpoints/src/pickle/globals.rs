//! The Python objects that a file of tensors names. There is no other list: what is not here is refused.

use safetensors::Dtype;

/// An object of the list. Most are functions, whose work is done by `call.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildTensorV2,
    RebuildTensorV3,
    RebuildParameter,
    Size,
    Device,
    /// A class of storages; without a type it counts bytes.
    Storage(Option<Dtype>),
    /// `torch.float32` and its like.
    Dtype(&'static str, Dtype),
    NumpyDtype,
    NumpyScalar,
    /// Makes an empty array, whose state follows.
    NumpyReconstruct,
    /// The class of arrays.
    NumpyArray,
    Encode,
}

/// PyTorch's storage classes, the names of their types, and ours.
const TYPES: [(&str, &str, Dtype); 12] = [
    ("FloatStorage", "float32", Dtype::F32),
    ("DoubleStorage", "float64", Dtype::F64),
    ("HalfStorage", "float16", Dtype::F16),
    ("BFloat16Storage", "bfloat16", Dtype::BF16),
    ("LongStorage", "int64", Dtype::I64),
    ("IntStorage", "int32", Dtype::I32),
    ("ShortStorage", "int16", Dtype::I16),
    ("CharStorage", "int8", Dtype::I8),
    ("ByteStorage", "uint8", Dtype::U8),
    ("BoolStorage", "bool", Dtype::BOOL),
    ("", "uint32", Dtype::U32),
    ("", "uint16", Dtype::U16),
];

/// The object of that name, or nothing.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensorV2,
        ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTensorV3,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Global::RebuildParameter
        }
        ("torch", "Size") => Global::Size,
        ("torch", "device") => Global::Device,
        ("torch.storage" | "torch", "UntypedStorage") => Global::Storage(None),
        ("torch" | "torch.cuda", class) if class.ends_with("Storage") => {
            let found = TYPES.iter().find(|(storage, _, _)| *storage == class)?;
            Global::Storage(Some(found.2))
        }
        ("torch", name) => {
            let found = TYPES.iter().find(|(_, dtype, _)| *dtype == name)?;
            Global::Dtype(found.1, found.2)
        }
        ("numpy", "dtype") => Global::NumpyDtype,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::NumpyScalar,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
            Global::NumpyReconstruct
        }
        ("numpy", "ndarray") => Global::NumpyArray,
        ("_codecs", "encode") => Global::Encode,
        _ => return None,
    })
}
