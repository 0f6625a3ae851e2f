//! The SQLite store in one process. Several processes: `dh-core/tests/store_processes.rs`.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::domain::EnvironmentName;
use crate::domain::ErrorKind;
use crate::ports::StateStoreExt;
use crate::testkit::conformance::store::{TestStore, run_store_suite};

fn item(name: &str) -> Item {
    let key = ItemKey { table: Table::Engines, environment: "dev".into(), name: name.into() };
    Item { key, alias: None, open: true, order: 0, version: 0, document: json!({"schema": 1}) }
}

fn raw(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sqlite_store_passes_the_store_suite() {
    run_store_suite(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dh.sqlite3");
        let open = move || Arc::new(SqliteStore::open(&path).unwrap());
        TestStore::new(open()).with_again(move || open()).with_keep(folder)
    })
    .await;
}

#[tokio::test]
async fn what_is_stored_outlives_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/dh.sqlite3");
    let version = SqliteStore::open(&path).unwrap().put(item("a"), Expect::Absent).await.unwrap();
    let again = SqliteStore::open(&path).unwrap();
    assert_eq!(again.get(&item("a").key).await.unwrap().unwrap().version, version);
    assert_eq!(again.check().await.unwrap(), [""; 0]);
}

#[test]
fn the_file_and_its_folder_are_the_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/dh.sqlite3");
    let _store = SqliteStore::open(&path).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    assert_eq!(mode(&folder.path().join("state/dh.sqlite3-wal")), 0o600);
}

/// Every version that was ever released has a file here, with one item in each table; a new version adds one.
const FIXTURES: &[&str] = &[include_str!("../fixtures/v1.sql")];

#[tokio::test]
async fn files_of_every_version_are_read() {
    assert_eq!(FIXTURES.len(), MIGRATIONS.len(), "store a fixture of the new schema too");
    for (number, fixture) in FIXTURES.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dh.sqlite3");
        raw(&path, fixture);
        let store = SqliteStore::open(&path).unwrap();
        let dev = EnvironmentName::new("dev").unwrap();
        let engine = store.load_by_alias::<crate::domain::Engine>(&dev, "i-0123456789abcdef0").await.unwrap().unwrap();
        assert_eq!((engine.value.name.as_str(), engine.version), ("alice-work", 5), "version {}", number + 1);
        let studio = store.load::<crate::domain::Studio>(&dev, "alice").await.unwrap().unwrap();
        assert_eq!(studio.value.size_gb.get(), 100);
        let operations = store.load_operations(&dev, true, None).await.unwrap();
        assert_eq!(operations.len(), 1);
        let version = store.save(&studio.value, studio.version).await.unwrap();
        assert_eq!(version, 8, "the count goes on");
    }
}

#[test]
fn a_newer_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dh.sqlite3");
    drop(SqliteStore::open(&path).unwrap());
    raw(&path, "PRAGMA user_version = 99");
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.message().contains("99") && error.message().contains(path.to_str().unwrap()));
    assert!(error.hint().unwrap().contains("upgrade dh"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dh.sqlite3");
    raw(&path, "CREATE TABLE photos (x); INSERT INTO photos VALUES (1)");
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.message().contains("another program"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dh.sqlite3");
    std::fs::write(&path, "this is not a database, but long enough to look at".repeat(100)).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.message().contains("damaged") && error.message().contains(path.to_str().unwrap()));
    assert!(error.hint().unwrap().contains("dh doctor"));
}

#[tokio::test]
async fn a_file_with_broken_pages_is_damaged_where_it_is_read_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dh.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    for number in 0..50 {
        let document = json!("x".repeat(2_000));
        store.put(Item { document, ..item(&number.to_string()) }, Expect::Absent).await.unwrap();
    }
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    // All but the first page, which has the schema.
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let query = ItemQuery {
        table: Table::Engines,
        environment: "dev".into(),
        alias: None,
        open_only: false,
        newest_first: false,
        limit: None,
    };
    let error = store.list(query).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage, "{}", error.full_message());
    assert!(error.message().contains("damaged"));
    assert!(store.check().await.is_ok_and(|found| !found.is_empty()), "the check tells");
}

