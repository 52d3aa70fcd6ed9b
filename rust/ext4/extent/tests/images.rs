// SPDX-License-Identifier: GPL-2.0

//! Trees that `debugfs` made, and trees that `e2fsck` and `debugfs` judge.

use core::ops::ControlFlow;
use core::ops::Deref;
use core::ops::DerefMut;
use std::cell::RefCell;
use std::format;
use std::rc::Rc;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::State::Unwritten;
use super::State::Written;
use super::*;
use crate::group_desc::GroupDesc;
use crate::superblock::ValidSuperblock;
use crate::testing::Image;
use crate::BlockCount;
use crate::Checksummer;
use crate::Corrupt;
use crate::Group;
use crate::InodeNumber;

/// The first inode that `debugfs` makes.
const INODE: u32 = 12;

/// Fields of an inode.
const I_SECTORS: usize = 0x1c;
const I_BLOCK: usize = 0x28;
const I_GENERATION: usize = 0x64;
const I_CHECKSUM: [usize; 2] = [0x7c, 0x82];

/// One file of an image with a single group.
struct File {
    image: Rc<RefCell<Image>>,
    valid: ValidSuperblock,
    root: [u8; ROOT_SIZE],
    /// Where the next node goes.
    next: u64,
    /// What became used and what became free.
    taken: Vec<u64>,
    freed: Vec<u64>,
}

impl File {
    fn open(image: Image) -> Self {
        let valid = image.validate();
        let mut file = Self {
            image: Rc::new(RefCell::new(image)),
            valid,
            root: [0; ROOT_SIZE],
            next: 7000,
            taken: vec![],
            freed: vec![],
        };
        file.root = file.inode()[I_BLOCK..I_BLOCK + ROOT_SIZE]
            .try_into()
            .unwrap();
        verify_root(&file.root, |at, len| file.is_valid(at, len)).unwrap();
        file
    }

    fn inode(&self) -> Vec<u8> {
        let number = InodeNumber::new(INODE).unwrap();
        self.image
            .borrow()
            .inode(&self.valid.geometry, number)
            .to_vec()
    }

    fn is_valid(&self, at: PhysicalBlock, len: u16) -> bool {
        let count = BlockCount::new(len.into());
        let image = self.image.borrow();
        let group = Group::ZERO;
        let meta = image
            .desc(&self.valid.geometry, group)
            .meta_ranges(&self.valid.geometry, group);
        let blocks = at.range(count).unwrap();
        self.valid.geometry.contains(at, count)
            && meta
                .iter()
                .all(|meta| blocks.end <= meta.start || meta.end <= blocks.start)
    }

