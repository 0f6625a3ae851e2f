//! The least that the testkit's own tests need of a store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::Result;
use crate::ports::{Expect, Item, ItemKey, ItemQuery, StateStore, conflict};

#[derive(Debug, Default)]
pub(super) struct TinyStore(Mutex<(u64, BTreeMap<ItemKey, Item>)>);

impl TinyStore {
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<ItemKey, Item>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for TinyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tiny")
    }
}

#[async_trait]
impl StateStore for TinyStore {
    async fn get(&self, key: &ItemKey) -> Result<Option<Item>> {
        Ok(self.lock().1.get(key).cloned())
    }

    async fn put(&self, mut item: Item, expect: Expect) -> Result<u64> {
        let (version, items) = &mut *self.lock();
        let found = items.get(&item.key).map(|item| item.version);
        match expect {
            Expect::Absent if found.is_none() => {}
            Expect::Version(expected) if found == Some(expected) => {}
            _ => return Err(conflict(&item.key)),
        }
        *version += 1;
        item.version = *version;
        items.insert(item.key.clone(), item);
        Ok(*version)
    }

    async fn delete(&self, key: &ItemKey, version: u64) -> Result<()> {
        let items = &mut self.lock().1;
        match items.get(key) {
            Some(item) if item.version != version => Err(conflict(key)),
            _ => {
                items.remove(key);
                Ok(())
            }
        }
    }

    async fn list(&self, query: ItemQuery) -> Result<Vec<Item>> {
        let in_it = |item: &&Item| item.key.table == query.table && item.key.environment == query.environment;
        Ok(self.lock().1.values().filter(in_it).cloned().collect())
    }
}
