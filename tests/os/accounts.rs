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
