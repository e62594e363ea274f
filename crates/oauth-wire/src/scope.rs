//! Scopes (RFC 6749 §3.3). Four exist; an unknown one in a request is an `invalid_scope`, never ignored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One scope token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScopeToken {
    /// A device may publish its readings: `data:publish`.
    DataPublish,
    /// A device may receive commands: `command:subscribe`.
    CommandSubscribe,
    /// An app may receive readings: `data:subscribe`.
    DataSubscribe,
    /// An app may send commands: `command:publish`.
    CommandPublish,
}

impl ScopeToken {
    /// Every token, in the order in which a scope is written.
    pub const ALL: [ScopeToken; 4] =
        [Self::DataPublish, Self::CommandSubscribe, Self::DataSubscribe, Self::CommandPublish];

    /// The token as it stands in a scope string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DataPublish => "data:publish",
            Self::CommandSubscribe => "command:subscribe",
            Self::DataSubscribe => "data:subscribe",
            Self::CommandPublish => "command:publish",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::DataPublish => 1,
            Self::CommandSubscribe => 2,
            Self::DataSubscribe => 4,
            Self::CommandPublish => 8,
        }
    }
}

/// A set of scope tokens; on the wire a space-separated string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope(u8);

impl Scope {
    /// The empty scope.
    pub const EMPTY: Scope = Scope(0);
    /// What every device gets: `data:publish command:subscribe`.
    pub const DEVICE: Scope = Scope(1 | 2);
    /// The most that an app can get: `data:subscribe command:publish`.
    pub const APP: Scope = Scope(4 | 8);

    /// True if `token` is in the set.
    pub fn contains(self, token: ScopeToken) -> bool {
        self.0 & token.bit() != 0
    }

    /// True if every token of `other` is in this set.
    pub fn includes(self, other: Scope) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set with `token` added.
    #[must_use]
    pub fn with(self, token: ScopeToken) -> Scope {
        Scope(self.0 | token.bit())
    }

    /// The tokens that are in both sets.
    #[must_use]
    pub fn intersection(self, other: Scope) -> Scope {
        Scope(self.0 & other.0)
    }

    /// True if no token is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for token in ScopeToken::ALL {
            if self.contains(token) {
                write!(f, "{separator}{}", token.as_str())?;
                separator = " ";
            }
        }
        Ok(())
    }
}

/// A scope string holds a token that does not exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownScope;

impl fmt::Display for UnknownScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown scope")
    }
}

impl std::error::Error for UnknownScope {}

impl FromStr for Scope {
    type Err = UnknownScope;

    /// Reads a space-separated list; an unknown token fails, an empty string is the empty scope.
    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let mut scope = Scope::EMPTY;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let token =
                ScopeToken::ALL.into_iter().find(|token| token.as_str() == word).ok_or(UnknownScope)?;
            scope = scope.with(token);
        }
        Ok(scope)
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for bits in 0..16 {
            let scope = Scope(bits);
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        assert_eq!(Scope::DEVICE.to_string(), "data:publish command:subscribe");
        assert_eq!(Scope::APP.to_string(), "data:subscribe command:publish");
    }

    #[test]
    fn refuses_unknown_tokens_and_does_not_ignore_case() {
        assert_eq!("data:subscribe admin".parse::<Scope>(), Err(UnknownScope));
        assert_eq!("DATA:subscribe".parse::<Scope>(), Err(UnknownScope));
    }

    #[test]
    fn a_device_scope_holds_nothing_of_an_app() {
        assert!(!Scope::DEVICE.contains(ScopeToken::DataSubscribe));
        assert!(Scope::DEVICE.intersection(Scope::APP).is_empty());
        assert!(Scope::APP.includes(Scope::EMPTY.with(ScopeToken::CommandPublish)));
    }
}
