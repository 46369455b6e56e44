//! What has to be done so that what is live becomes what is wanted. Pure: it looks at nothing but its arguments.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{
    Access, Backing, Backings, ScsiInitiator, ScsiTarget, ScsiUnit,
    live::{AUTH, Acl, Hidden, Live, STORE_PREFIX, Store, TARGET_ATTRIBUTES, Target, store_folders},
    reservations::{self, Saved},
};
use crate::types::VolumeId;

/// The number that our port has in reservations: they name it, so that it must be the same after a reboot.
const PORT: &str = "8900";

/// One step, at a path below the root of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// What it is done for.
    pub scope: Scope,
    /// Where.
    pub path: String,
    /// What.
    pub action: Action,
}

/// What a step is done for: when it fails, the rest of the same is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// The target as a whole.
    Target,
    /// A unit.
    Unit(VolumeId),
    /// An initiator.
    Initiator(String),
    /// A portal.
    Portal(SocketAddr),
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// `mkdir`.
    Make,
    /// `rmdir`.
    Remove,
    /// A value is written.
    Write(String),
    /// The same, and it does not matter when it can't be.
    TryWrite(String),
    /// A value is written that nobody may see.
    Hide(Hidden),
    /// A link to this.
    Link(String),
    /// A link is removed.
    Unlink,
    /// A file elsewhere is removed.
    Forget,
}

/// The steps, and what they are for at the moment.
struct Plan<'a> {
    live: &'a Live,
    backings: &'a Backings,
    saved: &'a Saved,
    steps: Vec<Step>,
}

/// Everything that has to be done, in order.
pub(super) fn plan(wanted: Option<&ScsiTarget>, live: &Live, backings: &Backings, saved: &Saved) -> Vec<Step> {
    let mut plan = Plan { live, backings, saved, steps: Vec::new() };
    let units: Vec<&ScsiUnit> = wanted.iter().flat_map(|target| &target.units).collect();
    let usable: Vec<&ScsiUnit> = units
        .iter()
        .copied()
        .filter(|unit| plan.is_good(unit) || backings.present.contains_key(&unit.volume))
        .collect();
    // Those stay as they are.
    let kept: BTreeSet<VolumeId> = units.iter().filter(|unit| plan.is_good(unit)).map(|unit| unit.volume).collect();
    for (iqn, target) in &live.targets {
        match wanted.filter(|wanted| wanted.iqn == *iqn) {
            Some(wanted) => plan.trim_target(wanted, target, &kept),
            None => plan.remove_target(iqn, target),
        }
    }
    for (volume, store) in live.stores.iter().filter(|(volume, _)| !kept.contains(volume)) {
        plan.remove_store(*volume, store, units.iter().any(|unit| unit.volume == *volume));
    }
    for unit in &usable {
        plan.make_store(unit);
    }
    if let Some(wanted) = wanted {
        plan.make_target(wanted, &usable, &kept);
    }
    plan.steps
}

fn target_folder(iqn: &str) -> String {
    format!("iscsi/{iqn}/tpgt_1")
}

/// The auth values as they are to be.
fn wanted_auth(access: &Access) -> [Hidden; 4] {
    match access {
        Access::Open | Access::Closed => Default::default(),
        Access::Chap(chap) => {
            let (user, secret) =
                chap.mutual.as_ref().map_or(("", ""), |(user, secret)| (user.as_str(), secret.expose()));
            [chap.user.as_str(), chap.secret.expose(), user, secret].map(|text| Hidden(text.to_owned()))
        }
    }
}

/// The kernel keeps the word that clears a value.
fn is_auth(live: &Acl, wanted: &[Hidden; 4]) -> bool {
    let is = |(live, wanted): (&Hidden, &Hidden)| live == wanted || wanted.0.is_empty() && live.0 == "NULL";
    live.auth.iter().zip(wanted).all(is)
}

fn authentication(access: &Access) -> &'static str {
    if *access == Access::Open { "0" } else { "1" }
}

