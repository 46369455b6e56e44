//! Disks, accounts and the clock in the fake's world.

use std::{net::IpAddr, sync::atomic::Ordering};

use super::{FakeOs, world::FakeAccount};
use crate::{
    os::{Authentication, Error, Kind, LabelOwner, Machine, Result},
    types::{
        Epoch,
        disk::{Disk, DiskUse},
        network::Interface,
        system::Versions,
        user::{Password, User, UserName},
    },
};

impl FakeOs {
    fn change_account(
        &self,
        effect: &'static str,
        name: &UserName,
        change: impl FnOnce(&mut FakeAccount),
    ) -> Result<()> {
        self.effect(effect, |world| {
            let account = world.accounts.iter_mut().find(|account| account.user.name == name.as_str());
            change(account.ok_or_else(|| Error::new(Kind::Missing, format!("{effect} {name}"), "no such user"))?);
            world.accounts_version += 1;
            Ok(())
        })
    }

    fn set_unix_password(&self, name: &UserName, password: &Password) -> Result<()> {
        self.change_account("set_password", name, |account| account.password = Some(password.expose().to_owned()))
    }

    fn set_samba_password(&self, name: &UserName, password: &Password) -> Result<()> {
        self.change_account("set_samba_password", name, |account| account.samba = Some(password.expose().to_owned()))
    }
}

impl Machine for FakeOs {
    fn disks(&self) -> Result<Vec<Disk>> {
        self.check_refusal("disks")?;
        let world = self.world();
        let present = world.disks.iter().filter(|disk| disk.present);
        Ok(present.map(|disk| Disk { used: disk.use_now(), ..disk.disk.clone() }).collect())
    }

    fn rescan_disks(&self) -> Result<()> {
        self.effect("rescan_disks", |_| Ok(()))
    }

    fn probe_disk(&self, path: &str) -> Result<DiskUse> {
        self.check_refusal("probe_disk")?;
        let mut world = self.world();
        let open = world.is_open(path);
        let missing = || Error::new(Kind::Missing, format!("opening {path}"), "no such device");
        let disk = world.disk_mut(path).ok_or_else(missing)?;
        Ok(if open { DiskUse::Busy("zfs".to_owned()) } else { disk.use_now() })
    }

    fn release_disk(&self, path: &str, owner: &LabelOwner) -> Result<()> {
        self.effect("release_disk", |world| {
            let open = world.is_open(path);
            let Some(disk) = world.disk_mut(path) else { return Ok(()) };
            if disk.use_now() == DiskUse::Unused {
                return Ok(());
            }
            let refuse = |kind, detail: &str| Err(Error::new(kind, format!("clearing {path}"), detail));
            let deny = |detail: &str| refuse(Kind::Denied, detail);
            match &disk.label {
                _ if open => refuse(Kind::Busy, "in use"),
                _ if disk.stranger.is_some() => deny("holds something else"),
                Some(label) if label.pool != owner.name.as_str() => deny("label of another pool"),
                Some(label) if owner.guid.is_some() && label.guid.is_some() && label.guid != owner.guid => {
                    deny("label of another pool")
                }
                _ => {
                    disk.label = None;
                    world.forget_unlabelled();
                    Ok(())
                }
            }
        })
    }

    fn users(&self) -> Result<Vec<User>> {
        let world = self.world();
        Ok(world.accounts.iter().filter(|account| account.in_group).map(|account| account.user.clone()).collect())
    }

    fn find_user(&self, name: &UserName) -> Result<Option<User>> {
        Ok(self.world().account(name.as_str()).map(|account| account.user.clone()))
    }

    fn create_user(&self, name: &UserName, password: &Password) -> Result<()> {
        let half_made = self.world().account(name.as_str()).map(|account| account.ours && account.password.is_none());
        if half_made == Some(false) {
            return Err(Error::new(Kind::Exists, format!("creating user {name}"), "already exists"));
        }
        if half_made.is_none() {
            self.effect("create_user", |world| {
                world.add_user(name.as_str(), None, true);
                Ok(())
            })?;
        }
        self.set_samba_password(name, password)?;
        self.set_unix_password(name, password)
    }

    fn set_password(&self, name: &UserName, password: &Password) -> Result<()> {
        self.set_unix_password(name, password)?;
        self.set_samba_password(name, password)
    }

    fn grant_user(&self, name: &UserName) -> Result<()> {
        self.change_account("grant_user", name, |account| account.in_group = true)
    }

    fn revoke_user(&self, name: &UserName) -> Result<()> {
        self.change_account("forget_at_samba", name, |account| account.samba = None)?;
        self.change_account("revoke_user", name, |account| account.in_group = false)
    }

    fn authenticate(&self, user: &str, password: &Password, _remote: Option<IpAddr>) -> Result<Authentication> {
        self.password_checks.fetch_add(1, Ordering::Relaxed);
        self.check_refusal("authenticate")?;
        let world = self.world();
        let right = |account: &&FakeAccount| account.password.as_deref() == Some(password.expose());
        Ok(match world.account(user).filter(right) {
            Some(account) if account.in_group => Authentication::Granted,
            Some(_) => Authentication::Forbidden,
            None => Authentication::Refused,
        })
    }

    fn accounts_version(&self) -> Result<u64> {
        Ok(self.world().accounts_version)
    }

    fn interfaces(&self) -> Result<Vec<Interface>> {
        Ok(self.world().interfaces.clone())
    }

    fn versions(&self) -> Result<Versions> {
        Ok(Versions { os_name: Some("Fake".to_owned()), zfs: Some("2.3.2".to_owned()), ..Versions::default() })
    }

    fn host_names(&self) -> Result<(String, String)> {
        Ok(("fake".to_owned(), "fake.example.org".to_owned()))
    }

    fn memory_bytes(&self) -> Result<u64> {
        Ok(4 << 30)
    }

    fn now(&self) -> Epoch {
        self.tick()
    }
}
