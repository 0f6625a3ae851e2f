//! What every [`StateStore`] promises, as one list of cases.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;

use crate::domain::{Effect, Engine, EnvironmentName, Error, ErrorKind, Retry, Studio};
use crate::ports::{Expect, Item, ItemKey, ItemQuery, StateStore, StateStoreExt, Table};

/// An empty store to run one case on.
pub struct TestStore {
    store: Arc<dyn StateStore>,
    again: Option<Box<dyn Fn() -> Arc<dyn StateStore> + Send>>,
    keep: Option<Box<dyn Any + Send>>,
}

impl TestStore {
    /// Takes an empty store.
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self { store, again: None, keep: None }
    }

    /// Says how the same data is opened once more, as another process would. Without it, the cases that need it are
    /// skipped, and say so.
    pub fn with_again(mut self, again: impl Fn() -> Arc<dyn StateStore> + Send + 'static) -> Self {
        self.again = Some(Box::new(again));
        self
    }

    /// Keeps something for as long as the store: its temporary folder.
    pub fn with_keep(mut self, keep: impl Any + Send) -> Self {
        self.keep = Some(Box::new(keep));
        self
    }
}

impl fmt::Debug for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestStore").field("store", &self.store).field("again", &self.again.is_some()).finish()
    }
}

/// One promise.
struct Case {
    name: &'static str,
    needs_again: bool,
    run: fn(TestStore) -> BoxFuture<'static, ()>,
}

