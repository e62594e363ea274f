//! The description and the routes agree; every request needs the token; what is added works at once.

use axum::body::Body;
use axum::http::Request;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::Value;
use service::{Clock, Shutdown};
use tower::ServiceExt as _;

use super::*;
use crate::sample;

const TOKEN: &str = "an-admin-token-of-at-least-32-characters";

struct Admin {
    app: App,
    router: Router,
    _dir: tempfile::TempDir,
}

impl Admin {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = sample::config(dir.path(), "http://didp.localhost:8080", json!({}));
        let app = App::open(config, Clock::system(), Shutdown::new()).await.unwrap();
        let router = routes(app.clone(), AdminToken::new(TOKEN));
        Self { app, router, _dir: dir }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send(Method::GET, path, Some(TOKEN), None).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(Method::POST, path, Some(TOKEN), Some(body)).await
    }
}

#[tokio::test]
async fn what_is_described_is_what_there_is() {
    let described: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut paths: Vec<&str> = described["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut routed: Vec<&str> = table().into_iter().map(|(path, _)| path).collect();
    paths.sort_unstable();
    routed.sort_unstable();
    assert_eq!(paths, routed);
    let admin = Admin::start().await;
    for (path, methods) in described["paths"].as_object().unwrap() {
        let real = path.replace("{kind}", "manufacturers").replace("{id}", "x").replace("{client_id}", "x");
        for method in ["get", "post", "put", "delete"] {
            let sent = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let (status, answer) = admin.send(sent, &real, Some(TOKEN), Some(json!({}))).await;
            match &methods[method]["responses"] {
                Value::Null => assert_eq!(status, 405, "{method} {path}"),
                known => {
                    assert!(known.get(status.to_string()).is_some(), "{method} {path}: {status} {answer}");
                }
            }
        }
    }
}

#[tokio::test]
async fn nothing_is_answered_without_the_token() {
    let admin = Admin::start().await;
    for (path, _) in table().into_iter().filter(|(path, _)| !path.ends_with("openapi.json")) {
        for token in [None, Some("wrong"), Some(""), Some(&TOKEN[1..])] {
            let (status, answer) = admin.send(Method::GET, path, token, None).await;
            assert_eq!((status, answer["error"].as_str()), (401, Some("invalid_token")), "{path}");
        }
    }
    let (status, _) = admin.send(Method::GET, "/admin/v1/openapi.json", None, None).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_manufacturer_is_added_rotated_and_disabled_while_the_didp_runs() {
    let admin = Admin::start().await;
    let now = admin.app.clock.now();
    let accepted = |token: &str| {
        admin.app.registry.now().registrars.iter().any(|known| known.accepts(token, admin.app.clock.now()))
    };
    let new = json!({ "id": "acme", "name": "Acme", "quota": 3 });
    let (status, added) = admin.post("/admin/v1/manufacturers", new.clone()).await;
    assert_eq!(status, 201, "{added}");
    let first = added["initial_access_token"].as_str().unwrap().to_owned();
    assert!(accepted(&first) && accepted("the-token-of-the-maker"));
    assert_eq!(admin.post("/admin/v1/manufacturers", new).await.0, 409);
    assert_eq!(admin.post("/admin/v1/developers/acme/rotate", json!({})).await.0, 404, "it is no developer");

    let (status, answer) = admin.post("/admin/v1/manufacturers/acme/rotate", json!({ "keep": 60 })).await;
    assert_eq!(status, 200);
    let second = answer["initial_access_token"].as_str().unwrap().to_owned();
    assert!(accepted(&first) && accepted(&second), "both, for a while");
    admin.post("/admin/v1/manufacturers/acme/rotate", json!({})).await;
    assert!(!accepted(&first) && !accepted(&second), "at once");

    let in_file = json!({ "id": "maker", "name": "Another" });
    let (status, answer) = admin.post("/admin/v1/manufacturers", in_file).await;
    assert_eq!((status, answer["error"].as_str()), (409, Some("in_configuration_file")));
    assert_eq!(admin.post("/admin/v1/manufacturers/maker/disable", json!({})).await.0, 409);

    let (_, answer) =
        admin.post("/admin/v1/manufacturers/acme/rotate", json!({ "expires": now + 3_600 })).await;
    let third = answer["initial_access_token"].as_str().unwrap().to_owned();
    assert_eq!(admin.post("/admin/v1/manufacturers/acme/disable", json!({})).await.0, 204);
    assert!(!accepted(&third));
    let listed = admin.get("/admin/v1/manufacturers").await;
    assert_eq!(listed[0]["source"], "file");
    assert_eq!((&listed[1]["id"], &listed[1]["disabled"]), (&json!("acme"), &json!(true)));
    assert_eq!(listed[1]["tokens_expire"], json!([now + 3_600]));
    assert_eq!(admin.post("/admin/v1/manufacturers/acme/enable", json!({})).await.0, 204);
    assert!(accepted(&third));
    assert!(!listed.to_string().contains(&third) && !listed.to_string().contains("initial_access_token"));
}

#[tokio::test]
async fn a_gateway_is_added_rotated_and_disabled_while_the_didp_runs() {
    let admin = Admin::start().await;
    let address = json!({ "host": "two.test", "port": 8883, "spki_sha256": [] });
    let new = json!({ "client_id": "two", "resource": "https://two.test", "address": address });
    let (status, added) = admin.post("/admin/v1/gateways", new.clone()).await;
    assert_eq!(status, 201, "{added}");
    let secret = added["client_secret"].as_str().unwrap().to_owned();
    let accepts = |secret: &str| crate::flows::introspection::gateway(&admin.app, "two", secret).is_some();
    assert!(accepts(&secret));
    assert!(crate::flows::introspection::gateway(&admin.app, "ignite", &secret).is_none());
    assert_eq!(admin.post("/admin/v1/gateways", new).await.0, 409);
    let same =
        json!({ "client_id": "three", "resource": "http://ignite.localhost:8083", "address": address });
    assert_eq!(admin.post("/admin/v1/gateways", same).await.0, 409, "the file's resource");
    let (_, answer) = admin.post("/admin/v1/gateways/two/rotate", json!({ "keep": 60 })).await;
    let next = answer["client_secret"].as_str().unwrap().to_owned();
    assert!(accepts(&secret) && accepts(&next));
    admin.post("/admin/v1/gateways/two/rotate", json!({})).await;
    assert!(!accepts(&secret) && !accepts(&next));
    let (_, answer) = admin.post("/admin/v1/gateways/two/rotate", json!({})).await;
    let last = answer["client_secret"].as_str().unwrap().to_owned();
    assert_eq!(admin.post("/admin/v1/gateways/two/disable", json!({})).await.0, 204);
    assert!(!accepts(&last));
    let listed = admin.get("/admin/v1/gateways").await;
    assert_eq!((&listed[0]["home"], &listed[1]["home"]), (&json!(true), &json!(false)));
    assert_eq!(listed[1]["disabled"], true);
}

#[tokio::test]
async fn what_another_process_changed_is_seen() {
    let admin = Admin::start().await;
    let other = App::open((*admin.app.config).clone(), Clock::system(), Shutdown::new()).await.unwrap();
    let new = NewRegistrar { id: "acme".into(), name: "Acme".into(), quota: 3, expires: None };
    let token = operator::add_registrar(&other, Kind::Developer, &new).await.unwrap();
    let accepted = || {
        admin.app.registry.now().registrars.iter().any(|known| known.accepts(&token, admin.app.clock.now()))
    };
    assert!(!accepted());
    crate::registry::look(&admin.app).await.unwrap();
    assert!(accepted());
}

#[tokio::test]
async fn clients_are_listed_page_by_page_and_disabled() {
    let admin = Admin::start().await;
    let device = json!({ "client_name": "T1", "device": { "confirm": "code", "channels": [{ "name": "t", "direction": "data" }] } });
    let requests = vec![serde_json::from_value(device).unwrap(); 3];
    let made =
        crate::flows::registration::register(&admin.app, Some("the-token-of-the-maker"), None, requests)
            .await
            .unwrap();
    let page = admin.get("/admin/v1/clients?kind=device&registrar=maker&limit=2").await;
    let last = page[1]["client_id"].as_str().unwrap();
    let rest =
        admin.get(&format!("/admin/v1/clients?kind=device&registrar=maker&limit=2&after={last}")).await;
    assert_eq!((page.as_array().unwrap().len(), rest.as_array().unwrap().len()), (2, 1));
    let id = &made[0].client_id;
    assert_eq!(admin.post(&format!("/admin/v1/clients/{id}/disable"), json!({})).await.0, 204);
    assert_eq!(admin.get(&format!("/admin/v1/clients/{id}")).await["disabled"], true);
    assert_eq!(admin.get("/admin/v1/stats").await["devices"], 3);
    assert_eq!(admin.get("/admin/v1/stats").await["clients_disabled"], 1);
    for bad in ["kind=gateway", "limit=0", "limit=1001", "limit=x", "owner=alice"] {
        let (status, _) =
            admin.send(Method::GET, &format!("/admin/v1/clients?{bad}"), Some(TOKEN), None).await;
        assert_eq!(status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_batch_is_withdrawn_and_brought_back_and_a_broken_unit_replaced() {
    let admin = Admin::start().await;
    let device = |batch: &str| {
        let channels = json!([{ "name": "t", "direction": "data" }]);
        let device = json!({ "confirm": "code", "channels": channels, "batch": batch });
        serde_json::from_value(json!({ "client_name": "T1", "device": device })).unwrap()
    };
    let requests = [vec![device("a"); 25], vec![device("b"); 3]].concat();
    let made =
        crate::flows::registration::register(&admin.app, Some("the-token-of-the-maker"), None, requests)
            .await
            .unwrap();
    let batches = async || admin.get("/admin/v1/manufacturers/maker/batches").await[0]["batches"].clone();
    let cell = |batch: Value, registered: Value, withdrawn: &str| json!({ "batch": batch, "registered": registered, "owned_at_least": null, "withdrawn": withdrawn });
    let few = cell(Value::Null, Value::Null, "nothing");
    assert_eq!(batches().await, json!([cell(json!("a"), json!(25), "nothing"), few]));
    let withdraw = "/admin/v1/manufacturers/maker/batches/withdraw";
    let of = json!({ "model": "T1", "batch": "a" });
    assert_eq!(admin.post(withdraw, of.clone()).await, (200, json!({ "devices": 25 })));
    assert_eq!(batches().await[0]["withdrawn"], "all");
    let restore = "/admin/v1/manufacturers/maker/batches/restore";
    assert_eq!(admin.post(restore, of.clone()).await, (200, json!({ "devices": 25 })));
    assert_eq!(batches().await[0]["withdrawn"], "nothing");
    assert_eq!(admin.post(withdraw, json!({ "model": "T1" })).await.0, 404, "there is none without a batch");
    assert_eq!(admin.post(withdraw, json!({ "batch": "a" })).await.0, 400);
    for elsewhere in ["developers/maker", "manufacturers/acme"] {
        assert_eq!(admin.post(&format!("/admin/v1/{elsewhere}/batches/withdraw"), of.clone()).await.0, 404);
    }

    let broken = &made[0].client_id;
    let at = |what: &str| format!("/admin/v1/clients/{broken}/{what}");
    let (status, new) = admin.post(&at("replace"), json!({})).await;
    assert_eq!((status, &new["device"]["batch"]), (201, &json!("a")), "{new}");
    assert!(new["client_secret"].is_string() && new["user_registration_uri"].is_string());
    assert_eq!(batches().await[0], cell(json!("a"), json!(26), "some"));
    let (_, again) = admin.post(&at("restore"), json!({})).await;
    assert_eq!(again, Value::Null);
    assert_eq!(batches().await[0]["withdrawn"], "nothing");
    assert_eq!(admin.post(&at("withdraw"), json!({})).await.0, 204);
    assert_eq!(batches().await[0]["withdrawn"], "some");
    for what in ["withdraw", "restore", "replace"] {
        assert_eq!(admin.post(&format!("/admin/v1/clients/nobody/{what}"), json!({})).await.0, 404);
    }
}
