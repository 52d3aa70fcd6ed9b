// SPDX-License-Identifier: GPL-2.0

//! What the busy program's files and attributes hold: records that tell of which file, place and generation they are, so
//! that bytes which were never written there give themselves away.

use crate::rng::mix;

/// The size of a record, in bytes.
pub const RECORD: usize = 64;

/// The record of a file's generation at a place. `total` is the file's final length where that is known.
fn record(id: u64, place: u64, generation: u64, total: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let mut seal =
        mix(id) ^ mix(place.wrapping_add(0x5eed)) ^ mix(generation.wrapping_mul(3)) ^ total;
    for (slot, word) in bytes
        .chunks_exact_mut(8)
        .zip([id, place, generation, total])
    {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    for slot in bytes[32..].chunks_exact_mut(8) {
        seal = mix(seal);
        slot.copy_from_slice(&seal.to_le_bytes());
    }
    bytes
}

/// The file that bytes claim to be of.
pub fn claimed_id(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?))
}

/// The generation and total length that a record tells, if it is one of this file and place. The last record of a file
/// may be cut.
pub fn parse(bytes: &[u8], id: u64, place: u64) -> Option<(u64, u64)> {
    let word = |index: usize| -> Option<u64> {
        Some(u64::from_le_bytes(
            bytes.get(index * 8..index * 8 + 8)?.try_into().ok()?,
        ))
    };
    let (generation, total) = (word(2)?, word(3)?);
    let whole = record(id, place, generation, total);
    (bytes == &whole[..bytes.len()]).then_some((generation, total))
}

/// `length` bytes of a file from `place` on, both multiples of a record's size.
pub fn contents(id: u64, place: u64, length: u64, generation: u64, total: u64) -> Vec<u8> {
    (0..length / RECORD as u64)
        .flat_map(|number| record(id, place + number * RECORD as u64, generation, total))
        .collect()
}

/// The value of an attribute's generation: some fit into an inode, some need a block.
pub fn attribute(id: u64, generation: u64) -> Vec<u8> {
    let records = match generation % 3 {
        0 => 1,
        1 => 12,
        _ => 40,
    };
    contents(id, 0, records * RECORD as u64, generation, records)
}

/// The generation of an attribute's value, if it is a whole one of the file `id`.
pub fn attribute_generation(id: u64, value: &[u8]) -> Option<u64> {
    let (generation, _) = parse(value.get(..RECORD)?, id, 0)?;
    (value == attribute(id, generation)).then_some(generation)
}

/// A name in a crowded directory: long, so that a block of the directory is full soon.
pub fn crowd_name(number: u64) -> String {
    format!("{number:08}-{:016x}{:016x}", mix(number), mix(!number))
}

/// The number of a name in a crowded directory.
pub fn crowd_number(name: &str) -> Option<u64> {
    let number = name.split('-').next()?.parse().ok()?;
    (crowd_name(number) == name).then_some(number)
}
