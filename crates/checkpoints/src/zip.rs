//! The records of a zip archive and where they lie in it.
//!
//! What PyTorch writes and what ordinary tools make of it: stored or deflated records, with or without the 64-bit
//! extension. The central directory is believed only where the local headers agree, records may not overlap, and
//! nothing may stand before the first or between the directory and its end.

use crate::error::shown;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Read;
use std::ops::Range;

/// The most records; a checkpoint has one per tensor.
const MAX_RECORDS: u64 = 1 << 20;
/// How much larger than its deflated form a record may be; weights hardly shrink at all.
const MAX_RATIO: usize = 64;
/// What a small record may always grow to.
const ALWAYS: usize = 1 << 20;

/// An archive's records.
#[derive(Debug, Default)]
pub struct Archive {
    records: HashMap<String, Record>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where its bytes lie in the archive.
    pub span: Range<usize>,
    /// Whether they are deflated.
    pub deflated: bool,
    /// The number of bytes once inflated.
    pub length: usize,
    /// Their CRC-32; none where the writer left it out, as PyTorch does when asked to.
    pub checksum: Option<u32>,
}

impl Archive {
    /// Finds the records.
    ///
    /// # Errors
    /// Anything but a whole, plain archive, in words.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let (directory, count) = directory(bytes)?;
        let mut records = HashMap::new();
        let mut places = Vec::new();
        let mut at = directory.start;
        for _ in 0..count {
            let (name, record, header, next) = record(bytes, at, &directory)?;
            at = next;
            places.push((header..record.span.end, name.clone()));
            match records.entry(name) {
                Entry::Vacant(free) => free.insert(record),
                Entry::Occupied(taken) => {
                    return Err(format!("two records are named {}", shown(taken.key())));
                }
            };
        }
        if at != directory.end {
            return Err(format!(
                "the archive's directory ends at {at} instead of {}",
                directory.end
            ));
        }
        places.sort_by_key(|(place, _)| (place.start, place.end));
        for pair in places.windows(2) {
            if let [(a, first), (b, second)] = pair
                && a.end > b.start
            {
                return Err(format!(
                    "the records {} and {} overlap",
                    shown(first),
                    shown(second)
                ));
            }
        }
        Ok(Self { records })
    }

    /// A record.
    pub fn get(&self, name: &str) -> Option<&Record> {
        self.records.get(name)
    }

    /// The names of all records, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.records.keys().map(String::as_str)
    }
}

/// The number of `N` bytes at `at`, little-endian.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64, String> {
    let field = at
        .checked_add(N)
        .and_then(|end| bytes.get(at..end))
        .ok_or_else(|| format!("the archive is cut off: it has no {N} bytes at {at}"))?;
    Ok(field
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

fn size(value: u64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("the archive claims a size or place of {value}"))
}

/// Where the central directory lies and how many records it lists.
fn directory(bytes: &[u8]) -> Result<(Range<usize>, u64), String> {
    const END: usize = 22;
    // The end record is the last thing but for a comment, whose length it gives.
    let found = (END..=END + usize::from(u16::MAX)).find_map(|back| {
        let at = bytes.len().checked_sub(back)?;
        let is = number::<4>(bytes, at) == Ok(0x0605_4b50)
            && number::<2>(bytes, at + 20) == Ok((back - END) as u64);
        is.then_some(at)
    });
    let Some(end) = found else {
        return Err("the archive has no end record: the file is cut off".into());
    };
    let disks = [4, 6].map(|at| number::<2>(bytes, end + at));
    if disks.iter().any(|d| !matches!(d, Ok(0 | 0xffff))) {
        return Err("the archive is spread over several files".into());
    }
    let mut fields = [
        (number::<2>(bytes, end + 10)?, 0xffff),      // records
        (number::<4>(bytes, end + 12)?, 0xffff_ffff), // length of the directory
        (number::<4>(bytes, end + 16)?, 0xffff_ffff), // its place
    ];
    let mut limit = end;
    let locator = end
        .checked_sub(20)
        .filter(|&at| number::<4>(bytes, at) == Ok(0x0706_4b50));
    // PyTorch writes the 64-bit end record always, needed or not.
    if let Some(locator) = locator {
        limit = size(number::<8>(bytes, locator + 8)?)?;
        if limit >= locator || number::<4>(bytes, limit)? != 0x0606_4b50 {
            return Err("the archive's 64-bit end record is not where it should be".into());
        }
        for ((field, most), at) in fields.iter_mut().zip([32, 40, 48]) {
            let wide = number::<8>(bytes, limit + at)?;
            if *field != *most && *field != wide {
                return Err("the archive's two end records do not agree".into());
            }
            *field = wide;
        }
    }
    let [count, length, start] = fields.map(|(value, _)| value);
    let (start, length) = (size(start)?, size(length)?);
    if start.checked_add(length) != Some(limit) {
        return Err(format!(
            "the archive's directory of {length} bytes at {start} does not reach its end record at {limit}"
        ));
    }
    if count > MAX_RECORDS || count > (length / 46) as u64 {
        return Err(format!(
            "the archive claims {count} records in a directory of {length} bytes ({MAX_RECORDS} are allowed)"
        ));
    }
    Ok((start..limit, count))
}

