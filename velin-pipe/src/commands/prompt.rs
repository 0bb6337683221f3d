//! Asking for a passphrase on the terminal.

use std::io;
use std::path::Path;

use gstvelin::link::store::Purpose;
use zeroize::Zeroizing;

/// Asks without echo; twice for a new identity.
pub(super) fn ask(purpose: Purpose, path: &Path) -> io::Result<Zeroizing<String>> {
    let read = |prompt: String| rpassword::prompt_password(prompt).map(Zeroizing::new);
    let path = path.display();
    if purpose != Purpose::Create {
        return read(format!("Passphrase of {path}: "));
    }
    let first = read(format!("New passphrase for {path}: "))?;
    if *read("Once more: ".to_owned())? != *first {
        return Err(io::Error::other("the two passphrases differ, run the command again"));
    }
    Ok(first)
}
