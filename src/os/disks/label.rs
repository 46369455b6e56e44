//! Whose ZFS labels are on a device: `zdb -l`.
//!
//! A data or log disk's label names its pool and the pool's guid. That of a spare or a cache disk does not; the
//! header of a cache that has been written to has the guid.

use std::collections::BTreeSet;

use crate::os::{LabelOwner, command::Output};

/// What the labels of a device say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Labels {
    /// Whether there is any.
    pub found: bool,
    names: BTreeSet<String>,
    guids: BTreeSet<u64>,
}

impl Labels {
    /// From the output of `zdb -l`; `None` when it could not look.
    pub(super) fn read(output: &Output) -> Option<Self> {
        let text = output.text();
        // Its exit code is 2 also when a clearing was cut off that had got no further than the first of the four labels.
        let remains = output.code == Some(2) && text.lines().any(|line| line.starts_with("LABEL "));
        let mut labels = Labels { found: output.succeeded() || remains, ..Labels::default() };
        if !labels.found {
            // Its words for each of the four places when there is no label in it.
            let nothing = |line: &str| line.starts_with("failed to unpack label");
            let lines = text.lines().chain(output.stderr.lines()).filter(|line| !line.trim().is_empty());
            return (output.code == Some(2) && lines.clone().count() > 0 && { lines }.all(nothing)).then_some(labels);
        }
        for line in text.lines() {
            // Deeper lines belong to the vdev tree.
            let Some((key, value)) = line.strip_prefix("    ").and_then(|line| line.split_once(": ")) else { continue };
            match key {
                "name" => {
                    labels.names.insert(value.trim_matches('\'').to_owned());
                }
                "pool_guid" => labels.guids.extend(value.parse::<u64>()),
                _ => {}
            }
        }
        Some(labels)
    }

    /// Why these labels are not `owner`'s; `None` when nothing contradicts it.
    pub(super) fn contradiction(&self, owner: &LabelOwner) -> Option<String> {
        // With its guid known, the name proves nothing: a pool may be imported under another name.
        let stranger = match owner.guid {
            Some(guid) => self.guids.iter().find(|found| **found != guid).map(|found| format!("the guid {found}")),
            None => {
                self.names.iter().find(|found| **found != owner.name.as_str()).map(|found| format!("the name {found}"))
            }
        };
        stranger.map(|found| format!("it has a label of another pool than {}: one with {found}", owner.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PoolId, names::ZpoolName};

    fn output(code: i32, text: &str) -> Output {
        Output { code: Some(code), stdout: text.as_bytes().to_vec(), stderr: String::new() }
    }

    fn owner(guid: Option<u64>) -> LabelOwner {
        LabelOwner { name: ZpoolName::of(PoolId(1)), guid }
    }

    const DATA: &str = "------------------------------------\nLABEL 0 \n------------------------------------\n    \
                        version: 5000\n    name: 'vpool1'\n    state: 2\n    pool_guid: 14\n    vdev_tree:\n        \
                        type: 'raidz'\n        name: 'x'\n    labels = 0 1 2 3 \n";
    const CACHE: &str = "LABEL 0 \n    version: 5000\n    state: 4\n    guid: 97\n    labels = 0 1 2 3 \nL2ARC device \
                         header\n    magic: 6504978260106102853\n    pool_guid: 14\n";
    const SPARE: &str = "LABEL 0 \n    version: 5000\n    state: 3\n    guid: 184\n    labels = 0 1 2 3 \n";
    const NONE: &str = "failed to unpack label 0\nfailed to unpack label 1\nfailed to unpack label 2\nfailed to unpack \
                        label 3\n";

    #[test]
    fn the_guid_decides_when_it_is_known() {
        for text in [DATA, CACHE] {
            let labels = Labels::read(&output(0, text)).unwrap();
            assert!(labels.found);
            assert_eq!(labels.contradiction(&owner(Some(14))), None);
            assert!(labels.contradiction(&owner(Some(15))).unwrap().contains("14"));
        }
        let renamed = Labels::read(&output(0, &DATA.replace("vpool1", "tank"))).unwrap();
        assert_eq!(renamed.contradiction(&owner(Some(14))), None);
        assert!(renamed.contradiction(&owner(None)).unwrap().contains("tank"));
        assert_eq!(Labels::read(&output(0, DATA)).unwrap().contradiction(&owner(None)), None);
    }

    #[test]
    fn a_spare_names_no_pool() {
        let labels = Labels::read(&output(0, SPARE)).unwrap();
        assert!(labels.found);
        assert_eq!(labels.contradiction(&owner(Some(14))), None);
    }

    #[test]
    fn a_clearing_that_was_cut_off_leaves_labels() {
        let rest =
            format!("failed to unpack label 0\nfailed to unpack label 1\n{}", DATA.replace("LABEL 0", "LABEL 2"));
        let labels = Labels::read(&output(2, &rest)).unwrap();
        assert!(labels.found);
        assert_eq!(labels.contradiction(&owner(Some(14))), None);
        assert!(labels.contradiction(&owner(Some(15))).is_some());
    }

    #[test]
    fn no_label_is_not_the_same_as_no_answer() {
        assert_eq!(Labels::read(&output(2, NONE)), Some(Labels::default()));
        assert_eq!(Labels::read(&output(2, "cannot open '/dev/sda': No such device")), None);
        assert_eq!(Labels::read(&output(2, "failed to read label 0\n")), None);
        assert_eq!(Labels::read(&output(1, "")), None);
    }
}
