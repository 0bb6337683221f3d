//! How the user set streams that are over.

use std::collections::VecDeque;

use velin_core::playout::MixSettings;

/// Streams that are remembered; of more, the longest gone are forgotten.
const MAX: usize = 256;

/// Settings of streams that are gone, by what tells a stream when it comes back.
#[derive(Debug)]
pub(super) struct Memory<K>(VecDeque<(K, MixSettings)>);

impl<K> Default for Memory<K> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<K: PartialEq> Memory<K> {
    /// Keeps what the user changed; there is no need to remember what every stream starts with.
    pub(super) fn keep(&mut self, key: K, settings: MixSettings) {
        self.0.retain(|(other, _)| *other != key);
        if settings == MixSettings::default() {
            return;
        }
        if self.0.len() == MAX {
            self.0.pop_front();
        }
        self.0.push_back((key, settings));
    }

    /// What a stream that is back was set to, once.
    pub(super) fn recall(&mut self, key: &K) -> Option<MixSettings> {
        let at = self.0.iter().position(|(other, _)| other == key)?;
        self.0.remove(at).map(|(_, settings)| settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(volume: f32) -> MixSettings {
        MixSettings { volume, ..MixSettings::default() }
    }

    #[test]
    fn the_last_setting_is_recalled_once() {
        let mut memory = Memory::default();
        memory.keep("mic", at(0.5));
        memory.keep("mic", at(0.25));
        memory.keep("desktop", MixSettings::default());
        assert_eq!(memory.recall(&"desktop"), None);
        assert_eq!(memory.recall(&"mic"), Some(at(0.25)));
        assert_eq!(memory.recall(&"mic"), None);
        memory.keep("mic", at(0.5));
        memory.keep("mic", MixSettings::default());
        assert_eq!(memory.recall(&"mic"), None, "it was set back");
    }

    #[test]
    fn of_many_the_longest_gone_are_forgotten() {
        let mut memory = Memory::default();
        (0..MAX + 1).for_each(|i| memory.keep(i, at(0.5)));
        assert_eq!(memory.recall(&0), None);
        assert_eq!(memory.recall(&1), Some(at(0.5)));
        assert_eq!(memory.recall(&MAX), Some(at(0.5)));
    }
}