#[tokio::test]
async fn a_document_that_is_no_json_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dh.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    store.put(item("a"), Expect::Absent).await.unwrap();
    raw(&path, "UPDATE engines SET document = '{\"sche'");
    let error = store.get(&item("a").key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert_eq!(error.context(), [("item", "engines/a".to_owned())]);
}

#[test]
fn places_where_no_file_can_be_are_named_with_a_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let places = [
        // A file where a folder should be, a folder where the file should be, a file system that takes no files.
        file.join("dh.sqlite3"),
        folder.path().to_owned(),
        PathBuf::from("/proc/dh.sqlite3"),
    ];
    for path in places {
        let error = SqliteStore::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage, "{}", path.display());
        assert!(error.message().contains(path.to_str().unwrap()), "{error}");
        assert!(error.hint().unwrap().contains("DH_HOME"));
    }
}

#[tokio::test]
async fn a_full_file_is_said_to_be_full_and_nothing_half_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dh.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    let version = store.put(item("a"), Expect::Absent).await.unwrap();
    store.call(|connection| connection.execute_batch("PRAGMA max_page_count = 20")).await.unwrap();
    let big = Item { document: json!("x".repeat(200_000)), ..item("a") };
    let error = store.put(big, Expect::Version(version)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.message().contains("full"), "{error}");
    assert!(error.hint().unwrap().contains("free some space"));
    let found = store.get(&item("a").key).await.unwrap().unwrap();
    assert_eq!((found.version, found.document), (version, item("a").document));
    store.put(item("a"), Expect::Version(version)).await.unwrap();
}

#[tokio::test]
async fn a_file_held_too_long_is_unavailable_and_a_retry_helps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dh.sqlite3");
    let store = SqliteStore { patience: Duration::from_millis(30), ..SqliteStore::open(&path).unwrap() };
    let holder = Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.put(item("a"), Expect::Absent).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, crate::domain::Retry::Later));
    assert_eq!(store.get(&item("a").key).await.unwrap(), None, "reading goes on meanwhile");
    holder.execute_batch("COMMIT").unwrap();
    store.put(item("a"), Expect::Absent).await.unwrap();
}

#[tokio::test]
async fn waiting_for_another_writer_does_not_hold_up_the_thread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dh.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    let holder = Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    // On one thread: the second future can only let go while the first one waits.
    let (written, ()) = tokio::join!(store.put(item("a"), Expect::Absent), async {
        tokio::task::yield_now().await;
        holder.execute_batch("COMMIT").unwrap();
    });
    written.unwrap();
}

#[tokio::test]
async fn no_query_reads_a_whole_table() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("dh.sqlite3")).unwrap();
    let query = |table, alias: bool, open_only, newest_first| ItemQuery {
        table,
        environment: "dev".into(),
        alias: alias.then(|| "x".into()),
        open_only,
        newest_first,
        limit: None,
    };
    for (query, index) in [
        (query(Table::Engines, false, false, false), "sqlite_autoindex_engines_1"),
        (query(Table::Engines, true, false, false), "engines_alias"),
        (query(Table::Studios, true, false, false), "studios_alias"),
        (query(Table::Operations, false, false, true), "operations_order"),
        (query(Table::Operations, false, true, true), "operations_open"),
    ] {
        let sql = format!("EXPLAIN QUERY PLAN {}", list_statement(&query));
        let plan = store
            .call(|connection| {
                let mut statement = connection.prepare(&sql)?;
                let steps = statement.query_map(
                    params!["dev", -1, "x"].get(..2 + usize::from(query.alias.is_some())).unwrap(),
                    |row| row.get::<_, String>(3),
                )?;
                steps.collect::<rusqlite::Result<Vec<_>>>()
            })
            .await
            .unwrap()
            .join("; ");
        assert!(plan.contains(index) && !plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{query:?}: {plan}");
    }
}
