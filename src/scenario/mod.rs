//! Cases.
pub mod case;
