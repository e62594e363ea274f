//! What a command tells: a table for people, JSON for programs; and where a new secret goes.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

/// Prints rows as an aligned table with a heading.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str(cell);
            let missing = (width + 2).saturating_sub(cell.chars().count());
            line.extend(std::iter::repeat_n(' ', missing));
        }
        say(line.trim_end());
    };
    line(heading);
    for row in rows {
        line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// One line on standard output. Who closed it (`didp client list | head`) wants no more.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints JSON.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    say(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Opens the file that a secret will be written to, before it is made: it is new, and only for whoever runs this.
pub(super) fn secret_file(path: &Path) -> anyhow::Result<std::fs::File> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| path.display().to_string())
}

/// Tells a new secret once: into its file, or on standard output.
pub(super) fn secret(
    file: Option<std::fs::File>,
    as_json: bool,
    member: &str,
    id: &str,
    secret: &str,
) -> anyhow::Result<()> {
    if let Some(mut file) = file {
        writeln!(file, "{secret}")?;
        file.sync_all()?;
        return if as_json { json(&serde_json::json!({ "id": id })) } else { Ok(()) };
    }
    if as_json {
        return json(&serde_json::json!({ "id": id, member: secret }));
    }
    eprintln!("{member} of {id}; it is not shown again:");
    println!("{secret}");
    Ok(())
}

/// Tells what holds secrets as JSON once: into its file, or on standard output.
pub(super) fn answer(file: Option<std::fs::File>, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let Some(mut file) = file else { return json(value) };
    let text = zeroize::Zeroizing::new(serde_json::to_string_pretty(value)?);
    writeln!(file, "{}", *text)?;
    file.sync_all()?;
    Ok(())
}
