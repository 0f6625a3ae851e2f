//! One machine's store: a SQLite file that several processes share.

mod map;
mod schema;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, ToSql, TransactionBehavior, params};

use self::schema::{Found, MIGRATIONS};
use crate::domain::Result;
use crate::ports::{Expect, Item, ItemKey, ItemQuery, StateStore, Table, conflict, damaged_item};

/// How long a call waits for other processes before it gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Keeps documents in a SQLite file. Any number of processes may have it open at once.
///
/// Every call runs on the caller's thread: it takes some ten microseconds to read and one flush of the disk to write. Only
/// when another process is writing does a call wait, and then asynchronously, which needs a tokio runtime with its timer.
pub struct SqliteStore {
    path: PathBuf,
    connection: Mutex<Connection>,
    patience: Duration,
}

impl SqliteStore {
    /// Opens the file, making it and its folder (for the user alone) where they are missing, and bringing an older schema
    /// up to date.
    ///
    /// # Errors
    /// `Incompatible` for a file of a newer dh; `Storage` for one that is damaged, another program's, or cannot be
    /// written; `Unavailable` when other processes held it all the while.
    pub fn open(path: &Path) -> Result<Self> {
        create_file(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .and_then(|mut connection| configure(&mut connection).map(|found| (connection, found)));
        let (connection, found) = connection.map_err(|error| map::to_error(error, path))?;
        match found {
            Found::Version(version) if version == MIGRATIONS.len() => {}
            Found::Version(version) => return Err(map::newer(path, version, MIGRATIONS.len())),
            Found::Empty | Found::Foreign => return Err(map::foreign(path)),
        }
        match connection.is_readonly("main") {
            Ok(false) => {}
            Ok(true) => return Err(map::read_only(path)),
            Err(error) => return Err(map::to_error(error, path)),
        }
        // From here on waiting is done outside SQLite, without holding up the caller's thread.
        connection.busy_timeout(Duration::ZERO).map_err(|error| map::to_error(error, path))?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection), patience: PATIENCE })
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole file and returns what is wrong with it; nothing when all is well.
    ///
    /// # Errors
    /// `Unavailable` or `Storage` when the file cannot be read; damage is no error but an answer.
    pub async fn check(&self) -> Result<Vec<String>> {
        self.call(|connection| {
            let mut wrong = Vec::new();
            let mut statement = connection.prepare("PRAGMA quick_check")?;
            let mut rows = statement.query([])?;
            loop {
                match rows.next() {
                    Ok(Some(row)) => wrong.push(row.get(0)?),
                    Ok(None) => break,
                    // Some damage ends the check itself.
                    Err(error) if map::is_damage(&error) => {
                        wrong.push(error.to_string());
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            wrong.retain(|line| line != "ok");
            Ok(wrong)
        })
        .await
    }

    /// Runs one piece of work, and runs it again while another process is at the file.
    async fn call<T>(&self, work: impl Fn(&mut Connection) -> rusqlite::Result<T> + Send) -> Result<T> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let outcome = {
                // A panic in between rolls the transaction back: the connection is as good as before.
                let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
                work(&mut connection)
            };
            match outcome {
                Err(error) if map::is_busy(&error) && began.elapsed() < self.patience => {}
                outcome => return outcome.map_err(|error| map::to_error(error, &self.path)),
            }
            // Processes that began together fall out of step by their ids.
            let offset = Duration::from_micros(u64::from(std::process::id() % 16) * 250);
            tokio::time::sleep(pause + offset).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Makes the file for the user alone. SQLite gives its log and index the same permissions.
///
/// An existing file is not opened here: closing it would drop the locks that this process may hold on it elsewhere.
fn create_file(path: &Path) -> Result<()> {
    if path.is_file() {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let made = folder
        .map_or(Ok(()), |folder| DirBuilder::new().recursive(true).mode(0o700).create(folder))
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop));
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_file() => Ok(()),
        made => made.map_err(|error| map::from_io(error, path)),
    }
}

/// Sets the connection up and returns what the file is, migrated if need be.
fn configure(connection: &mut Connection) -> rusqlite::Result<Found> {
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(24);
    // FULL: a write that has returned outlives a loss of power; NORMAL would not promise that in WAL mode.
    // The cache is half a MiB: agents keep this open for days, and the documents are small.
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -512;")?;
    let found = schema::inspect_at_once(connection)?;
    let old = matches!(found, Found::Version(version) if version < MIGRATIONS.len());
    if found != Found::Empty && !old {
        return Ok(found);
    }
    use_wal(connection)?;
    schema::migrate(connection, MIGRATIONS)?;
    schema::inspect_at_once(connection)
}

/// Switches to the write-ahead log, once in a file's life. SQLite does not wait here while others do the same.
fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    let began = Instant::now();
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0)) {
            // Some file systems have no shared memory. The old journal is as safe there; readers only wait for writers.
            Ok(_mode) => return Ok(()),
            Err(error) if map::is_busy(&error) && began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error),
        }
    }
}

const COLUMNS: &str = "name, alias, open, ord, version, document";