macro_rules! cases {
    ($($(#[$needs:ident])? $name:ident,)*) => {
        &[$(Case {
            name: stringify!($name),
            needs_again: cases!(@ $($needs)?),
            run: |store| Box::pin($name(store)),
        },)*]
    };
    (@) => { false };
    (@ needs_again) => { true };
}

const CASES: &[Case] = cases![
    a_missing_item_is_none,
    a_stored_item_is_read_back_as_it_was,
    a_second_insert_is_a_conflict,
    a_write_at_the_read_version_wins_and_moves_it,
    a_write_at_another_version_is_a_conflict,
    a_write_over_a_missing_item_is_a_conflict,
    a_conflict_says_that_a_retry_helps,
    a_delete_at_the_version_removes_the_item,
    a_delete_at_another_version_is_a_conflict,
    deleting_a_missing_item_succeeds,
    versions_grow_even_over_a_delete,
    versions_beyond_any_given_are_conflicts,
    tables_and_environments_are_apart,
    lists_are_by_name,
    newest_first_is_by_order_then_name,
    a_limit_cuts_the_list,
    an_alias_finds_its_item_and_follows_it,
    open_only_leaves_out_what_is_over,
    filters_and_limits_work_together,
    names_of_any_script_are_kept_apart,
    large_documents_are_kept_whole,
    orders_reach_both_ends_of_time,
    of_many_writers_of_one_version_one_wins,
    of_many_inserts_of_one_name_one_wins,
    #[needs_again]
    another_handle_sees_every_write_that_returned,
    #[needs_again]
    of_writers_through_many_handles_one_wins,
    modify_adds_up_under_contention,
    modify_of_a_missing_record_is_none,
    a_record_is_found_by_its_alias,
    a_newer_document_is_refused,
    a_damaged_document_is_named,
];

/// Runs every case, each on an empty store of its own, and panics with the names of those that fail.
///
/// Call it on a multi-threaded runtime: several cases are races.
pub async fn run_store_suite(fresh: impl Fn() -> TestStore) {
    let mut failed = Vec::new();
    for case in CASES {
        let store = fresh();
        if case.needs_again && store.again.is_none() {
            eprintln!("skip {}: {} cannot be opened twice", case.name, store.store);
            continue;
        }
        match AssertUnwindSafe((case.run)(store)).catch_unwind().await {
            Ok(()) => eprintln!("ok   {}", case.name),
            Err(_) => {
                eprintln!("FAIL {}", case.name);
                failed.push(case.name);
            }
        }
    }
    assert!(failed.is_empty(), "{} of {} cases failed: {}", failed.len(), CASES.len(), failed.join(", "));
}

fn key(name: &str) -> ItemKey {
    ItemKey { table: Table::Engines, environment: "dev".into(), name: name.into() }
}

fn item(name: &str) -> Item {
    Item { key: key(name), alias: None, open: true, order: 0, version: 0, document: json!({"schema": 1, "name": name}) }
}

fn query() -> ItemQuery {
    ItemQuery {
        table: Table::Engines,
        environment: "dev".into(),
        alias: None,
        open_only: false,
        newest_first: false,
        limit: None,
    }
}

async fn names(store: &dyn StateStore, query: ItemQuery) -> Vec<String> {
    store.list(query).await.unwrap().into_iter().map(|item| item.key.name).collect()
}

fn assert_conflict<T: fmt::Debug>(outcome: Result<T, Error>) {
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Conflict);
}

async fn a_missing_item_is_none(test: TestStore) {
    assert_eq!(test.store.get(&key("a")).await.unwrap(), None);
    assert_eq!(test.store.list(query()).await.unwrap(), []);
}

async fn a_stored_item_is_read_back_as_it_was(test: TestStore) {
    let document = json!({"schema": 1, "null": null, "n": -1.5, "big": u64::MAX, "list": [true, "\u{0}\n\u{1f680}"]});
    let mut item = Item { alias: Some("i-1".into()), open: false, order: 42, document, ..item("a") };
    item.version = test.store.put(item.clone(), Expect::Absent).await.unwrap();
    assert!(item.version > 0, "0 stands for not stored");
    assert_eq!(test.store.get(&item.key).await.unwrap(), Some(item.clone()));
    assert_eq!(test.store.list(query()).await.unwrap(), [item]);
}

async fn a_second_insert_is_a_conflict(test: TestStore) {
    let version = test.store.put(item("a"), Expect::Absent).await.unwrap();
    let other = Item { document: json!("other"), ..item("a") };
    assert_conflict(test.store.put(other, Expect::Absent).await);
    let found = test.store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((found.version, found.document), (version, item("a").document), "nothing was written");
}

async fn a_write_at_the_read_version_wins_and_moves_it(test: TestStore) {
    let first = test.store.put(item("a"), Expect::Absent).await.unwrap();
    let changed = Item { alias: Some("i-1".into()), open: false, order: 9, document: json!(2), ..item("a") };
    let second = test.store.put(changed.clone(), Expect::Version(first)).await.unwrap();
    assert!(second > first);
    assert_eq!(test.store.get(&key("a")).await.unwrap(), Some(Item { version: second, ..changed }));
}

async fn a_write_at_another_version_is_a_conflict(test: TestStore) {
    let first = test.store.put(item("a"), Expect::Absent).await.unwrap();
    let second = test.store.put(item("a"), Expect::Version(first)).await.unwrap();
    for stale in [0, first, second + 1] {
        assert_conflict(test.store.put(item("a"), Expect::Version(stale)).await);
    }
    assert_eq!(test.store.get(&key("a")).await.unwrap().unwrap().version, second);
}

async fn a_write_over_a_missing_item_is_a_conflict(test: TestStore) {
    assert_conflict(test.store.put(item("a"), Expect::Version(1)).await);
    let version = test.store.put(item("a"), Expect::Absent).await.unwrap();
    test.store.delete(&key("a"), version).await.unwrap();
    assert_conflict(test.store.put(item("a"), Expect::Version(version)).await);
    assert_eq!(test.store.get(&key("a")).await.unwrap(), None);
}

async fn a_conflict_says_that_a_retry_helps(test: TestStore) {
    test.store.put(item("a"), Expect::Absent).await.unwrap();
    let error = test.store.put(item("a"), Expect::Absent).await.unwrap_err();
    assert_eq!((error.retry(), error.effect()), (Retry::Later, Effect::None));
    assert!(error.message().contains('a') && error.hint().is_some());
}

async fn a_delete_at_the_version_removes_the_item(test: TestStore) {
    let version = test.store.put(item("a"), Expect::Absent).await.unwrap();
    test.store.put(item("b"), Expect::Absent).await.unwrap();
    test.store.delete(&key("a"), version).await.unwrap();
    assert_eq!(test.store.get(&key("a")).await.unwrap(), None);
    assert_eq!(names(&*test.store, query()).await, ["b"]);
}

async fn a_delete_at_another_version_is_a_conflict(test: TestStore) {
    let first = test.store.put(item("a"), Expect::Absent).await.unwrap();
    let second = test.store.put(item("a"), Expect::Version(first)).await.unwrap();
    for other in [0, first, second + 1, u64::MAX] {
        assert_conflict(test.store.delete(&key("a"), other).await);
    }
    assert_eq!(test.store.get(&key("a")).await.unwrap().unwrap().version, second);
}

async fn deleting_a_missing_item_succeeds(test: TestStore) {
    test.store.delete(&key("a"), 7).await.unwrap();
    let version = test.store.put(item("a"), Expect::Absent).await.unwrap();
    test.store.delete(&key("a"), version).await.unwrap();
    test.store.delete(&key("a"), version).await.unwrap();
}

async fn versions_grow_even_over_a_delete(test: TestStore) {
    let mut last = 0;
    for _ in 0..5 {
        let inserted = test.store.put(item("a"), Expect::Absent).await.unwrap();
        assert!(inserted > last, "a key made anew has no version it had before");
        let saved = test.store.put(item("a"), Expect::Version(inserted)).await.unwrap();
        assert!(saved > inserted);
        test.store.delete(&key("a"), saved).await.unwrap();
        last = saved;
    }
}

async fn versions_beyond_any_given_are_conflicts(test: TestStore) {
    test.store.put(item("a"), Expect::Absent).await.unwrap();
    assert_conflict(test.store.put(item("a"), Expect::Version(u64::MAX)).await);
    assert_conflict(test.store.put(item("a"), Expect::Version(1 << 63)).await);
}

async fn tables_and_environments_are_apart(test: TestStore) {
    let tables = [Table::Engines, Table::Studios, Table::Operations];
    for table in tables {
        for environment in ["dev", "prod"] {
            let key = ItemKey { table, environment: environment.into(), name: "same".into() };
            let document = json!(format!("{} of {environment}", table.as_str()));
            test.store.put(Item { key, document, ..item("same") }, Expect::Absent).await.unwrap();
        }
    }
    for table in tables {
        for environment in ["dev", "prod"] {
            let found = test.store.list(ItemQuery { table, environment: environment.into(), ..query() }).await.unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].document, json!(format!("{} of {environment}", table.as_str())));
        }
    }
}

