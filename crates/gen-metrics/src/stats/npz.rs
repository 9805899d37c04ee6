//! numpy's archives of a mean `mu` and a covariance `sigma`.

use checkpoints::zip::{Archive, contents};

/// The most bytes of an array: a covariance of 8,192 dimensions.
const MAX_ARRAY: usize = 8 * 8192 * 8192 + 4096;

/// Mean (D) and covariance (D, D), row by row.
pub(super) fn read(bytes: &[u8]) -> Result<(Vec<f64>, Vec<f64>), String> {
    let archive = Archive::read(bytes)?;
    let array = |name: &str| -> Result<(Vec<usize>, Vec<f64>), String> {
        let record = archive.get(&format!("{name}.npy")).ok_or_else(|| {
            format!("the archive has no array {name}; statistics have mu and sigma")
        })?;
        let bytes = contents(bytes, record, name, MAX_ARRAY)?;
        npy(&bytes).map_err(|e| format!("array {name}: {e}"))
    };
    let ((shape, mean), (square, covariance)) = (array("mu")?, array("sigma")?);
    match (shape.as_slice(), square.as_slice()) {
        ([d], [rows, columns]) if rows == d && columns == d => Ok((mean, covariance)),
        _ => Err(format!(
            "mu has shape {shape:?} and sigma {square:?}; (D) and (D, D) were expected"
        )),
    }
}

/// Shape and values of an array, row by row.
fn npy(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f64>), String> {
    let cut = || "the array is cut off".to_owned();
    let rest = bytes
        .strip_prefix(b"\x93NUMPY")
        .ok_or("no array of numpy: its first bytes are others")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        other => {
            return Err(format!(
                "version {other} of numpy's format; 1 to 3 are read"
            ));
        }
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| "the header is no text")?;
    let after = |key: &str| {
        let found = header.split_once(key).map(|(_, rest)| rest.trim_start());
        found.ok_or_else(|| format!("the header has no {key}"))
    };
    let quoted = after("'descr':")?.trim_start_matches('\'');
    let dtype = quoted.split('\'').next().unwrap_or_default();
    let fortran = after("'fortran_order':")?.starts_with("True");
    let shape = after("'shape':")?
        .strip_prefix('(')
        .and_then(|s| s.split_once(')'))
        .ok_or("the header has no shape")?
        .0;
    let shape: Vec<usize> = shape
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|s| s.parse().map_err(|_| format!("{s:?} in its shape")))
        .collect::<Result<_, String>>()?;
    let count = shape
        .iter()
        .try_fold(1usize, |n, &s| n.checked_mul(s))
        .ok_or("its shape is too large")?;
    let size = match dtype {
        "<f8" => 8,
        "<f4" => 4,
        other => return Err(format!("its type is {other:?}; <f8 and <f4 are read")),
    };
    if count.checked_mul(size) != Some(data.len()) {
        return Err(format!(
            "{} bytes, but shape {shape:?} of {dtype} was announced",
            data.len()
        ));
    }
    let values: Vec<f64> = match size {
        8 => data
            .as_chunks()
            .0
            .iter()
            .map(|b| f64::from_le_bytes(*b))
            .collect(),
        _ => {
            let each = data.as_chunks().0.iter();
            each.map(|b| f64::from(f32::from_le_bytes(*b))).collect()
        }
    };
    // Columns first is the transpose for two dimensions, and nothing for one.
    match (fortran, shape.as_slice()) {
        (true, [_, columns]) => {
            let rows = shape[0];
            let place = |i: usize| values[i % columns * rows + i / columns];
            Ok((shape.clone(), (0..count).map(place).collect()))
        }
        (true, dims) if dims.len() > 2 => Err("more than two dimensions".into()),
        _ => Ok((shape, values)),
    }
}

/// An archive of both, stored as numpy's `savez` does.
pub(super) fn write(mean: &[f64], covariance: &[f64]) -> Vec<u8> {
    let d = mean.len();
    let arrays = [
        ("mu.npy", array(&format!("({d},)"), mean)),
        ("sigma.npy", array(&format!("({d}, {d})"), covariance)),
    ];
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in &arrays {
        let (checksum, length) = (crc32fast::hash(bytes), bytes.len() as u32);
        // Version 2.0, no flags, stored, the first of January 1980.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend(checksum.to_le_bytes());
        common.extend(length.to_le_bytes());
        common.extend(length.to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]); // no extra field
        let place = out.len() as u32;
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]); // comment, disk, attributes
        directory.extend(place.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (place, length) = (out.len() as u32, directory.len() as u32);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    let count = arrays.len() as u16;
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(place.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// An array of f64 in numpy's format.
fn array(shape: &str, values: &[f64]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
    // Values begin at a multiple of 64.
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    values.iter().for_each(|v| out.extend(v.to_le_bytes()));
    out
}
