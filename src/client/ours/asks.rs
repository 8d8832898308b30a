//! What is asked of the settings that are pgweir's own, and how it is refused. Pure.

use crate::config::Mode;
use crate::error::ClientMessage;
use crate::sql;
use crate::wire::sqlstate;

/// What is asked of one of our settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Show(Shown),
    /// `None`: what it was at login. `is_reset`: it was said by RESET.
    SetMode {
        to: Option<Mode>,
        is_reset: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Domain,
    Mode,
    Host,
    Pin,
}

impl Shown {
    const ALL: [Self; 4] = [Self::Domain, Self::Mode, Self::Host, Self::Pin];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Mode => "mode",
            Self::Host => "host",
            Self::Pin => "pin",
        }
    }
}

/// What a text asks, or why it is refused.
pub(super) fn understand(asked: sql::Ours) -> Result<Ask, ClientMessage> {
    let shown = |name: &str| {
        Shown::ALL.into_iter().find(|shown| shown.name() == name).ok_or_else(|| unknown(name))
    };
    match asked {
        sql::Ours::Show { name } => shown(&name).map(Ask::Show),
        sql::Ours::Reset { name } => {
            settable(shown(&name)?)?;
            Ok(Ask::SetMode { to: None, is_reset: true })
        }
        sql::Ours::Set { name, value, is_local } => {
            settable(shown(&name)?)?;
            if is_local {
                let text =
                    "SET LOCAL cannot change pgweir.mode: it is the same for a whole transaction";
                return Err(ClientMessage::new(sqlstate::FEATURE_NOT_SUPPORTED, text)
                    .hint("Use SET pgweir.mode between transactions."));
            }
            let mode = |value: String| Mode::named(&value).ok_or_else(|| no_mode(&value));
            Ok(Ask::SetMode { to: value.map(mode).transpose()?, is_reset: false })
        }
    }
}

fn settable(shown: Shown) -> Result<(), ClientMessage> {
    if shown == Shown::Mode {
        return Ok(());
    }
    let text = format!("parameter \"pgweir.{}\" cannot be changed", shown.name());
    Err(ClientMessage::new(sqlstate::CANT_CHANGE_PARAMETER, text))
}

fn unknown(name: &str) -> ClientMessage {
    let text = format!("unrecognized configuration parameter \"pgweir.{name}\"");
    ClientMessage::new(sqlstate::UNDEFINED_OBJECT, text)
        .hint("There are pgweir.domain, pgweir.mode, pgweir.host and pgweir.pin.")
}

pub(in crate::client) fn no_mode(value: &str) -> ClientMessage {
    let text = format!("invalid value for parameter \"pgweir.mode\": \"{value}\"");
    ClientMessage::new(sqlstate::INVALID_PARAMETER, text)
        .hint("Available values: read_write, read_only, batch, transactional.")
}

/// What is refused that names a setting of ours among other things, or in a call.
pub(in crate::client) fn not_alone() -> ClientMessage {
    let text = "settings of pgweir are shown, set and reset by a statement of their own";
    ClientMessage::new(sqlstate::FEATURE_NOT_SUPPORTED, text)
        .hint("Send SET pgweir.mode = '...' by itself; set_config and several statements in one text cannot.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let asked = sql::Ours::read(text.as_bytes()).unwrap();
        let message = understand(asked).unwrap_err();
        format!("{} {}", message.sqlstate.as_str(), message.message)
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, told) in [
            ("SHOW pgweir.mod", "42704 unrecognized configuration parameter \"pgweir.mod\""),
            ("SET pgweir.x = 1", "42704 unrecognized configuration parameter \"pgweir.x\""),
            ("SET pgweir.host = 'db1'", "55P02 parameter \"pgweir.host\" cannot be changed"),
            ("RESET pgweir.pin", "55P02 parameter \"pgweir.pin\" cannot be changed"),
            (
                "SET pgweir.mode = fast",
                "22023 invalid value for parameter \"pgweir.mode\": \"fast\"",
            ),
            (
                "SET LOCAL pgweir.mode = batch",
                "0A000 SET LOCAL cannot change pgweir.mode: it is the same for a whole transaction",
            ),
        ] {
            assert_eq!(refusal(text), told);
        }
    }
}
