//! What a command works with.

use std::sync::Arc;

use dh_core::domain::{EnvironmentName, UserName};
use dh_core::ports::ControlPlane;

use crate::connect::Place;
use crate::host::Host;
use crate::screen::Screen;
use crate::terminal::Terminal;

/// Everything a command needs, in tests replaced piece by piece.
#[derive(Debug)]
pub struct Context {
    /// What does the work.
    pub control: Arc<dyn ControlPlane>,
    /// Where the work is done, and where dh keeps things.
    pub place: Place,
    /// Where output goes.
    pub screen: Arc<Screen>,
    /// Who answers questions.
    pub terminal: Box<dyn Terminal>,
    /// This machine.
    pub host: Arc<dyn Host>,
}

impl Context {
    /// Returns the environment.
    pub fn environment(&self) -> &EnvironmentName {
        self.control.environment()
    }

    /// Returns the user that a command is about: the one named, or the caller.
    pub fn user_or_caller(&self, user: Option<&UserName>) -> UserName {
        user.unwrap_or(self.control.user()).clone()
    }

    /// Names the environment in the titles of lists: an account on AWS, which the local backend has none of.
    pub fn title(&self) -> String {
        match self.place.backend.as_str() {
            "aws" => format!("AWS Account {}", self.environment()),
            _ => format!("environment {}", self.environment()),
        }
    }
}
