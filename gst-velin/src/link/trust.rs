//! Whom we trust, as the trust file said when it was last read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use velin_core::identity::{Grants, PublicKey, Trust as Standing, TrustBook};
use velin_core::session::Trust;

use super::clock;
use super::store::Places;
use super::store::trust_file::{self, TrustFileError};

/// The trust file, read again whenever it changed. Sessions ask the copy in memory.
#[derive(Debug)]
pub struct TrustSource {
    path: Option<PathBuf>,
    state: ArcSwap<State>,
}

#[derive(Debug, Default)]
struct State {
    book: TrustBook,
    stamp: Option<(SystemTime, u64)>,
}

impl TrustSource {
    /// Reads the file at `path`, or the one in the default place.
    pub fn load(path: Option<&Path>) -> Result<Self, TrustFileError> {
        let source = Self { path: path.map(Into::into), state: ArcSwap::default() };
        let stamp = source.stamp();
        let book = trust_file::load(path)?;
        source.state.store(Arc::new(State { book, stamp }));
        Ok(source)
    }

    /// Reads the file again if it changed. On an error the last good copy stays in force.
    pub(crate) fn refresh(&self) -> Result<(), TrustFileError> {
        let stamp = self.stamp();
        if stamp == self.state.load().stamp {
            return Ok(());
        }
        let book = trust_file::load(self.path.as_deref())?;
        self.state.store(Arc::new(State { book, stamp }));
        Ok(())
    }

    /// What the trust file calls `peer`.
    pub(crate) fn name_of(&self, peer: &PublicKey) -> Option<velin_core::identity::Name> {
        self.state.load().book.entry(peer).and_then(|p| p.name.clone())
    }

    /// When the file was changed, and how long it is: enough to see another one.
    fn stamp(&self) -> Option<(SystemTime, u64)> {
        let path = match &self.path {
            Some(path) => path.clone(),
            None => Places::from_env().trust_file().ok()?,
        };
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    }
}

impl Trust for TrustSource {
    fn grants(&self, peer: &PublicKey) -> Option<Grants> {
        match self.state.load().book.look_up(peer, clock::wall()) {
            Standing::Trusted(entry) => Some(entry.may),
            Standing::Expired(_) | Standing::Unknown => None,
        }
    }
}
