// SPDX-License-Identifier: GPL-2.0

//! The hashes of names that order an htree directory.
//!
//! Each name of an indexed directory has a 64-bit hash: a *major* part, which the index is sorted by,
//! and a *minor* part, which only orders names of equal major hash. The major hash is even: its lowest
//! bit is free for the index to say "this leaf goes on with names of the hash that the leaf before it
//! ended with".
//!
//! There are three functions, and each comes in two kinds, since the oldest kernels took the bytes of a
//! name as `char`, which is signed on some machines and unsigned on others. Names of pure ASCII hash
//! alike in both. Which kind a filesystem has is a flag in its superblock.
//!
//! | version | function | minor hash |
//! |---|---|---|
//! | 0 | legacy: a multiplicative hash from the first days, without a seed | none |
//! | 1 | a cut-down MD4, the default | yes |
//! | 2 | TEA used as a hash | yes |
//!
//! Versions 3 to 5, the same three as unsigned, never appear in a directory. Version 6, SipHash with a
//! key of the directory, is for directories that are both encrypted and case-insensitive; it is not
//! here yet.
//!
//! Format: `Documentation/filesystems/ext4/directory.rst`.

/// A function that hashes names, by its number in the root of an htree and in the superblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashVersion {
    /// The legacy hash. It has no minor part and takes no seed.
    Legacy,
    /// The cut-down MD4.
    HalfMd4,
    /// The Tiny Encryption Algorithm.
    Tea,
}

impl HashVersion {
    /// From the number in the root of an htree; `None` for one that is unknown or not supported.
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            0 => Some(Self::Legacy),
            1 => Some(Self::HalfMd4),
            2 => Some(Self::Tea),
            _ => None,
        }
    }

    /// The number in the root of an htree.
    pub const fn raw(self) -> u8 {
        match self {
            Self::Legacy => 0,
            Self::HalfMd4 => 1,
            Self::Tea => 2,
        }
    }
}

/// How the bytes of a name are widened to 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signedness {
    /// Bytes from 0x80 on are negative (`EXT2_FLAGS_SIGNED_HASH` in the superblock).
    Signed,
    /// Bytes are 0 to 255 (`EXT2_FLAGS_UNSIGNED_HASH` in the superblock).
    Unsigned,
}

impl Signedness {
    fn widen(self, byte: u8) -> u32 {
        match self {
            Self::Signed => i32::from(byte as i8) as u32,
            Self::Unsigned => u32::from(byte),
        }
    }

    /// The sum of four bytes, each widened and shifted to its place, the first one foremost.
    fn widen_word(self, bytes: [u8; 4]) -> u32 {
        let word = u32::from_be_bytes(bytes);
        match self {
            // What a byte is less when it is negative is one of the place before it.
            Self::Signed => word.wrapping_sub((word & 0x8080_8080) << 1),
            Self::Unsigned => word,
        }
    }
}

/// The hash of a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NameHash {
    /// What the index is sorted by. Always even, and never [`NameHash::END_MAJOR`].
    pub major: u32,
    /// What orders names of equal major hash.
    pub minor: u32,
}

impl NameHash {
    /// The major hash that no name has: as a directory position it means the end of the directory.
    pub const END_MAJOR: u32 = 0xffff_fffe;

    fn new(raw: u32, minor: u32) -> Self {
        let major = match raw & !1 {
            Self::END_MAJOR => Self::END_MAJOR - 2,
            even => even,
        };
        Self { major, minor }
    }
}

/// What the names of one directory are hashed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameHasher {
    version: HashVersion,
    signedness: Signedness,
    seed: [u32; 4],
}

impl NameHasher {
    /// The state of MD4 at its start, which stands in for a seed of zeroes.
    const DEFAULT_SEED: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

    /// A hasher of the given kind; `seed` is `s_hash_seed` of the superblock.
    pub fn new(version: HashVersion, signedness: Signedness, seed: [u32; 4]) -> Self {
        let seed = if seed == [0; 4] {
            Self::DEFAULT_SEED
        } else {
            seed
        };
        Self {
            version,
            signedness,
            seed,
        }
    }

