//! Questions to the person at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use zeroize::Zeroizing;

use super::failure::{Failure, Result};

/// The person, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Prompt {
    noprompt: bool,
    terminal: bool,
}

impl Prompt {
    /// `noprompt` is the option `--noprompt`.
    pub fn new(noprompt: bool) -> Self {
        Prompt { noprompt, terminal: io::stdin().is_terminal() && io::stderr().is_terminal() }
    }

    /// Goes on only when the person agrees, or said beforehand that nothing is to be asked.
    ///
    /// Without a terminal nobody can agree: a script has to say `--noprompt`.
    pub fn confirm(self, consequence: &str) -> Result {
        if self.noprompt {
            return Ok(());
        }
        if !self.terminal {
            return Err(Failure::local(format!(
                "{consequence} This needs a yes, and there is no terminal to ask on: add --noprompt to go on without"
            )));
        }
        eprint!("{consequence} Go on? [y/N] ");
        let mut answer = String::new();
        let read = io::stderr().flush().and_then(|()| io::stdin().lock().read_line(&mut answer));
        read.map_err(|error| Failure::local(format!("cannot read the answer: {error}")))?;
        if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) { Ok(()) } else { Err(Failure::Declined) }
    }

    /// Asks for the password to log in with. `otherwise` is what to do where nobody can be asked.
    pub fn password(self, question: &str, otherwise: &str) -> Result<Zeroizing<String>> {
        if self.noprompt || !self.terminal {
            return Err(Failure::local(format!(
                "a password is needed and may not or cannot be asked for: {otherwise}"
            )));
        }
        rpassword::prompt_password(question)
            .map(Zeroizing::new)
            .map_err(|error| Failure::local(format!("cannot read the password from the terminal: {error}")))
    }

    /// Asks twice for a password that is to be set.
    pub fn new_password(self, name: &str) -> Result<Zeroizing<String>> {
        let otherwise = "use --password-stdin";
        let first = self.password(&format!("New password of {name}: "), otherwise)?;
        let second = self.password("The same again: ", otherwise)?;
        if first == second { Ok(first) } else { Err(Failure::local("the two passwords differ; nothing was changed")) }
    }
}

/// Reads a password from the first line of `input`.
pub fn password_line(mut input: impl BufRead) -> Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    input.read_line(&mut line).map_err(|error| Failure::local(format!("cannot read the password: {error}")))?;
    let password = Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned());
    if password.is_empty() {
        return Err(Failure::local("there is no password on standard input; nothing was changed"));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_end_is_cut_off() {
        assert_eq!(password_line(" pass word \r\nsecond line\n".as_bytes()).unwrap().as_str(), " pass word ");
        assert_eq!(password_line("no line end".as_bytes()).unwrap().as_str(), "no line end");
        assert!(password_line("\nlate\n".as_bytes()).is_err());
        assert!(password_line("".as_bytes()).is_err());
    }

    #[test]
    fn nobody_agrees_without_a_terminal() {
        let script = Prompt { noprompt: false, terminal: false };
        assert!(script.confirm("All disks go.").unwrap_err().to_string().contains("--noprompt"));
        assert!(Prompt { noprompt: true, terminal: false }.confirm("All disks go.").is_ok());
        assert!(script.password("Password: ", "set VSNAP_PASSWORD").is_err());
    }
}
