// SPDX-License-Identifier: GPL-2.0

use std::cell::RefCell;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::testing::Image;

/// A filesystem of many small groups, with `flex` of them in a flex group.
fn geometry(flex: &str) -> Geometry {
    let options = ["-t", "ext4", "-b", "1024", "-g", "1024", "-G", flex];
    Image::make(&options, 50_000).validate().geometry
}

/// A filesystem that only counts.
struct Model {
    geometry: Geometry,
    loads: RefCell<Vec<Load>>,
}

impl Model {
    fn new(geometry: Geometry) -> Self {
        let empty = Load {
            free_inodes: geometry.inodes_per_group().into(),
            free_clusters: geometry.clusters_per_group().into(),
            directories: 0,
        };
        Self {
            geometry,
            loads: RefCell::new(vec![empty; geometry.group_count() as usize]),
        }
    }

    fn total(&self) -> Load {
        let mut total = Load::default();
        self.loads.borrow().iter().for_each(|load| total.add(load));
        total
    }

    fn choose(
        &self,
        by: impl Fn(&Chooser<'_, &dyn Fn(Group) -> Load>) -> Option<Group>,
    ) -> Option<Group> {
        let load = |group: Group| self.loads.borrow()[group.get() as usize];
        by(&Chooser::new(&self.geometry, self.total(), &load))
    }

    /// Takes an inode, and some clusters if there are any.
    fn take(&self, group: Group, is_directory: bool, clusters: u64) {
        let load = &mut self.loads.borrow_mut()[group.get() as usize];
        load.free_inodes -= 1;
        load.free_clusters = load.free_clusters.saturating_sub(clusters);
        load.directories += u64::from(is_directory);
    }
}

#[test]
fn top_directories_spread_and_files_stay() {
    for flex in ["1", "4", "16"] {
        let model = Model::new(geometry(flex));
        let flex_groups = model
            .geometry
            .flex_group(Group::new(model.geometry.group_count() - 1))
            + 1;
        let mut used = vec![0; flex_groups as usize];
        // As many directories as there are whole flex groups: each gets one of its own. The last one
        // is smaller than the average.
        for number in 0..flex_groups - 1 {
            let hash = number.wrapping_mul(0x9e37_79b9);
            let group = model
                .choose(|chooser| chooser.top_directory(Group::ZERO, hash))
                .unwrap();
            used[model.geometry.flex_group(group) as usize] += 1;
            model.take(group, true, 1);
        }
        assert!(used.iter().all(|count| *count <= 1), "{flex}: {used:?}");

        // Directories and files below stay with their parent.
        let parent = Group::new(model.geometry.groups_per_flex());
        for _ in 0..20 {
            let group = model.choose(|chooser| chooser.file(parent, None)).unwrap();
            assert_eq!(model.geometry.flex_group(group), 1);
            model.take(group, false, 1);
        }
        let group = model.choose(|chooser| chooser.directory(parent)).unwrap();
        assert_eq!(model.geometry.flex_group(group), 1);
    }
}

#[test]
fn a_crowded_parent_sends_directories_away() {
    let model = Model::new(geometry("1"));
    let parent = Group::new(5);
    let mut groups = Vec::new();
    for _ in 0..200 {
        let group = model.choose(|chooser| chooser.directory(parent)).unwrap();
        model.take(group, true, 1);
        groups.push(group);
    }
    assert_eq!(groups[0], parent);
    groups.dedup();
    assert!(groups.len() > 3, "{groups:?}");
}

#[test]
fn files_follow_the_last_one_out_of_a_full_group() {
    let model = Model::new(geometry("4"));
    for group in 0..4 {
        model.loads.borrow_mut()[group].free_inodes = 0;
    }
    let parent = Group::new(2);
    let first = model.choose(|chooser| chooser.file(parent, None)).unwrap();
    assert!(model.geometry.flex_group(first) > 0);
    let last = Some(Group::new(22));
    let next = model.choose(|chooser| chooser.file(parent, last)).unwrap();
    assert_eq!(model.geometry.flex_group(next), 5);
}

#[test]
fn data_begins_behind_the_inode_tables() {
    let geometry = geometry("16");
    let first = |group| geometry.first_block(Group::new(group));
    assert_eq!(data_goal(&geometry, Group::new(18), true), first(17));
    assert_eq!(data_goal(&geometry, Group::new(18), false), first(16));
    // The last flex group may have no second group.
    let last = geometry.group_count() - 1;
    let goal = data_goal(&geometry, Group::new(last), true);
    assert!(goal <= first(last));
    let geometry = self::geometry("1");
    let own = geometry.first_block(Group::new(7));
    assert_eq!(data_goal(&geometry, Group::new(7), true), own);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is asked for in whatever order: as long as an inode is free one is found, and the one
    /// that is found is free.
    #[test]
    fn the_last_inode_is_found(
        start in prop::collection::vec((0..4u64, 0..3u64, 0..4u64), 49),
        kinds in prop::collection::vec((0..3u32, any::<u32>()), 150),
        total_is_wrong: bool,
        flex in prop::sample::select(vec!["1", "4", "16"]),
    ) {
        static GEOMETRIES: std::sync::Mutex<Vec<(&str, Geometry)>> = std::sync::Mutex::new(Vec::new());
        let geometry = {
            let mut known = GEOMETRIES.lock().unwrap();
            match known.iter().find(|(name, _)| *name == flex) {
                Some((_, geometry)) => *geometry,
                None => {
                    let geometry = geometry(flex);
                    known.push((flex, geometry));
                    geometry
                }
            }
        };
        let model = Model::new(geometry);
        for (load, (free_inodes, free_clusters, directories)) in
            model.loads.borrow_mut().iter_mut().zip(start.into_iter().cycle())
        {
            *load = Load { free_inodes, free_clusters, directories };
        }
        for (kind, number) in kinds {
            let free = model.total().free_inodes;
            let total = if total_is_wrong { Load::default() } else { model.total() };
            let load = |group: Group| model.loads.borrow()[group.get() as usize];
            let chooser = Chooser::new(&geometry, total, load);
            let parent = Group::new(number % geometry.group_count());
            let chosen = match kind {
                0 => chooser.top_directory(parent, number),
                1 => chooser.directory(parent),
                _ => chooser.file(parent, Some(Group::new(number >> 16))),
            };
            prop_assert_eq!(chosen.is_some(), free > 0);
            if let Some(group) = chosen {
                prop_assert!(load(group).free_inodes > 0);
                model.take(group, kind < 2, 1);
            }
        }
    }
}
