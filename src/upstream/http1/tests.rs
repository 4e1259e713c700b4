//! Answers of every kind, in any pieces.
