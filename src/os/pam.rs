//! Checking a password with PAM, service `vsnap` (`/etc/pam.d/vsnap`).
//!
//! The one module with unsafe code: the functions of libpam through the bindings of the `pam` crate. Its safe client
//! can't be used, since it asks for the user by conversation and never sets `PAM_USER`, so that modules that look at
//! the user first fail. Each call makes a handle of its own, so calls may run side by side.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_int, c_void},
    net::IpAddr,
    ptr,
};

use nix::libc;
use pam::ffi;
use zeroize::{Zeroize, Zeroizing};

use super::{Authentication, Error, Kind, Result, users};
use crate::types::user::Password;

/// Name of our file in `/etc/pam.d`.
const SERVICE: &CStr = c"vsnap";
/// Longer names and passwords are refused without asking: PAM hashes what it is given.
const MOST_BYTES: usize = 1024;
/// More prompts than this at once is no dialogue about a password (`PAM_MAX_NUM_MSG`).
const MOST_MESSAGES: c_int = 32;

/// See [`super::Machine::authenticate`].
pub fn authenticate(user: &str, password: &Password, remote: Option<IpAddr>) -> Result<Authentication> {
    let fits = |text: &str| !text.contains('\0') && text.len() <= MOST_BYTES;
    if user.is_empty() || !fits(user) || !fits(password.expose()) {
        return Ok(Authentication::Refused);
    }
    let verdict = check(user, password, remote)?;
    if verdict == Authentication::Granted && !users::is_member(user)? {
        return Ok(Authentication::Forbidden);
    }
    Ok(verdict)
}

fn check(user: &str, password: &Password, remote: Option<IpAddr>) -> Result<Authentication> {
    // NULs were refused above, so neither conversion fails.
    let text =
        |text: &str| CString::new(text).map_err(|error| Error::new(Kind::Other, "asking PAM", error.to_string()));
    let user = text(user)?;
    let remote = remote.map(|address| text(&address.to_string())).transpose()?;
    let mut secret = Zeroizing::new(Vec::with_capacity(password.expose().len() + 1));
    secret.extend_from_slice(password.expose().as_bytes());
    secret.push(0);

    let mut session = Session::start(&user, &secret)?;
    if let Some(remote) = &remote {
        session.set_remote(remote)?;
    }
    let flags = (ffi::PAM_SILENT | ffi::PAM_DISALLOW_NULL_AUTHTOK) as c_int;
    match session.authenticate(flags) as _ {
        ffi::PAM_SUCCESS => {}
        ffi::PAM_AUTH_ERR | ffi::PAM_USER_UNKNOWN | ffi::PAM_MAXTRIES | ffi::PAM_CRED_INSUFFICIENT => {
            return Ok(Authentication::Refused);
        }
        // pam_faillock and the like: whether the password was right is not said.
        ffi::PAM_PERM_DENIED => return Ok(Authentication::Refused),
        ffi::PAM_ACCT_EXPIRED => return Ok(Authentication::Forbidden),
        code => return Err(session.failure("pam_authenticate", code)),
    }
    match session.check_account(flags) as _ {
        ffi::PAM_SUCCESS => Ok(Authentication::Granted),
        ffi::PAM_ACCT_EXPIRED
        | ffi::PAM_AUTH_ERR
        | ffi::PAM_NEW_AUTHTOK_REQD
        | ffi::PAM_AUTHTOK_EXPIRED
        | ffi::PAM_PERM_DENIED
        | ffi::PAM_USER_UNKNOWN => Ok(Authentication::Forbidden),
        code => Err(session.failure("pam_acct_mgmt", code)),
    }
}

/// A PAM handle between `pam_start` and `pam_end`. The secret outlives it: PAM keeps a pointer to it.
struct Session<'a> {
    handle: *mut ffi::pam_handle_t,
    last: c_int,
    _secret: std::marker::PhantomData<&'a [u8]>,
}

impl<'a> Session<'a> {
    /// `secret` is a password with a NUL at its end.
    fn start(user: &'a CStr, secret: &'a [u8]) -> Result<Self> {
        debug_assert_eq!(secret.last(), Some(&0));
        let conversation =
            ffi::pam_conv { conv: Some(converse), appdata_ptr: secret.as_ptr().cast::<c_void>().cast_mut() };
        let mut handle = ptr::null_mut();
        // SAFETY: service and user are C strings; PAM copies them and the conversation struct. The secret that the
        // struct points to lives as long as the session, by the lifetime 'a.
        let code = unsafe { ffi::pam_start(SERVICE.as_ptr(), user.as_ptr(), &conversation, &mut handle) };
        if code != ffi::PAM_SUCCESS as c_int || handle.is_null() {
            return Err(Error::new(Kind::Other, "pam_start", format!("PAM can't be used (code {code})")));
        }
        Ok(Session { handle, last: code, _secret: std::marker::PhantomData })
    }

    fn set_remote(&mut self, remote: &CStr) -> Result<()> {
        // SAFETY: the handle is open; PAM copies the string.
        let code = unsafe { ffi::pam_set_item(self.handle, ffi::PAM_RHOST as c_int, remote.as_ptr().cast()) };
        if code == ffi::PAM_SUCCESS as c_int { Ok(()) } else { Err(self.failure("pam_set_item", code)) }
    }

    fn authenticate(&mut self, flags: c_int) -> c_int {
        // SAFETY: the handle is open, and used by this thread only since it is not Send.
        self.last = unsafe { ffi::pam_authenticate(self.handle, flags) };
        self.last
    }

    fn check_account(&mut self, flags: c_int) -> c_int {
        // SAFETY: as above.
        self.last = unsafe { ffi::pam_acct_mgmt(self.handle, flags) };
        self.last
    }