/// A row before its document is understood.
struct Raw {
    name: String,
    alias: Option<String>,
    open: bool,
    order: i64,
    version: i64,
    document: String,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get(0)?,
            alias: row.get(1)?,
            open: row.get(2)?,
            order: row.get(3)?,
            version: row.get(4)?,
            document: row.get(5)?,
        })
    }

    fn into_item(self, table: Table, environment: &str) -> Result<Item> {
        let key = ItemKey { table, environment: environment.to_owned(), name: self.name };
        let document = serde_json::from_str(&self.document).map_err(|error| damaged_item(&key, error))?;
        Ok(Item {
            key,
            alias: self.alias,
            open: self.open,
            order: self.order,
            // Versions count from 1 and are only ever written by `put`.
            version: self.version.unsigned_abs(),
            document,
        })
    }
}

fn put(connection: &mut Connection, item: &Item, document: &str, expect: Expect) -> rusqlite::Result<Option<u64>> {
    let table = item.key.table.as_str();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction
        .prepare_cached("UPDATE counter SET version = version + 1 RETURNING version")?
        .query_row([], |row| row.get(0))?;
    let row = params![item.key.environment, item.key.name, item.alias, item.open, item.order, version, document];
    let written = match expect {
        Expect::Absent => transaction
            .prepare_cached(&format!(
                "INSERT INTO {table} (environment, name, alias, open, ord, version, document)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING"
            ))?
            .execute(row)?,
        Expect::Version(expected) => {
            // A version that SQLite's integers cannot hold was never given out.
            let expected = i64::try_from(expected).unwrap_or(-1);
            let mut row = row.to_vec();
            row.push(&expected);
            transaction
                .prepare_cached(&format!(
                    "UPDATE {table} SET alias = ?3, open = ?4, ord = ?5, version = ?6, document = ?7
                     WHERE environment = ?1 AND name = ?2 AND version = ?8"
                ))?
                .execute(row.as_slice())?
        }
    };
    if written == 0 {
        // Dropping the transaction takes the count back.
        return Ok(None);
    }
    transaction.commit()?;
    Ok(Some(version.unsigned_abs()))
}

/// Returns whether the item is gone: deleted now, or not there.
fn delete(connection: &mut Connection, key: &ItemKey, version: u64) -> rusqlite::Result<bool> {
    let table = key.table.as_str();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: Option<i64> = transaction
        .prepare_cached(&format!("SELECT version FROM {table} WHERE environment = ?1 AND name = ?2"))?
        .query_row(params![key.environment, key.name], |row| row.get(0))
        .optional()?;
    match found {
        None => return Ok(true),
        Some(found) if found.unsigned_abs() != version => return Ok(false),
        Some(_) => {}
    }
    transaction
        .prepare_cached(&format!("DELETE FROM {table} WHERE environment = ?1 AND name = ?2"))?
        .execute(params![key.environment, key.name])?;
    transaction.commit()?;
    Ok(true)
}

/// Returns the statement of a query; its parameters are the environment, the limit, and the alias where there is one.
fn list_statement(query: &ItemQuery) -> String {
    let mut sql = format!("SELECT {COLUMNS} FROM {} WHERE environment = ?1", query.table.as_str());
    if query.alias.is_some() {
        sql.push_str(" AND alias = ?3");
    }
    if query.open_only {
        sql.push_str(" AND open = 1");
    }
    sql.push_str(if query.newest_first { " ORDER BY ord DESC, name" } else { " ORDER BY name" });
    sql.push_str(" LIMIT ?2");
    sql
}

#[async_trait]
impl StateStore for SqliteStore {
    async fn get(&self, key: &ItemKey) -> Result<Option<Item>> {
        let sql = format!("SELECT {COLUMNS} FROM {} WHERE environment = ?1 AND name = ?2", key.table.as_str());
        let raw = self
            .call(|connection| {
                let mut statement = connection.prepare_cached(&sql)?;
                statement.query_row(params![key.environment, key.name], Raw::read).optional()
            })
            .await?;
        raw.map(|raw| raw.into_item(key.table, &key.environment)).transpose()
    }

    async fn put(&self, item: Item, expect: Expect) -> Result<u64> {
        let document = item.document.to_string();
        let written = self.call(|connection| put(connection, &item, &document, expect)).await?;
        written.ok_or_else(|| conflict(&item.key))
    }

    async fn delete(&self, key: &ItemKey, version: u64) -> Result<()> {
        if self.call(|connection| delete(connection, key, version)).await? { Ok(()) } else { Err(conflict(key)) }
    }

    async fn list(&self, query: ItemQuery) -> Result<Vec<Item>> {
        let sql = list_statement(&query);
        // A negative limit is none.
        let limit = query.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let found = self
            .call(|connection| {
                let mut parameters: Vec<&dyn ToSql> = vec![&query.environment, &limit];
                parameters.extend(query.alias.as_ref().map(|alias| alias as &dyn ToSql));
                let mut statement = connection.prepare_cached(&sql)?;
                statement.query_map(parameters.as_slice(), Raw::read)?.collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        found.into_iter().map(|raw| raw.into_item(query.table, &query.environment)).collect()
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Display for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.path.display())
    }
}