async fn lists_are_by_name(test: TestStore) {
    for name in ["b", "B", "a-1", "a", "ä", "a.1", "10", "9"] {
        test.store.put(item(name), Expect::Absent).await.unwrap();
    }
    assert_eq!(names(&*test.store, query()).await, ["10", "9", "B", "a", "a-1", "a.1", "b", "ä"]);
}

async fn newest_first_is_by_order_then_name(test: TestStore) {
    for (name, order) in [("old", 1), ("new", 3), ("mid-b", 2), ("mid-a", 2), ("ancient", -5)] {
        test.store.put(Item { order, ..item(name) }, Expect::Absent).await.unwrap();
    }
    let found = names(&*test.store, ItemQuery { newest_first: true, ..query() }).await;
    assert_eq!(found, ["new", "mid-a", "mid-b", "old", "ancient"]);
}

async fn a_limit_cuts_the_list(test: TestStore) {
    for (name, order) in [("a", 1), ("b", 3), ("c", 2)] {
        test.store.put(Item { order, ..item(name) }, Expect::Absent).await.unwrap();
    }
    for (limit, expected) in [(0, 0), (1, 1), (2, 2), (3, 3), (usize::MAX, 3)] {
        assert_eq!(names(&*test.store, ItemQuery { limit: Some(limit), ..query() }).await.len(), expected);
    }
    let newest = ItemQuery { newest_first: true, limit: Some(2), ..query() };
    assert_eq!(names(&*test.store, newest).await, ["b", "c"]);
}

async fn an_alias_finds_its_item_and_follows_it(test: TestStore) {
    let by = |alias: &str| ItemQuery { alias: Some(alias.into()), ..query() };
    let version = test.store.put(Item { alias: Some("i-1".into()), ..item("a") }, Expect::Absent).await.unwrap();
    test.store.put(Item { alias: Some("i-2".into()), ..item("b") }, Expect::Absent).await.unwrap();
    test.store.put(item("c"), Expect::Absent).await.unwrap();
    assert_eq!(names(&*test.store, by("i-1")).await, ["a"]);
    assert_eq!(names(&*test.store, by("i")).await, [""; 0], "no part of an alias is one");
    test.store.put(Item { alias: Some("i-3".into()), ..item("a") }, Expect::Version(version)).await.unwrap();
    assert_eq!(names(&*test.store, by("i-1")).await, [""; 0]);
    assert_eq!(names(&*test.store, by("i-3")).await, ["a"]);
    let elsewhere = ItemQuery { environment: "prod".into(), ..by("i-3") };
    assert_eq!(names(&*test.store, elsewhere).await, [""; 0]);
}

