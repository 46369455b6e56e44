//! OS accounts in group `vsnap` (contract section 3).
//!
//! Nothing of them is in the catalog: the OS is the truth. So these changes are not in the journal either, which could
//! not hold their passwords. An account that a crash left half made has no password yet and can't log in; asking for it
//! again completes it.

use super::{Caller, Engine, locks::Key};
use crate::{
    error::{Error, Result},
    os::{self, Authentication, Kind},
    types::user::{FIRST_UID, GROUP, Password, User, UserName},
};

impl Engine {
    /// Checks a password. Blocks for seconds when it is wrong.
    pub fn authenticate(
        &self,
        user: &str,
        password: &Password,
        remote: Option<std::net::IpAddr>,
    ) -> Result<Authentication> {
        Ok(self.machine.authenticate(user, password, remote)?)
    }

    /// Changes whenever an account, password or group does.
    pub fn accounts_version(&self) -> Result<u64> {
        Ok(self.machine.accounts_version()?)
    }

    /// Members of group `vsnap` in uid order.
    pub fn users(&self) -> Result<Vec<User>> {
        Ok(self.machine.users()?)
    }

    /// A new account in the group.
    pub fn create_user(&self, caller: &Caller, name: UserName, password: Password) -> Result<User> {
        let _guard = self.lock_user(&name)?;
        match self.machine.create_user(&name, &password) {
            Err(error) if error.kind == Kind::Exists => return Err(self.name_is_taken(&name, error)?),
            result => result?,
        }
        tracing::info!(user = name.as_str(), by = caller.user, "user created");
        self.member(&name)
    }

    /// What can be done instead of making an account that is there.
    fn name_is_taken(&self, name: &UserName, error: os::Error) -> Result<Error> {
        // A group may have the name, too.
        let Some(user) = self.machine.find_user(name)? else { return Ok(error.into()) };
        let (verb, next) =
            if self.is_member(&user)? { ("update", "change its password with") } else { ("grant", "let it in with") };
        Ok(Error::Exists(format!(
            "there is an account {name} already; {next} `vsnap user {verb} {name}`, or choose another name"
        )))
    }

    /// A new password for a member of the group.
    pub fn set_password(&self, caller: &Caller, name: UserName, password: Password) -> Result<User> {
        let _guard = self.lock_user(&name)?;
        let user = self.member(&name)?;
        self.machine.set_password(&name, &password)?;
        tracing::info!(user = name.as_str(), by = caller.user, "password changed");
        Ok(user)
    }

    /// Puts an account into the group.
    pub fn grant_user(&self, caller: &Caller, name: UserName) -> Result<User> {
        let _guard = self.lock_user(&name)?;
        let user = self.machine.find_user(&name)?.ok_or_else(|| Error::not_found("user", &name))?;
        if user.uid < FIRST_UID {
            return Err(Error::Forbidden(format!(
                "{name} is an account of the operating system (uid {}) and can't be an administrator of the appliance; \
                 make one with `vsnap user create`",
                user.uid
            )));
        }
        if !self.is_member(&user)? {
            self.machine.grant_user(&name)?;
            tracing::info!(user = name.as_str(), by = caller.user, "user let into group {GROUP}");
        }
        self.member(&name)
    }

    /// Takes an account out of the group. The account stays.
    pub fn revoke_user(&self, caller: &Caller, name: UserName) -> Result<()> {
        let _guard = self.lock_user(&name)?;
        self.member(&name)?;
        self.machine.revoke_user(&name)?;
        tracing::info!(user = name.as_str(), by = caller.user, "user taken out of group {GROUP}");
        Ok(())
    }

    fn lock_user(&self, name: &UserName) -> Result<super::locks::Guard<'_>> {
        self.locks.acquire(vec![Key::User(name.as_str().to_owned())], "a change of the account")
    }

    fn is_member(&self, user: &User) -> Result<bool> {
        Ok(self.machine.users()?.iter().any(|member| member.name == user.name))
    }

    fn member(&self, name: &UserName) -> Result<User> {
        let users = self.machine.users()?;
        users.into_iter().find(|user| user.name == name.as_str()).ok_or_else(|| Error::not_found("user", name))
    }
}
