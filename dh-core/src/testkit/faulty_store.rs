//! A store that fails, or lets its caller die, where a test says.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;

use super::{FaultKind, Faults};
use crate::domain::Result;
use crate::ports::{Expect, Item, ItemKey, ItemQuery, StateStore};

/// A call of a [`StateStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StoreCall {
    /// `get`
    Get,
    /// `put`
    Put,
    /// `delete`
    Delete,
    /// `list`
    List,
}

impl StoreCall {
    /// The calls that write.
    pub const WRITES: &[Self] = &[Self::Put, Self::Delete];
}

/// Whether a write reached the store before its process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It died just before the write.
    BeforeWrite,
    /// The write is done, but the process never learned of it.
    AfterWrite,
}

/// One process's view of a store, with faults. Make one for each process, all over the same inner store: once one of
/// them has died, none of its calls has an effect any more.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn StateStore>,
    faults: Faults<StoreCall>,
    writes: AtomicU64,
    dead: AtomicBool,
    dies_at: AtomicU64,
    dies_after: AtomicBool,
}

impl FaultyStore {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn StateStore>) -> Self {
        Self {
            inner,
            faults: Faults::new(),
            writes: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            dies_at: AtomicU64::new(0),
            dies_after: AtomicBool::new(false),
        }
    }

    /// Returns the faults, to plan some.
    pub fn faults(&self) -> &Faults<StoreCall> {
        &self.faults
    }

    /// Makes the `n`-th write from now fail; 1 is the next.
    pub fn fail_nth_write(&self, n: u64, kind: FaultKind) {
        self.faults.fail_nth(StoreCall::WRITES, n, kind);
    }

    /// Lets the process die at its `n`-th write from now; 1 is the next. Run what it does under
    /// [`Self::until_killed`].
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn kill_at_write(&self, n: u64, death: Death) {
        assert!(n > 0, "the next write is number 1");
        self.dies_after.store(death == Death::AfterWrite, Ordering::Relaxed);
        self.dies_at.store(self.writes() + n, Ordering::Relaxed);
    }

    /// Runs what the process does to its end, or until it dies: `None`. Its future is dropped then.
    pub async fn until_killed<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.faults.until_hung(future).await
    }

    /// Returns whether the process has died.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Returns how many writes there have been, those that failed included.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    async fn around<T>(&self, call: StoreCall, effect: impl Future<Output = Result<T>>) -> Result<T> {
        if self.is_dead() {
            return self.faults.hang().await;
        }
        let fault = self.faults.strike(call);
        if StoreCall::WRITES.contains(&call) {
            let number = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
            if number == self.dies_at.load(Ordering::Relaxed) {
                self.dead.store(true, Ordering::Relaxed);
                if self.dies_after.load(Ordering::Relaxed) {
                    // Even a write that is refused is the last thing the process did.
                    let _ = effect.await;
                }
                return self.faults.hang().await;
            }
        }
        self.faults.apply(fault, effect).await
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with faults", self.inner)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl StateStore for FaultyStore {
    async fn get(&self, key: &ItemKey) -> Result<Option<Item>> {
        self.around(StoreCall::Get, self.inner.get(key)).await
    }

    async fn put(&self, item: Item, expect: Expect) -> Result<u64> {
        self.around(StoreCall::Put, self.inner.put(item, expect)).await
    }

    async fn delete(&self, key: &ItemKey, version: u64) -> Result<()> {
        self.around(StoreCall::Delete, self.inner.delete(key, version)).await
    }

    async fn list(&self, query: ItemQuery) -> Result<Vec<Item>> {
        self.around(StoreCall::List, self.inner.list(query)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Error, ErrorKind};
    use crate::ports::Table;
    use crate::store::MemoryStore;

    fn key() -> ItemKey {
        ItemKey { table: Table::Engines, environment: "dev".into(), name: "a".into() }
    }

    fn item() -> Item {
        Item { key: key(), alias: None, open: true, order: 0, version: 0, document: serde_json::json!({ "schema": 1 }) }
    }

    #[tokio::test]
    async fn a_process_dies_before_or_after_its_write_and_does_nothing_more() {
        for (death, written) in [(Death::BeforeWrite, false), (Death::AfterWrite, true)] {
            let inner = Arc::new(MemoryStore::new());
            let store = FaultyStore::new(inner.clone());
            store.kill_at_write(1, death);
            assert!(store.until_killed(store.put(item(), Expect::Absent)).await.is_none());
            assert!(store.is_dead());
            assert_eq!(inner.get(&key()).await.unwrap().is_some(), written);
            assert!(store.until_killed(store.delete(&key(), 1)).await.is_none(), "the dead do not write");
            assert_eq!(inner.get(&key()).await.unwrap().is_some(), written);
            let next = FaultyStore::new(inner);
            assert_eq!(next.get(&key()).await.unwrap().is_some(), written, "another process can go on");
        }
    }

    #[tokio::test]
    async fn only_writes_are_counted_towards_death() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        store.kill_at_write(2, Death::BeforeWrite);
        let version = store.put(item(), Expect::Absent).await.unwrap();
        store.get(&key()).await.unwrap();
        assert_eq!(store.writes(), 1);
        assert!(store.until_killed(store.put(item(), Expect::Version(version))).await.is_none());
    }

    #[tokio::test]
    async fn the_answer_to_a_write_can_be_lost() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        store.fail_nth_write(1, FaultKind::After(Error::new(ErrorKind::Unavailable, "gone")));
        assert_eq!(store.put(item(), Expect::Absent).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(store.get(&key()).await.unwrap().is_some());
    }
}