async fn open_only_leaves_out_what_is_over(test: TestStore) {
    let version = test.store.put(item("a"), Expect::Absent).await.unwrap();
    test.store.put(item("b"), Expect::Absent).await.unwrap();
    test.store.put(Item { open: false, ..item("a") }, Expect::Version(version)).await.unwrap();
    assert_eq!(names(&*test.store, ItemQuery { open_only: true, ..query() }).await, ["b"]);
    assert_eq!(names(&*test.store, query()).await, ["a", "b"]);
}

async fn filters_and_limits_work_together(test: TestStore) {
    for (name, alias, open, order) in
        [("a", "x", true, 1), ("b", "x", false, 2), ("c", "x", true, 3), ("d", "y", true, 4), ("e", "x", true, 5)]
    {
        let item = Item { alias: Some(alias.into()), open, order, ..item(name) };
        test.store.put(item, Expect::Absent).await.unwrap();
    }
    let all = ItemQuery { alias: Some("x".into()), open_only: true, newest_first: true, limit: Some(2), ..query() };
    assert_eq!(names(&*test.store, all).await, ["e", "c"]);
}

async fn names_of_any_script_are_kept_apart(test: TestStore) {
    // Two ways to write é, a name within a name, quotes and wildcards of query languages, a NUL, no name at all.
    let odd =
        ["", "\u{e9}", "e\u{301}", "実験", "実", "🚀", "👩\u{200d}🔬", "'; --", "%", "_", "*", "a\u{0}b", "A", "a"];
    for name in odd {
        let document = json!({ "is": name });
        test.store.put(Item { document, ..item(name) }, Expect::Absent).await.unwrap();
    }
    for name in odd {
        let found = test.store.get(&key(name)).await.unwrap().unwrap();
        assert_eq!((found.key.name.as_str(), found.document), (name, json!({ "is": name })));
    }
    let mut sorted = odd.to_vec();
    sorted.sort_unstable();
    assert_eq!(names(&*test.store, query()).await, sorted);
}

async fn large_documents_are_kept_whole(test: TestStore) {
    let document = json!({ "log": "0123456789abcdé\n".repeat(64 << 10), "steps": vec![json!({"n": 1}); 10_000] });
    test.store.put(Item { document: document.clone(), ..item("big") }, Expect::Absent).await.unwrap();
    assert_eq!(test.store.get(&key("big")).await.unwrap().unwrap().document, document);
}

async fn orders_reach_both_ends_of_time(test: TestStore) {
    for (name, order) in [("first", i64::MIN), ("last", i64::MAX), ("epoch", 0)] {
        test.store.put(Item { order, ..item(name) }, Expect::Absent).await.unwrap();
    }
    let found = test.store.list(ItemQuery { newest_first: true, ..query() }).await.unwrap();
    assert_eq!(found.iter().map(|item| item.order).collect::<Vec<_>>(), [i64::MAX, 0, i64::MIN]);
}

/// Lets many tasks make one write at the same time and returns how many won; all others must have met a conflict.
async fn race(stores: Vec<Arc<dyn StateStore>>, expect: Expect) -> Vec<u64> {
    let start = Arc::new(tokio::sync::Barrier::new(stores.len()));
    let racers = stores.into_iter().enumerate().map(|(number, store)| {
        let start = start.clone();
        tokio::spawn(async move {
            start.wait().await;
            store.put(Item { document: json!(number), ..item("prize") }, expect).await
        })
    });
    let mut won = Vec::new();
    for outcome in futures::future::join_all(racers).await {
        match outcome.unwrap() {
            Ok(version) => won.push(version),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.full_message()),
        }
    }
    won
}

