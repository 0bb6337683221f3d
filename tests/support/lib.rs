//! What the workspace's tests and examples share. Not published.