    fn extents(&self) -> Vec<Extent> {
        let mut all = vec![];
        let ended = walk(&self.root, self, range(0, LogicalBlock::COUNT), |extent| {
            all.push(extent);
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(ended.unwrap(), None);
        all
    }

    /// Does something to the tree, and completes the image: the inode, the bitmap and the counts.
    fn change(&mut self, operation: impl FnOnce(&mut Tree<'_, Self>)) {
        let mut root = self.root;
        let mut tree = Tree::new(&mut root, self, PhysicalBlock::new(6500));
        operation(&mut tree);
        let changed = tree.root_changed();
        assert_eq!(changed, root != self.root);
        self.root = root;

        let taken = core::mem::take(&mut self.taken);
        let freed = core::mem::take(&mut self.freed);
        let mut image = self.image.borrow_mut();
        let valid = &self.valid;
        let number = InodeNumber::new(INODE).unwrap();
        let inode = image.inode_mut(&valid.geometry, number);
        inode[I_BLOCK..I_BLOCK + ROOT_SIZE].copy_from_slice(&root);
        let sectors: &mut [u8; 4] = (&mut inode[I_SECTORS..I_SECTORS + 4]).try_into().unwrap();
        let added = (taken.len() as u32).wrapping_sub(freed.len() as u32);
        *sectors = u32::from_le_bytes(*sectors)
            .wrapping_add(added.wrapping_mul(2))
            .to_le_bytes();
        for at in I_CHECKSUM {
            inode[at..at + 2].fill(0);
        }
        let generation = u32::from_le_bytes(inode[I_GENERATION..][..4].try_into().unwrap());
        let sum = valid
            .checksum
            .unwrap()
            .for_inode(number, generation)
            .with_bytes(inode)
            .value();
        for (at, half) in I_CHECKSUM.into_iter().zip([sum as u16, (sum >> 16) as u16]) {
            inode[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }

        let group = Group::ZERO;
        let geometry = &valid.geometry;
        let bitmap_at = image.desc(geometry, group).block_bitmap();
        let mut bitmap = image.block(bitmap_at).to_vec();
        let blocks = freed
            .iter()
            .map(|at| (at, 0))
            .chain(taken.iter().map(|at| (at, 1)));
        for (at, _) in blocks {
            let (_, bit) = geometry.bit_of_block(PhysicalBlock::new(*at)).unwrap();
            // A node may have come and gone: two changes of the same bit.
            bitmap[bit as usize / 8] ^= 1 << (bit % 8);
        }
        image.block_mut(bitmap_at).copy_from_slice(&bitmap);
        let free = image.superblock().free_blocks_count() + freed.len() as u64 - taken.len() as u64;
        let desc_at = geometry.desc_block(geometry.desc_offset(group).0);
        let desc = GroupDesc::in_block_mut(image.block_mut(desc_at), geometry, group).unwrap();
        desc.set_free_clusters(free as u32);
        desc.update_block_bitmap(valid.checksum, geometry, &bitmap);
        desc.update_checksum(&valid.desc_checksum, group);
        image.superblock_mut().set_free_blocks_count(free);
        image
            .superblock_mut()
            .update_checksum(crate::checksum::software_crc32c);
    }

    /// Gives a part of the file the state.
    fn convert(&mut self, blocks: core::ops::Range<LogicalBlock>, to: State) {
        self.change(|tree| assert_eq!(tree.convert(blocks, to).unwrap(), Progress::Done));
    }

    /// Has `e2fsck` and `debugfs` judge the image. `e2fsck` may say that a tree could be smaller.
    fn assert_right(&self) {
        let mut image = self.image.borrow_mut();
        let options = ["-fn", "-E", "no_optimize_extents"];
        let output = image.run("e2fsck", &options);
        assert!(!output.contains("Inode"), "{output}");
        let dumped = dumped(&image.debugfs(&["dump_extents f"]));
        drop(image);
        assert_eq!(self.extents(), dumped);
    }
}

/// The leaves in a dump by `debugfs`, a line of which is like one of
///
/// ```text
///  1/ 1   1/  5     0 -     0  1618 -  1618      1 Uninit
///  0/ 1   1/  1     0 -  1999  1619              2000
/// ```
fn dumped(output: &str) -> Vec<Extent> {
    let mut extents = vec![];
    for line in output.lines() {
        let words: Vec<_> = line
            .split(['/', '-', ' '])
            .filter(|word| !word.is_empty())
            .collect();
        let numbers: Vec<u64> = words.iter().map_while(|word| word.parse().ok()).collect();
        let &[level, depth, _, _, start, end, physical, _, len] = &numbers[..] else {
            continue;
        };
        assert_eq!((level, end), (depth, start + len - 1));
        let state = if words.last() == Some(&"Uninit") {
            Unwritten
        } else {
            Written
        };
        extents.push(extent(start as u32, len as u16, physical, state));
    }
    assert!(!extents.is_empty(), "{output}");
    extents
}

#[derive(Debug)]
enum Error {
    Corrupt(#[allow(dead_code)] Corrupt),
}

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

struct NodeMut {
    image: Rc<RefCell<Image>>,
    at: PhysicalBlock,
    bytes: Vec<u8>,
}

impl Deref for NodeMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for NodeMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for NodeMut {
    fn drop(&mut self) {
        self.image
            .borrow_mut()
            .block_mut(self.at)
            .copy_from_slice(&self.bytes);
    }
}

impl NodeReader for File {
    type Error = Error;
    type Block = Vec<u8>;

    fn read(&self, at: PhysicalBlock, expected: &Expected) -> Result<Vec<u8>, Error> {
        let bytes = self.image.borrow().block(at).to_vec();
        expected.verify(&bytes, self.checksum(), |at, len| self.is_valid(at, len))?;
        Ok(bytes)
    }
}

impl NodeStore for File {
    type BlockMut = NodeMut;

    fn checksum(&self) -> Option<Checksummer> {
        let generation = self.inode()[I_GENERATION..][..4].try_into().unwrap();
        let number = InodeNumber::new(INODE).unwrap();
        Some(
            self.valid
                .checksum?
                .for_inode(number, u32::from_le_bytes(generation)),
        )
    }

    fn modify(&mut self, at: PhysicalBlock) -> Result<NodeMut, Error> {
        let bytes = self.image.borrow().block(at).to_vec();
        Ok(NodeMut {
            image: self.image.clone(),
            at,
            bytes,
        })
    }

    fn allocate(&mut self, _goal: PhysicalBlock) -> Result<(PhysicalBlock, NodeMut), Error> {
        let at = PhysicalBlock::new(self.next);
        self.next += 1;
        self.taken.push(at.get());
        Ok((at, self.modify(at)?))
    }

    fn free(&mut self, at: PhysicalBlock) -> Result<(), Error> {
        self.freed.push(at.get());
        Ok(())
    }

    fn has_room(&mut self, _nodes: Footprint, _extents: usize) -> bool {
        true
    }
}

/// An image with a file `f` of unwritten blocks, changed by these requests.
fn image(requests: &[String]) -> Image {
    let mut image = Image::make(&["-t", "ext4", "-b", "1024", "-O", "^has_journal"], 8192);
    let mut all = vec![
        "write /dev/null f",
        "fallocate f 0 2999",
        "sif f size 3072000",
    ];
    all.extend(requests.iter().map(String::as_str));
    image.debugfs(&all);
    image
}

#[test]
fn trees_of_debugfs_are_read() {
    let mut expected_depth = 0;
    for holes in [0, 1, 40, 700] {
        let punches: Vec<_> = (0..holes)
            .map(|n| format!("punch f {0} {0}", n * 4 + 1))
            .collect();
        let file = File::open(image(&punches));
        file.assert_right();
        let depth = depth(&file.root).unwrap();
        assert!(depth >= expected_depth);
        expected_depth = depth;
        for n in 0..holes {
            let hole = find(&file.root, &file, LogicalBlock::new(n * 4 + 1)).unwrap();
            assert!(matches!(hole, Mapping::Hole { end, .. } if end.get() == n * 4 + 2));
        }
    }
    assert_eq!(expected_depth, 2);
}

#[test]
fn e2fsck_finds_our_trees_right() {
    let mut file = File::open(image(&[]));
    file.assert_right();
    for at in (0..3000).step_by(3) {
        file.convert(range(at, at + 1), Written);
    }
    assert!(file.extents().len() >= 2000);
    for extent in file.extents() {
        let written = extent.logical().get() % 3 == 0;
        assert_eq!(extent.state(), if written { Written } else { Unwritten });
    }
    assert_eq!(depth(&file.root).unwrap(), 2);
    file.assert_right();

    let before = file
        .extents()
        .iter()
        .map(|extent| u32::from(extent.len()))
        .sum::<u32>();
    file.change(|tree| {
        let progress = tree.remove(range(500, 1501), |file, extent| {
            file.freed
                .extend(extent.physical().get()..extent.physical_end().get());
            Ok(())
        });
        assert_eq!(progress.unwrap(), Progress::Done);
    });
    let after = file
        .extents()
        .iter()
        .map(|extent| u32::from(extent.len()))
        .sum::<u32>();
    assert_eq!(before - after, 1001);
    file.assert_right();

    // Blocks next to the hole and of the hole's own, in the reverse order.
    for at in (1200..1400).rev().step_by(2) {
        let new = extent(at, 1, 4000 + u64::from(at), Written);
        file.change(|tree| {
            tree.insert(new).unwrap();
            tree.store.taken.push(new.physical().get());
        });
    }
    file.assert_right();

    file.convert(range(0, 3000), Written);
    assert!(file
        .extents()
        .iter()
        .all(|extent| extent.state() == Written));
    file.assert_right();
    file.change(|tree| {
        let progress = tree.remove(range(400, 2000), |file, extent| {
            file.freed
                .extend(extent.physical().get()..extent.physical_end().get());
            Ok(())
        });
        assert_eq!(progress.unwrap(), Progress::Done);
    });
    file.assert_right();
    // What is left fits the inode, and not even an optimiser has anything to say.
    assert_eq!(depth(&file.root).unwrap(), 0, "{:?}", file.extents());
    let output = file.image.borrow_mut().run("e2fsck", &["-fn"]);
    assert!(!output.contains("Inode"), "{output}");
}
