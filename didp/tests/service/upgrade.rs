//! A database of the release before, with data of every kind, is brought up to date and everything in it goes on.
//!
//! `fixtures/schema-0005.sql` holds the rows, written under the keys and the secrets that stand at its head. They were made by
//! the flows of that release; only what expires was given an end far away.

use didp::flows::{account, claim, login};
use sqlx::Connection as _;

use crate::harness::{Didp, Mqtt, text};

const FIXTURE: &str = include_str!("fixtures/schema-0005.sql");

/// A value of the fixture's head: `-- name: value`.
fn told(name: &str) -> String {
    let prefix = format!("-- {name}: ");
    let line = FIXTURE.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("the fixture tells no {name}")).to_owned()
}

/// A file with the tables of schema 0005 and the fixture's rows.
async fn old_database(file: &std::path::Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let mut old = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite")).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap().to_str().unwrap();
        if name < "0006" {
            std::fs::copy(&from, folder.path().join(name)).unwrap();
        }
    }
    let migrations = sqlx::migrate::Migrator::new(folder.path()).await.unwrap();
    migrations.run(&mut old).await.unwrap();
    sqlx::raw_sql(FIXTURE).execute(&mut old).await.unwrap();
    old.close().await.unwrap();
}

#[tokio::test]
async fn a_database_of_schema_0005_is_brought_up_to_date() {
    let didp = Didp::start_prepared(async |dir| {
        for purpose in didp::keys::Purpose::ALL {
            let name = purpose.name();
            std::fs::write(dir.join(format!("keys/{name}.1.key")), told(&format!("key {name}"))).unwrap();
        }
        old_database(&dir.join("didp.sqlite")).await;
    })
    .await;
    // An owner's session, devices, apps and past.
    let anna = login::session(&didp.app, &told("session")).await.unwrap().unwrap();
    assert_eq!(didp.owner("anna").await.user, anna.user);
    let overview = account::overview(&didp.app, &anna).await.unwrap();
    assert_eq!((overview.devices.len(), overview.apps.len()), (1, 1));
    assert_eq!(overview.devices[0].name.as_deref(), Some("Kitchen"));
    // A device logs in, refreshes, and its access token is good.
    assert!(didp.is_active(&told("device access token")).await);
    let (client_id, secret) = (told("device"), told("device secret"));
    let login = Mqtt::login(didp.mqtt_address(), mqtt_wire::Version::V5, &client_id, &secret);
    let mut mqtt = login.await.unwrap();
    let refresh =
        serde_json::json!({"grant_type": "refresh_token", "refresh_token": told("device refresh token")});
    let tokens = mqtt.ask("token", &refresh).await;
    assert!(didp.is_active(&text(&tokens["access_token"])).await);
    // A printed code, and the number of the last event.
    let attempt = claim::confirm(&didp.app, &anna, &told("printed code"), "").await.unwrap();
    assert_eq!(attempt, claim::Attempt::NoMatch);
    let waiting: i64 = didp::store::sql::query_scalar("SELECT count(*) FROM claim_waiting WHERE device = $1")
        .bind(&*told("printed device"))
        .fetch_one(&mut didp.app.store.read().await.unwrap())
        .await
        .unwrap();
    assert_eq!(waiting, 2, "the code leads to its device, for which somebody waits already");
    let seat = didp.app.hub.enter(&told("printed device"));
    let challenge = crate::harness::challenge("verifier");
    let press = claim::open_window(&didp.app, &told("printed device"), seat.connection, &challenge)
        .await
        .unwrap_err();
    assert_eq!(
        press.answer().error,
        oauth_wire::OAuthErrorCode::AccessDenied,
        "a press cannot tell two apart"
    );
    // A login that had its tries for a code has no more: nothing is looked at, and nothing is counted.
    for _ in 0..2 {
        let attempt = claim::confirm(&didp.app, &anna, &told("tried code"), "1234").await.unwrap();
        assert_eq!(attempt, claim::Attempt::NoMatch);
    }
    let tries: Vec<i64> = didp::store::sql::query_scalar("SELECT tries FROM claim_tries WHERE tries > 0")
        .fetch_all(&mut didp.app.store.read().await.unwrap())
        .await
        .unwrap();
    assert_eq!(tries, [3]);
    let before: i64 = told("last event").parse().unwrap();
    assert!(account::apps::withdraw(&didp.app, &anna, &overview.apps[0].id).await.unwrap());
    assert_eq!(didp.app.store.events_head().await.unwrap(), before + 2, "numbers go on where they stopped");
    // Counted once, and the quota goes on from there.
    let counted: Vec<(String, i64)> =
        didp::store::sql::query_as("SELECT id, clients FROM registrars ORDER BY id")
            .fetch_all(&mut didp.app.store.read().await.unwrap())
            .await
            .unwrap();
    assert_eq!(counted, [("big".to_owned(), 2), ("developer".to_owned(), 1)]);
    assert!(!didp.app.store.is_shared());
}

/// Makes the fixture: run by hand with `--ignored` on a database that the present release filled; prints the file.
#[tokio::test]
#[ignore = "makes the fixture, for the next release"]
async fn make_fixture() {
    let didp = Didp::start_on("didp.sqlite", None).await;
    let session = login::sign_in(&didp.app, "https://people.test", "anna").await.unwrap();
    let anna = login::session(&didp.app, &session).await.unwrap().unwrap();
    let (device, mqtt, tokens) = didp.claimed(&anna).await;
    assert!(didp.is_active(&text(&tokens["access_token"])).await);
    let printed = didp.device("press").await;
    didp.allowed(&anna, "client_secret_basic").await;
    drop(mqtt);
    let ben = didp.owner("ben").await;
    claim::confirm(&didp.app, &ben, &printed.code, "").await.unwrap();
    let tried = service::secret::random_token::<16>();
    for _ in 0..3 {
        claim::confirm(&didp.app, &anna, &tried, "1234").await.unwrap();
    }
    for purpose in didp::keys::Purpose::ALL {
        let name = purpose.name();
        let key = std::fs::read_to_string(didp.dir().join(format!("keys/{name}.1.key"))).unwrap();
        println!("-- key {name}: {}", key.trim());
    }
    for (name, value) in [
        ("session", &session),
        ("device", &device.client_id),
        ("device secret", &device.secret),
        ("device access token", &text(&tokens["access_token"])),
        ("device refresh token", &text(&tokens["refresh_token"])),
        ("printed code", &printed.code),
        ("printed device", &printed.client_id),
        ("tried code", &tried),
        ("last event", &didp.app.store.events_head().await.unwrap().to_string()),
    ] {
        println!("-- {name}: {value}");
    }
    let mut conn = didp.app.store.read().await.unwrap();
    let all: Vec<String> = didp::store::sql::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '_sqlx%'",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    for table in all {
        let columns: Vec<String> = didp::store::sql::query_scalar("SELECT name FROM pragma_table_info($1)")
            .bind(&table)
            .fetch_all(&mut conn)
            .await
            .unwrap();
        let quoted: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
        let sql = format!("SELECT {} FROM {table}", quoted.join(" || ', ' || "));
        let rows: Vec<String> =
            didp::store::sql::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut conn).await.unwrap();
        for row in rows {
            println!("INSERT INTO {table} ({}) VALUES ({row});", columns.join(", "));
        }
    }
}
