//! The documents that speak of tests and paths are true: `docs/security-checklist.md`, `docs/openapi.yaml`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::Didp;

fn workspace(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_test_that_the_security_checklist_names_exists() {
    let page = workspace("docs/security-checklist.md");
    let named: Vec<(&str, &str)> = page.split('`').filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 60, "the table is there");
    for (file, test) in named {
        assert!(workspace(file).contains(&format!("fn {test}(")), "{file} has no {test}");
    }
}

/// Each path and method that the OpenAPI description names is answered by the running service, and no other method is.
#[tokio::test]
async fn the_openapi_description_names_what_the_service_routes() {
    let didp = Didp::start().await;
    let page = workspace("docs/openapi.yaml");
    let mut routes: BTreeSet<(String, &str)> = BTreeSet::new();
    let mut path = None;
    for line in page.lines() {
        if let Some(key) = line.strip_prefix("  ").and_then(|key| key.strip_suffix(':')) {
            if key.starts_with('/') {
                path = Some(key.to_owned());
            } else if let (Some(method), Some(path)) = (key.strip_prefix("  "), &path)
                && ["get", "post", "put", "delete"].contains(&method)
            {
                routes.insert((path.clone(), method));
            }
        }
    }
    assert!(routes.len() >= 16, "{routes:?}");
    let paths: BTreeSet<&String> = routes.iter().map(|(path, _)| path).collect();
    for path in paths {
        for method in ["get", "post", "put", "delete", "patch"] {
            let url = didp.url(&path.replace("{client_id}", "unknown"));
            let request = didp.http.request(method.to_uppercase().parse().unwrap(), url);
            let status = request.send().await.unwrap().status().as_u16();
            let routed = routes.contains(&(path.clone(), method));
            assert_eq!(routed, status != 405 && status != 404, "{method} {path} answered {status}");
        }
    }
}
