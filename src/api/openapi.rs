//! The OpenAPI document, made from the code, and the page that shows it.

use std::sync::{Arc, LazyLock};

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use serde_json::{Map, Value, json};
use utoipa::openapi::{Info, OpenApi, Paths};

use super::{Api, error, error::Failure};

/// Where the document is.
const DOCUMENT_PATH: &str = "/api/openapi.json";

/// Answers and requests as the contract shows them, by schema.
const EXAMPLES: &str = include_str!("examples.json");

/// What stands at the head of the document; the rest is added by [`document`].
pub(super) fn preamble() -> OpenApi {
    OpenApi::new(Info::new("vSnap", env!("CARGO_PKG_VERSION")), Paths::new())
}

/// The document as it is served and as it is committed in `openapi.json`.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let made = super::routes().split_for_parts().1;
        // A document of strings, lists and maps can always be written as JSON; the tests do.
        let mut document = serde_json::to_value(made).unwrap_or_default();
        complete(&mut document);
        format!("{document:#}\n")
    });
    &TEXT
}

/// The document and the page, which need no state but stand behind authentication like everything else.
pub(super) fn routes() -> Router<Api> {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let index = "/api/docs/index.html";
    Router::new()
        .route(DOCUMENT_PATH, get(|| async { (json, document()) }))
        // The path must end in a file, since the page names the others relative to itself.
        .route("/api/docs", get(move || async move { Redirect::temporary(index) }))
        .route("/api/docs/{*file}", get(|Path(file): Path<String>| async move { page(&file) }))
}

/// Only what the page itself needs: its own files, and styles that its script makes.
const PAGE_POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

fn page(file: &str) -> Response {
    // No validator: the page would send the address of the appliance to a server of others.
    let config = utoipa_swagger_ui::Config::new([DOCUMENT_PATH]).validator_url("none");
    match utoipa_swagger_ui::serve(file, Arc::new(config)) {
        Ok(Some(found)) => {
            let Ok(kind) = HeaderValue::try_from(found.content_type) else {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            };
            let policy = HeaderValue::from_static(PAGE_POLICY);
            let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, policy)];
            let mut response = (headers, Body::from(found.bytes.into_owned())).into_response();
            if found.gzpipped {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        // The text is made of static files and our own address.
        Err(error) => Failure::internal("the page cannot be shown", error.to_string()).into_response(),
    }
}

/// Adds what holds for every operation, so that handlers need not repeat it.
fn complete(document: &mut Value) {
    document["info"]["description"] = json!(description());
    document["info"]["license"] = json!({ "name": "Apache-2.0", "identifier": "Apache-2.0" });
    document["servers"] = json!([{
        "url": "https://{host}:{port}",
        "description": "The appliance",
        "variables": { "host": { "default": "localhost" }, "port": { "default": "8900" } }
    }]);
    document["security"] = json!([{ "basic": [] }]);
    document["tags"] = json!([
        { "name": "system", "description": "The appliance itself" },
        { "name": "user", "description": "Accounts that may use the API" },
        { "name": "network", "description": "Network interfaces" },
        { "name": "target", "description": "iSCSI target ports" },
        { "name": "disk", "description": "Disks" },
        { "name": "pool", "description": "Storage pools" },
        { "name": "volume", "description": "Filesystems, luns, file-backed luns, and clones" },
        { "name": "snapshot", "description": "Snapshots of volumes" },
        { "name": "share", "description": "Filesystems that clients reach over NFS or SMB" },
        { "name": "host", "description": "Storage clients and what is mapped to them" },
        { "name": "partner", "description": "Other appliances that volumes are replicated to and from" },
        { "name": "relationship", "description": "Volumes and their replicas on partners" },
        { "name": "session", "description": "Snapshots on their way to a replica" },
        { "name": "operation", "description": "What the appliance is doing and has done" },
    ]);
    let components = &mut document["components"];
    components["securitySchemes"] = json!({ "basic": {
        "type": "http", "scheme": "basic",
        "description": "User name and password of an account of the operating system in group `vsnap`."
    }});
    components["headers"] = headers();
    components["schemas"]["Error"] = error_schema();
    components["responses"] = error_responses();
    add_examples(&mut components["schemas"]);
    widen_choices(&mut components["schemas"]);
    let no_paths = Map::new();
    let paths = document["paths"].as_object().unwrap_or(&no_paths).clone();
    for (path, methods) in paths {
        for method in methods.as_object().unwrap_or(&no_paths).keys() {
            complete_operation(method, &mut document["paths"][&path][method]);
        }
    }
}

/// Which errors an operation may answer with follows from what it takes and does.
fn complete_operation(method: &str, operation: &mut Value) {
    let has_body = operation.get("requestBody").is_some();
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let takes = |place: &str| parameters.iter().any(|parameter| parameter["in"] == place);
    let looks_up = takes("path") || parameters.iter().any(|parameter| parameter["name"] == "id");
    let changes = method != "get";
    let tag = operation["tags"][0].as_str().unwrap_or_default();
    // Deletion works on a full pool, too; accounts, interfaces, disks and partners are not stored there.
    let stores = changes && method != "delete" && !["user", "network", "disk", "partner"].contains(&tag);
    // What a partner has to agree to; its properties here are changed without it.
    let asks_partner = changes && method != "put" && ["partner", "relationship", "session"].contains(&tag)
        || method == "delete" && ["volume", "pool"].contains(&tag);
    let applies = [
        (400, has_body || takes("query")),
        (401, true),
        (403, true),
        (404, looks_up),
        (408, has_body),
        (409, changes),
        (413, has_body),
        (429, true),
        (500, true),
        (502, asks_partner),
        (507, stores),
    ];
    for (status, _) in applies.into_iter().filter(|(_, applies)| *applies) {
        let reference = format!("#/components/responses/Error{status}");
        operation["responses"][status.to_string()] = json!({ "$ref": reference });
    }
    let mut headers = json!({ "X-Request-Id": { "$ref": "#/components/headers/X-Request-Id" } });
    if has_body || takes("query") {
        headers["X-Vsnap-Ignored"] = json!({ "$ref": "#/components/headers/X-Vsnap-Ignored" });
    }
    operation["responses"]["200"]["headers"] = headers;
    if has_body {
        operation["requestBody"]["required"] = json!(true);
    }
}