/// Whether sessions must end: they came in without CHAP, or with secrets that are lost.
fn must_begin_anew(live: &Acl, access: &Access) -> bool {
    match access {
        Access::Open => false,
        Access::Chap(_) => live.authentication == "0",
        Access::Closed => live.authentication == "0" || !is_auth(live, &wanted_auth(access)),
    }
}

impl Plan<'_> {
    fn add(&mut self, scope: Scope, path: impl Into<String>, action: Action) {
        self.steps.push(Step { scope, path: path.into(), action });
    }

    /// Whether the live backstore is the wanted one.
    fn is_good(&self, unit: &ScsiUnit) -> bool {
        self.live.stores.get(&unit.volume).is_some_and(|store| {
            store.enabled
                && store.kind == kind(&unit.backing)
                && store.shown == unit.backing.shown()
                && store.serial == unit.serial
        })
    }

    /// Removes from a target that stays what is not wanted in it.
    fn trim_target(&mut self, wanted: &ScsiTarget, live: &Target, kept: &BTreeSet<VolumeId>) {
        let folder = target_folder(&wanted.iqn);
        for (name, acl) in &live.acls {
            let initiator = wanted.initiators.iter().find(|it| it.iqn.as_str() == name);
            let stays = initiator.filter(|it| !must_begin_anew(acl, &it.access));
            for (lun, links) in &acl.luns {
                if stays.and_then(|it| mapped(it, lun, &folder, kept)).is_none_or(|to| !leads_to(links, &to)) {
                    self.remove_linked(Scope::Initiator(name.clone()), &format!("{folder}/acls/{name}/{lun}"), links);
                }
            }
            if stays.is_none() {
                self.add(Scope::Initiator(name.clone()), format!("{folder}/acls/{name}"), Action::Remove);
            }
        }
        for (lun, links) in &live.luns {
            if !is_kept_lun(self.live, lun, links, kept) {
                self.remove_linked(Scope::Target, &format!("{folder}/lun/{lun}"), links);
            }
        }
        // Sessions that came in through a portal outlive it.
        let portals: Vec<String> = wanted.portals.iter().map(ToString::to_string).collect();
        for portal in live.portals.iter().filter(|portal| !portals.contains(portal)) {
            self.add(Scope::Target, format!("{folder}/np/{portal}"), Action::Remove);
        }
    }

    fn remove_target(&mut self, iqn: &str, live: &Target) {
        let folder = target_folder(iqn);
        for (name, acl) in &live.acls {
            for (lun, links) in &acl.luns {
                self.remove_linked(Scope::Target, &format!("{folder}/acls/{name}/{lun}"), links);
            }
            self.add(Scope::Target, format!("{folder}/acls/{name}"), Action::Remove);
        }
        for (lun, links) in &live.luns {
            self.remove_linked(Scope::Target, &format!("{folder}/lun/{lun}"), links);
        }
        for portal in &live.portals {
            self.add(Scope::Target, format!("{folder}/np/{portal}"), Action::Remove);
        }
        if live.made {
            self.add(Scope::Target, folder, Action::Remove);
        }
        self.add(Scope::Target, format!("iscsi/{iqn}"), Action::Remove);
    }

    fn remove_linked(&mut self, scope: Scope, folder: &str, links: &[(String, String)]) {
        for (name, _) in links {
            self.add(scope.clone(), format!("{folder}/{name}"), Action::Unlink);
        }
        self.add(scope, folder, Action::Remove);
    }

    /// `comes_back` says that it is to be made again.
    fn remove_store(&mut self, volume: VolumeId, store: &Store, comes_back: bool) {
        let (folder, hba) = store_folders(&store.kind, volume);
        if store.made {
            self.add(Scope::Unit(volume), folder, Action::Remove);
        }
        self.add(Scope::Unit(volume), hba, Action::Remove);
        // Reservations end with the last mapping: they would keep the next host out.
        if !comes_back && store.enabled && !store.serial.is_empty() && !store.serial.contains('/') {
            for folder in &self.saved.folders {
                let path = reservations::path(folder, &store.serial);
                self.steps.push(Step { scope: Scope::Unit(volume), path, action: Action::Forget });
            }
        }
    }

    /// Makes a backstore, or corrects what can be corrected in one that stays.
    fn make_store(&mut self, unit: &ScsiUnit) {
        let kind = kind(&unit.backing);
        let (folder, hba) = store_folders(kind, unit.volume);
        let scope = || Scope::Unit(unit.volume);
        let is_file = kind == "fileio";
        let size = self.backings.present.get(&unit.volume).copied().flatten().map(|bytes| bytes / 512 * 512);
        let write = |text: &str| Action::Write(text.to_owned());
        let live = self.live.stores.get(&unit.volume).filter(|_| self.is_good(unit)).cloned();
        if live.is_none() {
            let path = self.backings.path(unit);
            let control = match size {
                // Buffered: a write is in the ARC when it is acknowledged, and safe after a flush, as the unit says.
                Some(bytes) => format!("fd_dev_name={path},fd_dev_size={bytes},fd_buffered_io=1"),
                None => format!("udev_path={path}"),
            };
            self.add(scope(), hba, Action::Make);
            self.add(scope(), folder.clone(), Action::Make);
            self.add(scope(), format!("{folder}/control"), Action::Write(control));
            self.add(scope(), format!("{folder}/udev_path"), Action::Write(unit.backing.shown()));
            self.add(scope(), format!("{folder}/wwn/vendor_id"), write("VSNAP"));
            self.add(scope(), format!("{folder}/wwn/product_id"), write("LUN"));
            // Before any LUN leads here: initiators take a unit with another serial for another disk.
            self.add(scope(), format!("{folder}/wwn/vpd_unit_serial"), write(&unit.serial));
            self.add(scope(), format!("{folder}/enable"), write("1"));
        } else if let (Some(bytes), Some(Some(before))) = (size, live.as_ref().map(|live| live.size))
            && bytes > before
        {
            self.add(scope(), format!("{folder}/control"), Action::Write(format!("fd_dev_size={bytes}")));
        }
        let is = |value: fn(&Store) -> &String| live.as_ref().is_some_and(|live| value(live) == "1");
        if !is(|live| &live.unmap) {
            self.add(scope(), format!("{folder}/attrib/emulate_tpu"), write("1"));
        }
        // That of a zvol is the device's own, and can't be set.
        if is_file && !is(|live| &live.write_cache) {
            self.add(scope(), format!("{folder}/attrib/emulate_write_cache"), write("1"));
        }
        if live.is_none() {
            for registration in self.saved.registrations.get(&unit.volume).cloned().unwrap_or_default() {
                self.add(scope(), format!("{folder}/pr/res_aptpl_metadata"), Action::Write(registration));
            }
        }
    }

    fn make_target(&mut self, wanted: &ScsiTarget, usable: &[&ScsiUnit], kept: &BTreeSet<VolumeId>) {
        let folder = target_folder(&wanted.iqn);
        let none = Target::default();
        let live = self.live.targets.get(&wanted.iqn).unwrap_or(&none);
        if !live.made {
            self.add(Scope::Target, format!("iscsi/{}", wanted.iqn), Action::Make);
            self.add(Scope::Target, folder.clone(), Action::Make);
        }
        let attributes = TARGET_ATTRIBUTES.iter().enumerate().filter(|_| !live.partial);
        for (at, (name, value)) in attributes {
            if live.attributes.get(at).and_then(Option::as_deref) != Some(*value) {
                self.add(Scope::Target, format!("{folder}/{name}"), Action::Write((*value).to_owned()));
            }
        }
        if !live.enabled && live.port.as_deref() != Some(PORT) {
            self.add(Scope::Target, format!("{folder}/rtpi"), Action::TryWrite(PORT.to_owned()));
        }
        for unit in usable {
            let lun = format!("lun_{}", unit.volume);
            if !live.luns.get(&lun).is_some_and(|links| is_kept_lun(self.live, &lun, links, kept)) {
                let store = store_folders(kind(&unit.backing), unit.volume).0;
                self.add(Scope::Unit(unit.volume), format!("{folder}/lun/{lun}"), Action::Make);
                self.add(Scope::Unit(unit.volume), format!("{folder}/lun/{lun}/vsnap"), Action::Link(store));
            }
        }
        for initiator in &wanted.initiators {
            self.make_acl(&folder, initiator, live.acls.get(initiator.iqn.as_str()), usable, kept);
        }
        for portal in wanted.portals.iter().filter(|_| !live.partial) {
            if !live.portals.contains(&portal.to_string()) {
                self.add(Scope::Portal(*portal), format!("{folder}/np/{portal}"), Action::Make);
            }
        }
        if !live.enabled {
            self.add(Scope::Target, format!("{folder}/enable"), Action::Write("1".to_owned()));
        }
    }

    /// An ACL gets its secrets before it says that they are to be used, and only then what there is to see.
    fn make_acl(
        &mut self,
        target: &str,
        wanted: &ScsiInitiator,
        live: Option<&Acl>,
        usable: &[&ScsiUnit],
        kept: &BTreeSet<VolumeId>,
    ) {
        let folder = format!("{target}/acls/{}", wanted.iqn);
        let scope = || Scope::Initiator(wanted.iqn.to_string());
        let live = live.filter(|live| !must_begin_anew(live, &wanted.access));
        if live.is_none() {
            self.add(scope(), folder.clone(), Action::Make);
        }
        let none = Acl::default();
        let live = live.unwrap_or(&none);
        let auth = wanted_auth(&wanted.access);
        if !is_auth(live, &auth) {
            for (file, value) in AUTH.iter().zip(auth) {
                let value = if value.0.is_empty() { Hidden("NULL".to_owned()) } else { value };
                self.add(scope(), format!("{folder}/{file}"), Action::Hide(value));
            }
        }
        let needed = authentication(&wanted.access);
        if live.authentication != needed {
            self.add(scope(), format!("{folder}/attrib/authentication"), Action::Write(needed.to_owned()));
        }
        for (number, volume) in &wanted.luns {
            let lun = format!("lun_{number}");
            let is_there = live
                .luns
                .get(&lun)
                .is_some_and(|links| mapped(wanted, &lun, target, kept).is_some_and(|to| leads_to(links, &to)));
            if !is_there && usable.iter().any(|unit| unit.volume == *volume) {
                let unit = || Scope::Unit(*volume);
                self.add(unit(), format!("{folder}/{lun}"), Action::Make);
                self.add(unit(), format!("{folder}/{lun}/vsnap"), Action::Link(format!("{target}/lun/lun_{volume}")));
            }
        }
    }
}