async fn of_many_writers_of_one_version_one_wins(test: TestStore) {
    let mut version = test.store.put(item("prize"), Expect::Absent).await.unwrap();
    for _ in 0..5 {
        let won = race(vec![test.store.clone(); 16], Expect::Version(version)).await;
        assert_eq!(won.len(), 1);
        version = won[0];
        assert_eq!(test.store.get(&key("prize")).await.unwrap().unwrap().version, version);
    }
}

async fn of_many_inserts_of_one_name_one_wins(test: TestStore) {
    assert_eq!(race(vec![test.store.clone(); 16], Expect::Absent).await.len(), 1);
}

async fn another_handle_sees_every_write_that_returned(test: TestStore) {
    let other = (test.again.as_ref().unwrap())();
    let mut version = test.store.put(item("a"), Expect::Absent).await.unwrap();
    for round in 0..10 {
        let (writer, reader) = if round % 2 == 0 { (&other, &test.store) } else { (&test.store, &other) };
        let item = Item { document: json!(round), ..item("a") };
        version = writer.put(item, Expect::Version(version)).await.unwrap();
        let found = reader.get(&key("a")).await.unwrap().unwrap();
        assert_eq!((found.version, found.document), (version, json!(round)));
    }
    other.delete(&key("a"), version).await.unwrap();
    assert_eq!(names(&*test.store, query()).await, [""; 0]);
}

async fn of_writers_through_many_handles_one_wins(test: TestStore) {
    let version = test.store.put(item("prize"), Expect::Absent).await.unwrap();
    let handles: Vec<_> = (0..12).map(|_| (test.again.as_ref().unwrap())()).collect();
    assert_eq!(race(handles, Expect::Version(version)).await.len(), 1);
}

fn studio() -> Studio {
    serde_json::from_value(json!({
        "user": "alice", "environment": "dev", "volume": "vol-1", "size_gb": 1, "status": "available",
        "created_at": "2025-11-10T14:30:00Z", "epoch": 0
    }))
    .unwrap()
}

fn dev() -> EnvironmentName {
    EnvironmentName::new("dev").unwrap()
}

async fn modify_adds_up_under_contention(test: TestStore) {
    test.store.insert(&studio()).await.unwrap();
    let adders = (0..4).map(|_| {
        let store = test.store.clone();
        tokio::spawn(async move {
            for _ in 0..3 {
                let raise = |studio: &mut Studio| {
                    studio.epoch += 1;
                    Ok(true)
                };
                store.modify::<Studio>(&dev(), "alice", &raise).await.unwrap().unwrap();
            }
        })
    });
    for adder in futures::future::join_all(adders).await {
        adder.unwrap();
    }
    assert_eq!(test.store.load::<Studio>(&dev(), "alice").await.unwrap().unwrap().value.epoch, 12);
}

async fn modify_of_a_missing_record_is_none(test: TestStore) {
    let found = test.store.modify::<Studio>(&dev(), "nobody", &|_| Ok(true)).await.unwrap();
    assert_eq!(found, None);
}

async fn a_record_is_found_by_its_alias(test: TestStore) {
    let version = test.store.insert(&studio()).await.unwrap();
    let found = test.store.load_by_alias::<Studio>(&dev(), "vol-1").await.unwrap().unwrap();
    assert_eq!((found.version, found.value), (version, studio()));
    assert_eq!(test.store.load_by_alias::<Studio>(&dev(), "vol-2").await.unwrap(), None);
    test.store.remove(&studio(), version).await.unwrap();
    assert_eq!(test.store.load_all::<Studio>(&dev()).await.unwrap(), []);
}

async fn a_newer_document_is_refused(test: TestStore) {
    test.store.put(Item { document: json!({"schema": 99}), ..item("a") }, Expect::Absent).await.unwrap();
    let error = test.store.load::<Engine>(&dev(), "a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.message().contains('a') && error.hint().unwrap().contains("upgrade"));
}

async fn a_damaged_document_is_named(test: TestStore) {
    for (name, document) in [("a", json!({"schema": 1})), ("b", json!([])), ("c", json!(null)), ("d", json!("x"))] {
        test.store.put(Item { document, ..item(name) }, Expect::Absent).await.unwrap();
        let error = test.store.load::<Engine>(&dev(), name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage, "{name}");
        assert!(error.context().contains(&("item", format!("engines/{name}"))));
        assert!(error.hint().is_some());
    }
}