    /// The same, with another function.
    #[must_use]
    pub fn with_version(self, version: HashVersion) -> Self {
        Self { version, ..self }
    }

    /// The function.
    pub fn version(&self) -> HashVersion {
        self.version
    }

    /// Hashes a name, as its bytes stand in the directory.
    pub fn hash(&self, name: &[u8]) -> NameHash {
        self.hash_with_tie(name).0
    }

    /// The hash of a name, and a number that tells most names of equal hash from each other.
    ///
    /// That number is not part of the format: it is what the function leaves over where it does.
    pub(crate) fn hash_with_tie(&self, name: &[u8]) -> (NameHash, u32) {
        match self.version {
            HashVersion::Legacy => (NameHash::new(legacy(name, self.signedness), 0), fnv1a(name)),
            HashVersion::HalfMd4 => {
                let state = self.absorb(name, half_md4);
                (NameHash::new(state[1], state[2]), state[3])
            }
            HashVersion::Tea => {
                let state = self.absorb(name, tea);
                (NameHash::new(state[0], state[1]), fnv1a(name))
            }
        }
    }

    /// Runs a compression function over the name, `WORDS` 32-bit words at a time.
    fn absorb<const WORDS: usize>(
        &self,
        name: &[u8],
        compress: fn(&mut [u32; 4], &[u32; WORDS]),
    ) -> [u32; 4] {
        let mut state = self.seed;
        let mut rest = name;
        while !rest.is_empty() {
            compress(&mut state, &self.words(rest));
            rest = rest.get(WORDS * 4..).unwrap_or_default();
        }
        state
    }

    /// The first bytes of `rest` as big-endian words, padded with the length of `rest`.
    ///
    /// The padding is the length in each of the four bytes of a word. The word in which the name ends
    /// holds as many bytes of padding, at its front, as the name leaves room for.
    fn words<const WORDS: usize>(&self, rest: &[u8]) -> [u32; WORDS] {
        let length = rest.len() as u32 & 0xff;
        let padding = length * 0x0101_0101;
        let mut words = [padding; WORDS];
        let mut rest = rest;
        for word in &mut words {
            let Some((bytes, after)) = rest.split_first_chunk() else {
                *word = self.shift_in(padding, rest);
                break;
            };
            *word = self.signedness.widen_word(*bytes);
            rest = after;
        }
        words
    }

    /// Shifts `bytes`, fewer than four, into `word`.
    fn shift_in(&self, word: u32, bytes: &[u8]) -> u32 {
        bytes.iter().fold(word, |word, &byte| {
            (word << 8).wrapping_add(self.signedness.widen(byte))
        })
    }
}

