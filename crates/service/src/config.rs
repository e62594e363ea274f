//! TOML configuration with `${VAR}` and `${VAR:-default}`, and errors that name file and line.
//!
//! Secrets are never values here: a service's configuration names the files that hold them.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use toml::Spanned;

/// A configuration that cannot be used: where, and why. Prints as `file:line: why`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line, counted from 1; absent if the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.message),
            None => write!(f, "{}: {}", self.file.display(), self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The text that a configuration was read from, for errors found after parsing.
#[derive(Debug, Clone)]
pub struct Source {
    file: PathBuf,
    text: String,
}

impl Source {
    /// An error at the line where `span` begins (see [`Spanned::span`]).
    pub fn error(&self, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        ConfigError { file: self.file.clone(), line: Some(line), message: message.into() }
    }

    /// The file's folder: relative paths in a configuration are relative to it. Of a mere name it is `.`, never an empty path.
    pub fn folder(&self) -> &Path {
        let parent = self.file.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }
}

/// Reads and parses a file, taking variables from the environment.
///
/// # Errors
/// A file that cannot be read, an unset variable without default, TOML that does not fit `T`.
pub fn load<T: DeserializeOwned>(file: &Path) -> Result<(T, Source), ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|error| ConfigError {
        file: file.to_owned(),
        line: None,
        message: format!("cannot be read: {error}"),
    })?;
    parse(file, &text, |name| std::env::var(name).ok())
}

/// [`load`] for text that is already there; `variable` resolves names.
///
/// # Errors
/// As [`load`].
pub fn parse<T: DeserializeOwned>(
    file: &Path,
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(T, Source), ConfigError> {
    let text = expand(text, variable).map_err(|(line, message)| ConfigError {
        file: file.to_owned(),
        line: Some(line),
        message,
    })?;
    let source = Source { file: file.to_owned(), text };
    match toml::from_str(&source.text) {
        Ok(value) => Ok((value, source)),
        Err(error) => {
            let message = error.message().to_owned();
            Err(match error.span() {
                Some(span) => source.error(span, message),
                None => ConfigError { file: source.file, line: None, message },
            })
        }
    }
}

fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, (usize, String)> {
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        if line.trim_start().starts_with('#') {
            out.push_str(line);
            continue;
        }
        let mut rest = line;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            out.push_str(before);
            let end = from.find('}').ok_or_else(|| (number, "`${` without `}`".to_owned()))?;
            let (name, default) = match from[2..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&from[2..end], None),
            };
            let value = variable(name)
                .filter(|value| !value.is_empty())
                .or_else(|| default.map(str::to_owned))
                .ok_or_else(|| (number, format!("environment variable {name} is not set")))?;
            if value.contains(['"', '\\', '\n', '\r']) {
                return Err((
                    number,
                    format!("environment variable {name} has a quote, backslash or line break"),
                ));
            }
            out.push_str(&value);
            rest = &from[end + 1..];
        }
        out.push_str(rest);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Example {
        issuer: String,
        port: Spanned<u16>,
    }

    fn example(text: &str) -> Result<(Example, Source), ConfigError> {
        parse(Path::new("didp.toml"), text, |name| (name == "HOST").then(|| "example.org".to_owned()))
    }

    #[test]
    fn a_mere_name_lies_in_the_current_folder() {
        for (file, folder) in [("didp.toml", "."), ("a/didp.toml", "a"), ("/etc/didp.toml", "/etc")] {
            let (_, source) = parse::<toml::Table>(Path::new(file), "", |_| None).unwrap();
            assert_eq!(source.folder(), Path::new(folder));
        }
    }

    #[test]
    fn variables_and_defaults() {
        let (config, _) = example("issuer = \"http://${HOST}:${PORT:-8080}\"\nport = 1").unwrap();
        assert_eq!(config.issuer, "http://example.org:8080");
    }

    #[test]
    fn errors_name_the_line() {
        let unset = example("# ${NOT_LOOKED_AT}\nissuer = \"${MISSING}\"\nport = 1").unwrap_err();
        assert_eq!(unset.to_string(), "didp.toml:2: environment variable MISSING is not set");
        let unknown = example("issuer = \"x\"\nport = 1\nprot = 2").unwrap_err();
        assert_eq!(unknown.line, Some(3));
        let wrong_type = example("issuer = \"x\"\nport = 70000").unwrap_err();
        assert_eq!(wrong_type.line, Some(2));
        let (config, source) = example("issuer = \"x\"\nport = 1").unwrap();
        assert_eq!(source.error(config.port.span(), "taken").to_string(), "didp.toml:2: taken");
    }
}
