//! Properties of the tree that no lint checks.