/// The record that the directory has at `at`, where its own header is, and where the next one begins.
fn record(
    bytes: &[u8],
    at: usize,
    directory: &Range<usize>,
) -> Result<(String, Record, usize, usize), String> {
    if number::<4>(bytes, at)? != 0x0201_4b50 {
        return Err(format!("the archive's directory is damaged at {at}"));
    }
    let [name_length, extra_length, comment_length] =
        [28, 30, 32].map(|field| number::<2>(bytes, at + field).map(|n| n as usize));
    let (name_length, extra_length) = (name_length?, extra_length?);
    let extra_at = at + 46 + name_length;
    let next = extra_at + extra_length + comment_length?;
    if next > directory.end {
        return Err(format!("the archive's directory is damaged at {at}"));
    }
    let raw_name = bytes.get(at + 46..extra_at).unwrap_or_default();
    let name = std::str::from_utf8(raw_name)
        .map_err(|_| format!("the archive's directory has a name at {at} that is no text"))?;
    let named = |what: &str| format!("record {}: {what}", shown(name));
    if number::<2>(bytes, at + 8)? & 1 != 0 {
        return Err(named("it is encrypted"));
    }
    let deflated = match number::<2>(bytes, at + 10)? {
        0 => false,
        8 => true,
        method => {
            return Err(named(&format!(
                "it is compressed by method {method}; stored (0) and deflated (8) are read"
            )));
        }
    };
    let checksum = Some(number::<4>(bytes, at + 16)? as u32).filter(|&sum| sum != 0);
    let mut fields = [
        number::<4>(bytes, at + 24)?, // inflated length
        number::<4>(bytes, at + 20)?, // length in the archive
        number::<4>(bytes, at + 42)?, // place of the local header
    ];
    if fields.contains(&0xffff_ffff) {
        let extra = bytes
            .get(extra_at..extra_at + extra_length)
            .unwrap_or_default();
        wide(extra, &mut fields).map_err(|e| named(&e))?;
    }
    let [length, packed, header] = fields;
    let (length, packed, header) = (size(length)?, size(packed)?, size(header)?);
    // The local header has lengths of its own for name and extra fields.
    let local = || {
        if number::<4>(bytes, header)? != 0x0403_4b50 {
            return Err("its header is not where the directory says".into());
        }
        let name_length = number::<2>(bytes, header + 26)? as usize;
        let extra_length = number::<2>(bytes, header + 28)? as usize;
        let name_end = header + 30 + name_length;
        if bytes.get(header + 30..name_end) != Some(raw_name) {
            return Err("its header has another name".into());
        }
        Ok::<_, String>(name_end + extra_length)
    };
    let start = local().map_err(|e| named(&e))?;
    let end = start.checked_add(packed).filter(|&e| e <= directory.start);
    let Some(end) = end else {
        return Err(named(&format!(
            "its {packed} bytes at {start} do not fit before the directory"
        )));
    };
    if !deflated && length != packed {
        return Err(named(&format!(
            "it is stored in {packed} bytes and claims {length}"
        )));
    }
    if deflated && length > packed.saturating_mul(MAX_RATIO).max(ALWAYS) {
        return Err(named(&format!(
            "its {packed} bytes claim to inflate to {length}, more than {MAX_RATIO} times as many"
        )));
    }
    let record = Record {
        span: start..end,
        deflated,
        length,
        checksum,
    };
    Ok((name.to_owned(), record, header, next))
}

/// Replaces the fields that do not fit 32 bits by those of the 64-bit extra field, which holds only those.
fn wide(mut extra: &[u8], fields: &mut [u64; 3]) -> Result<(), String> {
    while extra.len() >= 4 {
        let (id, length) = (number::<2>(extra, 0)?, number::<2>(extra, 2)? as usize);
        let body = extra
            .get(4..4 + length)
            .ok_or("its extra fields are damaged")?;
        if id == 1 {
            let mut at = 0;
            for field in fields.iter_mut().filter(|f| **f == 0xffff_ffff) {
                *field = number::<8>(body, at)?;
                at += 8;
            }
            return Ok(());
        }
        extra = &extra[4 + length..];
    }
    Err("it has no 64-bit sizes".into())
}

/// The bytes of a record of the archive `file`, inflated and their checksum compared; at most `most` of them.
///
/// # Errors
/// Damage or a longer record, in words with its name.
pub fn contents<'a>(
    file: &'a [u8],
    record: &Record,
    name: &str,
    most: usize,
) -> Result<Cow<'a, [u8]>, String> {
    if record.length > most {
        return Err(format!(
            "record {name} has {} bytes; at most {most} are read",
            record.length
        ));
    }
    let raw = file.get(record.span.clone()).unwrap_or_default();
    let bytes = if record.deflated {
        Cow::Owned(inflate(raw, record.length).map_err(|e| format!("record {name}: {e}"))?)
    } else {
        Cow::Borrowed(raw)
    };
    if record
        .checksum
        .is_some_and(|sum| crc32fast::hash(&bytes) != sum)
    {
        return Err(format!(
            "the checksum of record {name} is not that of its bytes: the file is damaged"
        ));
    }
    Ok(bytes)
}

/// Inflates `bytes` to exactly `length`; memory is asked for as it fills.
pub(crate) fn inflate(bytes: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    flate2::read::DeflateDecoder::new(bytes)
        .take(length as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|e| format!("it cannot be inflated: {e}"))?;
    if out.len() != length {
        return Err(format!(
            "it inflates to {} bytes or more, not to the {length} it claims",
            out.len()
        ));
    }
    Ok(out)
}
