//! placeholder until the agent's idle logic is merged
use crate::domain::EngineView;
use crate::ports::Explanation;
/// x
pub fn explain(_view: &EngineView, _lines: &[String]) -> Explanation {
    Explanation { summary: String::new(), entries: vec![] }
}
