//! Servers, lent out.
