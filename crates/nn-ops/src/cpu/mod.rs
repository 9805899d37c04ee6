//! Convolution kernels on plain slices. All `unsafe` of the crate's arithmetic lives below this module.
//!
//! Sums run in an order that depends on the shape of one picture and on the instruction set, never on the batch or
//! the number of threads.

pub(crate) mod blocked;
pub(crate) mod depthwise;
pub(crate) mod direct;
pub(crate) mod epilogue;
pub(crate) mod gemm;
pub(crate) mod im2col;
pub(crate) mod lanes;
pub(crate) mod maps;
pub(crate) mod padded;
pub(crate) mod planes;
pub(crate) mod shared;
pub(crate) mod taps;
pub(crate) mod transpose;
pub(crate) mod winograd;
