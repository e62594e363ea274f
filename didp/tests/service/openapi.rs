//! Schemathesis, a client that is not ours and means no good, against the OpenAPI description: no 5xx, no answer that the
//! description does not name, of the type and shape that it names.

use std::path::Path;

use oauth_wire::DEVICE_CODE;
use serde_json::json;

use crate::harness::{CALLBACK, DEVELOPER, Didp, GATEWAY, text};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Schemathesis; `cargo xtask test --only openapi` brings it"]
async fn schemathesis_finds_no_5xx_and_no_undocumented_answer() {
    let program = std::env::var_os("OAUTHING_SCHEMATHESIS").expect("OAUTHING_SCHEMATHESIS names the program");
    let examples = std::env::var("OAUTHING_EXAMPLES").unwrap_or_else(|_| "60".into());
    let limits = "limits = { failures_per_address = 1000000000, failures_per_client = 1000000000, \
        hash_iterations = 10, hash_queue = 10000, unverified_apps = 1000000 }";
    let didp = Didp::start_with(&format!("app_registration = \"open\"\n{limits}")).await;
    let metadata = json!({"client_name": "App", "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token", DEVICE_CODE]});
    let (status, client) = didp.json("/register", Some(DEVELOPER), &metadata).await;
    assert_eq!(status, 201);
    let (_, managed) = didp.json("/register", Some(DEVELOPER), &metadata).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = tokio::process::Command::new(program)
        .arg("run")
        .arg(root.join("../docs/openapi.yaml"))
        .args(["--url", &didp.url(""), "--checks", CHECKS, "--max-examples", &examples, "--seed", "1"])
        .args(["--exclude-path", "/introspect/events", "--phases", "examples,coverage,fuzzing", "--no-color"])
        .current_dir(didp.dir())
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", root.join("tests/schemathesis"))
        .env("OAUTHING_INITIAL_ACCESS_TOKEN", DEVELOPER)
        .env("OAUTHING_REGISTRATION_ACCESS_TOKEN", text(&managed["registration_access_token"]))
        .env("OAUTHING_REGISTERED", text(&managed["client_id"]))
        .env("OAUTHING_CLIENT", format!("{}:{}", text(&client["client_id"]), text(&client["client_secret"])))
        .env("OAUTHING_GATEWAY", format!("{}:{}", GATEWAY.0, GATEWAY.1.replace(' ', "+")))
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    println!("{said}");
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(didp.http.get(didp.url("/readyz")).send().await.unwrap().status(), 204);
}
