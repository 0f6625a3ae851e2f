//! Where state is kept: three tables with optimistic locking.

use std::fmt::{Debug, Display};

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::{
    Engine, EngineName, EnvironmentName, Error, ErrorKind, Operation, OperationId, Result, Studio, UserName,
};

/// The version of the documents this dh writes. A document of a higher one is refused, never rewritten.
pub const DOCUMENT_SCHEMA: u64 = 1;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Living engines, by name.
    Engines,
    /// Studios, by user.
    Studios,
    /// Operations, by id; they stay when they are over.
    Operations,
}

impl Table {
    /// Returns the name: `engines`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engines => "engines",
            Self::Studios => "studios",
            Self::Operations => "operations",
        }
    }

    /// Returns the name of one of its items: `engine`.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Engines => "engine",
            Self::Studios => "studio",
            Self::Operations => "operation",
        }
    }
}

/// Where an item lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemKey {
    /// The table.
    pub table: Table,
    /// The environment.
    pub environment: String,
    /// The name within it.
    pub name: String,
}

/// A stored document.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Where it lies.
    pub key: ItemKey,
    /// A second name it is found by: the machine's or the volume's id.
    pub alias: Option<String>,
    /// Whether something is left to do with it; operations that are over are not open.
    pub open: bool,
    /// Where it stands among its like: the time of its making, in microseconds since 1970.
    pub order: i64,
    /// The version the store gave it; 0 before it is stored.
    pub version: u64,
    /// The content.
    pub document: serde_json::Value,
}

/// Which items to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemQuery {
    /// The table.
    pub table: Table,
    /// The environment.
    pub environment: String,
    /// Only the item with this second name.
    pub alias: Option<String>,
    /// Only items that are open.
    pub open_only: bool,
    /// The newest first rather than by name; those of one moment by name.
    pub newest_first: bool,
    /// At most so many.
    pub limit: Option<usize>,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// No item.
    Absent,
    /// The item at this version.
    Version(u64),
}

/// Keeps documents. Every write names the version it read; of two writers one wins and the other is told.
///
/// A write that returns is durable. A write that is cut off has happened as a whole or not at all.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StateStore: Debug + Display + Send + Sync + 'static {
    /// Returns an item, or `None`. Sees every write that has returned.
    async fn get(&self, key: &ItemKey) -> Result<Option<Item>>;

    /// Writes an item and returns its new version, which is above every version the key has had before.
    ///
    /// # Errors
    /// [`conflict`] when the store holds something other than expected; nothing is written then.
    async fn put(&self, item: Item, expect: Expect) -> Result<u64>;

    /// Deletes an item at a version. A missing one is success.
    ///
    /// # Errors
    /// [`conflict`] when it has another version.
    async fn delete(&self, key: &ItemKey, version: u64) -> Result<()>;

    /// Lists items by name, or newest first.
    async fn list(&self, query: ItemQuery) -> Result<Vec<Item>>;
}

/// Makes the error of a write that lost a race: kind `Conflict`, retry `Later`, no effect.
pub fn conflict(key: &ItemKey) -> Error {
    Error::new(ErrorKind::Conflict, format!("{} {} was changed by somebody else", key.table.as_str(), key.name))
        .with_retry(crate::domain::Retry::Later)
        .with_hint("run the command again")
}

/// A value with the version it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<T> {
    /// The version to name when it is written.
    pub version: u64,
    /// The value.
    pub value: T,
}

/// A type that is stored as a document.
pub trait Record: Serialize + DeserializeOwned + Send + Sync + Clone {
    /// Its table.
    const TABLE: Table;
    /// Returns the environment it belongs to.
    fn environment(&self) -> &EnvironmentName;
    /// Returns its name within the environment.
    fn name(&self) -> &str;
    /// Returns the second name it is found by.
    fn alias(&self) -> Option<&str>;
    /// Returns whether something is left to do with it.
    fn open(&self) -> bool {
        true
    }
    /// Returns when it was made, in microseconds since 1970.
    fn order(&self) -> i64;
}

impl Record for Engine {
    const TABLE: Table = Table::Engines;
    fn environment(&self) -> &EnvironmentName {
        &self.environment
    }
    fn name(&self) -> &str {
        self.name.as_str()
    }
    fn alias(&self) -> Option<&str> {
        self.machine.as_ref().map(|id| id.as_str())
    }
    fn order(&self) -> i64 {
        self.created_at.as_microsecond()
    }
}

