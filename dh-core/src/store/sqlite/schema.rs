//! The schema, its versions, and how an older file becomes a newer one.

use rusqlite::{Connection, TransactionBehavior};

/// Marks the file as dh's (`PRAGMA application_id`): the letters `dhst`.
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"dhst");

/// What leads from each version of the schema to the next; entry 0 makes version 1 of an empty file.
///
/// An entry that has been released is never edited. A new one comes with a fixture of the version before it.
pub(super) const MIGRATIONS: &[&str] = &[VERSION_1];

/// Documents are JSON text; what is looked for stands beside them. `counter` has the last version given to any item:
/// one count for all tables, so that a key deleted and made anew never has an old version again.
const VERSION_1: &str = "
CREATE TABLE counter (version INTEGER NOT NULL);
INSERT INTO counter VALUES (0);

CREATE TABLE engines (
    environment TEXT NOT NULL, name TEXT NOT NULL, alias TEXT, open INTEGER NOT NULL, ord INTEGER NOT NULL,
    version INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (environment, name)
);
CREATE TABLE studios (
    environment TEXT NOT NULL, name TEXT NOT NULL, alias TEXT, open INTEGER NOT NULL, ord INTEGER NOT NULL,
    version INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (environment, name)
);
CREATE TABLE operations (
    environment TEXT NOT NULL, name TEXT NOT NULL, alias TEXT, open INTEGER NOT NULL, ord INTEGER NOT NULL,
    version INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (environment, name)
);

CREATE INDEX engines_alias ON engines (environment, alias, name) WHERE alias IS NOT NULL;
CREATE INDEX studios_alias ON studios (environment, alias, name) WHERE alias IS NOT NULL;
CREATE INDEX operations_alias ON operations (environment, alias, name) WHERE alias IS NOT NULL;
CREATE INDEX operations_order ON operations (environment, ord DESC, name);
CREATE INDEX operations_open ON operations (environment, ord DESC, name) WHERE open = 1;
";

/// What is known of a file before anything in it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: a new file.
    Empty,
    /// dh's, of this version of the schema.
    Version(usize),
    /// Something else's database.
    Foreign,
}

/// Looks at the header. This is the first read of the file: a damaged one shows here.
pub(super) fn inspect(connection: &Connection) -> rusqlite::Result<Found> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application == APPLICATION_ID {
        return Ok(usize::try_from(version).map_or(Found::Foreign, Found::Version));
    }
    let things: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    Ok(if application == 0 && version == 0 && things == 0 { Found::Empty } else { Found::Foreign })
}

/// [`inspect`], of one moment: between two reads of its own another process may make the file.
pub(super) fn inspect_at_once(connection: &Connection) -> rusqlite::Result<Found> {
    let transaction = connection.unchecked_transaction()?;
    let found = inspect(&transaction)?;
    transaction.commit()?;
    Ok(found)
}

/// Brings the file to the newest version in one transaction: it is of the old version or of the new one, whatever ends
/// this process. Another process may have been quicker, so the version is read again under the write lock.
pub(super) fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = match inspect(&transaction)? {
        Found::Empty => 0,
        Found::Version(version) if version < steps.len() => version,
        // Up to date, or of a newer dh: the caller looks again and says so.
        Found::Version(_) | Found::Foreign => return Ok(()),
    };
    for step in &steps[from..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", steps.len() as i64)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LADDER: &[&str] = &[
        "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1)",
        "ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 7",
        "UPDATE a SET y = y + x",
    ];

    #[test]
    fn a_file_of_any_older_version_comes_to_the_same_end() {
        for from in 0..=LADDER.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            migrate(&mut connection, &LADDER[..from]).unwrap();
            migrate(&mut connection, LADDER).unwrap();
            let y: i64 = connection.query_row("SELECT y FROM a", [], |row| row.get(0)).unwrap();
            assert_eq!((inspect(&connection).unwrap(), y), (Found::Version(3), 8), "from version {from}");
        }
    }

    #[test]
    fn a_migration_that_fails_leaves_the_old_version_whole() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &LADDER[..1]).unwrap();
        migrate(&mut connection, &[LADDER[0], LADDER[1], "UPDATE nowhere SET y = 1"]).unwrap_err();
        assert_eq!(inspect(&connection).unwrap(), Found::Version(1));
        assert!(connection.prepare("SELECT y FROM a").is_err(), "the step before the failed one is undone too");
    }

    #[test]
    fn a_newer_file_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, LADDER).unwrap();
        migrate(&mut connection, &LADDER[..1]).unwrap();
        assert_eq!(inspect(&connection).unwrap(), Found::Version(3));
    }

    #[test]
    fn somebody_elses_database_is_told_apart() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE photos (x)").unwrap();
        assert_eq!(inspect(&connection).unwrap(), Found::Foreign);
    }
}
