//! Reading the file so that every error names its line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::Environment;
use crate::domain::{EnvironmentName, Error, ErrorKind, Result};

/// The keys of the file's top level.
pub(super) const TOP_KEYS: &[&str] = &["environments"];
/// The keys of an environment.
pub(super) const ENVIRONMENT_KEYS: &[&str] =
    &["backend", "region", "profile", "setup_script", "primordial", "filesystem", "defaults"];
/// The keys of an environment's defaults.
pub(super) const DEFAULTS_KEYS: &[&str] =
    &["engine_type", "boot_disk_gb", "studio_gb", "idle_timeout", "idle_warning", "idle_action"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    environments: BTreeMap<EnvironmentName, Environment>,
}

pub(super) fn parse(text: &str, file: &Path) -> Result<BTreeMap<EnvironmentName, Environment>> {
    let source = Source { text, file };
    let tree = DeTable::parse(text).map_err(|error| source.wrong(&error))?;
    source.check_keys(tree.get_ref(), TOP_KEYS, "the top level")?;
    for (name, environment) in source.table(tree.get_ref(), "environments") {
        source.check_name(name.as_ref(), name.span())?;
        let Some(table) = environment.get_ref().as_table() else { continue };
        let section = format!("[environments.{}]", name.as_ref());
        source.check_keys(table, ENVIRONMENT_KEYS, &section)?;
        if let Some(DeValue::Table(defaults)) = table.get("defaults").map(|value| value.get_ref()) {
            let section = format!("[environments.{}.defaults]", name.as_ref());
            source.check_keys(defaults, DEFAULTS_KEYS, &section)?;
        }
    }
    let file: File = toml::from_str(text).map_err(|error| source.wrong(&error))?;
    Ok(file.environments)
}

struct Source<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Source<'_> {
    fn table<'t, 'i>(
        &self,
        table: &'t DeTable<'i>,
        key: &str,
    ) -> impl Iterator<Item = (&'t toml::Spanned<toml::de::DeString<'i>>, &'t toml::Spanned<DeValue<'i>>)> + use<'t, 'i>
    {
        table.get(key).and_then(|value| value.get_ref().as_table()).into_iter().flatten()
    }

    fn check_keys(&self, table: &DeTable<'_>, known: &[&str], section: &str) -> Result<()> {
        // The file's first mistake first: the table itself is in order of names.
        let wrong =
            table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())).min_by_key(|key| key.span().start);
        let Some(key) = wrong else { return Ok(()) };
        let name = key.get_ref().as_ref();
        let hint = match nearest(name, known) {
            Some(near) => format!("did you mean {near}? the keys of {section} are: {}", known.join(", ")),
            None => format!("the keys of {section} are: {}", known.join(", ")),
        };
        Err(self.error(key.span(), &format!("unknown key {name} in {section}")).with_hint(hint))
    }

    fn check_name(&self, name: &str, span: Range<usize>) -> Result<()> {
        EnvironmentName::new(name).map(drop).map_err(|error| {
            let found = self.error(span, error.message());
            match error.hint() {
                Some(hint) => found.with_hint(hint),
                None => found,
            }
        })
    }

    /// What the parser found wrong: syntax, a type, a value.
    fn wrong(&self, error: &toml::de::Error) -> Error {
        // Of several lines, the first says what is wrong; the rest is what was expected.
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let span = error.span().unwrap_or_default();
        self.error(span, &message)
            .with_hint(format!("correct that line of {}, then run the command again", self.file.display()))
    }

    fn error(&self, span: Range<usize>, message: &str) -> Error {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        Error::new(ErrorKind::Config, format!("{} line {line}: {message}", self.file.display()))
            .with_context("file", self.file.display())
            .with_context("line", line)
    }
}

/// The known key that a typing error most likely stands for.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let name = name.to_lowercase().replace('-', "_");
    let distance = |key: &&str| strsim::damerau_levenshtein(&name, key);
    known.iter().min_by_key(|key| distance(key)).copied().filter(|key| distance(key) <= key.len().div_ceil(3))
}
