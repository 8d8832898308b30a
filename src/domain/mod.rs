//! A name, and where it goes.
