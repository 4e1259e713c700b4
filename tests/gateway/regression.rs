//! Faults that were found and mended, each with its story.