fn headers() -> Value {
    json!({
        "X-Request-Id": {
            "description": "Id of the request, under which the appliance's log has it. A request may bring its own: \
                            8 to 64 letters, digits, `-`, `_`, `.`",
            "schema": { "type": "string" }
        },
        "X-Vsnap-Ignored": {
            "description": "Members and parameters of the request that the appliance does not know, separated by `, `",
            "schema": { "type": "string" }
        },
        "WWW-Authenticate": { "description": "How to log in", "schema": { "type": "string" } },
        "Allow": { "description": "Methods that the route has", "schema": { "type": "string" } },
        "Retry-After": { "description": "Seconds to wait", "schema": { "type": "string" } }
    })
}

fn error_schema() -> Value {
    let names: Vec<_> = error::ALL.iter().map(|kind| kind.name).collect();
    json!({
        "type": "object",
        "description": "What every failed request is answered with.",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {
                "type": { "type": "string", "enum": names },
                "message": { "type": "string", "description": "For a person: what is wrong and what to do next" },
                "reason": {
                    "type": "string",
                    "description": "Only with `InvalidCandidateError`, when it is known: why the disk cannot be used"
                }
            }
        }}
    })
}

/// One response for each status, `Error400` and so on, with all types that have it.
fn error_responses() -> Value {
    let mut responses = Map::new();
    for kind in error::ALL {
        let response = responses.entry(format!("Error{}", kind.status)).or_insert_with(|| {
            json!({ "description": "", "headers": { "X-Request-Id": { "$ref": "#/components/headers/X-Request-Id" } },
                    "content": { "application/json": {
                        "schema": { "$ref": "#/components/schemas/Error" }, "examples": {} } } })
        });
        let text = response["description"].as_str().unwrap_or_default();
        response["description"] = json!(format!("{text}\n- `{}`: {}", kind.name, kind.meaning).trim_start());
        let message = if *kind == error::INVALID_CANDIDATE {
            "Disk UUID 12345 is not a valid candidate for a pool"
        } else {
            kind.meaning
        };
        response["content"]["application/json"]["examples"][kind.name] =
            json!({ "value": { "error": { "type": kind.name, "message": message } } });
        let own = match kind.status {
            401 => "WWW-Authenticate",
            405 => "Allow",
            429 => "Retry-After",
            _ => continue,
        };
        response["headers"][own] = json!({ "$ref": format!("#/components/headers/{own}") });
    }
    Value::Object(responses)
}

fn add_examples(schemas: &mut Value) {
    let examples: Map<String, Value> = serde_json::from_str(EXAMPLES).unwrap_or_default();
    for (name, examples) in examples {
        schemas[name]["examples"] = examples;
    }
}

/// A schema that is a choice: an object in full also is one in short, so that `oneOf` would refuse it.
fn widen_choices(schemas: &mut Value) {
    for schema in schemas.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(choices) = schema.as_object_mut().and_then(|schema| schema.remove("oneOf")) {
            schema["anyOf"] = choices;
        }
    }
}

fn description() -> String {
    let mut text = include_str!("description.md").to_owned();
    text.push_str("\n| type | status | meaning |\n|---|---|---|\n");
    for kind in error::ALL {
        text.push_str(&format!("| `{}` | {} | {} |\n", kind.name, kind.status, kind.meaning));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn parsed() -> Value {
        serde_json::from_str(document()).unwrap()
    }

    /// Every `$ref` anywhere in `value`.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    found.insert(reference.clone());
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_is_whole() {
        let document = parsed();
        assert_eq!(document["openapi"], "3.1.0");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{id} is there twice");
                assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{method} {path}");
                assert!(operation["responses"]["401"].is_object() && operation["responses"]["200"].is_object());
            }
        }
        assert_eq!(ids.len(), 72);
    }

    #[test]
    fn examples_have_the_members_of_their_schema() {
        let document = parsed();
        let examples: Map<String, Value> = serde_json::from_str(EXAMPLES).unwrap();
        for (name, examples) in examples {
            let schema = &document["components"]["schemas"][&name];
            let known: BTreeSet<_> = schema["properties"].as_object().unwrap_or(&Map::new()).keys().cloned().collect();
            let required: BTreeSet<_> =
                schema["required"].as_array().into_iter().flatten().map(|it| it.as_str().unwrap().to_owned()).collect();
            for example in examples.as_array().unwrap() {
                let members: BTreeSet<_> = example.as_object().unwrap().keys().cloned().collect();
                assert!(members.is_subset(&known), "{name}: {members:?} against {known:?}");
                assert!(required.is_subset(&members), "{name}: {required:?} against {members:?}");
            }
        }
    }

    #[test]
    fn the_page_is_in_the_binary() {
        for file in ["index.html", "swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
            assert_eq!(page(file).status(), StatusCode::OK, "{file}");
        }
        assert_eq!(page("../../etc/passwd").status(), StatusCode::NOT_FOUND);
    }
}
