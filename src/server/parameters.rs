//! The parameters that a server reports.

/// Names and values as `ParameterStatus` gave them, in the order of arrival.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(Box<str>, Box<str>)>);

/// More than any server reports: what comes beyond is not kept.
const MOST: usize = 100;

impl Parameters {
    /// Notes what a `ParameterStatus` says.
    pub fn note(&mut self, name: &str, value: &str) {
        if let Some((_, old)) = self.0.iter_mut().find(|(known, _)| &**known == name) {
            *old = value.into();
        } else if self.0.len() < MOST {
            self.0.push((name.into(), value.into()));
        }
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
