//! Who may do what with a file: owners and discretionary access lists, by their security
//! identifiers (`S-1-…`), and files that only this user, the system and its administrators can open.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr::{from_ref, null_mut};

use windows_sys::Win32::Foundation::{
    ERROR_SUCCESS, GENERIC_READ, GENERIC_WRITE, HANDLE, HLOCAL, INVALID_HANDLE_VALUE, LocalFree,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT,
};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, GetAce, GetTokenInformation,
    INHERIT_ONLY_ACE, OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID, SECURITY_ATTRIBUTES,
    TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateDirectoryW, CreateFileW, FILE_ATTRIBUTE_NORMAL, FILE_SHARE_DELETE,
    FILE_SHARE_READ, FILE_SHARE_WRITE,
};
use windows_sys::Win32::System::SystemServices::{
    ACCESS_ALLOWED_ACE_TYPE, ACCESS_ALLOWED_CALLBACK_ACE_TYPE, ACCESS_DENIED_ACE_TYPE,
    ACCESS_DENIED_CALLBACK_ACE_TYPE,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// Who has a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access {
    /// The owner's identifier.
    pub(crate) owner: String,
    /// What is allowed; `None`: everything to everybody.
    pub(crate) allowed: Option<Vec<Allowed>>,
}

/// One entry of the list that lets an account in. Entries that keep one out are not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// The account's identifier.
    pub(crate) account: String,
    /// The rights, as in `ACCESS_MASK`.
    pub(crate) rights: u32,
}

/// The owner and the list of an open file or directory.
pub(crate) fn of(file: &File) -> io::Result<Access> {
    let (mut owner, mut list, mut descriptor): (PSID, *mut ACL, PSECURITY_DESCRIPTOR) =
        (null_mut(), null_mut(), null_mut());
    // SAFETY: the handle is open while the file is borrowed, and every pointer is to a variable of
    // ours of the type that is asked for.
    let error = unsafe {
        GetSecurityInfo(
            file.as_raw_handle() as HANDLE,
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
            &mut owner,
            null_mut(),
            &mut list,
            null_mut(),
            &mut descriptor,
        )
    };
    if error != ERROR_SUCCESS {
        return Err(io::Error::from_raw_os_error(error as i32));
    }
    // Owner and list point into it.
    let _descriptor = Local(descriptor);
    // SAFETY: the owner is a valid identifier inside the descriptor, which is still there.
    let owner = unsafe { text(owner) }?;
    if list.is_null() {
        return Ok(Access { owner, allowed: None });
    }
    // SAFETY: the list is a valid one inside the descriptor, which is still there.
    let allowed = unsafe { entries(list) }?;
    Ok(Access { owner, allowed: Some(allowed) })
}

/// The identifier of the user of this process.
pub(crate) fn user() -> io::Result<String> {
    let mut token: HANDLE = null_mut();
    // SAFETY: the pseudo handle of the process needs no closing; the result goes to our variable.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this is an open handle that nobody else closes.
    let _token = unsafe { OwnedHandle::from_raw_handle(token) };

    // A TOKEN_USER and the identifier that it points to, which has 68 bytes at most; in words of
    // the alignment that its pointer wants.
    let mut room = [0_u64; 16];
    let mut length = 0;
    // SAFETY: the buffer is writable in the length that is told.
    let done = unsafe {
        GetTokenInformation(
            token,
            TokenUser,
            room.as_mut_ptr().cast::<c_void>(),
            size_of_val(&room) as u32,
            &mut length,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call filled the aligned buffer with a TOKEN_USER, whose identifier is in it too.
    unsafe { text((*room.as_ptr().cast::<TOKEN_USER>()).User.Sid) }
}

/// Makes a file that must not exist yet, closed to others from the start.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    let descriptor = Private::new("")?;
    // SAFETY: path and attributes outlive the call; the path ends with a zero.
    let handle = unsafe {
        CreateFileW(
            wide(path.as_os_str()).as_ptr(),
            GENERIC_READ | GENERIC_WRITE,
            FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
            &descriptor.attributes(),
            CREATE_NEW,
            FILE_ATTRIBUTE_NORMAL,
            null_mut(),
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this is an open handle that nobody else closes.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) }.into())
}

