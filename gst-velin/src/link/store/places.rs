//! Where the device's files are.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The directories that the environment names.
///
/// | file | place |
/// | --- | --- |
/// | identity | `$CREDENTIALS_DIRECTORY/velin-identity`, else `identity.txt` or `identity.age` in the configuration directory |
/// | trusted peers | `trust.toml` in the configuration directory |
/// | passphrase | `$VELIN_PASSPHRASE_FILE`, else `$CREDENTIALS_DIRECTORY/velin-passphrase` |
///
/// The configuration directory is `$VELIN_CONFIG_DIR`, else `$XDG_CONFIG_HOME/velin`, else
/// `~/.config/velin`; on Windows `$VELIN_CONFIG_DIR`, else `%APPDATA%\velin`.
#[derive(Debug, Clone, Default)]
pub struct Places {
    config_dir: Option<PathBuf>,
    credentials: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
}

/// There is no configuration directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "this user has no home directory to keep the device's identity and trusted peers in; set the \
     properties identity-file and trust-file, or the environment variable VELIN_CONFIG_DIR"
)]
pub struct NoHome;

impl Places {
    /// From the environment of this process.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| match env::var_os(name) {
            // A service without HOME still has an entry in the user database.
            None if name == "HOME" => env::home_dir().map(PathBuf::into_os_string),
            found => found,
        })
    }

    /// From a function that knows the value of each environment variable.
    pub fn from_lookup(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| variable(name).filter(|text| !text.is_empty()).map(PathBuf::from);
        // The XDG base directory specification ignores relative paths.
        let absolute = |name| path(name).filter(|path| path.is_absolute());
        let base = if cfg!(windows) {
            absolute("APPDATA")
        } else {
            absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))
        };
        Self {
            config_dir: path("VELIN_CONFIG_DIR").or_else(|| Some(base?.join("velin"))),
            credentials: absolute("CREDENTIALS_DIRECTORY"),
            passphrase_file: path("VELIN_PASSPHRASE_FILE"),
        }
    }

    /// The configuration directory, whether it exists or not.
    pub fn config_dir(&self) -> Result<&Path, NoHome> {
        self.config_dir.as_deref().ok_or(NoHome)
    }

    /// `trust.toml`, whether it exists or not.
    pub fn trust_file(&self) -> Result<PathBuf, NoHome> {
        Ok(self.config_dir()?.join("trust.toml"))
    }

    /// The identity that the service manager hands over, if it does.
    pub(super) fn credential_identity(&self) -> Option<PathBuf> {
        self.credential("velin-identity")
    }

    /// The file with the passphrase, if one is configured.
    pub(super) fn passphrase_source(&self) -> Option<PassphraseSource> {
        let named = self.passphrase_file.clone().map(PassphraseSource::File);
        named.or_else(|| self.credential("velin-passphrase").map(PassphraseSource::Credential))
    }

    fn credential(&self, name: &str) -> Option<PathBuf> {
        let path = self.credentials.as_ref()?.join(name);
        path.exists().then_some(path)
    }
}

/// A file that holds a passphrase.
#[derive(Debug)]
pub(super) enum PassphraseSource {
    /// Named by the user, who answers for its mode.
    File(PathBuf),
    /// Guarded by the service manager.
    Credential(PathBuf),
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Places {
        Places::from_lookup(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    fn config_dir(variables: &[(&str, &str)]) -> Option<PathBuf> {
        places(variables).config_dir().ok().map(Path::to_owned)
    }

    #[test]
    fn the_most_specific_variable_wins() {
        let mut variables = vec![("HOME", "/h")];
        assert_eq!(config_dir(&variables), Some("/h/.config/velin".into()));
        variables.push(("XDG_CONFIG_HOME", "/x"));
        assert_eq!(config_dir(&variables), Some("/x/velin".into()));
        variables.push(("VELIN_CONFIG_DIR", "/v"));
        assert_eq!(config_dir(&variables), Some("/v".into()));
    }

    #[test]
    fn empty_and_relative_variables_count_as_unset() {
        assert_eq!(
            config_dir(&[("VELIN_CONFIG_DIR", ""), ("XDG_CONFIG_HOME", "rel"), ("HOME", "/h")]),
            Some("/h/.config/velin".into())
        );
        assert_eq!(config_dir(&[("HOME", "")]), None);
    }

    #[test]
    fn without_a_home_the_error_names_the_properties() {
        let text = places(&[]).trust_file().unwrap_err().to_string();
        assert!(text.contains("identity-file") && text.contains("trust-file"), "{text}");
    }

    #[test]
    fn credentials_count_only_when_they_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(&[("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())]);
        assert_eq!(places.credential_identity(), None);
        assert!(places.passphrase_source().is_none());
        let file = dir.path().join("velin-identity");
        std::fs::write(&file, "").unwrap();
        assert_eq!(places.credential_identity(), Some(file));
    }
}
