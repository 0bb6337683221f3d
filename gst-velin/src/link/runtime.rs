//! The one small tokio runtime of the plugin. Elements meet it only through channels and shared
//! state, never by `block_on`: inside an application's own runtime that would panic.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: LazyLock<Result<Runtime, String>> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .thread_name("velin-link")
        .enable_all()
        .build()
        .map_err(|e| e.to_string())
});

/// The runtime's handle.
pub(crate) fn handle() -> Result<Handle, RuntimeError> {
    RUNTIME.as_ref().map(|r| r.handle().clone()).map_err(|e| RuntimeError(e.clone()))
}

/// The operating system refused the plugin's threads.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot start the network threads: {0}; check the limits on processes and open files")]
pub struct RuntimeError(String);
