// SPDX-License-Identifier: GPL-2.0

//! Queues and lists of writes that have ended.

use core::ptr;

use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;
use kernel::ModuleMetadata;

use super::*;
use crate::bio::BioSet;
use crate::bio::Flags;
use crate::context::Given;
use crate::context::Log;
use crate::context::Parameter;
use crate::context::ParameterTable;
use crate::fs::Backing;
use crate::fs::FileSystem;
use crate::fs::Purpose;
use crate::inode::Inode;
use crate::super_block::NewSuperBlock;
use crate::super_block::SuperBlock;

static PARAMETERS: ParameterTable = ParameterTable::new(&[Parameter::END]);

/// A file system that nobody can mount, for the types.
struct Nowhere;

impl ModuleMetadata for Nowhere {
    const NAME: &'static CStr = c"nowhere";
    // SAFETY: Those who take and drop references on modules pass over a null pointer.
    const THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(ptr::null_mut()) };
}

#[vtable]
impl FileSystem for Nowhere {
    const NAME: &'static CStr = c"nowhere";
    const BACKING: Backing = Backing::Memory;
    const PARAMETERS: &'static ParameterTable = &PARAMETERS;

    type OwnerModule = Self;
    type Options = ();
    type SuperData = ();
    type InodeData = ();

    fn new_options(_purpose: Purpose<'_, Self>) -> Result {
        Err(EINVAL)
    }

    fn parse_parameter(_options: &mut (), _given: &Given<'_>, _log: &Log<'_>) -> Result {
        Err(EINVAL)
    }

    fn load(
        _sb: &mut NewSuperBlock<'_, Self>,
        _options: &(),
        _log: &Log<'_>,
    ) -> Result<Pin<KBox<()>>> {
        Err(EINVAL)
    }

    fn start(_sb: &SuperBlock<Self>) -> Result<ARef<Inode<Self>>> {
        Err(EINVAL)
    }

    fn stop(_sb: &SuperBlock<Self>) {}

    fn new_inode_data() -> impl PinInit<(), Error> {
        Err(EINVAL)
    }
}

/// What travels with a bio: a number, and a count of those that are gone.
struct Numbered {
    number: u32,
    gone: Arc<Atomic<u32>>,
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.gone.fetch_add(1, Relaxed);
    }
}

impl Completion for Numbered {
    type FileSystem = Nowhere;
    type Shared = ();

    fn complete(_bio: CompletedBio<Self>) {}
}

/// Where the bios of a test come from.
struct Source {
    set: Pin<KBox<BioSet<Numbered>>>,
    gone: Arc<Atomic<u32>>,
}

impl Source {
    fn new() -> Result<Self> {
        Ok(Self {
            set: KBox::try_pin_init(BioSet::new(()), GFP_KERNEL)?,
            gone: Arc::new(Atomic::new(0), GFP_KERNEL)?,
        })
    }

    /// A bio that counts as ended. It carries nothing, and so must not be asked for its inode.
    fn bio(&self, number: u32) -> Result<CompletedBio<Numbered>> {
        let context = Numbered {
            number,
            gone: self.gone.clone(),
        };
        // SAFETY: The bio will not be submitted. It is of this set and ours; with no ranges in it, finishing it is
        // freeing it.
        unsafe {
            let bio = self.set.make(ptr::null_mut(), 1, Flags::NONE, context)?;
            Ok(CompletedBio::from_raw(bio))
        }
    }

    /// A list whose bios come out as `numbers`.
    fn list(&self, numbers: &[u32]) -> Result<CompletedList<Numbered>> {
        let mut list = CompletedList::new();
        for number in numbers.iter().rev() {
            list.push(self.bio(*number)?);
        }
        Ok(list)
    }

    /// How many bios were finished.
    fn gone(&self) -> u32 {
        self.gone.load(Relaxed)
    }
}

/// Whether the bios of `list` come out as `numbers`, which ends them.
fn comes_as(list: CompletedList<Numbered>, numbers: &[u32]) -> bool {
    list.map(|bio| bio.number).eq(numbers.iter().copied())
}

#[kunit_tests(vfs_bio_list)]
mod lists {
    use super::*;

    #[test]
    fn who_pushes_first_is_told_so() -> Result {
        let source = Source::new()?;
        let queue = CompletedQueue::new();
        assert!(comes_as(queue.take(), &[]));
        for _ in 0..2 {
            assert!(queue.push(source.bio(1)?));
            assert!(!queue.push(source.bio(2)?));
            assert!(!queue.push(source.bio(3)?));
            let taken = queue.take();
            // What comes meanwhile is for the next.
            assert!(queue.push(source.bio(4)?));
            assert!(comes_as(taken, &[3, 2, 1]));
            assert!(comes_as(queue.take(), &[4]));
        }
        assert_eq!(source.gone(), 8);
        Ok(())
    }

    #[test]
    fn the_first_is_taken_if_it_is_wanted() -> Result {
        let source = Source::new()?;
        let mut list = source.list(&[5, 6])?;
        assert!(list.next_if(|bio| bio.number != 5).is_none());
        assert_eq!(source.gone(), 0);
        let first = list.next_if(|bio| bio.number == 5);
        assert_eq!(first.map(|bio| bio.number), Some(5));
        assert!(list.next_if(|bio| bio.number == 6).is_some());
        assert!(list.next_if(|_| true).is_none());
        assert_eq!(source.gone(), 2);
        Ok(())
    }

    #[test]
    fn sorting_loses_nothing() -> Result {
        let source = Source::new()?;
        let cases: [&[u32]; 8] = [
            &[],
            &[9],
            &[2, 1],
            &[1, 2, 3, 4],
            &[4, 3, 2, 1],
            &[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5],
            &[u32::MAX, 0, u32::MAX, 0],
            &[7, 7, 7],
        ];
        let mut made = 0;
        for numbers in cases {
            let mut list = source.list(numbers)?;
            list.sort_by_key(|bio| bio.number);
            assert_eq!(source.gone(), made);
            let (mut count, mut last) = (0, 0);
            let (mut sum, mut squares) = (0, 0);
            for bio in list {
                let number = u128::from(bio.number);
                assert!(last <= bio.number);
                last = bio.number;
                count += 1;
                sum += number;
                squares += number * number;
            }
            let wide = || numbers.iter().map(|number| u128::from(*number));
            assert_eq!(count, numbers.len());
            assert_eq!(sum, wide().sum::<u128>());
            assert_eq!(squares, wide().map(|number| number * number).sum::<u128>());
            made += numbers.len() as u32;
        }
        Ok(())
    }

    #[test]
    fn a_sorted_list_can_grow_and_be_sorted_again() -> Result {
        let source = Source::new()?;
        let mut list = source.list(&[8, 2, 6])?;
        list.sort_by_key(|bio| bio.number);
        list.push(source.bio(5)?);
        list.sort_by_key(|bio| core::cmp::Reverse(bio.number));
        assert!(comes_as(list, &[8, 6, 5, 2]));
        Ok(())
    }

    #[test]
    fn what_is_left_is_finished() -> Result {
        let source = Source::new()?;
        let mut list = source.list(&[1, 2, 3])?;
        drop(list.next());
        assert_eq!(source.gone(), 1);
        drop(list);
        assert_eq!(source.gone(), 3);
        let queue = CompletedQueue::new();
        queue.push(source.bio(4)?);
        queue.push(source.bio(5)?);
        drop(queue);
        assert_eq!(source.gone(), 5);
        Ok(())
    }
}