fn kind(backing: &Backing) -> &'static str {
    match backing {
        Backing::Zvol(_) => "iblock",
        Backing::File { .. } => "fileio",
    }
}

fn leads_to(links: &[(String, String)], to: &str) -> bool {
    matches!(links, [(_, found)] if found == to)
}

/// Where a mapped LUN with this name has to lead to, when it is wanted and what is behind it stays.
fn mapped(wanted: &ScsiInitiator, lun: &str, target: &str, kept: &BTreeSet<VolumeId>) -> Option<String> {
    let number = lun.strip_prefix("lun_")?.parse().ok()?;
    let volume = wanted.luns.get(&number).filter(|volume| kept.contains(volume))?;
    Some(format!("{target}/lun/lun_{volume}"))
}

/// Whether a LUN of the target is one of ours, and what is behind it stays.
fn is_kept_lun(live: &Live, lun: &str, links: &[(String, String)], kept: &BTreeSet<VolumeId>) -> bool {
    let volume = lun.strip_prefix("lun_").and_then(|number| number.parse().ok()).map(VolumeId);
    volume
        .filter(|volume| kept.contains(volume))
        .and_then(|volume| Some((volume, live.stores.get(&volume)?)))
        .is_some_and(|(volume, store)| {
            let folder = store_folders(&store.kind, volume).0;
            debug_assert!(folder.contains(STORE_PREFIX));
            leads_to(links, &folder)
        })
}
