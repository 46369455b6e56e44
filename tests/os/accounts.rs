use vsnap::{
    os::{Authentication, Kind},
    types::user::{Password, UserName},
};

use crate::system::{System, fails};

#[test]
fn accounts_are_made_let_in_and_put_out() {
    let system = System::new();
    let machine = &system.machine;
    let name = UserName::new("vsnap-os-test").unwrap();
    if system.is_real() {
        let _ = std::process::Command::new("userdel").arg(name.as_str()).output();
    }
    let (first, second) = (Password::new("first secret: ü").unwrap(), Password::new("second secret").unwrap());
    let check = |password: &Password| machine.authenticate(name.as_str(), password, None).unwrap();
    assert_eq!(machine.find_user(&name).unwrap(), None);
    assert_eq!(check(&first), Authentication::Refused);

    let before = machine.accounts_version().unwrap();
    machine.create_user(&name, &first).unwrap();
    assert_ne!(machine.accounts_version().unwrap(), before);
    fails(machine.create_user(&name, &first), Kind::Exists);
    let user = machine.find_user(&name).unwrap().unwrap();
    assert!(machine.users().unwrap().contains(&user));
    assert_eq!(check(&first), Authentication::Granted);
    assert_eq!(check(&second), Authentication::Refused);

    machine.set_password(&name, &second).unwrap();
    assert_eq!((check(&first), check(&second)), (Authentication::Refused, Authentication::Granted));
    machine.revoke_user(&name).unwrap();
    assert_eq!(check(&second), Authentication::Forbidden);
    assert!(!machine.users().unwrap().contains(&user));
    machine.grant_user(&name).unwrap();
    assert_eq!(check(&second), Authentication::Granted);
    fails(machine.set_password(&UserName::new("vsnap-no-such").unwrap(), &second), Kind::Missing);
    if system.is_real() {
        machine.revoke_user(&name).unwrap();
        assert!(std::process::Command::new("userdel").arg(name.as_str()).status().unwrap().success());
    }
}

#[test]
fn an_account_that_was_left_half_made_lets_nobody_in_and_is_completed() {
    let system = System::new();
    let machine = &system.machine;
    let name = UserName::new("vsnap-os-half").unwrap();
    let remove = || {
        if system.is_real() {
            let _ = std::process::Command::new("smbpasswd").args(["-x", name.as_str()]).output();
            let _ = std::process::Command::new("userdel").arg(name.as_str()).output();
        }
    };
    remove();
    let password = Password::new("a fine secret").unwrap();
    system.half_make_user(&name);
    for tried in ["", "never in force", "!"].map(Password::new).into_iter().flatten().chain([password.clone()]) {
        assert_eq!(machine.authenticate(name.as_str(), &tried, None).unwrap(), Authentication::Refused);
    }
    machine.create_user(&name, &password).unwrap();
    assert_eq!(machine.authenticate(name.as_str(), &password, None).unwrap(), Authentication::Granted);
    assert!(machine.users().unwrap().iter().any(|user| user.name == name.as_str()));
    // Now it is whole.
    fails(machine.create_user(&name, &password), Kind::Exists);
    remove();
}

#[test]
fn an_account_of_the_system_is_not_taken_over() {
    let system = System::new();
    let name = system.system_account();
    let before = system.machine.find_user(&name).unwrap().unwrap();
    let password = Password::new("a fine secret").unwrap();
    fails(system.machine.create_user(&name, &password), Kind::Exists);
    assert!(!system.machine.users().unwrap().contains(&before));
    assert_eq!(system.machine.authenticate(name.as_str(), &password, None).unwrap(), Authentication::Refused);
}
