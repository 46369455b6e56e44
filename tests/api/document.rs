//! The OpenAPI document and the page that shows it.

use serde_json::Value;

use crate::appliance::Appliance;

const COMMITTED: &str = include_str!("../../openapi.json");

#[tokio::test]
async fn the_committed_document_is_the_one_that_is_served() {
    assert!(
        vsnap::api::openapi::document() == COMMITTED,
        "openapi.json is out of date: cargo run --bin vsnapd -- --openapi > openapi.json"
    );
    let served = Appliance::new().get("/api/openapi.json").await;
    assert_eq!(served.header("content-type"), Some("application/json"));
    assert_eq!(served.ok(), serde_json::from_str::<Value>(COMMITTED).unwrap());
}

#[tokio::test]
async fn every_described_route_answers() {
    let appliance = Appliance::initialized().await;
    let document: Value = serde_json::from_str(COMMITTED).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let address = path.replace("{id}", "999").replace("{name}", "none");
        for method in methods.as_object().unwrap().keys() {
            let answer = appliance.send(crate::appliance::request(&method.to_uppercase(), &address, "")).await;
            assert_ne!(answer.status, 405, "{method} {path}");
            let described = &methods[method]["responses"];
            assert!(described.get(answer.status.to_string()).is_some(), "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn the_page_leads_to_itself() {
    let appliance = Appliance::new();
    for path in ["/api/docs", "/api/docs/"] {
        let answer = appliance.get(path).await;
        assert_eq!((answer.status, answer.header("location")), (307, Some("/api/docs/index.html")), "{path}");
    }
    let page = appliance.get("/api/docs/index.html").await;
    assert_eq!(page.header("content-type"), Some("text/html"));
    let script = appliance.get("/api/docs/swagger-initializer.js").await.ok();
    let script = script.as_str().unwrap();
    assert!(script.contains("/api/openapi.json") && script.contains("\"validatorUrl\": \"none\""), "{script}");
    assert_eq!(appliance.get("/api/docs/nothing.js").await.error(), "NotFoundError");
}
