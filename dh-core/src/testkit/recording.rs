//! Sinks and notifiers that keep what they get.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::domain::{ProgressBody, ProgressEvent, Result};
use crate::ports::{Notifier, ProgressSink};

/// A progress sink that keeps every event.
#[derive(Debug, Default)]
pub struct RecordingSink(Mutex<Vec<ProgressEvent>>);

impl RecordingSink {
    /// Makes an empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the events so far, in order.
    pub fn events(&self) -> Vec<ProgressEvent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what happened so far, in order, without the ticks.
    pub fn bodies(&self) -> Vec<ProgressBody> {
        self.events().into_iter().map(|event| event.body).filter(|body| *body != ProgressBody::Tick).collect()
    }
}

impl ProgressSink for RecordingSink {
    fn emit(&self, event: &ProgressEvent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}

/// A notifier that keeps every message and reaches one person.
#[derive(Debug, Default)]
pub struct RecordingNotifier(Mutex<Vec<String>>);

impl RecordingNotifier {
    /// Makes an empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the messages so far, in order.
    pub fn messages(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Notifier for RecordingNotifier {
    async fn notify(&self, message: &str) -> Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_owned());
        Ok(1)
    }
}