impl Record for Studio {
    const TABLE: Table = Table::Studios;
    fn environment(&self) -> &EnvironmentName {
        &self.environment
    }
    fn name(&self) -> &str {
        self.user.as_str()
    }
    fn alias(&self) -> Option<&str> {
        self.volume.as_ref().map(|id| id.as_str())
    }
    fn order(&self) -> i64 {
        self.created_at.as_microsecond()
    }
}

impl Record for Operation {
    const TABLE: Table = Table::Operations;
    fn environment(&self) -> &EnvironmentName {
        &self.environment
    }
    fn name(&self) -> &str {
        self.id.as_str()
    }
    fn alias(&self) -> Option<&str> {
        None
    }
    fn open(&self) -> bool {
        self.status.is_open()
    }
    fn order(&self) -> i64 {
        self.created_at.as_microsecond()
    }
}

fn to_item<R: Record>(record: &R) -> Result<Item> {
    let mut document = serde_json::to_value(record)
        .map_err(|error| Error::new(ErrorKind::Internal, "a record cannot be written as JSON").with_source(error))?;
    document["schema"] = DOCUMENT_SCHEMA.into();
    Ok(Item {
        key: ItemKey { table: R::TABLE, environment: record.environment().to_string(), name: record.name().to_owned() },
        alias: record.alias().map(str::to_owned),
        open: record.open(),
        order: record.order(),
        version: 0,
        document,
    })
}

fn from_item<R: Record>(item: Item) -> Result<Versioned<R>> {
    let named = |error: Error| error.with_context("item", format!("{}/{}", item.key.table.as_str(), item.key.name));
    let schema = item.document.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if schema > DOCUMENT_SCHEMA {
        return Err(named(
            Error::new(
                ErrorKind::Incompatible,
                format!(
                    "the stored {} '{}' was written by a newer dh (schema {schema}; this dh knows {DOCUMENT_SCHEMA})",
                    item.key.table.singular(),
                    item.key.name
                ),
            )
            .with_hint("upgrade dh on this machine, then run the command again"),
        ));
    }
    match serde_json::from_value(item.document) {
        Ok(value) => Ok(Versioned { version: item.version, value }),
        Err(error) => Err(damaged_item(&item.key, error)),
    }
}

/// Makes the error of a stored record that cannot be read.
pub(crate) fn damaged_item(key: &ItemKey, error: serde_json::Error) -> Error {
    let (kind, name) = (key.table.singular(), &key.name);
    Error::new(ErrorKind::Storage, format!("the stored {kind} '{name}' is damaged"))
        .with_context("item", format!("{}/{name}", key.table.as_str()))
        .with_hint("put a backup of the state back; 'dh config show' tells where it is")
        .with_source(error)
}