/// FNV-1a, a hash that has nothing in common with those of directories.
fn fnv1a(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |sum, &byte| {
        (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The legacy hash: two words of state, each byte of the name times a constant mixed in.
fn legacy(name: &[u8], signedness: Signedness) -> u32 {
    const MULTIPLIER: u32 = 7_152_373;

    let mut current: u32 = 0x12a3_fe2d;
    let mut previous: u32 = 0x37ab_e8f9;
    for &byte in name {
        let product = signedness.widen(byte).wrapping_mul(MULTIPLIER);
        let sum = previous.wrapping_add(current ^ product);
        // Folded to 31 bits, as modulo 2^31 - 1.
        let folded = if sum & 0x8000_0000 != 0 {
            sum.wrapping_sub(0x7fff_ffff)
        } else {
            sum
        };
        previous = current;
        current = folded;
    }
    current << 1
}

/// Sixteen rounds of TEA with the words of the name as the key, added to the state.
fn tea(state: &mut [u32; 4], key: &[u32; 4]) {
    const DELTA: u32 = 0x9e37_79b9;

    let [mut left, mut right, ..] = *state;
    let mut sum: u32 = 0;
    for _ in 0..16 {
        sum = sum.wrapping_add(DELTA);
        left = left.wrapping_add(
            (right << 4).wrapping_add(key[0])
                ^ right.wrapping_add(sum)
                ^ (right >> 5).wrapping_add(key[1]),
        );
        right = right.wrapping_add(
            (left << 4).wrapping_add(key[2])
                ^ left.wrapping_add(sum)
                ^ (left >> 5).wrapping_add(key[3]),
        );
    }
    state[0] = state[0].wrapping_add(left);
    state[1] = state[1].wrapping_add(right);
}

/// The three rounds of MD4 with eight steps each (MD4 has sixteen), added to the state.
fn half_md4(state: &mut [u32; 4], words: &[u32; 8]) {
    /// A round: its function of three words, its constant, the order in which it takes the words of
    /// the name, and by how much its steps rotate.
    struct Round {
        mix: fn(u32, u32, u32) -> u32,
        constant: u32,
        order: [usize; 8],
        rotations: [u32; 4],
    }

    const ROUNDS: [Round; 3] = [
        Round {
            // Selection.
            mix: |x, y, z| z ^ (x & (y ^ z)),
            constant: 0,
            order: [0, 1, 2, 3, 4, 5, 6, 7],
            rotations: [3, 7, 11, 19],
        },
        Round {
            // Majority.
            mix: |x, y, z| (x & y).wrapping_add((x ^ y) & z),
            constant: 0x5a82_7999,
            order: [1, 3, 5, 7, 0, 2, 4, 6],
            rotations: [3, 5, 9, 13],
        },
        Round {
            // Parity.
            mix: |x, y, z| x ^ y ^ z,
            constant: 0x6ed9_eba1,
            order: [3, 7, 2, 6, 1, 5, 0, 4],
            rotations: [3, 9, 11, 15],
        },
    ];

    let [mut a, mut b, mut c, mut d] = *state;
    for round in &ROUNDS {
        for (step, &word) in round.order.iter().enumerate() {
            let mixed = a
                .wrapping_add((round.mix)(b, c, d))
                .wrapping_add(words[word])
                .wrapping_add(round.constant)
                .rotate_left(round.rotations[step % 4]);
            // The words change their roles from step to step.
            (a, b, c, d) = (d, mixed, b, c);
        }
    }
    for (word, mixed) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(mixed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_nobodys_hash() {
        assert_eq!(NameHash::new(0xffff_ffff, 7).major, 0xffff_fffc);
        assert_eq!(NameHash::new(0xffff_fffe, 7).major, 0xffff_fffc);
        assert_eq!(NameHash::new(0xffff_fffd, 7).major, 0xffff_fffc);
        assert_eq!(NameHash::new(3, 7), NameHash { major: 2, minor: 7 });
    }

    #[test]
    fn the_kinds_differ_beyond_ascii_only() {
        for version in [HashVersion::Legacy, HashVersion::HalfMd4, HashVersion::Tea] {
            let signed = NameHasher::new(version, Signedness::Signed, [0; 4]);
            let unsigned = NameHasher::new(version, Signedness::Unsigned, [0; 4]);
            assert_eq!(signed.hash(b"plain"), unsigned.hash(b"plain"));
            assert_ne!(signed.hash(b"gr\xc3\xbcn"), unsigned.hash(b"gr\xc3\xbcn"));
        }
    }

    #[test]
    fn words_are_sums_of_bytes() {
        for signedness in [Signedness::Signed, Signedness::Unsigned] {
            for pattern in 0..16 {
                let bytes = [0, 1, 2, 3].map(|index| 0x1f + index + (pattern >> index & 1) * 0x80);
                let sum = bytes.iter().fold(0x5a5a_5a5a_u32, |sum, &byte| {
                    (sum << 8).wrapping_add(signedness.widen(byte))
                });
                assert_eq!(signedness.widen_word(bytes), sum, "{bytes:x?}");
            }
        }
    }

    #[test]
    fn an_empty_seed_is_the_default_one() {
        let none = NameHasher::new(HashVersion::HalfMd4, Signedness::Signed, [0; 4]);
        let default = NameHasher::new(
            HashVersion::HalfMd4,
            Signedness::Signed,
            NameHasher::DEFAULT_SEED,
        );
        let other = NameHasher::new(HashVersion::HalfMd4, Signedness::Signed, [0, 0, 0, 1]);
        assert_eq!(none.hash(b"name"), default.hash(b"name"));
        assert_ne!(none.hash(b"name"), other.hash(b"name"));
    }
}
