//! Packets to begin with: those of `../shared/mqtt-vectors`, where that folder is present.

use anyhow::Context as _;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Where the packet sequences lie, beside the workspace.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/mqtt-vectors")
}

/// Every packet that a sequence sends, and how many sequences there are; `None` without the folder.
///
/// # Errors
/// A file that is not what the folder's README says.
pub fn vectors() -> anyhow::Result<Option<(usize, Vec<Vec<u8>>)>> {
    let folder = folder();
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    let (mut sequences, mut packets) = (0, Vec::new());
    for file in files {
        let groups: Value = serde_json::from_slice(&std::fs::read(&file)?)
            .with_context(|| format!("{} is no JSON", file.display()))?;
        let tests = |group: &Value| group["tests"].as_array().cloned().unwrap_or_default();
        for test in groups.as_array().into_iter().flatten().flat_map(tests) {
            sequences += 1;
            for step in test["msgs"].as_array().into_iter().flatten() {
                // What the broker is to answer is a packet as well.
                if step["type"] != "publish" {
                    packets.push(bytes(step["payload"].as_str().unwrap_or_default()));
                }
            }
        }
    }
    packets.retain(|packet| !packet.is_empty());
    packets.sort();
    packets.dedup();
    Ok(Some((sequences, packets)))
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .filter_map(|digit| digit.try_into().ok())
        .collect();
    digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
}