    fn failure(&self, call: &str, code: c_int) -> Error {
        // SAFETY: the handle is open; the text is a constant of the library, or null for an unknown code.
        let text = unsafe {
            let text = ffi::pam_strerror(self.handle, code);
            if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy().into_owned()) }
        };
        Error::new(Kind::Other, call, text.unwrap_or_else(|| format!("code {code}")))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used afterwards.
        unsafe { ffi::pam_end(self.handle, self.last) };
    }
}

/// Answers what PAM modules ask: the password where input is hidden, nothing where they only tell something. A
/// question with visible input is not for us and ends the dialogue.
///
/// PAM calls it with `count` messages, and takes over an array of as many responses, allocated with `calloc` and
/// with texts allocated with `strdup`; both are freed by PAM. On any other code than success it takes over nothing.
unsafe extern "C" fn converse(
    count: c_int,
    messages: *mut *const ffi::pam_message,
    responses: *mut *mut ffi::pam_response,
    secret: *mut c_void,
) -> c_int {
    if !(1..=MOST_MESSAGES).contains(&count) || messages.is_null() || responses.is_null() || secret.is_null() {
        return ffi::PAM_CONV_ERR as c_int;
    }
    let count = count as usize;
    // SAFETY: calloc gives zeroed memory for `count` responses, or null, which is checked.
    let answers = unsafe { libc::calloc(count, size_of::<ffi::pam_response>()) }.cast::<ffi::pam_response>();
    if answers.is_null() {
        return ffi::PAM_BUF_ERR as c_int;
    }
    for at in 0..count {
        // SAFETY: Linux-PAM gives an array of `count` pointers to messages; `answers` has `count` elements, all of
        // them zero, which are valid responses. `secret` is the NUL-terminated secret of `Session::start`.
        let answered = unsafe {
            let message = *messages.add(at);
            match message.as_ref().map(|message| message.msg_style) {
                Some(style) if style == ffi::PAM_PROMPT_ECHO_OFF as c_int => {
                    (*answers.add(at)).resp = libc::strdup(secret.cast());
                    !(*answers.add(at)).resp.is_null()
                }
                Some(style) => style == ffi::PAM_TEXT_INFO as c_int || style == ffi::PAM_ERROR_MSG as c_int,
                None => false,
            }
        };
        if !answered {
            // SAFETY: `answers` was allocated here with `count` elements and was not handed over.
            unsafe { discard(answers, count) };
            return ffi::PAM_CONV_ERR as c_int;
        }
    }
    // SAFETY: checked not to be null; PAM owns the array from here on.
    unsafe { *responses = answers };
    ffi::PAM_SUCCESS as c_int
}

/// Wipes and frees responses.
///
/// # Safety
/// `answers` must be an array of `count` responses from `calloc`, with texts from `strdup` or null, owned by the caller.
unsafe fn discard(answers: *mut ffi::pam_response, count: usize) {
    for at in 0..count {
        // SAFETY: inside the array; a text that is not null is a C string that is ours.
        unsafe {
            let text = (*answers.add(at)).resp;
            if !text.is_null() {
                std::slice::from_raw_parts_mut(text.cast::<u8>(), libc::strlen(text)).zeroize();
                libc::free(text.cast());
            }
        }
    }
    // SAFETY: by the contract of this function.
    unsafe { libc::free(answers.cast()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks [`converse`] with messages of these styles and gives the texts it answers, or its code.
    fn dialogue(styles: &[u32]) -> Result<Vec<Option<String>>, c_int> {
        let messages: Vec<ffi::pam_message> =
            styles.iter().map(|style| ffi::pam_message { msg_style: *style as c_int, msg: c"?".as_ptr() }).collect();
        let mut pointers: Vec<*const ffi::pam_message> = messages.iter().map(ptr::from_ref).collect();
        let mut responses = ptr::null_mut();
        let secret = b"geheim\0";
        let code = unsafe {
            let secret = secret.as_ptr().cast::<c_void>().cast_mut();
            converse(styles.len() as c_int, pointers.as_mut_ptr(), &mut responses, secret)
        };
        if code != ffi::PAM_SUCCESS as c_int {
            assert!(responses.is_null());
            return Err(code);
        }
        let texts = (0..styles.len()).map(|at| unsafe {
            let text = (*responses.add(at)).resp;
            (!text.is_null()).then(|| CStr::from_ptr(text).to_str().unwrap().to_owned())
        });
        let texts = texts.collect();
        unsafe { discard(responses, styles.len()) };
        Ok(texts)
    }

    #[test]
    fn only_hidden_prompts_get_the_password() {
        let (hidden, visible, text) =
            (ffi::PAM_PROMPT_ECHO_OFF as u32, ffi::PAM_PROMPT_ECHO_ON as u32, ffi::PAM_TEXT_INFO as u32);
        assert_eq!(dialogue(&[hidden]), Ok(vec![Some("geheim".into())]));
        assert_eq!(dialogue(&[text, hidden]), Ok(vec![None, Some("geheim".into())]));
        let error = Err(ffi::PAM_CONV_ERR as c_int);
        assert_eq!(dialogue(&[hidden, visible]), error);
        assert_eq!(dialogue(&[]), error);
        assert_eq!(dialogue(&[hidden; 33]), error);
    }

    #[test]
    fn what_no_account_can_have_is_refused_unasked() {
        for (user, password) in [("", "x"), ("a\0b", "x"), ("root", "x\0y"), (&"u".repeat(2000), "x")] {
            assert_eq!(authenticate(user, &Password::given(password), None).unwrap(), Authentication::Refused);
        }
    }
}
