//! The terminal: its size, its keys, and leaving it as it was.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{IsTerminal, Read, Write};
use tokio::sync::mpsc;

/// Without a terminal to ask.
const USUAL: (usize, usize) = (80, 24);

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `q` or Escape.
    Quit,
    /// Any other.
    Other,
}

/// Columns and lines.
pub fn size() -> (usize, usize) {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL,
    }
}

/// A screen of its own, until it is dropped.
pub struct Terminal {
    before: Option<Termios>,
    keys: mpsc::Receiver<Key>,
}

impl Terminal {
    /// Takes over the screen, and keys as they are pressed.
    pub fn enter() -> anyhow::Result<Self> {
        anyhow::ensure!(
            std::io::stdout().is_terminal(),
            "this is not a terminal: use `weir top --once`, with --json for scripts"
        );
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        }
        let (send, keys) = mpsc::channel(8);
        // A thread of its own: a read from a terminal cannot be given up. It ends with the process.
        std::thread::spawn(move || {
            for byte in std::io::stdin().lock().bytes().map_while(Result::ok) {
                let key = if matches!(byte, b'q' | b'Q' | 0x1b | 0x03) { Key::Quit } else { Key::Other };
                if send.blocking_send(key).is_err() {
                    return;
                }
            }
        });
        write("\x1b[?1049h\x1b[?25l\x1b[2J");
        Ok(Self { before, keys })
    }

    /// The next key; never, when there is no keyboard.
    pub async fn key(&mut self) -> Key {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        write("\x1b[?25h\x1b[?1049l");
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    // If the terminal is gone there is nothing to restore.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
