//! A store that lives as long as its process, for tests.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::Result;
use crate::ports::{Expect, Item, ItemKey, ItemQuery, StateStore, conflict};

/// Keeps documents in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    items: BTreeMap<ItemKey, Item>,
    /// The last version given to any item. One count for all, so that a key made anew never has an old version again.
    version: u64,
}

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change is one insert or remove: a panic elsewhere cannot have left half of one.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn get(&self, key: &ItemKey) -> Result<Option<Item>> {
        Ok(self.tables().items.get(key).cloned())
    }

    async fn put(&self, mut item: Item, expect: Expect) -> Result<u64> {
        let mut tables = self.tables();
        let as_expected = match (tables.items.get(&item.key), expect) {
            (None, Expect::Absent) => true,
            (Some(found), Expect::Version(version)) => found.version == version,
            _ => false,
        };
        if !as_expected {
            return Err(conflict(&item.key));
        }
        tables.version += 1;
        item.version = tables.version;
        tables.items.insert(item.key.clone(), item);
        Ok(tables.version)
    }

    async fn delete(&self, key: &ItemKey, version: u64) -> Result<()> {
        let mut tables = self.tables();
        match tables.items.get(key) {
            Some(found) if found.version != version => Err(conflict(key)),
            _ => {
                tables.items.remove(key);
                Ok(())
            }
        }
    }

    async fn list(&self, query: ItemQuery) -> Result<Vec<Item>> {
        let tables = self.tables();
        let mut found: Vec<&Item> = tables
            .items
            .values()
            .filter(|item| item.key.table == query.table && item.key.environment == query.environment)
            .filter(|item| query.alias.is_none() || item.alias == query.alias)
            .filter(|item| item.open || !query.open_only)
            .collect();
        if query.newest_first {
            // A stable sort: of the same moment, by name.
            found.sort_by_key(|item| Reverse(item.order));
        }
        Ok(found.into_iter().take(query.limit.unwrap_or(usize::MAX)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testkit::conformance::store::{TestStore, run_store_suite};

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_memory_store_passes_the_store_suite() {
        run_store_suite(|| {
            let store = Arc::new(MemoryStore::new());
            TestStore::new(store.clone()).with_again(move || store.clone())
        })
        .await;
    }
}
