//! Where everything is kept: a SQLite file, or a PostgreSQL server that several DIdPs share.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;

use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;
use url::Url;

/// The value of `database`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Database {
    /// A SQLite file of this process alone.
    File(PathBuf),
    /// A server that several DIdPs share.
    Postgres(Address),
}

impl Database {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&std::path::Path> {
        match self {
            Self::File(file) => Some(file),
            Self::Postgres(_) => None,
        }
    }
}

impl TryFrom<String> for Database {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            // The parsers' own words could repeat the text, and a password with it.
            let url = Url::parse(&text).ok().filter(|_| PgConnectOptions::from_str(&text).is_ok());
            return url.map(Address).map(Self::Postgres).ok_or("database is no postgres URL".to_owned());
        }
        match text.split_once("://") {
            Some((scheme, _)) => Err(format!("database: {scheme} is neither a file nor postgres://")),
            None if text.is_empty() => Err("database must not be empty".to_owned()),
            None => Ok(Self::File(text.into())),
        }
    }
}

/// A `postgres://` URL. Neither its text nor its debug output holds the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// What a connection is opened with. What the URL lacks is taken from `PGHOST`, `PGUSER`, `PGPASSWORD` and their like.
    ///
    /// # Errors
    /// Never for an address that was read from a configuration.
    pub fn options(&self, password: Option<&str>) -> anyhow::Result<PgConnectOptions> {
        let options = PgConnectOptions::from_str(self.0.as_str())
            .map_err(|_| anyhow::anyhow!("{self} cannot be used"))?;
        Ok(match password {
            Some(password) => options.password(password),
            None => options,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host_str().unwrap_or_default();
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{host}{port}{}", self.0.scheme(), self.0.path())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_or_a_postgres_url() {
        assert_eq!(Database::try_from("didp.sqlite".to_owned()), Ok(Database::File("didp.sqlite".into())));
        assert!(matches!(Database::try_from("postgres://db/didp".to_owned()), Ok(Database::Postgres(_))));
        for bad in ["", "mysql://db/didp", "postgres://db:99999/didp"] {
            assert!(Database::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let text = "postgresql://didp:hunter2@db.example:5433/didp?sslmode=verify-full&password=hunter2";
        let database = Database::try_from(text.to_owned()).unwrap();
        let Database::Postgres(address) = &database else { panic!("not postgres") };
        assert_eq!(address.to_string(), "postgresql://db.example:5433/didp");
        assert!(!format!("{database:?}").contains("hunter2"));
        assert!(address.options(None).is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        let error = Database::try_from("postgres://didp:hunter2@[db/didp".to_owned()).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