/// Makes a directory that must not exist yet, closed to others from the start, and with it what
/// will be made in it.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    let descriptor = Private::new("OICI")?;
    // SAFETY: path and attributes outlive the call; the path ends with a zero.
    let done =
        unsafe { CreateDirectoryW(wide(path.as_os_str()).as_ptr(), &descriptor.attributes()) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Memory that the system has allocated for us.
struct Local(*mut c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: it came from a function that says to free it so, and is freed only here.
        unsafe { LocalFree(self.0 as HLOCAL) };
    }
}

/// A security descriptor for what is only this user's: nothing is inherited.
struct Private(Local);

impl Private {
    fn new(inheritance: &str) -> io::Result<Self> {
        let user = user()?;
        let sddl: String = ["SY", "BA", &user]
            .iter()
            .map(|account| format!("(A;{inheritance};FA;;;{account})"))
            .fold("D:P".to_owned(), |all, entry| all + &entry);
        descriptor(&sddl).map(Self)
    }

    /// Valid as long as `self`.
    fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0.0,
            bInheritHandle: 0,
        }
    }
}

/// A descriptor from its text form (SDDL).
fn descriptor(sddl: &str) -> io::Result<Local> {
    let mut descriptor: PSECURITY_DESCRIPTOR = null_mut();
    // SAFETY: the text outlives the call and ends with a zero; the result goes to our variable.
    let done = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            wide(sddl.as_ref()).as_ptr(),
            SDDL_REVISION_1,
            &mut descriptor,
            null_mut(),
        )
    };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(Local(descriptor)) }
}

/// What a list allows on the object itself.
///
/// # Safety
/// `list` is a valid access list.
unsafe fn entries(list: *const ACL) -> io::Result<Vec<Allowed>> {
    let mut allowed = Vec::new();
    // SAFETY: the caller's promise.
    for index in 0..u32::from(unsafe { (*list).AceCount }) {
        let mut entry = null_mut();
        // SAFETY: the list is valid, and the result goes to our variable.
        if unsafe { GetAce(list, index, &mut entry) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: every entry begins with a header, and is aligned for it.
        let header = unsafe { *entry.cast::<ACE_HEADER>() };
        if u32::from(header.AceFlags) & INHERIT_ONLY_ACE != 0 {
            continue;
        }
        match u32::from(header.AceType) {
            // Both begin alike: mask, then identifier. A condition on it is taken for fulfilled.
            ACCESS_ALLOWED_ACE_TYPE | ACCESS_ALLOWED_CALLBACK_ACE_TYPE => {
                // SAFETY: an entry of these types is at least an ACCESS_ALLOWED_ACE.
                let entry = unsafe { &*entry.cast::<ACCESS_ALLOWED_ACE>() };
                let account = from_ref(&entry.SidStart).cast_mut().cast::<c_void>();
                // SAFETY: SidStart is the first word of a valid identifier within the entry.
                let account = unsafe { text(account) }?;
                allowed.push(Allowed { account, rights: entry.Mask });
            }
            ACCESS_DENIED_ACE_TYPE | ACCESS_DENIED_CALLBACK_ACE_TYPE => {}
            other => {
                return Err(io::Error::other(format!(
                    "its access list has an entry of the unusual type {other}"
                )));
            }
        }
    }
    Ok(allowed)
}

/// An identifier as text.
///
/// # Safety
/// `sid` points to a valid security identifier.
unsafe fn text(sid: PSID) -> io::Result<String> {
    let mut start = null_mut();
    // SAFETY: the caller's promise; the result goes to our variable.
    if unsafe { ConvertSidToStringSidW(sid, &mut start) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let _text = Local(start.cast());
    let mut length = 0;
    // SAFETY: the text ends with a zero, and no unit behind that is looked at.
    while unsafe { *start.add(length) } != 0 {
        length += 1;
    }
    // SAFETY: that many units were just read, and the text is freed after this.
    Ok(String::from_utf16_lossy(unsafe { std::slice::from_raw_parts(start, length) }))
}

/// As the system takes texts: UTF-16 with a zero at the end.
fn wide(text: &std::ffi::OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

/// Gives the file or directory at `path` the list of `sddl`.
#[cfg(test)]
pub(crate) fn set(path: &Path, sddl: &str) -> io::Result<()> {
    let descriptor = descriptor(sddl)?;
    // SAFETY: path and descriptor outlive the call; the path ends with a zero.
    let done = unsafe {
        windows_sys::Win32::Security::SetFileSecurityW(
            wide(path.as_os_str()).as_ptr(),
            DACL_SECURITY_INFORMATION,
            descriptor.0,
        )
    };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