/// A change to a record; it returns whether there is anything to write, and may run more than once.
pub type Change<'a, R> = dyn for<'r> Fn(&'r mut R) -> Result<bool> + Send + Sync + 'a;

/// Typed calls over any [`StateStore`].
#[async_trait]
pub trait StateStoreExt {
    /// Returns a record by name.
    async fn load<R: Record>(&self, environment: &EnvironmentName, name: &str) -> Result<Option<Versioned<R>>>;

    /// Returns all records of an environment, by name.
    async fn load_all<R: Record>(&self, environment: &EnvironmentName) -> Result<Vec<Versioned<R>>>;

    /// Returns the record with a second name: a machine's or volume's id.
    async fn load_by_alias<R: Record>(
        &self,
        environment: &EnvironmentName,
        alias: &str,
    ) -> Result<Option<Versioned<R>>>;

    /// Returns operations, newest first.
    async fn load_operations(
        &self,
        environment: &EnvironmentName,
        open_only: bool,
        limit: Option<usize>,
    ) -> Result<Vec<Versioned<Operation>>>;

    /// Stores a new record and returns its version; a conflict when there is one of that name.
    async fn insert<R: Record>(&self, record: &R) -> Result<u64>;

    /// Stores a record over the version it was read at and returns the new version.
    async fn save<R: Record>(&self, record: &R, version: u64) -> Result<u64>;

    /// Reads, changes and writes a record, again from the start when somebody else was quicker; at most 16 times.
    /// Returns the record as it is then, or `None` if it is gone.
    async fn modify<R: Record>(
        &self,
        environment: &EnvironmentName,
        name: &str,
        change: &Change<'_, R>,
    ) -> Result<Option<Versioned<R>>>;

    /// Deletes a record at a version. A missing one is success.
    async fn remove<R: Record>(&self, record: &R, version: u64) -> Result<()>;
}

fn key<R: Record>(environment: &EnvironmentName, name: &str) -> ItemKey {
    ItemKey { table: R::TABLE, environment: environment.to_string(), name: name.to_owned() }
}

#[async_trait]
impl<S: StateStore + ?Sized> StateStoreExt for S {
    async fn load<R: Record>(&self, environment: &EnvironmentName, name: &str) -> Result<Option<Versioned<R>>> {
        self.get(&key::<R>(environment, name)).await?.map(from_item).transpose()
    }

    async fn load_all<R: Record>(&self, environment: &EnvironmentName) -> Result<Vec<Versioned<R>>> {
        let query = ItemQuery {
            table: R::TABLE,
            environment: environment.to_string(),
            alias: None,
            open_only: false,
            newest_first: false,
            limit: None,
        };
        self.list(query).await?.into_iter().map(from_item).collect()
    }

    async fn load_by_alias<R: Record>(
        &self,
        environment: &EnvironmentName,
        alias: &str,
    ) -> Result<Option<Versioned<R>>> {
        let query = ItemQuery {
            table: R::TABLE,
            environment: environment.to_string(),
            alias: Some(alias.to_owned()),
            open_only: false,
            newest_first: false,
            limit: Some(1),
        };
        self.list(query).await?.into_iter().next().map(from_item).transpose()
    }

    async fn load_operations(
        &self,
        environment: &EnvironmentName,
        open_only: bool,
        limit: Option<usize>,
    ) -> Result<Vec<Versioned<Operation>>> {
        let query = ItemQuery {
            table: Table::Operations,
            environment: environment.to_string(),
            alias: None,
            open_only,
            newest_first: true,
            limit,
        };
        self.list(query).await?.into_iter().map(from_item).collect()
    }

    async fn insert<R: Record>(&self, record: &R) -> Result<u64> {
        self.put(to_item(record)?, Expect::Absent).await
    }

    async fn save<R: Record>(&self, record: &R, version: u64) -> Result<u64> {
        self.put(to_item(record)?, Expect::Version(version)).await
    }

    async fn modify<R: Record>(
        &self,
        environment: &EnvironmentName,
        name: &str,
        change: &Change<'_, R>,
    ) -> Result<Option<Versioned<R>>> {
        const TRIES: usize = 16;
        for _ in 0..TRIES {
            let Some(mut current) = self.load::<R>(environment, name).await? else {
                return Ok(None);
            };
            if !change(&mut current.value)? {
                return Ok(Some(current));
            }
            match self.save(&current.value, current.version).await {
                Ok(version) => {
                    return Ok(Some(Versioned { version, value: current.value }));
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(conflict(&key::<R>(environment, name)).with_retry(crate::domain::Retry::Exhausted))
    }

    async fn remove<R: Record>(&self, record: &R, version: u64) -> Result<()> {
        self.delete(&key::<R>(record.environment(), record.name()), version).await
    }
}

/// Returns an engine by its name or its machine's id.
pub async fn find_engine(
    store: &dyn StateStore,
    environment: &EnvironmentName,
    name_or_id: &str,
) -> Result<Option<Versioned<Engine>>> {
    match EngineName::new(name_or_id) {
        Ok(name) => store.load(environment, name.as_str()).await,
        Err(_) => store.load_by_alias(environment, name_or_id).await,
    }
}

/// Returns a user's studio.
pub async fn find_studio(
    store: &dyn StateStore,
    environment: &EnvironmentName,
    user: &UserName,
) -> Result<Option<Versioned<Studio>>> {
    store.load(environment, user.as_str()).await
}

/// Returns an operation.
pub async fn find_operation(
    store: &dyn StateStore,
    environment: &EnvironmentName,
    id: &OperationId,
) -> Result<Option<Versioned<Operation>>> {
    store.load(environment, id.as_str()).await
}

#[cfg(feature = "mock")]
impl Display for MockStateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("mock")
    }
}
