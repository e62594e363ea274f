//! `cargo xtask sbom`: what the programs are made of, as CycloneDX 1.5 in JSON, from what Cargo resolved.
//!
//! Crates for tests alone are left out, npm's packages and the images' Debian too: their lock files and registries tell those.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::step::{Run, cargo};

/// Programs that are shipped.
const PROGRAMS: [&str; 3] = ["didp", "ignite", "pcm"];

/// Writes the bill of materials to `out`.
///
/// # Errors
/// Cargo cannot tell, or the file cannot be written.
pub(crate) fn write(out: &Path) -> anyhow::Result<()> {
    let metadata = Run::new(cargo(), &["metadata", "--format-version", "1", "--locked"]).output()?;
    let bill = bill(&serde_json::from_str(&metadata).context("cargo metadata")?)?;
    let count = bill["components"].as_array().map_or(0, Vec::len);
    std::fs::write(out, serde_json::to_vec_pretty(&bill)?).with_context(|| out.display().to_string())?;
    println!("{count} components of {} are in {}", PROGRAMS.join(", "), out.display());
    Ok(())
}

fn bill(metadata: &Value) -> anyhow::Result<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let normal = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
        let deps = list(&node["deps"]).into_iter().filter(|dep| normal(dep));
        uses.insert(text(&node["id"]), deps.map(|dep| text(&dep["pkg"])).collect());
    }
    let members: BTreeSet<String> = list(&metadata["workspace_members"]).iter().map(text).collect();
    let is_program = |id: &&String| PROGRAMS.iter().any(|name| packages[*id]["name"] == *name);
    let mut open: Vec<String> = members.iter().filter(is_program).cloned().collect();
    anyhow::ensure!(open.len() == PROGRAMS.len(), "the workspace lacks one of {}", PROGRAMS.join(", "));
    let mut used: BTreeSet<String> = BTreeSet::new();
    while let Some(id) = open.pop() {
        if used.insert(id.clone()) {
            open.extend(uses.get(&id).into_iter().flatten().cloned());
        }
    }
    let reference = |id: &str| {
        let package = &packages[id];
        format!("pkg:cargo/{}@{}", text(&package["name"]), text(&package["version"]))
    };
    let components: Vec<Value> = used
        .iter()
        .map(|id| {
            let package = &packages[id];
            let mut component = json!({
                "type": if PROGRAMS.contains(&text(&package["name"]).as_str()) { "application" } else { "library" },
                "bom-ref": reference(id),
                "name": package["name"],
                "version": package["version"],
                "purl": reference(id),
            });
            if let Some(license) = package["license"].as_str() {
                // Cargo's older way to say "or".
                component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
            }
            component
        })
        .collect();
    let dependencies: Vec<Value> = used
        .iter()
        .map(|id| {
            let on: BTreeSet<String> = uses.get(id).into_iter().flatten().map(|id| reference(id)).collect();
            json!({"ref": reference(id), "dependsOn": on})
        })
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": components,
        "dependencies": dependencies,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_use_is_listed_and_what_only_tests_use_is_not() {
        let package =
            |name: &str| json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0"});
        let dep = |name: &str, kind: Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let packages = ["didp", "ignite", "pcm", "deep", "near", "only-tests"].map(package);
        let metadata = json!({
            "packages": packages,
            "workspace_members": PROGRAMS,
            "resolve": {"nodes": [
                {"id": "didp", "deps": [dep("near", Value::Null), dep("only-tests", json!("dev"))]},
                {"id": "near", "deps": [dep("deep", json!("build"))]},
            ]},
        });
        let bill = bill(&metadata).unwrap();
        let names: Vec<_> =
            bill["components"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        assert_eq!(names, ["deep", "didp", "ignite", "near", "pcm"]);
        assert_eq!(bill["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let didp =
            bill["dependencies"].as_array().unwrap().iter().find(|one| one["ref"] == "pkg:cargo/didp@1.0.0");
        assert_eq!(didp.unwrap()["dependsOn"], json!(["pkg:cargo/near@1.0.0"]));
    }
}
