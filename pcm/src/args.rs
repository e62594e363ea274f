//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How to call it.
pub const USAGE: &str = "usage:
  pcm --dir DIRECTORY --peer-uid UID [--sandbox] [STATE]   listen on DIRECTORY/s, for connections of that user only
  pcm --listen-fd FD --peer-uid UID [--sandbox] [STATE]    serve an inherited Unix listener
  pcm --dir or --listen-fd as above, --launcher-uid UID    wait for that user to say whose PCM it is, and for its two files
  pcm --listen ADDRESS [--sandbox]                         plain broker on TCP: anonymous, all topics; prints the bound address
  pcm --version                                            say it and exit
STATE:
  --state-dir DIRECTORY   keep what must not be lost in DIRECTORY/a and DIRECTORY/b, encrypted
  --state-sync            acknowledge only what is on the medium: for loss of power, and much slower";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where clients come from.
    pub listen: Listen,
    /// Deny oneself everything but serving before the first connection.
    pub sandbox: bool,
    /// The user that says whose PCM it is; without one it is whose the gateway says.
    pub launcher_uid: Option<u32>,
    /// Where state is kept, if it is; not for a plain broker.
    pub state: Option<StateOptions>,
}

/// How state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateOptions {
    /// The directory of the two files.
    pub directory: PathBuf,
    /// Whether every commit waits for the medium.
    pub sync: bool,
}

/// Where clients come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A socket named `s` in this directory, for this user id.
    Directory(PathBuf, u32),
    /// A Unix listener that the parent opened, for this user id.
    Descriptor(i32, u32),
    /// A TCP address, for everybody: a plain broker.
    Plain(SocketAddr),
}

/// A command line that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadArguments(String);

impl fmt::Display for BadArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadArguments {}

/// Reads the arguments after the program's name.
///
/// # Errors
/// [`BadArguments`] with a sentence for the person who typed them.
pub fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Options, BadArguments> {
    let (mut directory, mut descriptor, mut address, mut peer_uid) = (None, None, None, None);
    let (mut sandbox, mut state_directory, mut sync, mut launcher_uid) = (false, None, false, None);
    while let Some(argument) = args.next() {
        let name = argument.to_str().unwrap_or_default().to_owned();
        match name.as_str() {
            "--sandbox" => sandbox = true,
            "--state-sync" => sync = true,
            "--state-dir" => state_directory = Some(PathBuf::from(value(&name, &mut args)?)),
            "--dir" => directory = Some(PathBuf::from(value(&name, &mut args)?)),
            "--listen-fd" => descriptor = Some(parsed(&name, &mut args)?),
            "--listen" => address = Some(parsed(&name, &mut args)?),
            "--peer-uid" => peer_uid = Some(parsed(&name, &mut args)?),
            "--launcher-uid" => launcher_uid = Some(parsed(&name, &mut args)?),
            _ => return Err(BadArguments(format!("unknown argument {}", argument.to_string_lossy()))),
        }
    }
    let listen = match (directory, descriptor, address, peer_uid) {
        (Some(directory), None, None, Some(uid)) => Listen::Directory(directory, uid),
        (None, Some(descriptor), None, Some(uid)) => Listen::Descriptor(descriptor, uid),
        (None, None, Some(address), None) => Listen::Plain(address),
        (Some(_), None, None, None) | (None, Some(_), None, None) => {
            return Err(BadArguments("--peer-uid is missing".to_owned()));
        }
        _ => return Err(BadArguments("exactly one of --dir, --listen-fd and --listen is needed".to_owned())),
    };
    let state = match (&listen, state_directory) {
        (Listen::Plain(_), Some(_)) => {
            return Err(BadArguments(
                "a plain broker keeps no state: --state-dir is for the others".to_owned(),
            ));
        }
        (Listen::Plain(_), None) if launcher_uid.is_some() => {
            return Err(BadArguments(
                "a plain broker is nobody's: --launcher-uid is for the others".to_owned(),
            ));
        }
        (_, Some(_)) if launcher_uid.is_some() => {
            return Err(BadArguments(
                "--state-dir and --launcher-uid: the launcher brings the files".to_owned(),
            ));
        }
        (_, None) if sync => return Err(BadArguments("--state-sync needs --state-dir".to_owned())),
        (_, directory) => directory.map(|directory| StateOptions { directory, sync }),
    };
    Ok(Options { listen, sandbox, launcher_uid, state })
}

fn value(name: &str, args: &mut impl Iterator<Item = OsString>) -> Result<OsString, BadArguments> {
    args.next().ok_or_else(|| BadArguments(format!("{name} needs a value")))
}

fn parsed<T: std::str::FromStr>(
    name: &str,
    args: &mut impl Iterator<Item = OsString>,
) -> Result<T, BadArguments> {
    let given = value(name, args)?;
    let wrong = || BadArguments(format!("{name} cannot be {}", given.to_string_lossy()));
    given.to_str().and_then(|text| text.parse().ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::{Listen, Options, StateOptions, parse};
    use std::path::PathBuf;

    fn options(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(Into::into)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_three_ways_to_listen() {
        let directory = Listen::Directory(PathBuf::from("/run/pcm"), 7);
        assert_eq!(
            options("--dir /run/pcm --peer-uid 7"),
            Ok(Options { listen: directory, sandbox: false, launcher_uid: None, state: None })
        );
        let inherited = Listen::Descriptor(3, 7);
        assert_eq!(
            options("--listen-fd 3 --peer-uid 7 --sandbox"),
            Ok(Options { listen: inherited, sandbox: true, launcher_uid: None, state: None })
        );
        let plain = Listen::Plain(([127, 0, 0, 1], 0).into());
        assert_eq!(
            options("--listen 127.0.0.1:0"),
            Ok(Options { listen: plain, sandbox: false, launcher_uid: None, state: None })
        );
    }

    #[test]
    fn who_says_whose_it_is() {
        assert_eq!(options("--dir a --peer-uid 7 --launcher-uid 0").unwrap().launcher_uid, Some(0));
        assert_eq!(options("--dir a --peer-uid 7").unwrap().launcher_uid, None);
    }

    #[test]
    fn where_state_is_kept() {
        let state = |sync| Some(StateOptions { directory: PathBuf::from("/var/lib/pcm"), sync });
        let given = |line| options(line).unwrap().state;
        assert_eq!(given("--dir a --peer-uid 7 --state-dir /var/lib/pcm"), state(false));
        assert_eq!(given("--listen-fd 3 --peer-uid 7 --state-dir /var/lib/pcm --state-sync"), state(true));
    }

    #[test]
    fn everything_else_is_explained() {
        for (line, part) in [
            ("", "exactly one"),
            ("--dir a", "--peer-uid is missing"),
            ("--dir a --listen 127.0.0.1:0", "exactly one"),
            ("--listen 127.0.0.1:0 --peer-uid 1", "exactly one"),
            ("--listen 127.0.0.1:0 --state-dir a", "keeps no state"),
            ("--dir a --peer-uid 1 --state-sync", "--state-sync needs --state-dir"),
            ("--listen 127.0.0.1:0 --launcher-uid 1", "a plain broker is nobody's"),
            ("--dir a --peer-uid 1 --launcher-uid 1 --state-dir b", "the launcher brings the files"),
            ("--listen nowhere", "--listen cannot be nowhere"),
            ("--listen-fd", "--listen-fd needs a value"),
            ("--frobnicate", "unknown argument --frobnicate"),
        ] {
            let error = options(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
