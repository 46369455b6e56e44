//! Who may come in.

use std::time::{Duration, Instant};

use vsnap::api::Origin;

use crate::appliance::{ADMIN, Appliance, CLIENT, STRANGER, basic, from, plain, request, with_header, with_login};

fn client() -> Origin {
    Origin::Network(CLIENT.parse().unwrap())
}

#[tokio::test]
async fn everything_needs_credentials() {
    let appliance = Appliance::new();
    for path in ["/api/system", "/api/nothing", "/", "/api/docs", "/api/docs/index.html", "/api/openapi.json"] {
        let answer = appliance.send(from(plain("GET", path, ""), client())).await;
        assert_eq!((answer.status, answer.error()), (401, "UnauthorizedError"), "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"vSnap\", charset=\"UTF-8\""));
    }
    // Not even what methods a route has is told to strangers.
    assert_eq!(appliance.send(from(plain("DELETE", "/api/system", ""), client())).await.status, 401);
    for odd in ["Basic", "Basic !", "Bearer x", "Basic dXNlcg==", &basic("", ""), &basic(ADMIN.0, "a\0b")] {
        let odd = with_header(plain("GET", "/api/system", ""), "authorization", odd);
        assert_eq!(appliance.send(odd).await.status, 401);
    }
    assert_eq!(appliance.os.password_checks(), 0, "none of these was worth a password check");
}

#[tokio::test]
async fn wrong_is_401_and_not_in_the_group_is_403() {
    let appliance = Appliance::new();
    let login = |user, password| from(with_login(plain("GET", "/api/system", ""), (user, password)), client());
    assert_eq!(appliance.send(login(ADMIN.0, "wrong")).await.error(), "UnauthorizedError");
    assert_eq!(appliance.send(login("unknown", ADMIN.1)).await.error(), "UnauthorizedError");
    let stranger = appliance.send(login(STRANGER.0, STRANGER.1)).await;
    assert_eq!((stranger.status, stranger.error()), (403, "ForbiddenError"));
    assert_eq!(stranger.header("www-authenticate"), None);
    assert_eq!(appliance.send(login(ADMIN.0, ADMIN.1)).await.status, 200);
}

#[tokio::test]
async fn a_right_password_is_remembered_until_accounts_change() {
    let appliance = Appliance::new();
    for _ in 0..5 {
        appliance.get("/api/user").await.ok();
    }
    assert_eq!(appliance.os.password_checks(), 1);
    appliance.os.add_user("another", "some password", true);
    appliance.get("/api/user").await.ok();
    assert_eq!(appliance.os.password_checks(), 2, "an account has changed");
    appliance.local("POST", &format!("/api/user/{}", ADMIN.0), r#"{"action": "revoke"}"#).await.ok();
    assert_eq!(appliance.get("/api/user").await.status, 403, "at once");
}

#[tokio::test]
async fn nothing_is_remembered_when_told_so() {
    let appliance = Appliance::with(|options| options.credential_ttl = Duration::ZERO);
    let started = Instant::now();
    for _ in 0..10 {
        appliance.get("/api/user").await.ok();
    }
    assert_eq!(appliance.os.password_checks(), 10);
    assert!(started.elapsed() < Duration::from_secs(1), "a password that was right is not held up");
}

#[tokio::test]
async fn many_requests_at_once_ask_once() {
    let appliance = Appliance::new();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let router = appliance.router();
        all.spawn(async move { tower::ServiceExt::oneshot(router, request("GET", "/api/user", "")).await.unwrap() });
    }
    assert!(all.join_all().await.iter().all(|response| response.status() == 200));
    assert_eq!(appliance.os.password_checks(), 1);
}

#[tokio::test]
async fn guesses_are_slowed_down_and_the_administrator_is_not_locked_out() {
    let appliance = Appliance::new();
    appliance.get("/api/user").await.ok();
    let guess = |number: usize, from_where: &str| {
        let password = format!("guess {number}");
        let origin = Origin::Network(from_where.parse().unwrap());
        from(with_login(plain("GET", "/api/user", ""), (ADMIN.0, &password)), origin)
    };
    // Three are free, each further one takes 200 ms.
    let started = Instant::now();
    for number in 0..6 {
        assert_eq!(appliance.send(guess(number, CLIENT)).await.status, 401);
    }
    assert!(started.elapsed() > Duration::from_millis(500), "{:?}", started.elapsed());

    // While guesses wait, the administrator comes in at once, from the same address and with the same name.
    let mut guesses = tokio::task::JoinSet::new();
    for number in 6..10 {
        let (router, guess) = (appliance.router(), guess(number, CLIENT));
        guesses.spawn(async move { tower::ServiceExt::oneshot(router, guess).await.unwrap().status() });
    }
    appliance.get("/api/user").await.ok();
    // Another address has guesses of its own.
    assert_eq!(appliance.send(guess(10, "198.51.100.1:1")).await.status, 401);
    let mut done = 0;
    while guesses.try_join_next().is_some() {
        done += 1;
    }
    assert!(done < 4, "the last guess has to wait for 800 ms");
    assert!(guesses.join_all().await.iter().all(|status| *status == 401));
}

