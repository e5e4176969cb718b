//! What the system tells a process: SIGINT (Ctrl-C) and SIGTERM end it in order, a second one at once;
//! SIGHUP has a node read its configuration again.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};
use ekya::source::StopFlag;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;

/// What a shell says of a process that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// A flag that the signals set.
pub(crate) fn stop() -> Result<StopFlag> {
    listen(None)
}

/// The same, and `reload` is called at each SIGHUP, unless that says that the terminal has gone.
pub(crate) fn stop_or(reload: impl FnMut() + Send + 'static) -> Result<StopFlag> {
    let attended = std::io::stdin().is_terminal();
    listen((!attended).then(|| Box::new(reload) as Box<_>))
}

fn listen(mut reload: Option<Box<dyn FnMut() + Send>>) -> Result<StopFlag> {
    let stop = StopFlag::default();
    let set = stop.clone();
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
    let hear = move || {
        for signal in signals.forever() {
            match (signal, &mut reload) {
                (SIGHUP, Some(reload)) => reload(),
                _ if set.is_set() => exit(INTERRUPTED),
                _ => set.set(),
            }
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(hear).context("cannot listen for signals")?;
    Ok(stop)
}