#[tokio::test]
async fn the_queue_of_guesses_is_bounded() {
    let appliance = Appliance::with(|options| options.guesses.interval = Duration::from_secs(3600));
    let mut all = tokio::task::JoinSet::new();
    for number in 0..200 {
        let login = with_login(plain("GET", "/api/user", ""), (ADMIN.0, &format!("guess {number}")));
        let (router, login) = (appliance.router(), from(login, client()));
        all.spawn(async move { tower::ServiceExt::oneshot(router, login).await.unwrap() });
    }
    let refused = loop {
        let response = all.join_next().await.unwrap().unwrap();
        if response.status() == 429 {
            break response;
        }
        assert_eq!(response.status(), 401);
    };
    assert!(refused.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn accounts_are_changed_on_the_appliance_only() {
    let appliance = Appliance::new();
    for (method, path, body) in [
        ("POST", "/api/user", r#"{"name": "new", "password": "long enough"}"#),
        ("PUT", "/api/user/vsuser", r#"{"password": "long enough"}"#),
        ("POST", "/api/user/vsuser", r#"{"action": "revoke"}"#),
    ] {
        let answer = appliance.send(request(method, path, body)).await;
        assert_eq!((answer.status, answer.error()), (403, "ForbiddenError"), "{method} {path}");
        assert!(answer.message().contains("vsnap user"), "{}", answer.message());
    }
    assert_eq!(appliance.get("/api/user/vsuser").await.ok()["role"], "vsnap_admin");
}

#[tokio::test]
async fn other_users_do_not_come_in_over_the_socket() {
    let appliance = Appliance::new();
    let other = from(with_login(plain("GET", "/api/system", ""), ADMIN), Origin::Local { uid: 1000 });
    assert_eq!(appliance.send(other).await.error(), "ForbiddenError");
    appliance.local("GET", "/api/system", "").await.ok();
    assert_eq!(appliance.os.password_checks(), 0);
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let appliance = Appliance::new();
    let rescan = || with_header(request("POST", "/api/disk", r#"{"action": "rescan"}"#), "host", "vsnap1:8900");
    let evil = with_header(rescan(), "origin", "https://evil.example");
    assert_eq!(appliance.send(evil).await.error(), "ForbiddenError");
    let evil = with_header(rescan(), "sec-fetch-site", "cross-site");
    assert_eq!(appliance.send(evil).await.error(), "ForbiddenError");
    let own = with_header(rescan(), "origin", "https://vsnap1:8900");
    appliance.send(with_header(own, "sec-fetch-site", "same-origin")).await.ok();
}

#[tokio::test]
async fn a_password_is_never_told_back() {
    let appliance = Appliance::new();
    for body in [
        r#"{"name": "new", "password": {"hunter2": "hunter2"}}"#,
        r#"{"name": "new", "password": "hunter2"}"#,
        r#"{"name": "new", "password": ["hunter2"]}"#,
        r#"{"name": "new", "password": "hunter2\u0000hunter2"}"#,
    ] {
        let answer = appliance.local("POST", "/api/user", body).await;
        assert_eq!(answer.error(), "InvalidParameterError");
        assert!(answer.message().contains("password") && !answer.message().contains("hunter2"), "{}", answer.message());
    }
}

#[tokio::test]
async fn an_account_of_the_system_is_not_taken_over() {
    let appliance = Appliance::new();
    appliance.os.world().add_system_account("messagebus", 101);
    let body = r#"{"name": "messagebus", "password": "long enough"}"#;
    let answer = appliance.local("POST", "/api/user", body).await;
    assert_eq!((answer.status, answer.error()), (409, "AlreadyExistsError"), "{}", answer.message());
    assert_eq!(appliance.os.world().samba_password("messagebus"), None);
    assert_eq!(appliance.get("/api/user/messagebus").await.status, 404, "it is no administrator");
}
